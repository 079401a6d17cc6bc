"""The days that a query names (SPEC: FIND-7)."""

from __future__ import annotations

import pytest

from federated_memory.search.dates import days_named


@pytest.mark.spec("FIND-7")
@pytest.mark.parametrize(
    ("query", "day", "other"),
    [
        ("what did we do in May?", "2023-05-08", "2023-06-08"),
        ("what did we do in May 2023?", "2023-05-08", "2022-05-08"),
        ("the deploy on 8 May, 2023", "2023-05-08", "2023-05-09"),
        ("the deploy of july 7th 2024", "2024-07-07", "2024-07-08"),
        ("the 21st of December", "2025-12-21", "2025-12-20"),
        ("sept. 3", "2025-09-03", "2025-09-13"),
        ("everything of 2026-11", "2026-11-30", "2026-12-01"),
        ("2026-11-04T10:00 or 2026-11-07?", "2026-11-07", "2026-11-05"),
        ("between March and April", "2023-04-30", "2023-05-01"),
    ],
)
def test_days_are_found_however_they_are_written(query: str, day: str, other: str) -> None:
    days = days_named(query)

    assert days is not None
    assert days.match(f"{day}T03:02:01.000Z")
    assert not days.match(f"{other}T03:02:01.000Z")


@pytest.mark.spec("FIND-7")
@pytest.mark.parametrize(
    "query",
    ["what may I do", "May I ask", "march on", "mayor", "decide", "version 2026-13", "a 2023 model", "", "nova"],
)
def test_words_that_only_look_like_days_are_none(query: str) -> None:
    assert days_named(query) is None
