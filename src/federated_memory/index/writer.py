"""Puts sources into the index, takes them out, and goes on with a session that grew (SPEC: INDEX-2 to INDEX-4).

Each call makes the index say what the files say now, whatever it said before: repeating one changes nothing. What a
call needs to know of the index it reads in its own transaction, so that a second writer could lose nothing.
"""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import repeat

from federated_memory.index.chunks import Chunk, chunks_of
from federated_memory.index.library import SIZES, packed, unpacked
from federated_memory.index.rows import Row, Speaker, as_searched
from federated_memory.index.tokens import UNSURE, KnownWords, Words
from federated_memory.index.words import indexed, with_speakers
from federated_memory.store.document import VERSIONED, Document
from federated_memory.store.memory_file import called_after, parse_memory, subject_of

_SEGMENT_ROWS = 2_000
_SEGMENT_CHARACTERS = 1_000_000
_MOST_DAYS = 16
_USUAL_WORTH = 3
_Place = tuple[int, str, str, str]
_IS_IT = "mark = ? AND workspace_id = ? AND kind = ? AND key = ?"
PARTIAL = "~"
"""The etag of a session of which only a beginning is indexed yet."""


@dataclass(slots=True)
class Stored:
    """What the index holds of a session: how far it got, and what proves that the bytes before are the same."""

    id: int
    etag: str
    agent: str
    lines: int
    raw_bytes: int
    sealed_line: int
    sealed_bytes: int
    sealed_sha256: bytes
    tail_sha256: bytes
    unread: int


@dataclass(frozen=True, slots=True)
class Described:
    """What `sources` says of a source."""

    workspace_id: str
    kind: str
    key: str
    etag: str
    title: str
    at: str
    ended_at: str = ""
    agent: str = ""
    facts: str = ""


@dataclass(slots=True)
class _Pending:
    """Rows on their way into a segment."""

    rows: list[Row] = field(default_factory=list)
    characters: int = 0


class Writing:
    """One transaction of the index."""

    def __init__(self, connection: sqlite3.Connection, known: KnownWords | None = None) -> None:
        """`known`: what the same writer stored before, if it wants to remember."""
        self._connection = connection
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        self._generation = int(meta.get("generation", 0)) + 1
        self._next_row = int(meta.get("next_row", 1))
        self._dead_rows = int(meta.get("dead_rows", 0))
        self._pending = _Pending()
        known = known or KnownWords()
        known.begin(connection)
        self._words = Words(known)

    # -- what the index is of

    def set(self, **values: object) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def finish(self) -> None:
        """Before the commit: number the generation, so that readers take in what is new."""
        self._words.store(self._connection)
        self.set(generation=self._generation, next_row=self._next_row, dead_rows=self._dead_rows)

    def committed(self) -> None:
        """After the commit: what was stored is known to the next transaction."""
        self._words.committed()

    # -- documents

    def put_document(self, document: Document, text: bytes) -> None:
        """Replace what is indexed of a document, unless it is the same."""
        key = document.key
        held = self._connection.execute(
            f"SELECT etag, title, at FROM sources WHERE {_IS_IT}", _place(key.workspace_id, key.kind, key.path)
        ).fetchone()
        if held == (packed(document.etag), document.title, document.updated_at):
            return
        chunks = chunks_of(as_searched(text.decode("utf-8", "replace")))
        self._put_chunks(document, document.title, "", chunks)

    def put_memory(self, document: Document, text: bytes) -> None:
        """The same of a memory, or of what is left of one. `at` is when it was made; its words are those of its
        content and summary, its name, kind, tags and files are found as a document's path is."""
        key = document.key
        held = self._connection.execute(
            f"SELECT etag FROM sources WHERE {_IS_IT}", _place(key.workspace_id, key.kind, key.path)
        ).fetchone()
        if held == (packed(document.etag),):
            return
        memory = parse_memory(key.name.removesuffix(".md"), text)
        facts = [memory.kind, memory.project, *memory.tags, *memory.files]
        chunks = chunks_of(as_searched(memory.content))
        if memory.summary:
            first = chunks[0] if chunks else Chunk(0, "", "")
            chunks[:1] = [Chunk(first.line, f"{as_searched(memory.summary)}\n{first.headings}", first.text)]
        title = "" if memory.subject == subject_of(memory.content) else memory.subject  # it is found as content then
        source = self._put_chunks(document, title, " ".join(facts), chunks)
        if memory.importance != _USUAL_WORTH:
            self._connection.execute("UPDATE sources SET worth = ? WHERE id = ?", (memory.importance, source))

    def _put_chunks(self, document: Document, title: str, facts: str, chunks: list[Chunk]) -> int:
        key = document.key
        source = self.describe(
            Described(key.workspace_id, key.kind, key.path, document.etag, title, document.updated_at, facts=facts)
        )
        self.clear(source)
        rows = [Row(chunk.line, Speaker.AUTHOR, chunk.text, None) for chunk in chunks]
        if rows:
            first = self._add_segment(source, rows, "", "", is_open=False)
            texts = [f"{chunk.headings}\n{chunk.text}" for chunk in chunks]
            table = "written" if key.is_versioned else "noted"
            stored = map(indexed, texts)
            if not key.is_versioned:  # found inside their words too
                stored = map(_findable, texts, repeat(()), self._words.take([*texts, as_searched(title)]))
            self._connection.executemany(
                f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", list(enumerate(stored, first))
            )
        return source

    # -- sessions

    def stored(self, workspace_id: str, session_id: str) -> Stored | None:
        row = self._connection.execute(
            "SELECT id, etag, agent, lines, raw_bytes, sealed_line, sealed_bytes, sealed_sha256, tail_sha256, unread"
            f" FROM sources WHERE {_IS_IT} AND etag <> ''",
            _place(workspace_id, "session", session_id),
        ).fetchone()
        return None if row is None else Stored(row[0], unpacked(row[1]), *row[2:])

    def put_row(self, source: int, row: Row, session_at: str) -> None:
        """Add a row of a session; it is stored with the segment, at the latest by `end_rows`."""
        pending = self._pending
        pending.rows.append(row)
        pending.characters += len(row.text)
        if len(pending.rows) >= _SEGMENT_ROWS or pending.characters >= _SEGMENT_CHARACTERS:
            self.end_rows(source, session_at)

    def end_rows(self, source: int, session_at: str, *, is_open: bool = False) -> None:
        rows, self._pending = self._pending.rows, _Pending()
        if not rows:
            return
        times = [row.at for row in rows if row.at] or [session_at]
        first = self._add_segment(source, rows, min(times), max(times), is_open=is_open)
        are_kept = self._words.take([row.text for row in rows])
        self._connection.executemany(
            "INSERT INTO spoken (rowid, text) VALUES (?, ?)",
            enumerate((_findable(row.text, row.names, kept) for row, kept in zip(rows, are_kept, strict=True)), first),
        )

    def reach(self, stored: Stored) -> None:
        """Note how far a session is indexed."""
        self._connection.execute(
            "UPDATE sources SET etag = ?, agent = ?, lines = ?, raw_bytes = ?, sealed_line = ?, sealed_bytes = ?,"
            " sealed_sha256 = ?, tail_sha256 = ?, unread = ?, generation = ? WHERE id = ?",
            (
                packed(stored.etag), stored.agent, stored.lines, stored.raw_bytes, stored.sealed_line,
                stored.sealed_bytes, stored.sealed_sha256, stored.tail_sha256, stored.unread, self._generation,
                stored.id,
            ),
        )  # fmt: skip

    def days(self, source: int) -> str:
        """The days on which a session was, in words that a question may use."""
        rows = self._connection.execute("SELECT first_at, last_at FROM segments WHERE source = ?", (source,))
        found = sorted({at[:10] for row in rows for at in row if len(at) >= 10})
        return " ".join(map(_day, found[:_MOST_DAYS]))

    # -- sources

    def describe(self, wanted: Described) -> int:
        """Make or update the row of a source and what its title is found by; returns its id."""
        connection = self._connection
        values = (
            packed(wanted.etag), wanted.title, wanted.at, wanted.ended_at, wanted.agent, wanted.facts, self._generation
        )  # fmt: skip
        place = _place(wanted.workspace_id, wanted.kind, wanted.key)
        known = connection.execute(f"SELECT id, title, facts, etag FROM sources WHERE {_IS_IT}", place).fetchone()
        if known is None:
            source = connection.execute(
                "INSERT INTO sources (mark, workspace_id, kind, key, etag, title, at, ended_at, agent, facts,"
                " generation, lines, raw_bytes, sealed_line, sealed_bytes, sealed_sha256, tail_sha256, unread, worth)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, x'', x'', 0, 3)",
                (*place, *values),
            ).lastrowid
            assert source is not None
        else:
            source = known[0]
            connection.execute(
                "UPDATE sources SET (etag, title, at, ended_at, agent, facts, generation) = (?, ?, ?, ?, ?, ?, ?)"
                " WHERE id = ?",
                (*values, source),
            )
        is_held = known is not None and known[3] != ""
        if not is_held or known[1:3] != (wanted.title, wanted.facts):
            if is_held:
                self._forget_head(source, place, known[1], known[2])
            connection.execute(
                "INSERT INTO heads (rowid, title, facts) VALUES (?, ?, ?)",
                (source, *_head(place, wanted.title, wanted.facts)),
            )
        return int(source)

    def _forget_head(self, source: int, place: _Place, title: str, facts: str) -> None:
        self._connection.execute(
            "INSERT INTO heads (heads, rowid, title, facts) VALUES ('delete', ?, ?, ?)",
            (source, *_head(place, title, facts)),
        )

    def forget(self, workspace_id: str, kind: str, key: str) -> None:
        """Take a source out of the index."""
        place = _place(workspace_id, kind, key)
        row = self._connection.execute(
            f"SELECT id, title, facts FROM sources WHERE {_IS_IT} AND etag <> ''", place
        ).fetchone()
        if row is not None:
            self.clear(row[0])
            self._connection.execute(
                "UPDATE sources SET etag = '', title = '', facts = '', generation = ? WHERE id = ?",
                (self._generation, row[0]),
            )
            self._forget_head(row[0], place, row[1], row[2])

    def clear(self, source: int, *, only_open: bool = False) -> None:
        """Let the rows of a source count no more."""
        where = "source = ? AND is_open >= ?"
        rows = self._connection.execute(
            f"SELECT id, first_row, length(shapes) FROM segments WHERE {where}", (source, int(only_open))
        ).fetchall()
        for number, first_row, count in rows:
            self._connection.execute(
                "DELETE FROM written WHERE rowid BETWEEN ? AND ?", (first_row, first_row + count - 1)
            )
            self._connection.execute(
                "UPDATE segments SET source = 0, lines = x'', shapes = x'', generation = ? WHERE id = ?",
                (self._generation, number),
            )
            self._dead_rows += count

    def _add_segment(self, source: int, rows: list[Row], first_at: str, last_at: str, *, is_open: bool) -> int:
        first, self._next_row = self._next_row, self._next_row + len(rows)
        shapes = bytes(row.speaker << 5 | min(SIZES - 1, len(row.text).bit_length()) for row in rows)
        lines = array("I", [row.line for row in rows]).tobytes()
        self._connection.execute(
            "INSERT INTO segments (source, first_row, is_open, first_at, last_at, lines, shapes, generation)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (source, first, int(is_open), first_at, last_at, lines, shapes, self._generation),
        )
        return first


def _place(workspace_id: str, kind: str, key: str) -> _Place:
    """What `_IS_IT` takes: a text of that length in an index would be as long again as the text of a short memory."""
    digest = hashlib.blake2b(f"{workspace_id}\n{kind}\n{key}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big"), workspace_id, kind, key


def _head(place: _Place, title: str, facts: str) -> tuple[str, str]:
    """What a source is found by beside its rows. Forgetting needs the very same: whoever changes this, or the words
    that are made of it, raises `SCHEMA_VERSION`."""
    _, workspace_id, kind, key = place
    own = key if kind in VERSIONED else called_after(key)
    name = "" if kind == "session" else own
    return indexed(as_searched(title)), indexed(as_searched(f"{name} {workspace_id} {facts}".strip()))


def _findable(text: str, names: Sequence[str], are_words_kept: bool) -> str:
    """What stands in a table of words for a text of which a part may be looked for too."""
    found = with_speakers(text, names)
    return found if are_words_kept else f"{found}\n{UNSURE}"


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).strftime("%Y-%m-%d %d %B %A").replace(" 0", " ")
    except ValueError:
        return text
