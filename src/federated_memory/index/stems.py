"""What SQLite's stemmer makes of words, as the tables of words hold them (SPEC: INDEX-5)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import cache

_MOST_KEPT = 20_000


class Stemmer:
    """Thread-safe. Stems that were asked for are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, str] = {}
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.executescript(
            "CREATE VIRTUAL TABLE taken USING fts5("
            "text, tokenize = 'porter unicode61 remove_diacritics 2', content = '', columnsize = 0);"
            "CREATE VIRTUAL TABLE places USING fts5vocab(taken, instance);"
        )

    def stem(self, word: str) -> str:
        """Of a word; empty: it is none."""
        return self._kept.get(word) or self.stems([word])[0]

    def stems(self, words: Sequence[str]) -> list[str]:
        """Of each; of what is several words, theirs."""
        with self._lock:
            if len(self._kept) > _MOST_KEPT:
                self._kept.clear()
            new = [word for word in words if word not in self._kept]
            plain = [word for word in new if word.isascii() and word.isalnum()]  # each is surely one
            if plain:
                self._kept.update(zip(plain, self._asked("\n".join(plain)), strict=True))
            self._kept.update((word, " ".join(self._asked(word))) for word in set(new).difference(plain))
            return [self._kept[word] for word in words]

    def _asked(self, text: str) -> list[str]:
        self._connection.execute("INSERT INTO taken (rowid, text) VALUES (1, ?)", (text,))
        try:
            return [word for (word,) in self._connection.execute("SELECT term FROM places ORDER BY offset")]
        finally:
            self._connection.execute("INSERT INTO taken (taken) VALUES ('delete-all')")


@cache
def stemmer() -> Stemmer:
    """The one of this process, made when it is first needed."""
    return Stemmer()
