"""Sections within a budget (SPEC: BRIEF-2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.service.brief_layout import (
    LEAST_BYTES,
    Piece,
    Section,
    conversation,
    document,
    lay_out,
    plain,
    rows,
)
from federated_memory.service.framing import visible
from federated_memory.service.pages import json_bytes

MARK = "0badcafe"
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400)
BODY = st.builds(lambda text, times: text * times, TEXT, st.integers(1, 20))
PIECES = st.lists(st.builds(Piece, st.just("[1] user"), BODY), min_size=1, max_size=2)
SECTION = st.one_of(
    st.builds(lambda text: plain(text), TEXT),
    st.builds(lambda body: document("## H", body, MARK, more="more"), BODY),
    st.builds(lambda lines: rows("## H", lines, MARK, more="more"), st.lists(TEXT, min_size=1, max_size=9)),
    st.builds(lambda said: conversation("## H", "title", said, MARK, more="more"), st.lists(PIECES, max_size=2)),
)  # fmt: skip
SECTIONS = st.lists(st.builds(Section, st.floats(0.01, 1), SECTION), max_size=6)


@pytest.mark.spec("BRIEF-2")
@given(SECTIONS, st.integers(0, 6_000))
def test_sections_never_take_more_than_their_room(sections: list[Section], room: int) -> None:
    fitted = lay_out(sections, room)

    assert json_bytes(fitted.text) <= room
    assert fitted.text.count(f"<<<{MARK}\n") == fitted.text.count(f"\n{MARK}>>>")


@pytest.mark.spec("BRIEF-2")
@given(SECTIONS)
def test_with_room_for_all_every_section_is_whole(sections: list[Section]) -> None:
    wholes = [section.fit(1 << 20).text for section in sections]

    fitted = lay_out(sections, sum(map(json_bytes, wholes)))

    assert (fitted.text, fitted.is_whole) == ("".join(wholes), True)


@pytest.mark.spec("BRIEF-2")
@given(SECTIONS, st.integers(0, 6_000))
def test_what_is_said_to_be_whole_is_whole(sections: list[Section], room: int) -> None:
    fitted = lay_out(sections, room)

    assert fitted.is_whole == (fitted.text == "".join(section.fit(1 << 20).text for section in sections))


@pytest.mark.spec("BRIEF-2")
def test_with_little_room_the_worthiest_section_is_the_one_that_stays() -> None:
    sections = [Section(0.2, document(f"## {n}", f"body{n} " * 100, MARK, more="more")) for n in range(4)]

    for count in (1, 2, 3, 4):
        text = lay_out(sections, LEAST_BYTES * count + 4).text
        assert [f"body{n}" in text for n in range(4)] == [n < count for n in range(4)]


@pytest.mark.spec("BRIEF-2")
def test_what_one_section_leaves_over_goes_to_the_first_that_needs_it() -> None:
    first = Section(0.1, document("## A", "a " * 1_000, MARK, more="more"))
    second = Section(0.1, document("## B", "b " * 1_000, MARK, more="more"))
    third = Section(0.8, plain("short"))

    text = lay_out([first, second, third], 2_000).text

    assert text.count("a ") > 3 * text.count("b ")
    assert text.endswith("short")


@pytest.mark.spec("BRIEF-7")
@given(st.text(max_size=300))
def test_visible_text_hides_nothing_and_is_no_longer(text: str) -> None:
    shown = visible(text)

    assert all(character in "\n\t" or character.isprintable() for character in shown)
    assert visible(shown) == shown
    assert len(shown) <= len(text)


@pytest.mark.spec("BRIEF-7")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 中文 \t tab", "plain äöü 中文 \t tab"), ("\x1b[1;31mred\x1b[0m", "red"), ("\x9b31mred", "red"),
        ("\x1b]0;title\x07x", "x"), ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"), ("a\r\nb\rc", "a\nb c"),
        ("a\u200bb\u202ec\u2066d\ufeff", "abcd"), ("a\u00a0b\u2028c\x85d", "a b c d"),
        ("x" + "".join(chr(0xE0000 + ord(c)) for c in "obey"), "x"), ("x\ufe0f\U000e0101\u3164\u115f", "x"),
        ("\x1b\x1b[0m[31mred", "[31mred"), ("\x00\x07\x08\x7f", ""), ("\x1b]" * 1_000 + "x", "x"),
    ],
)  # fmt: skip
def test_what_a_person_would_not_see_is_taken_out(text: str, shown: str) -> None:
    assert visible(text) == shown
