"""kill -9 while 500 tasks are asked, claimed and answered: none acknowledged is lost, none is completed twice."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from federated_memory.store.tasks import Tasks
from tests.e2e.conftest import Api, RunningServer
from tests.fault.rig import check

Serve = Callable[..., RunningServer]
TASKS = 500
WORKERS = 4
KILLS = 8
ASKERS = 2
NO_ANSWER = (OSError, http.client.HTTPException)


@dataclass
class Record:
    """What was sent and what was acknowledged. Thread-safe."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: dict[str, str] = field(default_factory=dict)
    """Task → its text, acknowledged."""
    answered: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Task → outputs whose submission was acknowledged."""
    submitted: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Task → all outputs that were sent."""
    unanswered: int = 0
    unexpected: list[str] = field(default_factory=list)


class Party:
    """An asker or a worker, with one connection, that outlives any number of servers."""

    def __init__(self, record: Record, binding: str, current: Callable[[], RunningServer]) -> None:
        self.record = record
        self.binding = binding
        self.current = current

    def call(self, path: str, body: dict[str, object]) -> tuple[int, dict[str, Any]] | None:
        """Status and answer; None: no answer came."""
        try:
            with self.current().api(RunningServer.ai_token) as api:
                answer = api.call("POST", "/api/v1" + path, json.dumps(body).encode(), X_Memory_Binding=self.binding)
                return answer.status, answer.json
        except NO_ANSWER:
            with self.record.lock:
                self.record.unanswered += 1
            time.sleep(0.02)
            return None

    def ask(self, count: int) -> None:
        done = 0
        while done < count:
            text = f"task {threading.get_ident()} {done}"
            found = self.call("/tasks", {"room": "r", "task": text})
            if found is None:
                continue
            if found[0] != 201:
                self.record.unexpected.append(str(found))
                return
            with self.record.lock:
                self.record.asked[found[1]["task_id"]] = text
            done += 1
            time.sleep(0.01)  # so that many kills come in between

    def work(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            found = self.call("/tasks/poll", {"wait_seconds": 1, "limit": 3, "lease_seconds": 2})
            if found is None or found[0] != 200:
                continue
            for task in found[1]["tasks"]:
                self.answer(task["task_id"], task["attempt"], f"{task['task']} by {self.binding[-6:]}")

    def answer(self, task_id: str, attempt: int, output: str) -> None:
        """As an agent would: again, until there is an answer."""
        output = f"{output} attempt {attempt}"
        with self.record.lock:
            self.record.submitted[task_id].add(output)
        for _ in range(200):
            body = {"success": True, "output": output, "attempt": attempt}
            found = self.call(f"/tasks/{task_id}/result", body)
            if found is None:
                continue
            if found[0] == 200:
                with self.record.lock:
                    self.record.answered[task_id].append(output)
            elif found[0] != 409:
                self.record.unexpected.append(str(found))
            return


def register(api: Api, name: str) -> str:
    home = api.register(name)
    answer = api.call("POST", "/api/v1/rooms", b'{"room": "r"}', X_Memory_Binding=home.binding)
    assert answer.status in (200, 201), answer
    return home.binding


@pytest.mark.timeout(300)
@pytest.mark.spec("TASK-8", "TASK-7", "TASK-4", "TASK-6")
def test_kill_9_during_500_tasks_loses_none_and_completes_none_twice(serve: Serve) -> None:
    chance = random.Random(int(os.environ.get("FAULT_SEED", "1")))
    servers = [serve()]
    record, over, kills = Record(), threading.Event(), 0
    with servers[0].api(RunningServer.ai_token) as api:
        bindings = [register(api, f"p{number}") for number in range(ASKERS + WORKERS)]
    parties = [Party(record, binding, lambda: servers[-1]) for binding in bindings]
    askers = [threading.Thread(target=party.ask, args=(TASKS // ASKERS,), daemon=True) for party in parties[:ASKERS]]
    workers = [threading.Thread(target=party.work, args=(over.is_set,), daemon=True) for party in parties[ASKERS:]]
    for thread in (*askers, *workers):
        thread.start()
    while kills < KILLS and any(thread.is_alive() for thread in askers):
        time.sleep(chance.uniform(0.05, 0.4))  # the moment is what the test draws lots for
        servers[-1].process.kill()
        servers[-1].wait()
        kills += 1
        servers.append(serve())
    for thread in askers:
        thread.join(120)

    states = settled(servers[-1], bindings[0], record)
    over.set()
    for thread in workers:
        thread.join(30)

    print(f"kill -9: {kills} kills, {len(record.asked)} tasks acknowledged, {record.unanswered} calls unanswered")
    assert record.unexpected == []
    assert len(record.asked) == TASKS
    assert kills >= KILLS // 2
    assert record.unanswered > kills
    assert verdict(record, states) == []
    assert check(servers[-1].root, servers[-1].env) == []


def settled(server: RunningServer, binding: str, record: Record) -> dict[str, dict[str, Any]]:
    """Every acknowledged task, once it has finished: leases of claims that a kill left behind end by themselves."""
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 120
    with server.api(RunningServer.ai_token) as api:
        while len(found) < len(record.asked):
            assert time.monotonic() < deadline, "tasks stay unfinished"
            for task_id in record.asked.keys() - found.keys():
                answer = api.call("GET", f"/api/v1/tasks/{task_id}", X_Memory_Binding=binding)
                if answer.status != 200 or answer.json["state"] not in ("open", "claimed"):
                    found[task_id] = answer.json
    return found


def verdict(record: Record, states: dict[str, dict[str, Any]]) -> list[str]:
    """What was promised and does not hold."""
    wrong = []
    for task_id, text in record.asked.items():
        state, answered = states[task_id], record.answered[task_id]
        if state.get("task") != text:
            wrong.append(f"{task_id} is lost: {state}")
        elif len(answered) > 1:
            wrong.append(f"{task_id} was completed {len(answered)} times")
        elif answered and state["output"] != answered[0]:
            wrong.append(f"{task_id}: its acknowledged result is lost")
        elif state["state"] != "completed" or state["output"] not in record.submitted[task_id]:
            wrong.append(f"{task_id} holds what nobody sent: {state}")
    repeated = Counter(record.asked.values())
    return wrong + [f"{text} was acknowledged {count} times" for text, count in repeated.items() if count > 1]


@pytest.mark.spec("TASK-7")
def test_the_verdict_notices_a_store_without_fencing_and_one_that_forgets() -> None:
    """The broken twins."""
    record = Record()
    record.asked = {"a": "one", "b": "two", "c": "three"}
    for task_id, output in (("a", "x"), ("a", "y"), ("b", "x"), ("c", "x")):
        record.submitted[task_id].add(output)
        record.answered[task_id].append(output)
    states = {
        "a": {"task": "one", "state": "completed", "output": "y"},  # taken twice
        "b": {"code": "not_found"},  # forgotten
        "c": {"task": "three", "state": "completed", "output": "old"},  # its result was
    }

    found = verdict(record, states)

    assert [line.split(" ")[0].rstrip(":") for line in found] == ["a", "b", "c"]


@pytest.mark.spec("TASK-7")
def test_a_store_that_does_not_look_at_the_attempt_takes_results_twice(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin of fencing itself: without the condition, the second submission would be taken."""
    from federated_memory.store.database import Database
    from federated_memory.store.rooms import Member, Rooms

    database = Database(tmp_path_factory.mktemp("twin") / "state.sqlite3")
    rooms, tasks = Rooms(database), Tasks(database)
    with rooms.transaction() as transaction:
        rooms.create(transaction, "r", closed=False, owner="a")
        rooms.put_member(transaction, Member("r", "b", "ai", "", "", "", 0))
    task = tasks.add("r", "t", requester=("a", "s1"), addressee=("any", "", ""))
    (held,) = tasks.claim("b", "s2", room="", limit=1, lease_seconds=60)
    submit = {"session": "s2", "attempt": held.attempt, "output": "x"}
    plain = Tasks._change

    def unfenced(self: Tasks, sql: str, *parameters: object) -> bool:
        return plain(self, sql.replace(" AND state IN ('claimed', 'open')", ""), *parameters)

    assert tasks.finish(task.task_id, state="completed", **submit)  # type: ignore[arg-type]
    assert not tasks.finish(task.task_id, state="completed", **submit)  # type: ignore[arg-type]
    monkeypatch.setattr(Tasks, "_change", unfenced)
    assert tasks.finish(task.task_id, state="completed", **submit)  # type: ignore[arg-type]
    database.close()
