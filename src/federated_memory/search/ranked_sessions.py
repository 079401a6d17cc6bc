"""Ranked search over transcripts (SPEC: FIND-7): best session first, at most three turns of each.

What people and agents said counts for more than what tools gave back, and a turn for more in a session that holds the
rest of the query. Memory is bounded: of each session the best turns are kept, of all sessions the best few thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from federated_memory.errors import FederatedMemoryError
from federated_memory.index.sessions import reader_for
from federated_memory.names import WorkspaceId
from federated_memory.search.hit import After, Budget, Found, Hit, comes_after, parse_after, sort_places
from federated_memory.search.query import Ranked, plain_text
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
from federated_memory.search.raw_lines import filter_for_terms
from federated_memory.search.reading import Notes, Scope, Walk, in_order, newest_first, place_of
from federated_memory.search.sessions import hit_in
from federated_memory.search.snippet import snippet
from federated_memory.store.archive import Archive, Archives
from federated_memory.store.changes import ChangeFeed
from federated_memory.store.members import LONGEST_MEMBER_BYTES
from federated_memory.transcripts import Turn, read_turns

_USUAL_BYTES = 800
_TOOL_FACTOR, _SYSTEM_FACTOR, _CALL_FACTOR = 0.45, 0.5, 0.7
_REST_SHARE = 0.3  # of the weight of what only the rest of the session holds
_RANK_FACTORS = (1.0, 0.6, 0.45)  # of a session's best turns: one session does not fill the page
_FALLING = 4  # of a place: score, time, session, workspace
_KEPT_TURNS = 24
_KEPT_SESSIONS = 2_000


class _Turn(NamedTuple):
    """A turn that holds terms: how often (saturated) each, all of them as bits, and what its kind is worth."""

    line: int
    role: str
    worth: dict[int, float]
    found: int
    factor: float

    def score(self, weights: Weights) -> float:
        held = sum(weights[number] * worth for number, worth in self.worth.items())
        return held * self.factor * covered(weights, self.found)


@dataclass(slots=True)
class _Session:
    """What was found in one archive. `holding` counts the turns with each term."""

    archive: Archive
    walk: Walk
    holding: Counter[int] = field(default_factory=Counter)
    best: list[_Turn] = field(default_factory=list)

    def keep(self, turn: _Turn, values: Weights) -> None:
        self.holding.update(turn.worth)
        self.best.append(turn)
        if len(self.best) >= 2 * _KEPT_TURNS:
            self.shrink(values)

    def shrink(self, values: Weights) -> None:
        """Keep the best turns by any weights: by the given ones, and those that hold most of each single term."""
        by_value = sorted(self.best, key=lambda turn: -turn.score(values))[: _KEPT_TURNS // 2]
        for number in range(len(values)):
            holders = [turn for turn in self.best if number in turn.worth]
            by_value += sorted(holders, key=lambda turn: -turn.worth[number] * turn.factor)[:1]
        self.best = list({(turn.line, turn.role): turn for turn in by_value}.values())

    def ranked(self, weights: Weights) -> list[tuple[float, _Turn]]:
        """At most three turns with their scores, best first."""
        together = bits(self.holding)
        scored = [
            (turn.score(weights) + _REST_SHARE * sum_of(weights, together & ~turn.found) * turn.factor, turn)
            for turn in self.best
        ]
        scored.sort(key=lambda pair: (-pair[0], pair[1].line, pair[1].role))
        return [(round(score * factor, 6), turn) for factor, (score, turn) in zip(_RANK_FACTORS, scored, strict=False)]


def search_ranked(
    archives: Archives,
    feed: ChangeFeed,
    pool: ThreadPoolExecutor,
    query: Ranked,
    workspace_ids: Sequence[WorkspaceId],
    scope: Scope,
    *,
    limit: int,
    after: Sequence[object] | None,
    budget: Budget,
    only: Iterable[Archive] | None = None,
) -> Found:
    """Turns that hold a term: by score, then newest session first."""
    begin = parse_after(after, int, float, str, str, str, int, str, *[float] * len(query.terms.wanted))
    head = int(begin[0]) if begin else feed.head()
    changed = changed_since(feed, head) if begin else set()
    matcher = Matcher(query.terms)
    lines_filter = filter_for_terms(query.terms)
    values = [term.weight for term in query.terms.wanted]

    def work(archive: Archive) -> _Session:
        session = _Session(archive, Walk(archives, archive, lines_filter, 0, budget))
        with closing(session.walk.turns()) as lines:
            for turns in lines:
                for turn in _matching(archive, matcher, scope, turns, values):
                    session.keep(turn, values)
        return session

    notes = Notes()
    best = _Best(query, matcher.wanted, tuple(map(float, begin[7:])) if begin else None, begin)
    candidates = (
        archive
        for archive in (newest_first(archives, workspace_ids, scope) if only is None else only)
        if (archive.workspace_id, "session", archive.session_id) not in changed
    )
    with closing(in_order(pool, candidates, work, budget)) as sessions:
        for archive, session in sessions:
            if session is None:
                notes.stopped = budget.reason
                break
            notes.add(session.walk)
            best.add(session)
            if not session.walk.is_finished:
                notes.stopped = f"{budget.reason}; sessions up to {archive.started_at} were ranked"
                break
    weights = best.weights
    hits: list[Hit] = []
    places: list[After] = []
    for place, archive, turn in best.rows():
        if len(hits) == limit:
            return notes.found(hits, places, places[-1])
        if hit := _hit(archives, archive, matcher, scope, turn, weights, place[0]):
            hits.append(hit)
            places.append((head, *place, *weights))
    return notes.found(hits, places, None)


_Row = tuple[tuple[float, str, str, str, int, str], Archive, _Turn]


class _Best:
    """The best sessions of all, in bounded memory, and how often each term was met."""

    def __init__(self, query: Ranked, wanted: int, weights: Weights | None, begin: After | None) -> None:
        self._query = query
        self._wanted = wanted
        self._fixed = weights
        self._begin = begin[1:7] if begin else None
        self._holding: Counter[int] = Counter()
        self._lines = 0
        self._sessions: list[_Session] = []

    @property
    def weights(self) -> Weights:
        if self._fixed is not None:
            return self._fixed
        return weights_of(self._query.terms, [self._holding[number] for number in range(self._wanted)], self._lines)

    def add(self, session: _Session) -> None:
        self._lines += session.archive.lines
        self._holding.update(session.holding)
        if session.best:
            self._sessions.append(session)
        if len(self._sessions) >= 2 * _KEPT_SESSIONS:
            kept = {id(archive) for _, archive, _ in self.rows()[:_KEPT_SESSIONS]}
            self._sessions = [session for session in self._sessions if id(session.archive) in kept]

    def rows(self) -> list[_Row]:
        """Places and turns in the order of the answer, those of earlier pages left out."""
        weights = self.weights
        rows = [
            ((score, *place_of(session.archive), turn.line, turn.role), session.archive, turn)
            for session in self._sessions
            for score, turn in session.ranked(weights)
        ]
        if self._begin:
            rows = [row for row in rows if comes_after(row[0], self._begin, _FALLING)]
        sort_places(rows, lambda row: row[0], _FALLING)
        return rows


def _matching(archive: Archive, matcher: Matcher, scope: Scope, turns: Iterable[Turn], values: Weights) -> list[_Turn]:
    """For each role of a line, the turn that holds most."""
    best: dict[str, _Turn] = {}
    for turn in turns:
        if not scope.holds(archive, turn):
            continue
        text = plain_text(turn.text)
        places = list(matcher.places(text))
        if not places or matcher.is_excluded(places):
            continue
        counts = Counter(number for _, _, numbers in places for number in numbers)
        worth = {number: saturated(count, len(text), _USUAL_BYTES) for number, count in counts.items()}
        found = _Turn(turn.line, turn.role, worth, bits(counts), _factor(turn))
        if turn.role not in best or best[turn.role].score(values) < found.score(values):
            best[turn.role] = found
    return list(best.values())


def _factor(turn: Turn) -> float:
    if turn.role == "tool":
        return _TOOL_FACTOR
    if turn.role == "system":
        return _SYSTEM_FACTOR
    return _CALL_FACTOR if turn.tool_name else 1.0


def _hit(
    archives: Archives, archive: Archive, matcher: Matcher, scope: Scope, turn: _Turn, weights: Weights, score: float
) -> Hit | None:
    """Read the turn again for its excerpt; None when it is gone meanwhile."""
    try:
        lines = archives.read_lines(archive, turn.line, 1, LONGEST_MEMBER_BYTES)
        reader = reader_for(archives, archive)
    except FederatedMemoryError:
        return None
    best: tuple[float, Turn, str] | None = None
    for line in lines:
        for found in read_turns(reader, line.data, line.number):
            text = plain_text(found.text)
            places = list(matcher.places(text))
            if found.role != turn.role or not scope.holds(archive, found) or not places or matcher.is_excluded(places):
                continue
            numbers, spans = best_passage(places, weights)
            if best is None or sum_of(weights, numbers) > best[0]:
                best = sum_of(weights, numbers), found, snippet(text, spans)
    return hit_in(archive, best[1], best[2], score) if best else None
