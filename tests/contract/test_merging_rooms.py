"""What a merged workspace had in rooms becomes the other's: memberships, messages, tasks; its shared state stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import AI_TOKEN, Server
from tests.contract.room_rig import DOORS, Peer, Peers, peers_of
from tests.contract.test_moving import is_sound, operate


@pytest.fixture(params=DOORS)
def peers(request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path: Path) -> Iterator[Peers]:
    with Server(portal, tmp_path / "memory", toolsets=("core", "rooms", "state"), progress_seconds=0.05) as server:
        with peers_of(server, request.param) as opened:
            yield opened
        assert not server.errors


def merge(peers: Peers, old: Peer, new: Peer) -> None:
    reply = operate(peers.server, "merge", workspace_id=old.workspace_id, into=new.workspace_id, apply=True)
    assert reply.status == 200, reply
    assert is_sound(peers.server)


def ask(peer: Peer, room: str, task: str, to: str = "") -> str:
    return str(peer.ok("delegate_task", room=room, task=task, to=to, timeout_seconds=0)["task_id"])


def ask_session(peer: Peer, of: Peer) -> str:
    """The session of `peer`, as a task that it asks shows it."""
    task_id = ask(peer, "r", "who am I")
    found = of.ok("get_task", task_id=task_id)
    peer.ok("cancel_task", task_id=task_id)
    return str(found["sender"]).split("/")[1]


@pytest.mark.spec("WS-6")
def test_rooms_of_the_source_are_the_targets_with_role_and_tickets(peers: Peers) -> None:
    old, new, peer = peers("old"), peers("new"), peers("peer")
    ticket = old.ok("join_room", room="closed", closed=True, role="reviewer")["ticket"]
    old.ok("join_room", room="both", role="reviewer")
    new.ok("join_room", room="both")
    new.ok("join_room", room="led", role="lead")
    old.ok("join_room", room="led", role="reviewer")
    peer.ok("join_room", room="both")

    merge(peers, old, new)

    assert [row["room"] for row in new.ok("list_rooms")["rooms"]] == ["both", "closed", "led"]
    for room, role in (("both", "reviewer"), ("closed", "reviewer"), ("led", "lead")):
        members = new.ok("get_room_status", room=room)["members"]
        (member,) = [each for each in members if each["workspace_id"] != peer.workspace_id]
        assert (member["workspace_id"], member["role"]) == (new.workspace_id, role)
    assert old.ok("list_rooms") == new.ok("list_rooms")  # the old binding means the target
    assert peer.ok("join_room", room="closed", ticket=ticket)["created"] is False
    assert new.ok("revoke_ticket", room="closed")  # it is the owner now


@pytest.mark.spec("WS-6")
def test_messages_for_the_source_reach_the_target_once(peers: Peers) -> None:
    old, new, peer = peers("old", "r"), peers("new", "r"), peers("peer", "r")
    session = str(ask_session(old, peer))
    peer.ok("notify_peers", room="r", message="to all")
    peer.ok("notify_peers", room="r", message="to the old one", to=old.workspace_id)
    peer.ok("notify_peers", room="r", message="to its session", to=f"{old.workspace_id}/{session}")
    new.ok("leave_room", room="r")
    new.ok("join_room", room="r")
    peer.ok("notify_peers", room="r", message="after")

    merge(peers, old, new)

    # What was kept for the one was withheld from the other, who had left the room.
    assert sorted(new.unread("r").values()) == ["after", "to all", "to the old one"]
    assert sorted(old.unread("r").values()) == ["after", "to all", "to its session", "to the old one"]
    with sqlite3.connect(peers.server.root / "_meta" / "state.sqlite3") as database:
        found = {row[0] for row in database.execute("SELECT addressee FROM room_messages WHERE addressee <> ''")}
    assert found == {new.workspace_id, f"{new.workspace_id}/{session}"}


@pytest.mark.spec("WS-6")
def test_tasks_for_and_of_the_source_are_the_targets(peers: Peers) -> None:
    old, new, peer = peers("old", "r", role="tester"), peers("new", "r"), peers("peer", "r")
    ask(peer, "r", "for the workspace", old.workspace_id)
    ask(peer, "r", "for the role", "role:tester")
    ask(peer, "r", "for a role of the workspace's name", f"role:{old.workspace_id}")
    begun = ask(peer, "r", "begun")
    asked = ask(old, "r", "asked by the old one", peer.workspace_id)
    claimed = {task["task"]: task for task in old.ok("poll_pending_tasks", limit=10)["tasks"]}
    assert set(claimed) == {"for the workspace", "for the role", "begun"}
    later = ask(peer, "r", "later", old.workspace_id)

    merge(peers, old, new)

    old.ok("submit_task_result", task_id=begun, success=True, output="done", attempt=claimed["begun"]["attempt"])
    assert peer.ok("get_task", task_id=begun)["state"] == "completed"
    assert new.claim()["task_id"] == later
    assert peer.claim()["task_id"] == asked
    peer.ok("submit_task_result", task_id=asked, success=True, output="answer", attempt=1)
    assert new.ok("get_task", task_id=asked)["output"] == "answer"  # shown to its requester's workspace
    new.ok("join_room", room="r", role=old.workspace_id)
    assert new.claim()["task"] == "for a role of the workspace's name"


@pytest.mark.spec("WS-6", "STATE-7")
def test_what_the_source_wrote_as_shared_state_stays_as_it_was_written(peers: Peers) -> None:
    old, new = peers("old"), peers("new")
    reply = peers.server.http(AI_TOKEN, x_memory_binding=old.binding).request("PUT", "/api/v1/state/keys/port", b"7443")
    assert reply.status in (200, 201), reply

    merge(peers, old, new)

    found = peers.server.http(AI_TOKEN).get("/api/v1/state/history/port").json
    assert [(row["value"], row["workspace_id"]) for row in found["versions"]] == [(7443, old.workspace_id)]
