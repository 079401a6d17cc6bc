"""Where the index sees a term that the patterns do not know, such as a word in another form (SPEC: INDEX-7).

SQLite's tokenizer tells. Most such words begin as the term does: of these the stems alone are looked at.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property

from federated_memory.index.rows import as_searched
from federated_memory.index.stems import stemmer
from federated_memory.search.query import Pattern, compile_pattern
from federated_memory.search.snippet import Span
from federated_memory.search.terms import Term

_LONGEST_TEXT = 100_000
_LONGEST_WORD = 40
_SHORTEST_START = 3
_OPEN, _CLOSE = "\ue001", "\ue002"
_WORD = re.compile(r'"([a-z0-9]+)"')


class Marking:
    """Asks SQLite's tokenizer, through a table in memory that holds one text at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def of(self, terms: Iterable[Term]) -> Marker:
        return Marker(self, terms)

    def marked(self, text: str, match: str) -> str:
        """The text with marks around what the expression finds; empty when that is nothing."""
        with self._lock:
            connection = self._connected()
            connection.execute("INSERT OR REPLACE INTO t (rowid, text) VALUES (1, ?)", (text,))
            sql = "SELECT highlight(t, 0, ?, ?) FROM t WHERE t MATCH ?"
            row = connection.execute(sql, (_OPEN, _CLOSE, match)).fetchone()
        return str(row[0]) if row else ""

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._connection.execute(
                "CREATE VIRTUAL TABLE t USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2')"
            )
        return self._connection

    def close(self) -> None:
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None


class Marker:
    """Finds the terms of one query in texts."""

    def __init__(self, marking: Marking, terms: Iterable[Term]) -> None:
        self._marking = marking
        self._match = " OR ".join(f"({term.match})" for term in terms)

    @cached_property
    def _stems(self) -> frozenset[str]:
        stems = stemmer().stems(_WORD.findall(self._match))
        return frozenset(stem for stem in stems if len(stem) > _SHORTEST_START)

    @cached_property
    def _alike(self) -> Pattern:
        """The words that begin as a term does. The end of a stem may differ from theirs: `happi` of `happy`."""
        starts = sorted({stem[:-1] for stem in self._stems})
        return compile_pattern(f"(?i:{'|'.join(starts)})[0-9A-Za-z]*") if starts else None

    def first(self, text: bytes) -> list[Span]:
        """The span of the first term in a text; empty when there is none, or the text is very long."""
        for found in self._alike.finditer(text) if self._alike is not None else ():
            start, end = found.span()
            if _goes_on(text[start - 1 : start]) or _goes_on(text[end : end + 1]) or end - start > _LONGEST_WORD:
                continue
            if stemmer().stem(text[start:end].decode().lower()) in self._stems:
                return [(start, end)]
        if len(text) > _LONGEST_TEXT:
            return []
        marked = self._marking.marked(as_searched(text.decode("utf-8", "replace")), self._match)
        before, mark, rest = marked.partition(_OPEN)
        if not mark:
            return []
        at = len(before.encode())
        return [(at, at + len(rest.partition(_CLOSE)[0].encode()))]


def _goes_on(character: bytes) -> bool:
    """Whether a word goes on there; beyond ASCII that is not looked at."""
    return character.isalnum() or not character.isascii()
