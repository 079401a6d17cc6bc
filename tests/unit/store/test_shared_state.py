"""The shared state's store: one winner, one counter, one commit for many, and what a restored root does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from federated_memory.errors import Conflict, Unavailable
from federated_memory.store.changes import Actor
from federated_memory.store.root import Root
from federated_memory.store.shared_state import Author, SharedState, StateChange, Write

ME = Author(Actor("me"), "home")


def opened(root: Root, **options: Any) -> SharedState:
    return SharedState(root.database, root.feed, **{"max_keys": 100, "history": 5, "log": 1_000, **options})


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    root = Root(tmp_path / "root")
    yield root
    root.close()


@pytest.fixture
def state(root: Root) -> Iterator[SharedState]:
    state = opened(root)
    yield state
    state.close()


def put(state: SharedState, key: str, value: bytes = b"1", **options: Any) -> StateChange:
    (change,) = state.write([Write(key, value, **options)], ME, state.schemas_version).result().answers
    assert change is not None
    return change


@pytest.mark.spec("STATE-3", "STATE-4")
def test_of_200_writers_at_once_exactly_one_wins(state: SharedState) -> None:
    start = put(state, "leader").number
    gate, won, lost = threading.Barrier(20), [], []

    def compete(number: int) -> None:
        gate.wait()
        for attempt in range(10):
            try:
                won.append(put(state, "leader", b"%d" % (number * 10 + attempt), if_version=start))
            except Conflict as error:
                lost.append(error.facts["version"])

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert lost == [won[0].number] * 199
    assert state.get("leader") == won[0]


@pytest.mark.spec("STATE-4")
def test_what_waits_shares_a_commit_and_is_told_in_order(root: Root, state: SharedState) -> None:
    told: list[list[StateChange]] = []
    state.on_change(told.append)
    with root.database.transaction():  # the writer's thread waits for this one
        begun: list[Future[Any]] = [
            state.write([Write(f"k{number}", b"1")], ME, state.schemas_version) for number in range(50)
        ]
    done = [answer.result() for answer in begun]

    numbers = [change.number for batch in told for change in batch]
    assert numbers == sorted(numbers) == [found.changes[0].number for found in done]
    assert len(told) <= 2


@pytest.mark.spec("STATE-4")
def test_a_commit_that_fails_is_told_to_everybody_and_changes_nothing(
    root: Root, state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(state, "old", b'"kept"')
    apply = SharedState._apply

    def broken(self: SharedState, transaction: Any, key: str, *rest: Any) -> StateChange:
        if key == "bad":
            raise ValueError("a defect")
        return apply(self, transaction, key, *rest)

    monkeypatch.setattr(SharedState, "_apply", broken)
    with root.database.transaction():
        begun = [state.write([Write(key, b"1")], ME, state.schemas_version) for key in ("a", "bad", "old")]
    errors = [answer.exception() for answer in begun]
    assert all(isinstance(error, Unavailable) for error in errors[1:])
    monkeypatch.setattr(SharedState, "_apply", apply)

    found = state.get("old")
    assert found is not None
    assert found.value == b'"kept"'
    assert state.get("bad") is None
    assert state._keys == state._count()
    assert put(state, "new").number > found.number


@pytest.mark.spec("STATE-2")
def test_a_restored_root_never_gives_a_version_again(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    state = opened(root)
    first = put(state, "a").number
    state.close()
    with root.database.transaction() as transaction:
        transaction.execute("UPDATE node SET value = '2' WHERE key = 'epoch'")
    root.close()

    root = Root(tmp_path / "root")
    state = opened(root)
    found, head = state.get("a"), state.head()
    second = put(state, "a").number
    state.close()
    root.close()

    assert found is not None
    assert found.number == first
    assert head > first + 1_000_000
    assert second == head + 1


@pytest.mark.spec("STATE-2", "EVENT-2")
def test_after_a_restore_nobody_resumes_where_the_other_root_was(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    with root.database.transaction() as transaction:
        transaction.execute("UPDATE node SET value = '3' WHERE key = 'epoch'")
    root.close()
    root = Root(tmp_path / "root")
    state = opened(root)

    assert not state.holds_all_after(5)
    assert state.holds_all_after(state.head())
    state.close()
    root.close()


@pytest.mark.spec("STATE-5")
def test_a_clock_that_is_set_back_drops_and_ends_nothing(root: Root) -> None:
    wall, passed = [1_000_000.0], [0.0]
    state = opened(root, clock=lambda: wall[0], elapsed=lambda: passed[0])
    before = put(state, "a", ttl_seconds=60)
    wall[0] -= 500_000
    after = put(state, "b", ttl_seconds=60)
    wall[0] += 5_000_000

    assert before.number < after.number
    assert [change.key for change in state.after(0)] == ["a", "b"]
    assert state.expire() == 0
    passed[0] = 61
    assert state.expire() == 2
    assert [change.operation for change in state.after(after.number)] == ["expire", "expire"]
    state.close()


@pytest.mark.spec("STATE-4")
def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    state = opened(root)
    change = put(state, "a", b'{"x":null}')
    state.close()
    with pytest.raises(Unavailable):
        put(state, "b")
    root.close()
    root = Root(tmp_path / "root")
    again = opened(root)

    assert again.get("a") == change
    assert again._keys == 1
    again.close()
    root.close()
