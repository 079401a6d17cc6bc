"""Rooms, tickets, messages and who is there; through every door (SPEC: ROOM-1 to ROOM-9)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, Server
from tests.contract.room_rig import DOORS, Peers, peers_of


@pytest.fixture(params=DOORS)
def peers(request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path: Path) -> Iterator[Peers]:
    with Server(portal, tmp_path / "memory", toolsets=("core", "rooms"), progress_seconds=0.05) as server:
        with peers_of(server, request.param) as opened:
            yield opened
        assert not server.errors


def names(status: dict[str, list[dict[str, str]]]) -> list[str]:
    return [member["workspace_id"] for member in status["members"]]


@pytest.mark.spec("ROOM-1")
def test_the_same_name_is_the_same_room(peers: Peers) -> None:
    a, b = peers("a"), peers("b")

    first = a.ok("join_room", room="redesign", status="planning")
    second = b.ok("join_room", room="redesign")
    again = a.ok("join_room", room="redesign", status="building", role="lead")

    assert (first["created"], second["created"], again["created"]) == (True, False, False)
    assert again["members"] == 2
    status = b.ok("get_room_status", room="redesign")
    assert names(status) == [a.workspace_id, b.workspace_id]
    assert [(m["status"], m["role"], m["agent"], m["user"]) for m in status["members"]] == [
        ("building", "lead", "claude", "ai"), ("", "", "claude", "ai")
    ]  # fmt: skip


@pytest.mark.spec("ROOM-1")
def test_leaving_takes_effect_at_once_and_a_list_shows_only_ones_own(peers: Peers) -> None:
    a, b = peers("a", "one", "two"), peers("b", "one")

    assert [row["room"] for row in a.ok("list_rooms")["rooms"]] == ["one", "two"]
    assert [row["room"] for row in b.ok("list_rooms")["rooms"]] == ["one"]
    assert b.ok("leave_room", room="one")["left"] is True
    assert b.ok("leave_room", room="one")["left"] is False

    assert names(a.ok("get_room_status", room="one")) == [a.workspace_id]
    assert b.ok("list_rooms")["rooms"] == []
    assert b.code("get_room_status", room="one") == "not_found"


@pytest.mark.spec("ROOM-2")
def test_a_closed_room_takes_its_ticket(peers: Peers) -> None:
    a, b, c = peers("a"), peers("b"), peers("c")
    made = a.ok("join_room", room="secret", closed=True)

    assert made["closed"] is True
    assert b.code("join_room", room="secret") == "forbidden"
    assert b.code("join_room", room="secret", ticket=made["ticket"] + "x") == "not_found"
    assert b.ok("join_room", room="secret", ticket=made["ticket"])["members"] == 2
    assert "ticket" not in b.ok("join_room", room="secret", status="a member needs none")
    assert b.code("join_room", room="secret", closed=True) == "forbidden"  # tickets are the owner's
    assert b.code("revoke_ticket", room="secret") == "forbidden"

    said = [line.split(" path=")[0].split("reason=")[1] for line in peers.server.auth_lines()]
    assert said == ["closed_room", "bad_ticket", "closed_room", "room_owner"]

    another = a.ok("join_room", room="secret", closed=True)["ticket"]
    assert a.ok("revoke_ticket", room="secret", ticket=made["ticket"])["revoked"] == 1
    assert c.code("join_room", room="secret", ticket=made["ticket"]) == "not_found"
    assert c.ok("join_room", room="secret", ticket=another)["members"] == 3
    assert a.ok("revoke_ticket", room="secret")["revoked"] == 1
    assert names(b.ok("get_room_status", room="secret")) == [a.workspace_id, b.workspace_id, c.workspace_id]
    c.ok("leave_room", room="secret")
    assert c.code("join_room", room="secret", ticket=another) == "not_found"
    a.ok("leave_room", room="secret")
    assert a.ok("join_room", room="secret")["created"] is False  # the owner needs none


@pytest.mark.spec("ROOM-2")
def test_a_ticket_expires(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = peers("a"), peers("b")
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    made = a.ok("join_room", room="secret", closed=True, ticket_expires_at=soon.isoformat())
    over = time.time() + 3_601

    assert made["ticket_expires_at"][:19] == soon.isoformat()[:19]
    with monkeypatch.context() as patched:
        patched.setattr("federated_memory.store.rooms.time.time", lambda: over)
        assert b.code("join_room", room="secret", ticket=made["ticket"]) == "not_found"
    assert b.code("join_room", room="secret", ticket=made["ticket"]) == "ok"
    assert (
        a.code("join_room", room="other", closed=True, ticket_expires_at="2020-01-01T00:00:00Z") == "invalid_argument"
    )
    assert a.code("join_room", room="other", closed=True, ticket_expires_at="tomorrow") == "invalid_argument"


@pytest.mark.spec("ROOM-2")
def test_an_open_room_is_never_closed_and_an_admin_may_do_what_its_owner_may(peers: Peers) -> None:
    a, admin = peers("a", "open"), peers("admin", token=ADMIN_TOKEN)
    ticket = a.ok("join_room", room="secret", closed=True)["ticket"]

    assert a.code("join_room", room="open", closed=True) == "conflict"
    assert admin.ok("revoke_ticket", room="secret")["revoked"] == 1
    assert peers("b").code("join_room", room="secret", ticket=ticket) == "not_found"
    assert admin.ok("join_room", room="secret")["members"] == 2


@pytest.mark.spec("ROOM-3")
def test_who_is_not_in_a_closed_room_learns_nothing_of_it(peers: Peers) -> None:
    a, b = peers("a"), peers("b")
    a.ok("join_room", room="secret", closed=True)
    task = a.ok("delegate_task", room="secret", task="xyzzy", timeout_seconds=0)["task_id"]
    a.ok("notify_peers", room="secret", message="xyzzy")

    for room in ("secret", "nowhere"):
        for tool, arguments in (
            ("get_room_status", {}), ("revoke_ticket", {}), ("notify_peers", {"message": "m"}),
            ("delegate_task", {"task": "t", "timeout_seconds": 0}), ("poll_pending_tasks", {}),
            ("join_room", {"ticket": "fmt1.wrong"}), ("get_room_status", {"after": 0}),
            ("get_room_status", {"read": [1]}),
        ):  # fmt: skip
            code, error = b.result(tool, room=room, **arguments)
            assert code == "not_found", (tool, room)
            assert "xyzzy" not in str(error)
            assert str(error).replace("nowhere", "secret") == str(b.result(tool, room="secret", **arguments)[1])
    assert b.ok("list_rooms")["rooms"] == []
    assert b.ok("poll_pending_tasks") == {"tasks": [], "notices": []}
    assert b.result("get_task", task_id=task)[1]["message"].replace(task, "T") == b.result(
        "get_task", task_id="task-0"
    )[1]["message"].replace("task-0", "T")  # fmt: skip
    for tool, more in (("cancel_task", {}), ("submit_task_result", {"success": True, "output": ""})):
        assert b.code(tool, task_id=task, **more) == "not_found"


@pytest.mark.spec("ROOM-3")
def test_other_services_can_ask_who_may_read_what_belongs_to_a_room(peers: Peers) -> None:
    a, b = peers("a", "one", "two"), peers("b", "one")
    rooms = peers.server.services.rooms

    assert rooms.members("one") == [a.workspace_id, b.workspace_id]
    assert rooms.rooms_of(a.workspace_id) == ["one", "two"]
    assert [rooms.may_read(b.workspace_id, room) for room in ("one", "two", "none")] == [True, False, False]
    b.ok("leave_room", room="one")
    assert not rooms.may_read(b.workspace_id, "one")


@pytest.mark.spec("ROOM-4", "ROOM-7")
def test_a_message_is_kept_until_it_is_acknowledged(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")

    sent = a.ok("notify_peers", room="r", message="the build is *red*\n")

    assert (sent["delivered"], sent["kept"], sent["withheld"]) == ([], [b.workspace_id], [])
    assert b.unread("r") == {sent["message_id"]: "the build is *red*\n"}
    (notice,) = b.ok("poll_pending_tasks")["notices"]
    assert notice["sender"].startswith(a.workspace_id + "/")
    assert b.ok("poll_pending_tasks")["notices"] == []  # handed over
    assert b.unread("r") == {sent["message_id"]: "the build is *red*\n"}  # and yet not read
    assert b.ok("get_room_status", room="r", read=[sent["message_id"]])["acknowledged"] == 1
    assert b.unread("r") == {}
    (receipt,) = a.ok("get_room_status", room="r", message_id=sent["message_id"])["receipts"]
    assert (receipt["workspace_id"], receipt["state"]) == (b.workspace_id, "read")
    assert a.unread("r") == {}


@pytest.mark.spec("ROOM-4", "TASK-5")
def test_who_waits_is_told_at_once(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    waiting = peers.start(b, "poll_pending_tasks", wait_seconds=30)
    peers.wait_until_waiting(1)

    sent = a.ok("notify_peers", room="r", message="news")

    assert sent["delivered"] == [b.workspace_id]
    assert [notice["text"] for notice in waiting.result(20)["notices"]] == ["news"]


@pytest.mark.spec("ROOM-4")
def test_who_joins_late_sees_what_was_said_to_all(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    a.ok("notify_peers", room="r", message="for all")
    a.ok("notify_peers", room="r", message="for b", to=b.workspace_id)

    late = peers("late", "r")

    assert late.history("r") == ["for all"]
    assert late.unread("r") == {}
    assert b.history("r") == a.history("r") == ["for all", "for b"]


@pytest.mark.spec("ROOM-7")
def test_a_message_reaches_one_agent_one_session_or_a_role_or_says_why_not(peers: Peers) -> None:
    a, b, c = peers("a", "r"), peers("b", "r", role="reviewer"), peers("c", "r")
    session = b.ok("join_room", room="r")["agent"]
    gone = peers("gone", "r")
    gone.ok("leave_room", room="r")
    say = {"room": "r", "message": "m"}

    assert a.ok("notify_peers", **say, to=c.workspace_id)["kept"] == [c.workspace_id]
    assert a.ok("notify_peers", **say, to="role:reviewer")["kept"] == [b.workspace_id]
    assert a.ok("notify_peers", **say, to=session)["kept"] == [b.workspace_id]
    for to, why in (
        (gone.workspace_id, "not in the room"), ("role:nobody", "nobody in the room has that role"),
    ):  # fmt: skip
        sent = a.ok("notify_peers", **say, to=to)
        assert (sent["withheld"], sent["kept"]) == ([{"to": to, "why": why}], [])
    assert a.code("notify_peers", **say, to="b/nonsense") == "invalid_argument"
    assert len(b.unread("r")) == 2
    other = peers("b")  # another session of the same agent
    assert len(other.unread("r")) == 1
    assert other.ok("get_room_status", room="r", read=list(b.unread("r")))["acknowledged"] == 1


@pytest.mark.spec("ROOM-7")
def test_an_expired_message_is_withheld_and_says_so(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    sent = a.ok("notify_peers", room="r", message="soon over", ttl_seconds=60)
    later = time.time() + 61

    with monkeypatch.context() as patched:
        patched.setattr("federated_memory.store.rooms.time.time", lambda: later)
        assert b.unread("r") == {}
        (receipt,) = a.ok("get_room_status", room="r", message_id=sent["message_id"])["receipts"]
        assert (receipt["state"], receipt["why"]) == ("withheld", "it expired")
    assert a.code("get_room_status", room="r", message_id=999) == "not_found"
    assert b.code("get_room_status", room="r", message_id=sent["message_id"]) == "not_found"
    for seconds in (0, 31 * 86_400):
        assert a.code("notify_peers", room="r", message="m", ttl_seconds=seconds) == "invalid_argument"


@pytest.mark.spec("ROOM-6")
def test_presence_follows_what_was_heard(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    presences = peers.server.services.collaboration.presences
    start = time.monotonic()

    def presence_of_b(seconds: float) -> str:
        monkeypatch.setattr(presences, "_clock", lambda: start + seconds)
        (row,) = (m for m in a.ok("get_room_status", room="r")["members"] if m["workspace_id"] == b.workspace_id)
        return str(row["presence"])

    assert [presence_of_b(seconds) for seconds in (1, 89, 200, 899, 1_000)] == [
        "online", "online", "away", "away", "offline"
    ]  # fmt: skip
    waiting = peers.start(b, "poll_pending_tasks", wait_seconds=30)
    peers.wait_until_waiting(1)
    assert presence_of_b(5_000) == "online"  # as long as it waits
    a.ok("notify_peers", room="r", message="go on")
    waiting.result(20)
    assert presence_of_b(10_000) == "offline"


@pytest.mark.spec("ROOM-5")
def test_an_agent_is_its_binding_and_never_an_argument(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    task = a.ok("delegate_task", room="r", task="t", timeout_seconds=0)["task_id"]
    claimed = b.claim()
    thief = peers("a")  # the requester's own workspace, another session

    assert thief.code("submit_task_result", task_id=task, success=True, output="", attempt=1) == "conflict"
    assert b.code("submit_task_result", task_id=task, success=True, output="", attempt=claimed["attempt"]) == "ok"


@pytest.mark.spec("ROOM-8")
def test_what_is_too_much_is_refused(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    a = peers("a", "r")
    for module, name, most in (("rooms", "MOST_MEMBERS", 1), ("rooms", "MOST_ROOMS", 1), ("rooms", "MOST_TICKETS", 1),
                               ("messages", "MOST_UNREAD", 1)):  # fmt: skip
        monkeypatch.setattr(f"federated_memory.service.{module}.{name}", most)

    assert a.code("join_room", room="s") == "too_large"
    assert peers("b").code("join_room", room="r") == "too_large"
    monkeypatch.setattr("federated_memory.service.rooms.MOST_MEMBERS", 10)
    c = peers("c", "r")
    assert a.code("notify_peers", room="r", message="é" * 8_193) == "too_large"
    assert a.code("notify_peers", room="r", message="é" * 8_192) == "ok"
    assert a.ok("notify_peers", room="r", message="m")["withheld"][0]["why"] == "has 1 unread messages"
    assert a.code("notify_peers", room="r", message=" \n") == "invalid_argument"
    assert a.code("join_room", room="r", status="x" * 201) == "too_large"
    assert a.code("join_room", room="r", status="two\nlines") == "invalid_argument"
    assert a.code("join_room", room="r", role="No Role") == "invalid_name"
    d = peers("d")
    d.ok("join_room", room="closed", closed=True)
    assert d.code("join_room", room="closed", closed=True) == "too_large"
    for name in ("", "Capital", "a/b", "..", "con", "x" * 65):
        assert c.code("join_room", room=name) == "invalid_name"


@pytest.mark.spec("ROOM-1", "ROOM-3")
def test_a_workspace_that_is_renamed_or_purged_takes_its_part_of_rooms_along(peers: Peers) -> None:
    a, b = peers("a", "r"), peers("b", "r")
    b.ok("notify_peers", room="r", message="to go")
    task = a.ok("delegate_task", room="r", task="t", timeout_seconds=0)["task_id"]
    admin = peers.server.http(ADMIN_TOKEN)

    moved = admin.post("/api/v1/operations/rename", {"workspace_id": a.workspace_id, "to": "renamed"})

    assert moved.code == "ok"
    assert names(b.ok("get_room_status", room="r")) == [b.workspace_id, "renamed"]
    assert list(a.unread("r").values()) == ["to go"]
    assert a.ok("get_task", task_id=task)["state"] == "open"
    purged = admin.post("/api/v1/operations/purge", {"kind": "workspace", "workspace_id": b.workspace_id})
    assert purged.code == "ok"
    assert names(a.ok("get_room_status", room="r")) == ["renamed"]
    assert a.history("r") == []


@pytest.mark.spec("ROOM-9")
def test_events_are_for_members_only(peers: Peers) -> None:
    a = peers("a", "r")
    b = peers("b")
    http = peers.server.http(AI_TOKEN, x_memory_binding=b.binding)

    assert http.get("/api/v1/rooms/r/events").code == "not_found"
    assert a.history("r") == []
