"""Timestamps in one form."""

from __future__ import annotations

import pytest

from federated_memory.transcripts.times import parse_time


@pytest.mark.spec("READ-8")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-21T03:59:08.123Z", "2026-11-21T03:59:08.123Z"),
        ("2026-11-21T03:59:08Z", "2026-11-21T03:59:08.000Z"),
        ("2026-11-21T03:59:08.123456789Z", "2026-11-21T03:59:08.123Z"),
        ("2026-11-21T03:59:08.5+02:00", "2026-11-21T01:59:08.500Z"),
        ("2026-11-21 03:59:08-0730", "2026-11-21T11:29:08.000Z"),
        ("2026-11-21T03:59:08+02", "2026-11-21T01:59:08.000Z"),
        ("2026-11-21t03:59:08z", "2026-11-21T03:59:08.000Z"),
        ("2026-11-21T03:59:08", "2026-11-21T03:59:08.000Z"),
        (1_795_233_548_123, "2026-11-21T03:59:08.123Z"),
        (1_795_233_548, "2026-11-21T03:59:08.000Z"),
        (1_795_233_548.123, "2026-11-21T03:59:08.123Z"),
    ],
)
def test_every_form_becomes_utc_with_milliseconds(value: object, expected: str) -> None:
    assert parse_time(value) == expected


@pytest.mark.spec("READ-8")
@pytest.mark.parametrize(
    "value",
    [
        None, True, "", "yesterday at half past nine", "2026-13-21T03:59:08.123Z", "2026-11-21",
        "20261121T035908.123456Z", "2026-11-21T03:59:08.123 or so", "9999-12-31T23:59:59-23:00", 42, -1,
        10**30, float("nan"), float("inf"), [], {},
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(value: object) -> None:
    assert parse_time(value) is None
