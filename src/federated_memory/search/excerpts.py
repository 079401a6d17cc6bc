"""From places in the index back to text: what a hit shows is read from the files (SPEC: INDEX-7)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import cast

from federated_memory.errors import FederatedMemoryError
from federated_memory.index.library import Library
from federated_memory.index.rows import ROLES, as_searched, rows_of
from federated_memory.index.sessions import reader_for
from federated_memory.names import DocumentPath, SessionId, WorkspaceId
from federated_memory.search.fusion import Entry
from federated_memory.search.hit import Hit, is_within
from federated_memory.search.query import plain
from federated_memory.search.ranking import Matcher, Weights, best_passage
from federated_memory.search.reading import Scope
from federated_memory.search.snippet import Span, snippet
from federated_memory.search.terms import Term
from federated_memory.store.archive import Archive, Archives
from federated_memory.store.document import DocumentKind, Key
from federated_memory.store.documents import Documents
from federated_memory.store.memory_file import searched_text
from federated_memory.transcripts import Reader, read_turns

_LONGEST_MARKED = 100_000
_OPEN, _CLOSE = "\ue001", "\ue002"


class Excerpts:
    """Reads the text of entries and makes hits of them; None where there is nothing to show any more."""

    def __init__(
        self,
        documents: Documents,
        archives: Archives,
        matcher: Matcher,
        terms: tuple[Term, ...],
        weights: Weights,
        scope: Scope,
    ) -> None:
        self._documents = documents
        self._archives = archives
        self._matcher = matcher
        self._terms = terms
        self._weights = weights
        self._scope = scope
        self._sessions: dict[tuple[str, str], tuple[Archive, Reader]] = {}

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
        spans = spans or [(start + low, end + low) for start, end in self._found_otherwise(text[low:high])]
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
        low = _start_of(text, first)
        return low, _start_of(text, last - first, low) if last >= 0 else len(text)

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
        for found in self._archives.lines_at(archive, [line]):
            for row in rows_of(read_turns(reader, found.data, line)):
                if row.speaker != speaker:
                    continue
                at = row.at or archive.started_at
                if not is_within(at, self._scope.since, self._scope.until):
                    return None
                text = row.text.encode()
                places = list(self._matcher.places(text))
                if self._matcher.is_excluded(places):
                    return None
                spans = best_passage(places, self._weights)[1] if places else self._found_otherwise(text)
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

    def _found_otherwise(self, text: bytes) -> list[Span]:
        """Where the index sees a term that the patterns do not know, such as a word in another form."""
        if len(text) > _LONGEST_MARKED:
            return []
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(
                "CREATE VIRTUAL TABLE t USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2')"
            )
            connection.execute("INSERT INTO t VALUES (?)", (as_searched(text.decode("utf-8", "replace")),))
            match = " OR ".join(f"({term.match})" for term in self._terms)
            marked = connection.execute(
                "SELECT highlight(t, 0, ?, ?) FROM t WHERE t MATCH ?", (_OPEN, _CLOSE, match)
            ).fetchone()
        if marked is None:
            return []
        before, *pieces = marked[0].split(_OPEN)
        at = len(before.encode())
        spans: list[Span] = []
        for piece in pieces[:20]:
            word, _, rest = piece.partition(_CLOSE)
            spans.append((at, at + len(word.encode())))
            at += len(word.encode()) + len(rest.encode())
        return spans[:1]


def _start_of(text: bytes, line: int, at: int = 0) -> int:
    """Where a line begins, so many lines after `at`."""
    for _ in range(line):
        following = text.find(b"\n", at) + 1
        if not following:
            return len(text)
        at = following
    return at
