"""Headers and queries turned into values (SPEC: HTTP-2, HTTP-6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from federated_memory.errors import InvalidArgument, TooLarge, UnsupportedFormat
from federated_memory.web.transfer import encoding_of, ensure_length, etag_header, if_match_of, integer

ETAG = "a1" * 32


def request(query: str = "", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs, "query_string": query.encode()})


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if_match": f'"{ETAG}"'}, ETAG),
        ({"if_match": ETAG}, ETAG),
        ({"if_match": f'W/"{ETAG}"'}, ETAG),
        ({"if_none_match": "*"}, ""),
        ({"if_none_match": " * "}, ""),
        ({"if_none_match": "*", "if_match": f'"{ETAG}"'}, ""),
    ],
)
def test_preconditions_are_read(headers: dict[str, str], expected: str | None) -> None:
    assert if_match_of(request(**headers)) == expected


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize("value", ["x", f'"{ETAG}0"', f'"{ETAG.upper()}"', f'"{ETAG}", "{ETAG}"'])
def test_a_precondition_that_is_no_etag_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument):
        if_match_of(request(if_match=value))


@pytest.mark.spec("HTTP-2")
def test_an_absent_etag_is_none() -> None:
    assert etag_header(request(), "if-none-match") is None


@pytest.mark.spec("HTTP-1")
@given(st.integers(-(10**16), 10**16))
def test_whole_numbers_are_read(number: int) -> None:
    assert integer(request(f"n={number}"), "n") == number
    assert integer(request(upload_offset=str(number)), "upload-offset", header=True) == number


@pytest.mark.spec("HTTP-1")
@pytest.mark.parametrize("text", ["x", "1.5", "1e3", "0x10", "-", "1-1", " 1", "+1", "9" * 19, "1_000", "²"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    from urllib.parse import quote

    with pytest.raises(InvalidArgument):
        integer(request(f"n={quote(text)}"), "n")


@pytest.mark.spec("HTTP-6")
def test_a_length_over_the_cap_is_too_large() -> None:
    ensure_length(request(content_length="10"), 10)
    ensure_length(request(), 10)
    with pytest.raises(TooLarge):
        ensure_length(request(content_length="11"), 10)


@pytest.mark.spec("HTTP-2", "HTTP-6")
def test_three_encodings_are_known() -> None:
    assert [encoding_of(request(content_encoding=name)) for name in ("gzip", " ZSTD ", "identity", "")] == [
        "gzip", "zstd", "identity", "identity",
    ]  # fmt: skip
    with pytest.raises(UnsupportedFormat):
        encoding_of(request(content_encoding="br"))
