"""From places in the index back to text: what a hit shows is read from the files (SPEC: INDEX-7)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import cast

from federated_memory.errors import FederatedMemoryError
from federated_memory.index.library import Library
from federated_memory.index.rows import ROLES, rows_of
from federated_memory.index.sessions import reader_for
from federated_memory.names import DocumentPath, SessionId, WorkspaceId
from federated_memory.search.fusion import Entry
from federated_memory.search.hit import Hit, is_within
from federated_memory.search.marking import Marking
from federated_memory.search.query import plain
from federated_memory.search.ranking import Matcher, Weights, best_passage
from federated_memory.search.reading import Scope
from federated_memory.search.snippet import snippet
from federated_memory.search.terms import Terms
from federated_memory.store.archive import Archive, Archives, Line
from federated_memory.store.document import DocumentKind, Key
from federated_memory.store.documents import Documents
from federated_memory.store.lines import start_of_line
from federated_memory.store.memory_file import searched_text
from federated_memory.transcripts import Reader, read_turns

_FEW = 4
"""Lines that are read sooner than another thread is told to."""


class Excerpts:
    """Reads the text of entries and makes hits of them; None where there is nothing to show any more."""

    def __init__(
        self,
        documents: Documents,
        archives: Archives,
        pool: ThreadPoolExecutor,
        marking: Marking,
        terms: Terms,
        weights: Weights,
        scope: Scope,
    ) -> None:
        self._documents = documents
        self._archives = archives
        self._pool = pool
        self._marker = marking.of(terms.wanted)
        self._matcher = Matcher(terms)
        self._weights = weights
        self._scope = scope
        self._sessions: dict[tuple[str, str], tuple[Archive, Reader]] = {}
        self._read: dict[tuple[str, int], Line | None] = {}

    def look_ahead(self, library: Library, entries: Sequence[Entry]) -> None:
        """Read what these entries will show, half of it in another thread if one is free: inflating takes most of the
        time."""
        of_sessions = [entry for entry in entries if entry.kind == "session" and entry.rows]
        new = {(WorkspaceId(entry.workspace_id), SessionId(entry.key)) for entry in of_sessions} - self._sessions.keys()
        for archive in self._archives.find_all(sorted(new)) if new else ():
            with suppress(FederatedMemoryError, OSError):  # whoever shows it meets that again
                self._sessions[archive.workspace_id, archive.session_id] = archive, reader_for(self._archives, archive)
        wanted: list[tuple[Archive, int]] = []
        for entry in of_sessions:
            segment = library.segment_of(entry.rows[0])
            known = self._sessions.get((entry.workspace_id, entry.key))
            if segment is not None and known is not None:
                wanted.append((known[0], segment.lines[entry.rows[0] - segment.first_row]))
        half = len(wanted) // 2 if len(wanted) > _FEW else 0
        other: Future[None] | None = self._pool.submit(self._read_all, wanted[:half]) if half else None
        self._read_all(wanted[half:])
        if other is not None and other.cancel():
            self._read_all(wanted[:half])
        elif other is not None:
            other.result()

    def _read_all(self, wanted: Sequence[tuple[Archive, int]]) -> None:
        for archive, number in wanted:
            with suppress(FederatedMemoryError, OSError):
                self._read[archive.sha256, number] = self._archives.line_at(archive, number)

    def hit(self, library: Library, entry: Entry) -> Hit | None:
        if entry.hit is not None:
            return entry.hit
        try:
            if entry.kind == "session":
                return self._session(library, entry)
            return self._document(library, entry)
        except (FederatedMemoryError, OSError):
            return None

    # -- documents

    def _document(self, library: Library, entry: Entry) -> Hit | None:
        key = Key(WorkspaceId(entry.workspace_id), cast(DocumentKind, entry.kind), DocumentPath(entry.key))
        document, data = self._documents.read(key)
        at = document.updated_at
        if not is_within(at, self._scope.since, self._scope.until):
            return None
        text = plain(data if key.is_versioned else searched_text(key.name.removesuffix(".md"), data))
        if self._matcher.has_excluded and self._matcher.is_excluded(list(self._matcher.places(text))):
            return None
        low, high = self._chunk(library, entry, text)
        places = list(self._matcher.places(text[low:high]))
        if not places and low:
            low, places = 0, list(self._matcher.places(text))
        spans = [(low + start, low + end) for start, end in best_passage(places, self._weights)[1]] if places else []
        spans = spans or [(low + start, low + end) for start, end in self._marker.first(text[low:high])]
        line = text.count(b"\n", 0, spans[0][0] if spans else low)
        excerpt = snippet(text, spans or [(low, low)])
        return Hit(key.kind, key.workspace_id, key.path, line, "", document.title, at, excerpt,
                   entry.score)  # fmt: skip

    @staticmethod
    def _chunk(library: Library, entry: Entry, text: bytes) -> tuple[int, int]:
        """Where the best chunk of the document begins and ends."""
        segment = library.segment_of(entry.rows[0]) if entry.rows else None
        if segment is None:
            return 0, len(text)
        at = entry.rows[0] - segment.first_row
        first = segment.lines[at]
        last = segment.lines[at + 1] if at + 1 < len(segment.lines) else -1
        low = start_of_line(text, first)
        return low, start_of_line(text, last - first, low) if last >= 0 else len(text)

    # -- sessions

    def _session(self, library: Library, entry: Entry) -> Hit | None:
        archive, reader = self._archive(entry)
        if not entry.rows:
            return self._opening(archive, reader, entry)
        for row in entry.rows:
            segment = library.segment_of(row)
            if segment is None:
                continue
            at = row - segment.first_row
            found = self._in_line(archive, reader, segment.lines[at], segment.shapes[at] >> 5, entry.score)
            if found is not None:
                return found
        return None

    def _archive(self, entry: Entry) -> tuple[Archive, Reader]:
        key = entry.workspace_id, entry.key
        known = self._sessions.get(key)
        if known is None:
            archive = self._archives.find(WorkspaceId(entry.workspace_id), SessionId(entry.key))
            known = self._sessions[key] = archive, reader_for(self._archives, archive)
        return known

    def _in_line(self, archive: Archive, reader: Reader, line: int, speaker: int, score: float) -> Hit | None:
        """What the speaker said in the line, at the passage that says most."""
        known = self._read.get((archive.sha256, line))
        found = known or self._archives.line_at(archive, line)
        for row in rows_of(read_turns(reader, found.data, line)) if found else ():
            if row.speaker != speaker:
                continue
            at = row.at or archive.started_at
            if not is_within(at, self._scope.since, self._scope.until):
                return None
            text = row.text.encode()
            places = list(self._matcher.places(text))
            if self._matcher.is_excluded(places):
                return None
            spans = best_passage(places, self._weights)[1] if places else self._marker.first(text)
            return Hit("session", archive.workspace_id, archive.session_id, line, ROLES[speaker], archive.title,
                       at, snippet(text, spans or [(0, 0)]), score)  # fmt: skip
        return None

    def _opening(self, archive: Archive, reader: Reader, entry: Entry) -> Hit | None:
        """A session that only its title, its project or its days speak for: how it begins."""
        if self._scope.role is not None:
            return None
        for found in self._archives.read_lines(archive, 0, 20, 64 * 1024):
            for row in rows_of(read_turns(reader, found.data, found.number)):
                at = row.at or archive.started_at
                if ROLES[row.speaker] in ("user", "assistant") and is_within(at, self._scope.since, self._scope.until):
                    return Hit("session", archive.workspace_id, archive.session_id, found.number, ROLES[row.speaker],
                               archive.title, at, snippet(row.text.encode(), [(0, 0)]), entry.score)  # fmt: skip
        return None
