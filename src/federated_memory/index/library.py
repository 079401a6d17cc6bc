"""What a reader keeps in memory of the index: which source a row is of, its line, its speaker and its size.

About 8 bytes a row. It is brought up to date before each search with what newer generations say.
"""

from __future__ import annotations

import gc
import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from federated_memory.store.archive import Archive

_HEX = 64
_MANY = 2_000
SIZES = 32
"""How many sizes of rows are told apart; each is twice the one before."""


@dataclass(slots=True, eq=False)
class Segment:
    """A run of rows; `source` is None once it is dead."""

    source: Source | None
    first_row: int
    first_at: str
    last_at: str
    lines: array[int]
    shapes: bytes

    @property
    def last_row(self) -> int:
        return self.first_row + len(self.shapes) - 1


@dataclass(slots=True, eq=False)
class Source:
    """One thing that is indexed; `etag` is empty once it is gone. `at`: of a session its begin."""

    id: int
    workspace_id: str
    kind: str
    key: str
    etag: str
    title: str
    at: str
    ended_at: str
    unread: int
    worth: int
    segments: list[Segment] = field(default_factory=list)
    rows: int = 0

    def hold(self, segments: list[Segment]) -> None:
        self.segments = segments
        self.rows = sum(len(segment.shapes) for segment in segments)

    @property
    def place(self) -> tuple[str, str, str]:
        return self.at, self.key, self.workspace_id


def packed(etag: str) -> bytes | str:
    """A SHA-256 in half the room; what is none stays text."""
    return bytes.fromhex(etag) if len(etag) == _HEX else etag


def unpacked(stored: bytes | str) -> str:
    return stored if isinstance(stored, str) else stored.hex()


class Library:
    """All live sources and segments. `refresh` by one thread at a time; reading meanwhile is safe."""

    def __init__(self) -> None:
        self.generation = 0
        self.sources: dict[int, Source] = {}
        self.starts: list[int] = []
        self.segments: list[Segment] = []
        self.unread: set[int] = set()
        """Sources of which not everything is indexed."""
        self.workspaces: set[str] = set()
        self.kinds: set[str] = set()
        self._by_id: dict[int, Segment] = {}
        self._apart = 0
        self._by_key: dict[tuple[str, str, str], Source] = {}

    def refresh(self, connection: sqlite3.Connection) -> int:
        """Take in what is new; returns the generation that the connection sees."""
        sql = "SELECT coalesce(max(value), 0) FROM meta WHERE key = 'generation'"
        (generation,) = connection.execute(sql).fetchone()
        if generation <= self.generation:
            return int(generation)
        self._take_sources(connection)
        self._take_segments(connection)
        self.generation = generation
        self._set_apart()
        return int(generation)

    def _set_apart(self) -> None:
        """Let Python's collector pass over what is here, for it stays: of 20,000 sources it would stop every thread for
        70 ms, again and again."""
        count = len(self.sources) + len(self.segments)
        if count - self._apart > max(_MANY, self._apart // 4):
            gc.freeze()
            self._apart = count

    def _take_sources(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            f"SELECT id, workspace_id, kind, key, etag, title, at, ended_at, unread, worth FROM sources {self._newer}"
        )
        sources = self.sources
        for row in rows:
            known = sources.get(row[0])
            if known is None:
                known = sources[row[0]] = Source(*row)
                self.workspaces.add(row[1])
                self.kinds.add(row[2])
            else:
                known.etag, known.title, known.at, known.ended_at, known.unread, known.worth = row[4:]
            known.etag = unpacked(row[4])
            if known.unread and known.etag:
                self.unread.add(known.id)
            elif self.unread:
                self.unread.discard(known.id)

    def _take_segments(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            f"SELECT id, source, first_row, first_at, last_at, lines, shapes FROM segments {self._newer}"
            " ORDER BY first_row"
        )
        sources, by_id = self.sources, self._by_id
        for number, source_id, first_row, first_at, last_at, lines, shapes in rows:
            known = by_id.get(number)
            if known is not None:
                if source_id == 0 and known.source is not None:
                    known.source.hold([one for one in known.source.segments if one is not known])
                    known.source = None
            elif source_id:
                source = sources[source_id]
                segment = by_id[number] = Segment(source, first_row, first_at, last_at, array("I", lines), shapes)
                if source.segments:
                    source.hold([*source.segments, segment])
                else:  # nearly all of many: memories have one row
                    source.segments, source.rows = [segment], len(shapes)
                self.segments.append(segment)
                self.starts.append(first_row)

    @property
    def _newer(self) -> str:
        """What was not taken in yet: at first everything, for which the index of generations is a detour."""
        return f"WHERE generation > {self.generation:d}" if self.generation else ""

    @property
    def by_key(self) -> Mapping[tuple[str, str, str], Source]:
        """By workspace, kind and key; made when it is asked for, which a search of a whole index has no need to."""
        if len(self._by_key) != len(self.sources):  # none is ever taken away
            known = list(self.sources.values())
            self._by_key = {(one.workspace_id, one.kind, one.key): one for one in known}
        return self._by_key

    def segment_of(self, row: int) -> Segment | None:
        at = bisect_right(self.starts, row) - 1
        if at < 0:
            return None
        found = self.segments[at]
        return found if row - found.first_row < len(found.shapes) else None

    def by_segment(self, rows: list[int]) -> Iterator[tuple[Source, Segment, list[int]]]:
        """Rising row numbers, cut into those of one live segment each; rows of none are left out."""
        starts, segments = self.starts, self.segments
        at, end, number = 0, len(rows), 0
        while at < end:
            number = bisect_right(starts, rows[at], number)
            if not number:
                at += 1
                continue
            segment = segments[number - 1]
            source = segment.source
            begin, at = at, bisect_right(rows, segment.first_row + len(segment.shapes) - 1, at)
            if at == begin:
                at += 1
            elif source is not None:
                yield source, segment, rows[begin:at]

    def holds(self, archive: Archive) -> Source | None:
        """The source of a transcript, when it is indexed just as it is now."""
        found = self.by_key.get((archive.workspace_id, "session", archive.session_id))
        return found if found is not None and found.etag == archive.sha256 else None
