"""A budget that fills up again."""

from __future__ import annotations

import pytest

from federated_memory.errors import RateLimited
from federated_memory.service.pace import _MOST_KNOWN, Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.spec("RATE-1", "STATE-8")
def test_a_budget_is_spent_at_once_and_comes_back_by_the_second() -> None:
    clock = Clock()
    pace = Pace(5, "requests a second with this token", at_once_seconds=10, clock=clock)
    for _ in range(50):
        pace.spend("a")
    with pytest.raises(RateLimited) as refused:
        pace.spend("a")
    assert refused.value.facts == {"retry_after_seconds": 1}
    pace.spend("b")
    clock.now += 0.2
    pace.spend("a")
    with pytest.raises(RateLimited):
        pace.spend("a")
    clock.now += 3_600
    for _ in range(50):
        pace.spend("a")
    with pytest.raises(RateLimited) as refused:
        pace.spend("a", 12)
    assert refused.value.facts == {"retry_after_seconds": 3}


@pytest.mark.spec("RATE-1")
def test_whoever_is_refused_does_not_wait_longer_for_having_asked() -> None:
    clock = Clock()
    pace = Pace(1, "requests", at_once_seconds=1, clock=clock)
    pace.spend("a")
    for _ in range(100):
        clock.now += 0.009
        with pytest.raises(RateLimited):
            pace.spend("a")
    clock.now += 0.2
    pace.spend("a")


@pytest.mark.spec("RATE-1")
def test_so_many_are_known_whatever_arrives() -> None:
    pace = Pace(1, "requests", at_once_seconds=1)
    for number in range(_MOST_KNOWN + 10):
        pace.spend(str(number))
    assert len(pace._left) == _MOST_KNOWN
