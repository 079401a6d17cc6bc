"""Visits: how they end, and how many there are (SPEC: SITE-2)."""

from __future__ import annotations

import pytest

from federated_memory.auth.caller import Grant
from federated_memory.auth.tokens import Tokens
from federated_memory.auth.visits import Visits
from federated_memory.store.root import Root


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tokens(root: Root) -> Tokens:
    return Tokens(root, ai="an-ai-token", sync=None)


def grant_of(tokens: Tokens, token: str = "an-ai-token") -> Grant:
    found = tokens.verify(token)
    assert isinstance(found, Grant)
    return found


@pytest.mark.spec("SITE-2")
def test_a_visit_ends_when_it_was_idle(tokens: Tokens) -> None:
    clock = Clock()
    visits = Visits(tokens, idle_seconds=60, clock=clock)
    visit_id = visits.begin(grant_of(tokens))

    for _ in range(3):
        clock.now += 59
        assert visits.find(visit_id)
    clock.now += 61

    assert visits.find(visit_id) is None
    clock.now -= 61
    assert visits.find(visit_id) is None, "what has ended stays ended"


@pytest.mark.spec("SITE-2")
def test_a_visit_ends_after_a_week_however_busy(tokens: Tokens) -> None:
    clock = Clock()
    visits = Visits(tokens, idle_seconds=100_000, clock=clock)
    visit_id = visits.begin(grant_of(tokens))

    days = 0
    while visits.find(visit_id):
        clock.now += 86_400
        days += 1

    assert days == 8


@pytest.mark.spec("SITE-2")
def test_a_visit_has_what_its_token_gives_now(tokens: Tokens) -> None:
    _, secret = tokens.create("person", "read")
    visits = Visits(tokens, idle_seconds=60)
    visit_id, other = visits.begin(grant_of(tokens, secret)), visits.begin(grant_of(tokens))

    tokens.revoke("person")
    tokens.create("person", "admin")

    assert visits.find(visit_id) is None, "another token of that name is another token"
    assert visits.find(other)
    assert visits.find("") is None
    assert visits.find("x" * 1_000) is None


def test_a_flood_of_visits_takes_no_more_memory(tokens: Tokens) -> None:
    visits = Visits(tokens, idle_seconds=60)
    first = visits.begin(grant_of(tokens))
    second = visits.begin(grant_of(tokens))
    for _ in range(998):
        visits.begin(grant_of(tokens))
    assert visits.find(first)

    visits.begin(grant_of(tokens))

    assert visits.find(first), "it was used meanwhile"
    assert visits.find(second) is None
    assert len(visits._visits) == 1_000
