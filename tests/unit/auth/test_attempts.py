"""Wrong codes by address (SPEC: ENROL-6)."""

from __future__ import annotations

import pytest

from federated_memory.auth.attempts import _MAX_ADDRESSES, Attempts
from federated_memory.errors import RateLimited


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def spent(attempts: Attempts, address: str) -> None:
    for _ in range(10):
        attempts.ensure_allowed(address)
        attempts.failed(address)


@pytest.mark.spec("ENROL-6")
def test_the_eleventh_try_of_a_minute_is_refused_until_the_first_is_a_minute_old() -> None:
    clock = Clock()
    attempts = Attempts(clock=clock)
    spent(attempts, "192.0.2.1")

    clock.now += 20.5
    with pytest.raises(RateLimited) as refused:
        attempts.ensure_allowed("192.0.2.1")
    assert refused.value.facts == {"retry_after_seconds": 40}
    attempts.ensure_allowed("192.0.2.2")
    clock.now += 39.5
    attempts.ensure_allowed("192.0.2.1")


@pytest.mark.spec("ENROL-6")
def test_a_whole_ipv6_network_counts_as_one() -> None:
    attempts = Attempts()
    spent(attempts, "2001:db8::1")

    with pytest.raises(RateLimited):
        attempts.ensure_allowed("2001:db8::ffff:2")
    attempts.ensure_allowed("2001:db8:0:1::1")


@pytest.mark.spec("ENROL-6")
def test_a_flood_of_addresses_takes_no_more_memory() -> None:
    attempts = Attempts()
    for number in range(_MAX_ADDRESSES + 500):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(attempts._failures) == _MAX_ADDRESSES


@pytest.mark.parametrize("address", ["", "unknown", "fe80::1%eth0"])
@pytest.mark.spec("ENROL-6")
def test_whatever_stands_for_an_address_counts(address: str) -> None:
    attempts = Attempts()
    spent(attempts, address)

    with pytest.raises(RateLimited):
        attempts.ensure_allowed(address)
