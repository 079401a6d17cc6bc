"""What SQLite's stemmer makes of words, as the tables of words hold them (SPEC: INDEX-5)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache

from federated_memory.index.tokens import UNSTEMMED, Tokenizer

_MOST_KEPT = 20_000


class Stemmer:
    """Thread-safe. Stems that were asked for are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, str] = {}
        self._tokenizer = Tokenizer(f"porter {UNSTEMMED}")

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
                self._kept.update(zip(plain, self._tokenizer.words("\n".join(plain)), strict=True))
            self._kept.update((word, " ".join(self._tokenizer.words(word))) for word in set(new).difference(plain))
            return [self._kept[word] for word in words]


@cache
def stemmer() -> Stemmer:
    """The one of this process, made when it is first needed."""
    return Stemmer()
