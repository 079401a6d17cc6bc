"""Snippets: short, whole characters, the match marked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_memory.search.snippet import MAX_CHARACTERS, snippet

PIECES = st.sampled_from(
    ["a", "word ", "é", "配置", "\U0001f600", "\n", "\n\n", "\t", "x" * 150, " y" * 90, "«", "\x1b[1m", "\ue000"]
)


@pytest.mark.spec("FIND-12")
@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(PIECES, max_size=9).map("".join), PIECES, st.lists(PIECES, max_size=9).map("".join), st.booleans())
def test_a_snippet_is_short_and_shows_the_match(before: str, match: str, after: str, also: bool) -> None:
    text = (before + match + after).encode()
    start, end = len(before.encode()), len((before + match).encode())
    spans = [(start, end), *([(0, 1)] if before[:1] == "a" and also else [])]

    shown = snippet(text, spans)

    assert len(shown) <= MAX_CHARACTERS
    assert shown.count("\n") <= 2
    assert "\ufffd" not in shown
    assert "«" in shown
    assert "»" in shown


@pytest.mark.spec("FIND-12")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[match]", "«match»"),
        ("one\ntwo [match] three\nfour\nfive", "one\ntwo «match» three\nfour"),
        ("one\n\n[match]\n\n\nlater", "«match»\nlater"),
        ("\tdef  f():\r\n[match]", "def f():\n«match»"),
        ("two [li\nnes] here", "two «li nes» here"),
        ("x" * 500 + "[match]" + "y" * 500, "…" + "x" * 80 + "«match»" + "y" * 210 + "…"),
        ("[" + "m" * 500 + "]", "«" + "m" * 180 + "»" + "m" * 116 + "…"),
    ],
)
def test_snippets(text: str, shown: str) -> None:
    start, end = text.index("["), text.index("]") - 1
    data = text.replace("[", "").replace("]", "").encode()

    assert snippet(data, [(start, end)]) == shown


@pytest.mark.spec("FIND-12")
def test_every_match_in_sight_is_marked_and_marks_come_in_pairs() -> None:
    text = b"foo bar foo " + b"z" * 400 + b" foo"

    shown = snippet(text, [(0, 3), (8, 11), (413, 416)])

    assert shown.startswith("«foo» bar «foo» zzz")
    assert shown.count("«") == shown.count("»") == 2
