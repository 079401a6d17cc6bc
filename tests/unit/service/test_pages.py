"""Cutting lists and texts to a budget: nothing lost, nothing split, nothing over (SPEC: PAGE-1 to PAGE-3)."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.service.pages import (
    ENVELOPE_BYTES,
    cut_text,
    decode_cursor,
    encode_cursor,
    fit_rows,
    json_bytes,
    page_text,
    split_lines,
)
from federated_memory.service.results import DocumentRow

TEXT = st.lists(
    st.text(max_size=20)
    | st.sampled_from(
        ["\n", "\r\n", "\x00\x01\x1b", "é" * 40, "日本語" * 30, "🎉" * 25, '"\\' * 20, "a" * 200, "\u2028"]
    )
).map("".join)


@pytest.mark.spec("PAGE-3")
@given(TEXT)
def test_lines_put_together_are_the_text(text: str) -> None:
    lines = split_lines(text)

    assert "".join(lines) == text
    assert all(line.count("\n") == line.endswith("\n") for line in lines)
    assert "" not in lines


@pytest.mark.spec("PAGE-1")
@given(TEXT.filter(bool), st.integers(-10, 300))
def test_a_cut_text_is_the_longest_beginning_that_fits(text: str, budget: int) -> None:
    cut = cut_text(text, budget)

    assert text.startswith(cut)
    assert json_bytes(cut) <= budget or len(cut) == 1
    assert cut == text or json_bytes(text[: len(cut) + 1]) > budget


@pytest.mark.spec("PAGE-1")
@given(TEXT)
def test_a_text_takes_at_least_its_utf_8_in_json(text: str) -> None:
    assert json_bytes(text) >= len(text.encode())
    assert json_bytes(text) == len(orjson.dumps(text)) - 2


@pytest.mark.spec("PAGE-3")
@given(TEXT, st.integers(12, 200), st.integers(1, 5))
def test_following_the_pages_gives_the_text_exactly(text: str, budget: int, limit: int) -> None:
    offset, byte_offset, parts = 0, 0, []
    for _ in range(10_000):
        page = page_text(text, offset=offset, byte_offset=byte_offset, limit=limit, budget=budget)
        parts.append(page.text)
        assert json_bytes(page.text) <= budget
        assert page.lines == len(split_lines(text))
        is_whole = offset == byte_offset == 0 and page.next_offset is None
        assert is_whole == (page.text == text and offset == byte_offset == 0)
        if page.next_offset is None:
            break
        assert (page.next_offset, page.next_byte_offset or 0) > (offset, byte_offset)
        offset, byte_offset = page.next_offset, page.next_byte_offset or 0
        if offset >= page.lines:
            break

    assert "".join(parts) == text


@pytest.mark.spec("PAGE-3")
@pytest.mark.parametrize("text", ["é", "é\n", "x", "xy\nz"])
def test_pages_add_up_also_when_there_is_no_room_at_all(text: str) -> None:
    offset, byte_offset, parts = 0, 0, []
    for _ in range(10):
        page = page_text(text, offset=offset, byte_offset=byte_offset, limit=9, budget=0)
        parts.append(page.text)
        if page.next_offset is None:
            break
        offset, byte_offset = page.next_offset, page.next_byte_offset or 0

    assert "".join(parts) == text


@pytest.mark.spec("PAGE-3")
@given(TEXT, st.integers(0, 20), st.integers(1, 400))
def test_a_byte_offset_that_no_page_gave_is_refused_or_begins_at_a_character(
    text: str, offset: int, byte_offset: int
) -> None:
    lines = split_lines(text)
    try:
        page = page_text(text, offset=offset, byte_offset=byte_offset, limit=1, budget=10_000)
    except InvalidArgument:
        return

    if offset < len(lines):
        assert page.text.encode() == lines[offset].encode()[byte_offset:]


@pytest.mark.spec("PAGE-1", "PAGE-2")
@given(st.lists(st.text(max_size=80), max_size=30), st.integers(1, 40), st.integers(1_000, 5_000))
def test_rows_fit_the_budget_unless_one_alone_does_not(titles: list[str], limit: int, max_bytes: int) -> None:
    rows = [DocumentRow(path="a.md", title=title, bytes=1, etag="0" * 64, updated_at="") for title in titles]

    found, more = fit_rows(iter(rows), limit, max_bytes)

    assert found == rows[: len(found)]
    assert more == (len(found) < len(rows))
    assert bool(found) == bool(rows)
    size = ENVELOPE_BYTES + sum(len(orjson.dumps(row.as_dict())) + 1 for row in found)
    assert len(found) <= limit
    assert size <= max_bytes or len(found) == 1


@pytest.mark.spec("PAGE-2")
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.integers(-(2**60), 2**60), max_size=4))
def test_a_cursor_comes_back_as_it_went(key: list[str | int]) -> None:
    assert decode_cursor(encode_cursor("rows", key), "rows") == key


@pytest.mark.spec("PAGE-2")
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    try:
        found = decode_cursor(text, "rows", str)
    except InvalidArgument:
        return

    assert found is None or len(found) == 1
