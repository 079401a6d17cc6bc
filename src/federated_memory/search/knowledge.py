"""Exact search over documents (SPEC: FIND-6): complete, newest document first.

ripgrep names the files that may match; each is then read through its folder's descriptor and matched here. A pattern
that names no literal, and a machine without ripgrep, cost a look into every file instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from federated_memory.search.corpus import Corpus
from federated_memory.search.hit import After, Found, Hit, comes_after, is_within, parse_after, sort_places
from federated_memory.search.literals import Literals
from federated_memory.search.query import Exact
from federated_memory.search.ripgrep import RipgrepFailed
from federated_memory.search.snippet import snippet
from federated_memory.store.document import Document

_NOT_IN_FILES = re.compile("[\n\r\0\ufffd]")  # line ends, what no argument holds, what stands for undecodable bytes
_NOT_ASCII = re.compile("[^ -~]")
_FILES = ("--files-with-matches", "--null")
_PAST_ALL_LINES = 2**53 - 1
_FALLING = 1  # of a place: the time
_FEW_DOCUMENTS = 32  # are read sooner than a process is started


def search_exact(
    corpus: Corpus,
    query: Exact,
    *,
    since: str | None,
    until: str | None,
    limit: int,
    after: Sequence[object] | None,
) -> Found:
    """Every line with a match, once: by the document's time, newest first, then workspace, path and line."""
    begin = parse_after(after, str, str, str, str, int)
    budget = corpus.budget
    documents = [document for document in _candidates(corpus, query) if is_within(document.updated_at, since, until)]
    if budget.is_spent():
        return Found([], None, False, f"Nothing was searched: {budget.reason}")
    sort_places(documents, place_of, _FALLING)
    if begin:
        documents = [document for document in documents if not comes_after(begin[:4], place_of(document), _FALLING)]
    hits: list[Hit] = []
    places: list[After] = []
    reached = begin
    for number, document in enumerate(documents):
        if number and budget.is_spent():
            note = f"{budget.reason}; {number} of {len(documents)} documents were searched"
            return Found(hits, reached, False, note, places)
        first_line = int(begin[4]) + 1 if begin and begin[:4] == place_of(document) else 0
        for hit in _hits(corpus, query, document, first_line):
            if len(hits) == limit:
                return Found(hits, places[-1], not corpus.problem, corpus.problem, places)
            hits.append(hit)
            places.append((*place_of(document), hit.line))
        reached = (*place_of(document), _PAST_ALL_LINES)
    return Found(hits, None, not corpus.problem, corpus.problem, places)


def _hits(corpus: Corpus, query: Exact, document: Document, first_line: int) -> Iterator[Hit]:
    text = corpus.text(document.key)
    line = counted = 0
    for start, end in query.matches(text):
        line += text.count(b"\n", counted, start)
        counted = start
        if line >= first_line:
            yield hit_in(document, line, snippet(text, [(start, end)]))


def hit_in(document: Document, line: int, excerpt: str, score: float = 0.0) -> Hit:
    key = document.key
    return Hit(key.kind, key.workspace_id, key.path, line, "", document.title, document.updated_at, excerpt, score)


def place_of(document: Document) -> After:
    return document.updated_at, document.key.workspace_id, document.key.kind, document.key.path


def _candidates(corpus: Corpus, query: Exact) -> list[Document]:
    """The documents that may match."""
    needle = _needle(query.literals)
    if not needle or corpus.has_few(_FEW_DOCUMENTS):
        return corpus.current(corpus.files())
    options = [*_FILES, "--fixed-strings", *(["--ignore-case"] if query.literals.ignores_case else [])]
    try:
        keys = (corpus.key_of(name) for name in corpus.ripgrep(options, needle, b"\0"))
        return corpus.current(key for key in keys if key is not None)
    except RipgrepFailed:
        return corpus.current(corpus.files())


def _needle(literals: Literals) -> str:
    """The longest piece of the literals that stands in a file as it is, the same to ripgrep and to us."""
    cut = _NOT_ASCII if literals.ignores_case else _NOT_IN_FILES
    return max((piece for text in literals.texts for piece in cut.split(text)), key=len, default="")
