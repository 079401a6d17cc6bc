"""Two texts side by side: nothing is lost, nothing takes for ever (SPEC: SITE-7)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.pages.compare import Row, compare

LINES = st.lists(
    st.sampled_from(["", "one", "two words", "two other words", "three  words here", "«»", "\t"]), max_size=12
)


def numbered(rows: list[Row], side: str) -> dict[int, str]:
    found = {}
    for row in rows:
        number, pieces = (row.left, row.old) if side == "old" else (row.right, row.new)
        if number is not None:
            found[number] = "".join(text for text, _ in pieces)
    return found


@pytest.mark.spec("SITE-7")
@given(old=LINES, new=LINES)
def test_both_texts_are_in_the_rows_but_for_what_is_said_to_be_equal(old: list[str], new: list[str]) -> None:
    rows = compare("\n".join(old), "\n".join(new))

    for side, text in (("old", "\n".join(old)), ("new", "\n".join(new))):
        lines, shown = compare_lines(text), numbered(rows, side)
        assert all(lines[number - 1] == line for number, line in shown.items())
        assert list(shown) == sorted(shown)
        assert len(shown) + sum(row.skipped for row in rows) == len(lines)
    assert all(row.old == row.new for row in rows if row.kind == "same")
    assert all(row.old != row.new for row in rows if row.kind == "changed")


def compare_lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


@pytest.mark.spec("SITE-7")
def test_lines_stand_beside_those_they_are_like() -> None:
    rows = compare("a\nthe old budget is 30\nz\n", "a\nnew first line\nthe new budget is 30\nz\n")

    assert [(row.kind, row.left, row.right) for row in rows] == [
        ("same", 1, 1), ("added", None, 2), ("changed", 2, 3), ("same", 3, 4),
    ]  # fmt: skip
    assert [text for text, differs in rows[2].old if differs] == ["old"]
    assert [text for text, differs in rows[2].new if differs] == ["new"]


@pytest.mark.spec("SITE-7")
def test_what_is_equal_is_left_out_but_for_three_lines() -> None:
    old = "".join(f"{number}\n" for number in range(100))

    rows = compare(old, old.replace("50\n", "fifty\n"))

    assert [row.skipped for row in rows if row.kind == "skipped"] == [47, 46]
    assert len(rows) == 9


@pytest.mark.spec("SITE-7")
@pytest.mark.parametrize(
    ("old", "new"),
    [("a " * 120_000, "b " * 120_000), ("a b " * 60_000, "b a " * 60_000), ("x\n" * 1_400, "y x\n" * 1_400),
     ("ab" * 100_000 + "\n", "ba" * 100_000 + "\n"), ("".join(f"a{n} " for n in range(30_000)),) * 2],
)  # fmt: skip
def test_hostile_texts_are_compared_or_refused_and_never_hang(old: str, new: str) -> None:
    started = time.process_time()

    compare(old, new)

    assert time.process_time() - started < 20, "it would take minutes without its limits"


@pytest.mark.spec("SITE-7")
@pytest.mark.parametrize("length", [300_000, 3_000_000])
def test_what_would_take_long_is_refused(length: int) -> None:
    with pytest.raises(InvalidArgument, match="side by side"):
        compare("a\n" * (length // 2), "b\n" * (length // 2))
