"""Who commits: a thread for all who come together, or whoever comes alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from federated_memory.errors import Conflict, RateLimited, Unavailable
from federated_memory.service.promptly import promptly
from federated_memory.store.database import _QUICK_SECONDS, Database
from federated_memory.store.group_commit import MOST_WAITING, GroupCommit

PATIENCE_SECONDS = 30


class Rig:
    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "state.sqlite3")
        self.database.ensure_tables("CREATE TABLE IF NOT EXISTS told (number INTEGER PRIMARY KEY, thread INTEGER)")
        self.database._commit_seconds = 0.0
        self.told: list[int] = []
        self.commits = GroupCommit(self.database, self.told.extend, lambda: None)

    def work(self, transaction: sqlite3.Connection) -> int:
        row = transaction.execute("INSERT INTO told (thread) VALUES (?)", (threading.get_ident(),)).lastrowid
        assert row is not None
        return row

    def threads(self) -> list[int]:
        return [thread for (thread,) in self.database.rows("SELECT thread FROM told ORDER BY number")]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.commits.close()
    rig.database.close()


@pytest.mark.spec("STATE-4")
def test_whoever_comes_alone_commits_before_it_has_its_answer(rig: Rig) -> None:
    answer = rig.commits.submit(rig.work, alone=True)
    assert answer.done()
    assert rig.threads() == [threading.get_ident()]
    assert rig.told == [answer.result()]


@pytest.mark.spec("STATE-4")
@pytest.mark.parametrize("why", ["not alone", "a slow disk", "somebody writes"])
def test_else_a_thread_of_its_own_commits(rig: Rig, why: str) -> None:
    if why == "a slow disk":
        rig.database._commit_seconds = 1.0
    if why != "somebody writes":
        answer = rig.commits.submit(rig.work, alone=why != "not alone")
        answer.result(PATIENCE_SECONDS)
    else:
        begun, over = threading.Event(), threading.Event()

        def write() -> None:
            with rig.database.transaction(tells=False):
                begun.set()
                over.wait(PATIENCE_SECONDS)

        with ThreadPoolExecutor() as pool:
            writing = pool.submit(write)
            begun.wait(PATIENCE_SECONDS)
            answer = rig.commits.submit(rig.work, alone=True)
            assert not answer.done()
            over.set()
            writing.result()
        answer.result(PATIENCE_SECONDS)
    assert rig.threads() != [threading.get_ident()]
    assert len(rig.threads()) == 1


@pytest.mark.spec("STATE-4")
def test_all_are_told_in_the_order_of_their_commits_whoever_committed(rig: Rig) -> None:
    def several(which: int) -> list[int]:
        return [
            rig.commits.submit(rig.work, alone=(number + which) % 2 == 0).result(PATIENCE_SECONDS)
            for number in range(50)
        ]

    with ThreadPoolExecutor(8) as pool:
        answers = [number for found in pool.map(several, range(8)) for number in found]
    assert rig.told == sorted(answers) == list(range(1, 401))


@pytest.mark.spec("STATE-4")
def test_a_refusal_or_a_failure_reaches_whoever_came_alone(rig: Rig) -> None:
    def refuse(_: sqlite3.Connection) -> None:
        raise Conflict("no")

    def fail(transaction: sqlite3.Connection) -> None:
        rig.work(transaction)
        raise ZeroDivisionError

    assert isinstance(rig.commits.submit(refuse, alone=True).exception(), Conflict)
    assert isinstance(rig.commits.submit(fail, alone=True).exception(), Unavailable)
    assert rig.threads() == []
    rig.commits.close()
    with pytest.raises(Unavailable):
        rig.commits.submit(rig.work, alone=True)


@pytest.mark.spec("STATE-8")
def test_more_writes_than_can_wait_are_refused(rig: Rig) -> None:
    begun, over = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        over.wait(PATIENCE_SECONDS)

    first = rig.commits.submit(hold)
    begun.wait(PATIENCE_SECONDS)
    waiting = [rig.commits.submit(rig.work) for _ in range(MOST_WAITING)]
    with pytest.raises(RateLimited):
        rig.commits.submit(rig.work, alone=True)
    over.set()
    first.result(PATIENCE_SECONDS)
    assert [answer.result(PATIENCE_SECONDS) for answer in waiting] == list(range(1, MOST_WAITING + 1))


@pytest.mark.spec("STATE-4", "TASK-8")
@pytest.mark.parametrize("is_slow", [False, True])
def test_short_work_is_done_in_the_loop_while_the_disk_is_quick(rig: Rig, is_slow: bool) -> None:
    rig.database._commit_seconds = 1.0 if is_slow else 0.0

    def work() -> int:
        with rig.database.transaction(tells=False) as transaction:
            return rig.work(transaction)

    async def run() -> int:
        return await promptly(rig.database, work)

    assert anyio.run(run) == 1
    assert (rig.threads() == [threading.get_ident()]) is not is_slow


@pytest.mark.spec("STATE-4")
def test_a_disk_that_stalls_is_not_quick_until_it_has_proven_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("federated_memory.store.database.time.perf_counter", lambda: now[0])

    def commits(seconds: float) -> bool:
        with rig.database.transaction(tells=False):
            pass
        rig.database._commit_seconds += 0.2 * seconds  # as if the clock had gone on
        with rig.database.quickly() as is_quick:
            return is_quick

    assert commits(0.0001)
    assert not commits(0.5)
    tries = 1
    while not commits(0.0001):
        tries += 1
    assert 10 < tries < 100
    assert rig.database._commit_seconds < _QUICK_SECONDS
