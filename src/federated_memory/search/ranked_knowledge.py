"""Ranked search over documents (SPEC: FIND-7): best document first, each with its best passage."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from federated_memory.search.corpus import Corpus
from federated_memory.search.hit import After, Found, Hit, comes_after, is_within, parse_after, sort_places
from federated_memory.search.knowledge import hit_in, place_of
from federated_memory.search.query import Ranked
from federated_memory.search.ranking import (
    Matcher,
    Weights,
    best_passage,
    bits,
    changed_since,
    covered,
    saturated,
    sum_of,
    weights_of,
)
from federated_memory.search.ripgrep import RipgrepFailed
from federated_memory.search.snippet import snippet
from federated_memory.store.changes import ChangeFeed
from federated_memory.store.document import Document, Key

_USUAL_BYTES = 4_000
_TITLE_SHARE = 0.6
_PASSAGE_SHARE = 0.5
_PASSAGE_LINES = 4
_LINES_PER_FILE = 200  # more add next to nothing to a score
_OPTIONS = (
    "--only-matching", "--with-filename", "--line-number", "--no-heading", "--null", f"--max-count={_LINES_PER_FILE}",
)  # fmt: skip
_RIPGREP_EDGE = r"(?-u:\b)"
_FALLING = 2  # of a place: score and time
_BETWEEN_TITLES = "\n" * 10  # more than a phrase reaches across


@dataclass(slots=True)
class _Tally:
    """What was found in one document. Sets of terms are bits; `recent` are those of the last lines."""

    counts: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    titled: int = 0
    passage: int = 0
    recent: dict[int, int] = field(default_factory=dict)

    @property
    def found(self) -> int:
        return bits(self.counts) | self.titled

    def add(self, line: int, numbers: Sequence[int], values: Sequence[float]) -> None:
        for number in numbers:
            self.counts[number] += 1
        self.recent[line] = self.recent.get(line, 0) | bits(numbers)
        near = 0
        for at, terms in list(self.recent.items()):
            if at <= line - _PASSAGE_LINES:
                del self.recent[at]
            else:
                near |= terms
        if near & ~self.passage and sum_of(values, near) > sum_of(values, self.passage):
            self.passage = near


def search_ranked(
    corpus: Corpus,
    feed: ChangeFeed,
    query: Ranked,
    *,
    since: str | None,
    until: str | None,
    limit: int,
    after: Sequence[object] | None,
) -> Found:
    """Documents with a term in text, title or path: by score, then by time, newest first."""
    begin = parse_after(after, int, float, str, str, str, str, *[float] * len(query.terms.wanted))
    head = int(begin[0]) if begin else feed.head()
    matcher = Matcher(query.terms)
    tallies = _tallies(corpus, query, matcher)
    documents = [document for document in corpus.current(tallies) if is_within(document.updated_at, since, until)]
    counts = [
        sum(tallies[document.key].found >> number & 1 for document in documents) for number in range(matcher.wanted)
    ]
    weights = tuple(map(float, begin[6:])) if begin else weights_of(query.terms, counts, len(corpus.known()))
    if begin:
        changed = changed_since(feed, head)
        documents = [document for document in documents if place_of(document)[1:] not in changed]
    scores = {document.key: _score(document, tallies[document.key], weights) for document in documents}
    ranked = [((scores[document.key], *place_of(document)), document) for document in documents]
    sort_places(ranked, lambda row: row[0], _FALLING)
    hits: list[Hit] = []
    places: list[After] = []
    for place, document in ranked:
        if begin and not comes_after(place, begin[1:6], _FALLING):
            continue
        if len(hits) == limit:
            return Found(hits, places[-1], not corpus.problem, corpus.problem, places)
        if corpus.budget.is_cancelled():
            return Found(hits, None, False, corpus.budget.reason, places)
        if hit := _hit(corpus, matcher, document, tallies[document.key], weights, scores[document.key]):
            hits.append(hit)
            places.append((head, *place, *weights))
    return Found(hits, None, not corpus.problem, corpus.problem, places)


def _score(document: Document, tally: _Tally, weights: Weights) -> float:
    body = sum(
        weight * saturated(tally.counts.get(number, 0), document.bytes, _USUAL_BYTES)
        for number, weight in enumerate(weights)
    )
    title = _TITLE_SHARE * sum_of(weights, tally.titled)
    passage = _PASSAGE_SHARE * sum_of(weights, tally.passage)
    return round((body + title + passage) * covered(weights, tally.found), 6)


def _hit(
    corpus: Corpus, matcher: Matcher, document: Document, tally: _Tally, weights: Weights, score: float
) -> Hit | None:
    """The document at its best passage; None when what was tallied is not there, or something excluded is."""
    text = corpus.text(document.key)
    places = list(matcher.places(text))
    if matcher.is_excluded(places) or not (places or tally.titled):
        return None
    spans = best_passage(places, weights)[1] or [(0, 0)]
    return hit_in(document, text.count(b"\n", 0, spans[0][0]), snippet(text, spans), score)


def _tallies(corpus: Corpus, query: Ranked, matcher: Matcher) -> dict[Key, _Tally]:
    """What each document holds that has a wanted term and no excluded one."""
    values = [term.weight for term in query.terms.wanted]
    try:
        tallies = _tally_with_ripgrep(corpus, query, values)
    except RipgrepFailed:
        tallies = _tally_by_reading(corpus, matcher, values)
    for key, numbers in _titles(corpus, matcher):
        tallies[key].titled |= bits(numbers)
    wanted = (1 << matcher.wanted) - 1
    return {key: tally for key, tally in tallies.items() if 0 < tally.found <= wanted}


def _tally_with_ripgrep(corpus: Corpus, query: Ranked, values: Sequence[float]) -> defaultdict[Key, _Tally]:
    tallies: defaultdict[Key, _Tally] = defaultdict(_Tally)
    matcher = Matcher(query.terms, by_line=True)
    every = (*query.terms.wanted, *query.terms.excluded)
    pattern = "|".join(term.line_pattern(_RIPGREP_EDGE) for term in every)
    last, key = b"", None
    for record in corpus.ripgrep(_OPTIONS, pattern, b"\n"):
        name, _, rest = record.partition(b"\0")
        line, _, found = rest.partition(b":")
        if name != last:
            last, key = name, corpus.key_of(name)
        if key is not None and line.isdigit():
            tallies[key].add(int(line), matcher.named(found), values)
    return tallies


def _tally_by_reading(corpus: Corpus, matcher: Matcher, values: Sequence[float]) -> defaultdict[Key, _Tally]:
    tallies: defaultdict[Key, _Tally] = defaultdict(_Tally)
    for key in corpus.files():
        if corpus.budget.is_spent():
            corpus.problem = corpus.budget.reason
            break
        text = corpus.text(key)
        line = counted = 0
        for start, _, numbers in matcher.places(text):
            line += text.count(b"\n", counted, start)
            counted = start
            tallies[key].add(line, numbers, values)
    return tallies


def _titles(corpus: Corpus, matcher: Matcher) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """The terms in the titles and paths of all documents, found in one go."""
    documents = list(corpus.known())
    lines = [f"{document.title} {document.key.path}{_BETWEEN_TITLES}".encode() for document in documents]
    starts = list(accumulate(map(len, lines), initial=0))
    for start, _, numbers in matcher.places(b"".join(lines), most=2**31):
        wanted = tuple(number for number in numbers if number < matcher.wanted)
        yield documents[bisect_right(starts, start) - 1].key, wanted
