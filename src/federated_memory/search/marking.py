"""Where the index sees a term that the patterns do not know, such as a word in another form (SPEC: INDEX-7)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import suppress

from federated_memory.index.rows import as_searched
from federated_memory.search.snippet import Span
from federated_memory.search.terms import Term

_LONGEST_TEXT = 100_000
_OPEN, _CLOSE = "\ue001", "\ue002"


class Marking:
    """Asks SQLite's tokenizer, through a table in memory that holds one text at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def first(self, text: bytes, terms: Iterable[Term]) -> list[Span]:
        """The span of the first term in a text; empty when there is none, or the text is very long."""
        if len(text) > _LONGEST_TEXT:
            return []
        match = " OR ".join(f"({term.match})" for term in terms)
        with self._lock:
            marked = self._marked(as_searched(text.decode("utf-8", "replace")), match)
        before, mark, rest = marked.partition(_OPEN)
        if not mark:
            return []
        at = len(before.encode())
        return [(at, at + len(rest.partition(_CLOSE)[0].encode()))]

    def _marked(self, text: str, match: str) -> str:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._connection.execute(
                "CREATE VIRTUAL TABLE t USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2')"
            )
        self._connection.execute("INSERT OR REPLACE INTO t (rowid, text) VALUES (1, ?)", (text,))
        sql = "SELECT highlight(t, 0, ?, ?) FROM t WHERE t MATCH ?"
        row = self._connection.execute(sql, (_OPEN, _CLOSE, match)).fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
