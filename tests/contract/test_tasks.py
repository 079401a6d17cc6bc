"""Delegated tasks: asked, claimed, answered; through every door (SPEC: TASK-1 to TASK-9)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.service.waiting import Waiter
from tests.contract.harness import ADMIN_TOKEN, Server
from tests.contract.room_rig import DOORS, Peer, Peers, peers_of

OUTPUT = 'Grüße\r\n\x00\t{"a": [1, 2]} \U0001f600 «done» \u202e end \n'
ROOMS = {"toolsets": ("core", "rooms"), "progress_seconds": 0.05}


@pytest.fixture(params=DOORS)
def peers(request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path: Path) -> Iterator[Peers]:
    with Server(portal, tmp_path / "memory", **ROOMS) as server:
        with peers_of(server, request.param) as opened:
            yield opened
        assert not server.errors


def delegated(peer: Peer, task: str = "t", **arguments: object) -> str:
    """The id of a new task in room r."""
    return str(peer.ok("delegate_task", room="r", task=task, timeout_seconds=0, **arguments)["task_id"])


@pytest.mark.spec("TASK-1")
@pytest.mark.parametrize("success", [True, False])
def test_a_delegated_task_gives_its_result_unchanged(peers: Peers, success: bool) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    asked = peers.start(a, "delegate_task", room="r", task="count the sheep\n", timeout_seconds=60)

    task = b.claim(wait_seconds=30)
    b.ok("submit_task_result", task_id=task["task_id"], success=success, output=OUTPUT, attempt=task["attempt"])

    done = asked.result(20)
    assert task["task"] == "count the sheep\n"
    assert task["sender"].startswith(a.workspace_id + "/")
    assert (done["status"], done["output"]) == ("completed" if success else "failed", OUTPUT)
    assert done["worker"].startswith(b.workspace_id + "/")
    assert done["task_id"] == task["task_id"]


@pytest.mark.spec("TASK-1", "TASK-2")
def test_a_timeout_gives_an_id_that_stays_good(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    started = time.monotonic()

    late = a.ok("delegate_task", room="r", task="t", timeout_seconds=1)

    assert 1 <= time.monotonic() - started < 20  # half a second more or less is measured by the bench
    assert (late["status"], late.get("output")) == ("timeout", None)
    assert a.ok("get_task", task_id=late["task_id"])["state"] == "open"
    task = b.claim()
    waiting = peers.start(peers("a"), "get_task", task_id=late["task_id"], wait_seconds=60)  # another session
    peers.wait_until_waiting(1)
    b.ok("submit_task_result", task_id=task["task_id"], success=True, output=OUTPUT)
    assert (waiting.result(20)["state"], waiting.result()["output"]) == ("completed", OUTPUT)
    assert a.ok("get_task", task_id=late["task_id"])["output"] == OUTPUT


@pytest.mark.spec("TASK-2")
def test_a_result_is_for_the_requester_and_the_room(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r")
    task_id = delegated(a)
    b.ok("submit_task_result", task_id=b.claim()["task_id"], success=True, output="done")

    a.ok("leave_room", room="r")

    assert [peer.ok("get_task", task_id=task_id)["output"] for peer in (a, b, c)] == ["done"] * 3
    assert peers("d").code("get_task", task_id=task_id) == "not_found"


@pytest.mark.spec("TASK-3")
def test_a_cancelled_task_reaches_whoever_works_on_it(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r")
    task_id = delegated(a)
    b.claim()
    told = peers.start(b, "poll_pending_tasks", wait_seconds=60)
    watching = peers.start(b, "get_task", task_id=task_id, wait_seconds=60)
    peers.wait_until_waiting(2)

    assert c.code("cancel_task", task_id=task_id) == "forbidden"
    assert a.ok("cancel_task", task_id=task_id, reason="not needed")["state"] == "cancelled"

    (notice,) = told.result(20)["notices"]
    assert (notice["kind"], notice["about"]) == ("cancel", task_id)
    assert notice["text"].endswith("it was cancelled. not needed")
    assert watching.result(20)["state"] == "cancelled"
    code, error = b.result("submit_task_result", task_id=task_id, success=True, output="too late", attempt=1)
    assert (code, error["state"]) == ("conflict", "cancelled")
    assert a.ok("get_task", task_id=task_id)["output"] == "not needed"
    assert a.code("cancel_task", task_id=task_id) == "conflict"
    assert c.ok("poll_pending_tasks") == {"tasks": [], "notices": []}


@pytest.mark.spec("TASK-3", "TASK-1")
def test_who_waits_for_a_task_hears_that_it_was_cancelled(peers: Peers) -> None:
    a, other = peers("a", "r"), peers("a")
    asked = peers.start(a, "delegate_task", room="r", task="t", timeout_seconds=60)
    peers.wait_until_waiting(1)
    (task,) = other.ok("get_room_status", room="r")["tasks"]

    other.ok("cancel_task", task_id=task["task_id"])

    assert asked.result(20)["status"] == "cancelled"


@pytest.mark.thorough
@pytest.mark.spec("TASK-4", "TASK-7")
def test_a_lease_returns_the_task_when_its_worker_is_silent(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r")
    task_id = delegated(a)
    b.claim(lease_seconds=1)

    second = c.claim(wait_seconds=60)

    assert (second["task_id"], second["attempt"]) == (task_id, 2)
    code, error = b.result("submit_task_result", task_id=task_id, success=True, output="stale", attempt=1)
    assert (code, error["state"], error["attempt"]) == ("conflict", "claimed", 2)
    assert b.code("submit_task_result", task_id=task_id, success=True, output="stale") == "conflict"
    assert c.code("submit_task_result", task_id=task_id, success=True, output="x", attempt=1) == "conflict"
    c.ok("submit_task_result", task_id=task_id, success=True, output="good", attempt=2)
    assert a.ok("get_task", task_id=task_id)["output"] == "good"


@pytest.mark.spec("TASK-4")
def test_a_worker_that_is_heard_of_keeps_its_lease(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    task_id = delegated(a)
    b.claim(lease_seconds=1_000)
    leases = peers.server.services.collaboration.tasks._leases
    start = time.monotonic()

    for seconds in (900, 1_800, 2_700):
        monkeypatch.setattr(leases, "_clock", lambda seconds=seconds: start + seconds)
        assert b.ok("get_task", task_id=task_id)["state"] == "claimed"
        assert 990 < (leases.left(task_id) or 0) <= 1_000
        assert leases.take_ended() == []
    assert a.ok("get_task", task_id=task_id)["state"] == "claimed"  # the requester's look prolongs nothing
    monkeypatch.setattr(leases, "_clock", lambda: start + 3_800)
    assert [task.task_id for task in leases.take_ended()] == [task_id]


@pytest.mark.thorough
@pytest.mark.spec("TASK-4")
def test_a_worker_that_polls_for_more_does_not_keep_what_it_never_heard_of(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    task_id = delegated(a)
    b.claim(lease_seconds=1)  # as if this answer had been lost

    again = b.claim(wait_seconds=60)

    assert (again["task_id"], again["attempt"]) == (task_id, 2)


@pytest.mark.thorough
@pytest.mark.spec("TASK-4")
def test_a_lease_does_not_end_while_its_claimer_watches_the_task(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    task_id = delegated(a)
    b.claim(lease_seconds=1)

    assert b.ok("get_task", task_id=task_id, wait_seconds=2)["state"] == "claimed"

    row = a.ok("get_task", task_id=task_id)
    assert (row["state"], row["attempt"]) == ("claimed", 1)


@pytest.mark.thorough
@pytest.mark.spec("TASK-4")
def test_a_lease_ends_also_after_its_claimer_has_watched_the_task_for_longer(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r")
    task_id = delegated(a)
    b.claim(lease_seconds=1)
    assert b.ok("get_task", task_id=task_id, wait_seconds=2)["state"] == "claimed"

    assert c.claim(wait_seconds=20)["task_id"] == task_id


@pytest.mark.spec("TASK-4")
def test_who_leaves_the_room_gives_its_tasks_back(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r")
    task_id = delegated(a)
    b.claim()

    assert b.ok("leave_room", room="r")["tasks_returned"] == 1

    assert c.claim()["task_id"] == task_id


@pytest.mark.thorough
@pytest.mark.spec("TASK-4")
def test_a_task_that_nobody_survives_has_failed_in_the_end(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_memory.service.tasks.MOST_ATTEMPTS", 1)
    a, b = peers("a", "r"), peers("b", "r")
    asked = peers.start(a, "delegate_task", room="r", task="t", timeout_seconds=60)

    b.claim(wait_seconds=30, lease_seconds=1)

    done = asked.result(30)
    assert (done["status"], done["output"]) == ("failed", "No worker has answered in 1 attempts")


@pytest.mark.spec("TASK-5")
def test_a_poll_is_empty_at_the_end(peers: Peers) -> None:
    b = peers("b", "r")
    started = time.monotonic()

    assert b.ok("poll_pending_tasks", wait_seconds=0.5) == {"tasks": [], "notices": []}
    assert time.monotonic() - started >= 0.5
    assert b.ok("poll_pending_tasks") == {"tasks": [], "notices": []}


@pytest.mark.thorough
@pytest.mark.spec("TASK-5")
def test_fifty_who_wait_ask_the_database_nothing(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a = peers("a", "r", "elsewhere")
    waiting_peers = [peers(f"w{number}", "r") for number in range(5)]
    polls = [peers.start(peer, "poll_pending_tasks", wait_seconds=60) for peer in waiting_peers for _ in range(10)]
    peers.wait_until_waiting(50)
    database = peers.server.services.core.root.database
    asked: list[str] = []
    rows = database.rows
    monkeypatch.setattr(database, "rows", lambda sql, *p: asked.append(sql) or rows(sql, *p))
    settled = threading.Event()
    settled.wait(0.5)  # ten times the interval of progress

    about_tasks = [sql for sql in asked if "tasks" in sql or "room_" in sql]

    assert about_tasks == []
    a.ok("notify_peers", room="elsewhere", message="wakes nobody")
    assert not any(" FROM room_members m JOIN tasks t" in sql for sql in asked)
    for number in range(50):
        delegated(a, str(number))
    assert sorted(int(poll.result(30)["tasks"][0]["task"]) for poll in polls) == list(range(50))


@pytest.mark.spec("TASK-6")
def test_exactly_one_of_ten_claims(peers: Peers) -> None:
    a = peers("a", "r")
    workers = [peers(f"w{number}", "r") for number in range(10)]
    polls = [peers.start(worker, "poll_pending_tasks", wait_seconds=60) for worker in workers]
    peers.wait_until_waiting(10)

    first = delegated(a, "first")
    done = next(as_completed(polls, timeout=30)).result()

    assert done["tasks"][0]["task_id"] == first
    peers.wait_until_waiting(9)
    assert sum(poll.done() for poll in polls) == 1
    rest = {delegated(a, str(number)) for number in range(9)}
    assert {poll.result(30)["tasks"][0]["task_id"] for poll in polls} == rest | {first}


@pytest.mark.spec("TASK-6")
def test_a_task_goes_to_whom_it_is_for(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r", role="reviewer")
    second_b = peers("b")
    session = second_b.ok("join_room", room="r")["agent"]
    for task, to in (
        ("agent", c.workspace_id),
        ("role", "role:reviewer"),
        ("session", session),
        ("later", "role:late"),
    ):
        delegated(a, task, to=to)
    delegated(a, "any")

    assert [task["task"] for task in c.ok("poll_pending_tasks", limit=2)["tasks"]] == ["agent", "role"]
    assert [task["task"] for task in b.ok("poll_pending_tasks", limit=20)["tasks"]] == ["any"]
    assert [task["task"] for task in second_b.ok("poll_pending_tasks", limit=20)["tasks"]] == ["session"]
    assert c.ok("poll_pending_tasks")["tasks"] == []
    b.ok("join_room", room="r", role="late")
    assert b.claim()["task"] == "later"
    assert a.code("delegate_task", room="r", task="t", to="nobody-here", timeout_seconds=0) == "not_found"


@pytest.mark.spec("TASK-6")
def test_nobody_works_for_itself_and_rooms_keep_apart(peers: Peers) -> None:
    a, b = peers("a", "r", "s"), peers("b", "s")
    delegated(a)

    assert a.ok("poll_pending_tasks", wait_seconds=0)["tasks"] == []
    assert b.ok("poll_pending_tasks")["tasks"] == []
    assert peers("a").ok("poll_pending_tasks", room="s")["tasks"] == []
    assert peers("a").claim(room="r")["task"] == "t"  # another session of the same agent may


@pytest.mark.spec("TASK-7")
def test_a_result_is_taken_once_and_from_its_claimer_only(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r"), peers("c", "r")
    task_id = delegated(a)
    submit = {"task_id": task_id, "success": True}

    assert b.code("submit_task_result", **submit, output="unclaimed") == "conflict"
    b.claim()
    assert c.code("submit_task_result", **submit, output="not mine", attempt=1) == "conflict"
    assert b.code("submit_task_result", **submit, output="wrong attempt", attempt=2) == "conflict"
    b.ok("submit_task_result", **submit, output="mine", attempt=1)
    code, error = b.result("submit_task_result", **submit, output="again", attempt=1)
    assert (code, error["state"], error["attempt"]) == ("conflict", "completed", 1)
    assert a.ok("get_task", task_id=task_id)["output"] == "mine"


@pytest.mark.spec("TASK-7")
def test_a_lease_that_ended_does_not_refuse_a_result_that_nobody_else_is_after(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    task_id = delegated(a)
    b.claim()
    tasks = peers.server.services.collaboration.tasks
    (claimed,) = tasks._tasks.claimed()
    tasks._give_back(claimed)

    assert a.ok("get_task", task_id=task_id)["state"] == "open"
    assert b.code("submit_task_result", task_id=task_id, success=True, output="late", attempt=1) == "ok"


@pytest.mark.spec("TASK-8", "ROOM-4")
@pytest.mark.parametrize("door", DOORS)
def test_a_restart_loses_nothing(portal: BlockingPortal, tmp_path: Path, door: str) -> None:
    with Server(portal, tmp_path / "memory", **ROOMS) as server, peers_of(server, door) as peers:  # type: ignore[arg-type]
        a, b = peers("a", "r"), peers("b", "r", status="working")
        finished, claimed, still_open = (delegated(a, name) for name in ("finished", "claimed", "open"))
        b.ok("submit_task_result", task_id=b.claim()["task_id"], success=True, output=OUTPUT)
        b.claim(lease_seconds=2_000)
        a.ok("notify_peers", room="r", message="kept")
        ticket = a.ok("join_room", room="closed", closed=True)["ticket"]
        held = b.binding

    with Server(portal, tmp_path / "memory", **ROOMS) as server, peers_of(server, door) as peers:  # type: ignore[arg-type]
        a, b = peers("a"), peers("c")
        status = a.ok("get_room_status", room="r")
        assert [member["status"] for member in status["members"]] == ["", "working"]
        assert a.ok("get_task", task_id=finished)["output"] == OUTPUT
        row = a.ok("get_task", task_id=claimed)
        assert (row["state"], row["attempt"]) == ("claimed", 1)
        assert row["lease_expires_at"] > status["members"][1]["joined_at"]
        assert a.ok("get_task", task_id=still_open)["state"] == "open"
        # The binding outlives the server: the same session goes on.
        worker = server.http(x_memory_binding=held, authorization="Bearer canary-ai-5d1f0c77e2b94a63")
        (notice,) = worker.post("/api/v1/tasks/poll", {"limit": 20}).json["notices"]
        assert notice["text"] == "kept"
        done = worker.post(f"/api/v1/tasks/{claimed}/result", {"success": True, "output": "after", "attempt": 1})
        assert done.json["state"] == "completed"
        assert b.code("join_room", room="closed", ticket=ticket) == "ok"


@pytest.mark.spec("TASK-9")
def test_what_is_too_much_is_refused(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    ask = {"room": "r", "timeout_seconds": 0}

    assert a.code("delegate_task", **ask, task="é" * 32_769) == "too_large"
    task_id = delegated(a, "é" * 32_768)
    b.claim()
    submit = {"task_id": task_id, "success": True}
    assert b.code("submit_task_result", **submit, output="é" * 131_073) == "too_large"
    assert b.code("submit_task_result", **submit, output="é" * 131_072) == "ok"
    assert a.ok("get_task", task_id=task_id)["output"] == "é" * 131_072
    monkeypatch.setattr("federated_memory.service.tasks.MOST_UNFINISHED", 1)
    delegated(a)
    assert a.code("delegate_task", **ask, task="one more") == "too_large"
    for arguments in ({"wait_seconds": -1}, {"wait_seconds": 3_601}, {"limit": 0}, {"limit": 21}, {"lease_seconds": 0}):
        assert b.code("poll_pending_tasks", **arguments) == "invalid_argument"
    for task, seconds in ((" ", 0), ("t", -1), ("t", 3_601)):
        assert a.code("delegate_task", room="r", task=task, timeout_seconds=seconds) == "invalid_argument"


@pytest.mark.spec("TASK-9")
def test_a_session_waits_with_so_many_calls_and_no_more(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_memory.service.waiting.MOST_WAITING_EACH", 2)
    a, b = peers("a", "r"), peers("b", "r")
    polls = [peers.start(b, "poll_pending_tasks", wait_seconds=60) for _ in range(2)]
    peers.wait_until_waiting(2)

    assert b.code("poll_pending_tasks", wait_seconds=60) == "rate_limited"
    assert b.code("poll_pending_tasks", wait_seconds=0) == "ok"

    delegated(a), delegated(a)
    assert all(poll.result(20)["tasks"] for poll in polls)


@pytest.mark.spec("TASK-9")
def test_a_server_that_stops_answers_those_who_wait(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    asked = peers.start(a, "delegate_task", room="r", task="t", to=a.workspace_id, timeout_seconds=600)
    polling = peers.start(b, "poll_pending_tasks", wait_seconds=600)
    peers.wait_until_waiting(2)

    peers.server.portal.call(peers.server.services.collaboration.waiting.stop)

    assert asked.result(20)["status"] == "timeout"
    assert polling.result(20) == {"tasks": [], "notices": []}


@pytest.mark.spec("TASK-6")
def test_what_was_claimed_for_a_client_that_has_gone_is_open_again(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    tasks = peers.server.services.collaboration.tasks
    task_id = delegated(a)
    real, claimed = tasks._take, threading.Event()

    def take(*arguments: Any) -> Any:
        found = real(*arguments)
        claimed.set()
        return found

    with monkeypatch.context() as patched:
        is_gone = property(lambda _: claimed.is_set(), lambda _, __: None)
        patched.setattr(Waiter, "is_gone", is_gone, raising=False)
        patched.setattr(tasks, "_take", take)
        assert b.ok("poll_pending_tasks") == {"tasks": [], "notices": []}
    assert a.ok("get_task", task_id=task_id)["state"] == "open"
    assert b.claim()["attempt"] == 2


@pytest.mark.spec("TASK-1")
def test_changes_stand_in_the_audit_log_and_texts_do_not(peers: Peers) -> None:
    a, b = peers("a", "r", status="xyzzy status"), peers("b", "r")
    task_id = delegated(a, "xyzzy task")
    b.claim()
    b.ok("poll_pending_tasks")
    b.ok("submit_task_result", task_id=task_id, success=True, output="xyzzy output")
    a.ok("notify_peers", room="r", message="xyzzy message")

    audit = (peers.server.root / "_meta" / "audit.jsonl").read_text()

    assert "xyzzy" not in audit
    assert audit.count(task_id) >= 1
    if peers.door != "http":
        assert audit.count('"what": "poll_pending_tasks"') == 1  # an empty poll has changed nothing
        assert '"room": "r"' in audit
    assert peers("adm", token=ADMIN_TOKEN).ok("list_rooms")["rooms"] == []
