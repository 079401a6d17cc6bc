"""The index as searches see it: one moment of it, whatever is written meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import orjson

from federated_memory.index.file import IndexFile
from federated_memory.index.holding import Part, expression_of
from federated_memory.index.library import Library, Segment, Source
from federated_memory.index.words import grams_of, quoted

Table = Literal["spoken", "written", "noted"]
_LEAST_FETCH, _FETCH = 64, 2_048
_HANDLER_STEPS = 20_000
_MOST_RANGES = 48
_SMALL_GAP = 4_000
_GRAM = 3
_MOST_WORDS = 300
_LAST_CHARACTER = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows with a term, newest first. `is_all` false: there are older ones too, and about `total` in all."""

    rows: list[int]
    is_all: bool
    total: int


class Index:
    """The index of one root, for readers. Thread-safe."""

    def __init__(self, file: IndexFile) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._library = Library()
        self._incarnation = file.incarnation

    @contextmanager
    def view(self, is_spent: Callable[[], bool]) -> Iterator[View]:
        """One moment of the index. A query in it ends with `IndexUnusable` soon after `is_spent` says so.

        Raises:
            IndexUnusable: It is damaged, or being made anew.
        """
        with self.file.reading() as connection:
            with self._lock:
                if self._incarnation != self.file.incarnation:
                    self._library, self._incarnation = Library(), self.file.incarnation
                library = self._library
                generation = library.refresh(connection)
            connection.set_progress_handler(lambda: int(is_spent()), _HANDLER_STEPS)
            yield View(connection, library, generation)


class View:
    def __init__(self, connection: sqlite3.Connection, library: Library, generation: int) -> None:
        self._connection = connection
        self.library = library
        self.generation = generation
        """What this moment is; the library may be ahead of it, as other searches bring it up to date."""

    def meta(self, key: str) -> object:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def heads(self, column: Literal["title", "facts"], expression: str, limit: int) -> list[int]:
        """Ids of sources whose title, or path and circumstances, hold the term."""
        match = f"{{{column}}} : ({expression})"
        rows = self._connection.execute("SELECT rowid FROM heads WHERE heads MATCH ? LIMIT ?", (match, limit))
        return [row[0] for row in rows]

    def rows(self, table: Table, expression: str, scope: RowScope) -> Rows:
        """The rows that hold the term, newest first, within the scope; read as far as they are asked for."""
        return Rows(self._connection, table, expression, scope)

    def holding(self, texts: Sequence[str]) -> str | None:
        """An expression for `spoken`, `noted` and `heads` that finds whatever holds all of these texts as they are,
        case aside, and little else; None: nothing tells them apart. It is good for all that was indexed until now."""
        return expression_of(texts, self._words_of)

    def _words_of(self, part: Part) -> list[str] | None:
        """The words that `part` can be of."""
        text = part.text
        if not part.begins_open:
            rows = self._connection.execute(
                "SELECT word FROM words WHERE word >= ? AND word < ? LIMIT ?",
                (text, text + _LAST_CHARACTER, _MOST_WORDS + 1),
            ).fetchall()
        elif len(text) < _GRAM:
            return None
        else:
            is_there = "instr(word, ?)" if part.ends_open else "substr(word, -length(?)) = ?"
            rows = self._connection.execute(
                "SELECT word FROM words WHERE id IN (SELECT rowid FROM word_grams WHERE word_grams MATCH ?)"
                f" AND {is_there} LIMIT ?",
                (" AND ".join(map(quoted, grams_of(text))), *[text] * is_there.count("?"), _MOST_WORDS + 1),
            ).fetchall()
        return None if len(rows) > _MOST_WORDS else [word for (word,) in rows]


class Rows:
    """The rows of one term, as far as they were read.

    SQLite hands over each batch as one JSON text: row by row, Python's part would take longer than the search.
    """

    def __init__(self, connection: sqlite3.Connection, table: Table, expression: str, scope: RowScope) -> None:
        self._connection = connection
        self._expression = expression
        self._scope = scope
        self._sql = (
            "SELECT json_group_array(row) FROM (SELECT rowid AS row FROM"
            f" {table} WHERE {table} MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?)"
        )
        self._left = scope.ranges[::-1]
        self._found: list[int] = []
        self._oldest = 0

    def newest(self, limit: int) -> Found:
        """At most so many of them; asked again with a higher limit, it goes on where it was."""
        scope = self._scope
        fetch = _LEAST_FETCH
        while len(self._found) <= limit and self._left:
            low, high = self._left.pop()
            most = max(fetch, limit + 1 - len(self._found))
            fetch = min(_FETCH, 4 * most)  # where many rows do not count, reading few at a time is slow
            (text,) = self._connection.execute(self._sql, (self._expression, low, high, most)).fetchone()
            rows: list[int] = orjson.loads(text)
            rows.sort(reverse=True)  # they are; SQLite does not promise it
            if len(rows) == most and rows[-1] > low:
                self._left.append((low, rows[-1] - 1))
            if rows:
                self._oldest = rows[-1]
                self._found += rows if scope.allowed is None else scope.keep(rows)
        if len(self._found) <= limit:
            return Found(self._found, True, len(self._found))
        span = max(1, scope.highest - self._oldest + 1)
        whole = max(1, scope.highest - scope.lowest + 1)
        return Found(self._found[:limit], False, max(limit + 1, round(len(self._found) * whole / span)))


class RowScope:
    """Which rows count: those of some sources, of some speakers; all ranges of row numbers, newest first."""

    def __init__(
        self,
        library: Library,
        wanted: Callable[[Source], bool] | None,
        speakers: frozenset[int],
        kinds: Collection[str] = (),
    ) -> None:
        """`wanted` None: every source. `speakers` empty: every speaker. `kinds`, if any: of these, for `count`."""
        self._library = library
        self._speakers = speakers
        starts, segments = library.starts, library.segments
        top = segments[-1].last_row if segments else 0
        sources = [source for source in list(library.sources.values()) if source.etag]
        self.allowed: set[int] | None = None
        self.ranges: list[tuple[int, int]] = [(starts[0], top)] if starts else []
        if wanted is not None:
            sources = [source for source in sources if wanted(source)]
            self.allowed = {source.id for source in sources}
            self.ranges = self._ranges_of(self.allowed)
        elif speakers:
            self.allowed = {source.id for source in sources}
        self.lowest = self.ranges[-1][0] if self.ranges else 0
        self.highest = self.ranges[0][1] if self.ranges else 0
        self.count = sum(source.rows for source in sources if not kinds or source.kind in kinds)
        """How many rows there are."""

    def _ranges_of(self, allowed: set[int]) -> list[tuple[int, int]]:
        """What their segments span, newest first; small gaps are bridged, and many ranges become one."""
        segments = sorted(
            ((one.first_row, one.last_row) for number in allowed for one in self._library.sources[number].segments),
            reverse=True,
        )
        ranges: list[tuple[int, int]] = []
        for low, high in segments:
            if ranges and ranges[-1][0] - high <= _SMALL_GAP:
                ranges[-1] = low, ranges[-1][1]
            else:
                ranges.append((low, high))
        return ranges if len(ranges) <= _MOST_RANGES else [(ranges[-1][0], ranges[0][1])]

    def keep(self, rows: list[int]) -> list[int]:
        """Those of falling row numbers that count."""
        kept: list[int] = []
        for source, segment, part in self._library.by_segment(rows[::-1]):
            if self.allowed is None or source.id in self.allowed:
                kept += self._spoken_by(segment, part)
        kept.reverse()
        return kept

    def _spoken_by(self, segment: Segment, rows: list[int]) -> list[int]:
        if not self._speakers:
            return rows
        shapes, first = segment.shapes, segment.first_row
        return [row for row in rows if shapes[row - first] >> 5 in self._speakers]
