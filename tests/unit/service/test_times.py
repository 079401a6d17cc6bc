"""Filters by time, and durations (SPEC: TOOL-1, AUTH-2)."""

from __future__ import annotations

import pytest

from federated_memory.errors import InvalidArgument
from federated_memory.service.times import parse_since, parse_until
from federated_memory.service.token_admin import parse_duration


@pytest.mark.spec("TOOL-1")
@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        (None, None, None), ("", None, None),
        ("2026-11-21", "2026-11-21T00:00:00.000Z", "2026-11-21T23:59:59.999Z"),
        ("2026-11-21T08:00:00Z", "2026-11-21T08:00:00.000Z", "2026-11-21T08:00:00.000Z"),
        ("2026-11-21T08:00:00+02:00", "2026-11-21T06:00:00.000Z", "2026-11-21T06:00:00.000Z"),
    ],
)  # fmt: skip
def test_a_date_is_its_whole_day(text: str | None, since: str | None, until: str | None) -> None:
    assert (parse_since(text), parse_until(text)) == (since, until)


@pytest.mark.spec("TOOL-1")
@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-31", "21.11.2026", "x" * 10, "\x00" * 10])
def test_what_is_no_time_is_refused(text: str) -> None:
    for parse in (parse_since, parse_until):
        with pytest.raises(InvalidArgument):
            parse(text)


@pytest.mark.spec("AUTH-2")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("10s", 10), ("30m", 1_800), ("12h", 43_200), ("90d", 7_776_000), ("2w", 1_209_600)],
)
def test_durations_are_read(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.spec("AUTH-2")
@pytest.mark.parametrize("text", ["90", "d", "-1d", "1.5h", "1y", "1d ", "9" * 7 + "d", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_duration(text)
