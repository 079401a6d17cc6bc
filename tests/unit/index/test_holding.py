"""Whatever part of a row is looked for exactly, the expression for it finds the row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from federated_memory.index import Index, reader, tokens
from federated_memory.index.file import IndexFile
from federated_memory.index.holding import Part, expression_of
from federated_memory.index.reader import RowScope
from federated_memory.index.rows import Row, Speaker, as_searched
from federated_memory.index.tokens import LONGEST_WORD, KnownWords
from federated_memory.index.words import UNSPACED_RUN, may_be_unspaced
from federated_memory.index.writer import Described, Writing

PIECES = st.sampled_from([
    "needle", "Needles", "NEEDLE", "raise", "re", "Error", "value", "_", ".", "(", " ", "\n", "  ", "-", "'", "=>",
    "fooBar", "HTTPServer", "C++", "c#", "é", "e\u0301", "\u0301", "ß", "\u212a", "\u017f", "\u0130", "\ufb03", "й",
    "и\u0306", "привет", "λόγος", "ι\u1fbe", "日本語", "語", "か\u3099", "한국어", "\u1112\u1161\u11ab", "가", "\u11a8",
    "ไทย", "नमस्ते", "שלום", "مرحبا",
    "\U0001f680", "\u200d", "\u2013", "…", "½", "Ⅷ", "٣", "\ufffd", "0", "12e5", "ab" * 600,
    "q" * LONGEST_WORD,
])  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=7).map("".join) | st.text(max_size=12)
CHECKED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(CHECKED, max_examples=2_000)


class Undone(Exception):
    """What undoes a transaction."""


class Rows:
    """An index with rows of one session."""

    def __init__(self, path: Path) -> None:
        self.file = IndexFile(path)
        self.index = Index(self.file)
        self.known = KnownWords()

    def put(self, texts: list[str], *, fails: bool = False) -> None:
        with self.file.writing() as connection:
            writing = Writing(connection, self.known)
            source = writing.describe(Described("home", "session", "s", "etag", "", ""))
            writing.clear(source)
            for number, text in enumerate(texts):
                writing.put_row(source, Row(number, Speaker.USER, as_searched(text), None), "")
            writing.end_rows(source, "")
            writing.finish()
            if fails:
                raise Undone
        writing.committed()

    def words(self) -> set[str]:
        with self.file.reading() as connection:
            return {word for (word,) in connection.execute("SELECT word FROM words")}

    def found(self, texts: list[str]) -> set[int] | None:
        """The lines that may hold all of these texts; None: all of them."""
        with self.index.view(lambda: False) as view:
            expression = view.holding(texts)
            if expression is None:
                return None
            rows = view.rows("spoken", expression, RowScope(view.library, None, frozenset())).newest(1_000).rows
            segments = [(row, view.library.segment_of(row)) for row in rows]
            return {one.lines[row - one.first_row] for row, one in segments if one is not None and one.source}


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path / "index.sqlite3")


def every_part_is_found(rows: Rows, check: settings) -> None:
    @check
    @given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
    def agree(texts: list[str], data: st.DataObject) -> None:
        rows.put(texts)
        for number, text in enumerate(map(as_searched, texts)):
            if text:
                start = data.draw(st.integers(0, len(text) - 1))
                part = text[start : data.draw(st.integers(start + 1, len(text)))]
                found = rows.found([part])
                assert found is None or number in found, (part, text)

    agree()


@pytest.mark.spec("INDEX-11")
def test_every_part_of_a_row_leads_to_it(rows: Rows) -> None:
    every_part_is_found(rows, CHECKED)


@pytest.mark.thorough
@pytest.mark.spec("INDEX-11")
def test_every_part_of_many_rows_leads_to_them(rows: Rows) -> None:
    every_part_is_found(rows, MANY)


def test_the_property_finds_a_twin_that_takes_every_end_for_the_end_of_a_word(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "expression_of", lambda texts, _: expression_of(texts, lambda part: [part.text]))
    with pytest.raises(AssertionError):
        every_part_is_found(rows, settings(CHECKED, phases=[Phase.generate], max_examples=300))


@pytest.mark.spec("INDEX-11")
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("needle_in", {0, 1}),
        ("edle_in_the_ha", {0}),
        ("raise ValueError(", {2}),
        ("e Value", {2, 3}),
        (" was raised. ", {3}),
        ("検索の", {4}),
        ("nothing of it", set()),
    ],
)
def test_few_other_rows_are_found(rows: Rows, text: str, lines: set[int]) -> None:
    rows.put([
        "a needle_in_the_haystack, the needle in it",
        "needle_in",
        "raise ValueError('no')",
        "the ValueError was raised. Yes",
        "写入之前 検索の結果",
    ])  # fmt: skip
    assert rows.found([text]) == lines


@pytest.mark.spec("INDEX-11")
def test_a_row_with_a_word_that_is_too_long_to_be_kept_is_always_looked_at(rows: Rows) -> None:
    rows.put(["sum " + "0123456789abcdef" * 100, "nothing of the kind"])
    assert rows.found(["abcdef0123"]) == {0}


@pytest.mark.spec("INDEX-11")
@pytest.mark.parametrize("most", [0, 3, 1_000])
def test_a_word_that_was_known_before_is_kept_whatever_became_of_it(
    rows: Rows, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_MOST_KNOWN", most)
    with pytest.raises(Undone):
        rows.put(["an undone needle, ungekürzt"], fails=True)
    assert rows.words() == set()
    rows.put(["an undone needle, ungekürzt"])
    assert rows.words() == {"an", "undone", "needle", "ungekurzt"}
    rows.put(["the needle again, ungekürzt"])
    assert rows.words() == {"an", "undone", "needle", "ungekurzt", "the", "again"}

    other = sqlite3.connect(tmp_path / "index.sqlite3")
    other.execute("DELETE FROM words")
    other.commit()
    other.close()
    rows.put(["the needle"])
    assert rows.words() == {"the", "needle"}

    rows.file.renew()
    rows.put(["the needle"])
    assert rows.words() == {"the", "needle"}
    rows.put(["sum " + "x" * 1_001])
    rows.put(["sum " + "x" * 1_001])
    assert rows.found(["xxxx"]) == {0}


@pytest.mark.spec("INDEX-5")
def test_scripts_without_spaces_are_known_by_their_bytes() -> None:
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000 and UNSPACED_RUN.match(chr(code)):
            assert may_be_unspaced(f"a{chr(code)}".encode()), hex(code)
    assert not may_be_unspaced("só → ✓ ├── – “naïve” привет 🎉".encode())


def of_the_words(*known: str) -> Callable[[Part], list[str] | None]:
    return lambda part: [word for word in known if part.text in word]


@pytest.mark.spec("INDEX-11")
def test_signs_alone_tell_nothing() -> None:
    assert expression_of(["=>", "..."], of_the_words()) is None


@pytest.mark.spec("INDEX-11")
def test_an_end_that_may_be_of_too_many_words_is_left_out() -> None:
    assert expression_of(["e value = 3 f"], lambda _: None) == '(("value 3")) OR "holdsunsurewords"'


@pytest.mark.spec("INDEX-11")
def test_one_of_two_ends_is_mostly_as_it_is_written() -> None:
    found = expression_of(["lo wo"], lambda part: ["hello", "lo"] if part.begins_open else ["wo", "wow"])
    assert found == '(("lo wo" OR "lo wow" OR "hello wo" OR (("hello") AND ("wow")))) OR "holdsunsurewords"'


@pytest.mark.spec("INDEX-11")
def test_many_words_at_both_ends_are_asked_for_one_by_one() -> None:
    many = [f"x{number}" for number in range(200)]
    first = " OR ".join(f'"{word}"' for word in many)
    assert expression_of(["x, x"], lambda _: many) == f'(({first})) OR "holdsunsurewords"'
    assert expression_of(["x a b x"], lambda _: many) == '(("a b")) OR "holdsunsurewords"'
