"""Where in which sessions the index, or what it does not know, allows an exact match (SPEC: INDEX-7)."""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from federated_memory.index import Source, View
from federated_memory.index.file import IndexUnusable
from federated_memory.index.library import Library
from federated_memory.index.reader import RowScope
from federated_memory.names import SessionId, WorkspaceId
from federated_memory.search.query import Exact
from federated_memory.search.reading import Scope, place_of
from federated_memory.store.archive import Archive, Archives

_SHORTEST = 3
_FEW_ROWS = 150
"""When no more may match, they are asked for all at once."""
_FIRST_ROWS, _STEP = 10_000, 4
"""Else the index is asked for about so many rows of the newest sessions, then for four times as many, and so on."""
_MANY_ROWS, _MANY_SHARE = 5_000, 4
_FEW_ARCHIVES = 8
"""So many archives are looked up at once at first: a page may be full soon."""

Look = Callable[[], AbstractContextManager[View]]


class IndexedSessions:
    """The sessions that a search is about, as one generation of the index holds them; for all searches alike."""

    def __init__(self, library: Library, sources: Iterable[Source], rows: RowScope) -> None:
        """`rows` are those of these sources."""
        self.library = library
        self.newest_first = sorted(sources, key=lambda source: source.place, reverse=True)
        self.etags = {source: source.etag for source in self.newest_first}
        self.rows = rows


class Candidates:
    """The sessions that can hold a match, the newest first. The index is asked for a part of them at a time: a page
    that is full looks no further."""

    def __init__(
        self,
        archives: Archives,
        look: Look,
        texts: Sequence[str],
        sessions: IndexedSessions,
        behind: Sequence[Archive],
    ) -> None:
        """`texts` stand in every match. `behind` are sessions that the index does not hold as they are now."""
        self._archives = archives
        self._look = look
        self._texts = texts
        self._expression: str | None = None
        self._sessions = sessions
        self._behind = sorted(behind, key=place_of, reverse=True)
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str], tuple[str, list[int]]] = {}

    def archives(self, scope: Scope, begin: Sequence[object] | None) -> Iterator[Archive]:
        last = None
        for archive in heapq.merge(self._indexed(begin), self._behind, key=place_of, reverse=True):
            place = place_of(archive)
            if place != last and is_in_time(archive, scope) and (begin is None or place <= tuple(begin[:3])):
                yield archive
            last = place

    def lines_of(self, archive: Archive) -> Sequence[int] | None:
        with self._lock:
            etag, lines = self._lines.get((archive.workspace_id, archive.session_id), ("", []))
        return lines if etag == archive.sha256 else None

    def _indexed(self, begin: Sequence[object] | None) -> Iterator[Archive]:
        sources = self._sessions.newest_first
        if begin is not None:
            place = tuple(map(str, begin[:3]))
            sources = sources[bisect_left(range(len(sources)), True, key=lambda at: sources[at].place <= place) :]
        at, most = 0, _FIRST_ROWS
        found = self._holding(sources, _FEW_ROWS)
        if found is not None:
            yield from self._archives_of(found)
            return
        while at < len(sources):
            end, rows = at, 0
            while end < len(sources) and rows < most:
                rows += sources[end].rows
                end += 1
            asked = sources[at:end]
            found = self._holding(asked, max(_MANY_ROWS, rows // _MANY_SHARE))
            yield from self._archives_of(asked if found is None else found)
            at, most = end, most * _STEP

    def _archives_of(self, sources: Sequence[Source]) -> Iterator[Archive]:
        at, most = 0, _FEW_ARCHIVES
        while at < len(sources):
            asked = sources[at : at + most]
            yield from self._archives.find_all([(WorkspaceId(one.workspace_id), SessionId(one.key)) for one in asked])
            at, most = at + most, most * _STEP

    def _holding(self, sources: Sequence[Source], most: int) -> Sequence[Source] | None:
        """Those of these sources that may hold a match, and in which lines; None when that is not known, or more than
        `most` rows of them may match."""
        try:
            with self._look() as view:
                found = self._asked(view, sources, most)
        except IndexUnusable:  # made anew this very moment, or the time is up, which the search says
            return None
        if found is None:
            return None
        etags = self._sessions.etags
        known = {source: lines for source, lines in found.items() if source.etag == etags[source]}
        with self._lock:
            for source, lines in known.items():
                if not source.unread:
                    self._lines[source.workspace_id, source.key] = source.etag, sorted(lines)
        return [source for source in sources if source in found or source.unread or source.etag != etags[source]]

    def _asked(self, view: View, sources: Sequence[Source], most: int) -> dict[Source, set[int]] | None:
        """The lines that may match; None when they are too many, or the index changed in between."""
        library = view.library
        if library is not self._sessions.library:
            return None
        scope = self._sessions.rows
        if sources is not self._sessions.newest_first:
            numbers = {source.id for source in sources}
            scope = RowScope(library, lambda source: source.id in numbers, frozenset())
        if self._expression is None:  # good for what is indexed later too: of a session that grew all is looked at
            self._expression = view.holding(self._texts) or ""
        rows = view.rows("spoken", self._expression, scope).newest(most) if self._expression else None
        if rows is None or not rows.is_all:
            return None
        lines: dict[Source, set[int]] = {}
        for source, segment, part in library.by_segment(sorted(rows.rows)):
            known, first = segment.lines, segment.first_row
            lines.setdefault(source, set()).update([known[row - first] for row in part])
        return lines if library.generation == view.generation else None


def sure_texts(query: Exact) -> list[str]:
    """What every match holds, as the index knows it: its case does not matter, line ends and all else do."""
    pieces = list(query.literals.texts)
    if query.literals.ignores_case:  # beyond ASCII, ideas of case differ
        pieces = [run for text in pieces for run in _ascii_runs(text)]
    return [piece for piece in pieces if len(piece) >= _SHORTEST]


def _ascii_runs(text: str) -> Iterator[str]:
    run = ""
    for character in text:
        if character.isascii():
            run += character
        else:
            yield run
            run = ""
    yield run


def is_in_time(archive: Archive, scope: Scope) -> bool:
    return scope.may_hold(archive) and (scope.until is None or archive.started_at < scope.until)
