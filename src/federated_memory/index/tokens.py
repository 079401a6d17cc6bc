"""The distinct words of transcripts, as SQLite's tokenizer cuts them (SPEC: INDEX-11).

The table of words finds whole words. A text that is looked for exactly may begin and end inside of one: then the words
that it can be a part of are looked up here. There are few of them, whatever the size of the transcripts.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import cache
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

from federated_memory.index.words import UNSPACED_RUN, may_be_unspaced

LONGEST_WORD = 1_000
"""In bytes. Longer ones are encoded data; the rows that hold one are marked instead."""
UNSURE = "holdsunsurewords"
"""Stands in the table of words for a row of which not all words are kept; nobody types it."""

_MOST_KNOWN = 20_000
_SEPARATED = bytes(
    code if code >= 0x80 or chr(code) in digits + ascii_letters else ord(" ") for code in range(256)
).translate(bytes.maketrans(ascii_uppercase.encode(), ascii_lowercase.encode()))
"""Capitals as small letters, what is not ASCII as it is, and all signs as spaces."""


UNSTEMMED = "unicode61 remove_diacritics 2"


class Tokenizer:
    """What SQLite makes of a text, accents and case removed. Thread-safe."""

    def __init__(self, how: str = UNSTEMMED) -> None:
        """`how`: the `tokenize` of an FTS5 table."""
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.executescript(
            "CREATE VIRTUAL TABLE taken USING fts5("
            f"text, tokenize = '{how}', content = '', columnsize = 0);"
            "CREATE VIRTUAL TABLE distinct_words USING fts5vocab(taken, row);"
            "CREATE VIRTUAL TABLE places USING fts5vocab(taken, instance);"
        )

    def words(self, text: str) -> list[str]:
        """The words of a text, in order."""
        return self._asked(text, "SELECT term FROM places ORDER BY offset")

    def distinct(self, text: str) -> list[str]:
        """The words of a text, each once."""
        return self._asked(text, "SELECT term FROM distinct_words")

    def _asked(self, text: str, sql: str) -> list[str]:
        with self._lock:
            self._connection.execute("INSERT INTO taken (rowid, text) VALUES (1, ?)", (text,))
            try:
                return [word for (word,) in self._connection.execute(sql)]
            finally:
                self._connection.execute("INSERT INTO taken (taken) VALUES ('delete-all')")


@cache
def tokenizer() -> Tokenizer:
    """The one of this process, made when it is first needed."""
    return Tokenizer()


class KnownWords:
    """What one connection stored, as it stood in the texts: those that were met last. To SQLite each is a search."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._of: tuple[sqlite3.Connection, int] | None = None

    def begin(self, connection: sqlite3.Connection) -> None:
        """In a transaction: forget what another connection may have changed."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._of != (connection, version):
            self._of = connection, version
            self._recent, self._older = set(), set()

    def new_of(self, pieces: set[bytes]) -> set[bytes]:
        return pieces - self._recent - self._older

    def add(self, pieces: set[bytes]) -> None:
        """After the commit."""
        self._recent |= pieces
        if len(self._recent) > _MOST_KNOWN:
            self._older, self._recent = self._recent, set()


class Words:
    """The distinct words of the rows of one transaction, until they are stored."""

    def __init__(self, known: KnownWords) -> None:
        self._known = known
        self._pieces: set[bytes] = set()
        self._found: set[bytes] = set()
        """Of those the words that may be new."""

    def take(self, texts: Sequence[str]) -> list[bool]:
        """Note the words of these texts; of each, whether all that it holds are kept."""
        pieces: set[bytes] = set()
        for text in texts:
            pieces.update(_split(text))
        new = self._known.new_of(pieces - self._pieces)
        found = set(filter(bytes.isascii, new))
        if foreign := b"\n".join(new - found):
            spaced = foreign.decode()
            if may_be_unspaced(foreign):  # what is written without spaces is found by its pairs of characters
                spaced = UNSPACED_RUN.sub(" ", spaced)
            found.update(map(str.encode, tokenizer().distinct(spaced)))
        self._found |= found
        has_long = max(map(len, found), default=0) > LONGEST_WORD
        if has_long:  # they are not kept, so they are never known
            pieces = {piece for piece in pieces if len(piece) <= LONGEST_WORD}
        self._pieces |= pieces
        return [not (has_long and _has_long(text)) for text in texts]

    def store(self, connection: sqlite3.Connection) -> None:
        """Add those that are new to the tables of the index."""
        if not self._found:
            return
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM words").fetchone()
        connection.executemany(
            "INSERT OR IGNORE INTO words (word) VALUES (?)",
            ((word.decode(),) for word in sorted(self._found) if len(word) <= LONGEST_WORD),
        )
        connection.execute(
            "INSERT INTO word_grams (rowid, word) SELECT id, word FROM words WHERE id > ? AND length(word) > 2", (last,)
        )
        self._found.clear()

    def committed(self) -> None:
        """What was stored stays."""
        self._known.add(self._pieces)


def _split(text: str) -> list[bytes]:
    """The runs of ASCII letters and digits, and of whatever is not ASCII."""
    return text.encode("utf-8", "replace").translate(_SEPARATED).split()


def _has_long(text: str) -> bool:
    pieces = _split(text if text.isascii() else UNSPACED_RUN.sub(" ", text))
    return any(len(piece) > LONGEST_WORD for piece in pieces)
