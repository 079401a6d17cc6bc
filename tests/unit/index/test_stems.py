"""Stems are those of the table of words, in whatever company they are asked for."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.index.stems import Stemmer, stemmer

WORDS = st.sampled_from(["happy", "candidate", "running", "naïve", "zürich", "日本", "x", "a1b2", "", "two words", "-"])


def as_indexed(word: str) -> list[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            "CREATE VIRTUAL TABLE t USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2');"
            "CREATE VIRTUAL TABLE v USING fts5vocab(t, instance);"
        )
        connection.execute("INSERT INTO t (text) VALUES (?)", (word,))
        return [term for (term,) in connection.execute("SELECT term FROM v ORDER BY offset")]


@pytest.mark.spec("INDEX-5")
@given(st.lists(WORDS | st.text(alphabet="aeiouy bcdglmnrst-é1", max_size=12), max_size=6))
def test_each_word_has_its_own_stem(words: list[str]) -> None:
    assert Stemmer().stems(words) == [" ".join(as_indexed(word)) for word in words]


def test_stems_that_are_kept_stay_right() -> None:
    known = Stemmer()

    assert [known.stem("candidates"), *known.stems(["candidate", "candidates"])] == ["candid"] * 3
    assert stemmer() is stemmer()
