"""Who may do what in rooms: the rows of `test_permissions`' table for the tools and routes of rooms and tasks.

`home` is in the closed room `club`, has a task and a message there, and owns the open room `hall`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.tools import rooms, tasks
from federated_memory.web.live_stream import OpenStreams
from federated_memory.web.rooms import RoomRoutes
from federated_memory.web.tasks import TaskRoutes
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, Era, Home, Server
from tests.contract.test_permissions import (
    CALLERS,
    CODES,
    MARK,
    Caller,
    caller_of,
    choose,
    parse_table,
    register,
    wire_code,
)

pytestmark = pytest.mark.thorough

# As there; 404: in no such room, as far as the caller can tell. Whoever writes must be bound, whatever it asks.
TOOLS = """
                     non wrg rev exp | ai  bnd els  wgl rgl mac | syn wrg non glb mac | rea adm adb
list_rooms           401 401 401 401 | N   ok  B    F   B   F   | F   F   F   F   F   | F   N   ok
join_room            401 401 401 401 | N   ok  F    F   F   F   | F   F   F   F   F   | F   N   ok
get_room_status      401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
notify_peers         401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
revoke_ticket        401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
delegate_task        401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
get_task             401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
submit_task_result   401 401 401 401 | N   C   404  F   F   F   | F   F   F   F   F   | F   N   C
cancel_task          401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
poll_pending_tasks   401 401 401 401 | N   ok  404  F   F   F   | F   F   F   F   F   | F   N   ok
leave_room           401 401 401 401 | N   ok  B    F   ok  F   | F   F   F   F   F   | F   N   ok
"""
ROUTES = """
                                 non wrg rev exp | ai  bnd els wgl rgl mac | syn wrg non glb mac | rea adm adb
GET /rooms                       401 401 401 401 | N   ok  B   F   B   F   | F   F   F   F   F   | F   N   ok
POST /rooms                      401 401 401 401 | N   ok  F   F   F   F   | F   F   F   F   F   | F   N   ok
GET /rooms/{room}                401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
GET /rooms/{room}/messages       401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /rooms/{room}/messages      401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /rooms/{room}/read          401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /rooms/{room}/revoke        401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /tasks                      401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
GET /tasks/{task_id}             401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /tasks/{task_id}/result     401 401 401 401 | N   C   404 F   F   F   | F   F   F   F   F   | F   N   C
POST /tasks/{task_id}/cancel     401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /tasks/poll                 401 401 401 401 | N   ok  404 F   F   F   | F   F   F   F   F   | F   N   ok
POST /rooms/{room}/leave         401 401 401 401 | N   ok  B   F   ok  F   | F   F   F   F   F   | F   N   ok
"""
EVENTS = "GET /rooms/{room}/events"
"""A stream without an end, looked at in the tests of a running server; its refusals are those of the room's status."""


@pytest.fixture
def server(portal: BlockingPortal, tmp_path: Path) -> Iterator[Server]:
    with Server(portal, tmp_path / "memory", toolsets=("core", "rooms")) as opened:
        yield opened
    assert not opened.errors


@pytest.fixture
def home(server: Server) -> Home:
    return server.settle("home")


@pytest.fixture
def other(server: Server) -> Home:
    return server.settle("other")


@pytest.fixture
def task_id(server: Server, home: Home) -> str:
    """A task of `home` in its closed room, where there is a message as well; both hold the mark."""
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    http.post("/api/v1/rooms", {"room": "club", "closed": True, "status": MARK})
    http.post("/api/v1/rooms/club/messages", {"message": MARK})
    return str(http.post("/api/v1/tasks", {"room": "club", "task": MARK}).json["task_id"])


def tool_calls(task_id: str) -> dict[str, dict[str, Any]]:
    room = {"room": "club"}
    return {
        "list_rooms": {}, "join_room": room, "get_room_status": room, "notify_peers": {**room, "message": "m"},
        "revoke_ticket": room, "delegate_task": {**room, "task": "t", "timeout_seconds": 0}, "poll_pending_tasks": room,
        "get_task": {"task_id": task_id}, "submit_task_result": {"task_id": task_id, "success": True, "output": "o"},
        "cancel_task": {"task_id": task_id}, "leave_room": room,
    }  # fmt: skip


def route_body(row: str) -> dict[str, Any]:
    bodies: dict[str, dict[str, Any]] = {
        "POST /rooms": {"room": "club"}, "POST /rooms/{room}/messages": {"message": "m"},
        "POST /rooms/{room}/read": {"read": [1]}, "POST /tasks": {"room": "club", "task": "t"},
        "POST /tasks/poll": {"room": "club"}, "POST /tasks/{task_id}/result": {"success": True, "output": "o"},
    }  # fmt: skip
    return bodies.get(row, {})


def wrong(server: Server, row: str, cell: str, code: str, shown: bytes, lines: int) -> list[str]:
    """What is not as the table has it."""
    wanted = "not_found" if cell == "404" else CODES.get(cell, cell)
    said = server.auth_lines()[lines:]
    problems = [f"{row}: {code} instead of {wanted}"] if code != wanted else []
    if cell != "ok" and MARK.encode() in shown:
        problems.append(f"{row}: shows what is stored")
    if len(said) != (cell in ("F", "N", "401")):
        problems.append(f"{row}: logged {said}")
    return problems


def given(caller: Caller) -> dict[str, str]:
    found = {"x_memory_binding": caller.binding, "x_write_token": caller.write_token}
    return {name: value for name, value in found.items() if value}


@pytest.mark.spec("AUTH-5", "AUTH-6", "AUTH-7", "BIND-3", "ROOM-3", "ROOM-5")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", CALLERS)
def test_every_tool_of_rooms_does_what_the_table_says(
    server: Server, home: Home, other: Home, task_id: str, kind: str, era: Era
) -> None:
    caller = caller_of(server, kind, home, other)
    wire = server.wire(caller.token, era if kind not in ("wrong", "revoked", "expired") else "2026-07-28")
    is_session_bound = era == "legacy" and bool(caller.bound_to)
    if is_session_bound:
        register(wire, caller.bound_to)
    problems = []
    for row, cells in parse_table(TOOLS).items():
        lines = len(server.auth_lines())
        bound = {} if caller.binding is None or is_session_bound else {"binding": caller.binding}
        reply = wire.call(row, {**tool_calls(task_id)[row], **bound})
        code = wire_code(reply.status, reply.body)
        problems += wrong(server, row, choose(cells[kind], era), code, reply.body, lines)

    assert problems == []


@pytest.mark.spec("AUTH-5", "AUTH-6", "AUTH-7", "BIND-3", "ROOM-3", "ROOM-5", "HTTP-1")
@pytest.mark.parametrize("kind", CALLERS)
def test_every_route_of_rooms_does_what_the_table_says(
    server: Server, home: Home, other: Home, task_id: str, kind: str
) -> None:
    caller = caller_of(server, kind, home, other)
    http = server.http(caller.token, **given(caller))
    problems = []
    for row, cells in parse_table(ROUTES).items():
        lines = len(server.auth_lines())
        method, _, path = row.partition(" ")
        url = "/api/v1" + path.format(room="club", task_id=task_id)
        reply = http.get(url) if method == "GET" else http.post(url, route_body(row))
        code = "401" if reply.status == 401 else reply.code
        problems += wrong(server, row, cells[kind], code, reply.body, lines)

    assert problems == []


@pytest.mark.spec("AUTH-5", "TOOL-8")
def test_the_tables_have_every_tool_and_every_route_of_rooms(server: Server) -> None:
    offered = {tool.name for tool in server.agent(ADMIN_TOKEN).tools()}
    served = {
        f"{method} {route.path.removeprefix('/api/v1')}"
        for route in (*RoomRoutes(server.services, OpenStreams(1)).all(), *TaskRoutes(server.services).all())
        for method in (route.methods or set()) - {"HEAD"}
    }
    ours = {tool.name for tool in (*rooms.TOOLS, *tasks.TOOLS)}

    assert parse_table(TOOLS).keys() == ours
    assert ours <= offered
    assert parse_table(ROUTES).keys() | {EVENTS} == served


@pytest.mark.spec("TOOL-8")
@pytest.mark.parametrize("era", ERAS)
def test_tools_of_a_set_that_is_off_are_not_listed_and_say_how_to_turn_it_on(shared: Server, era: Era) -> None:
    agent = shared.agent(era=era)
    listed = {tool.name for tool in agent.tools()}

    assert not listed & {tool.name for tool in (*rooms.TOOLS, *tasks.TOOLS)}
    for name in ("join_room", "delegate_task"):
        error = agent.call(name, room="r").structured["error"]
        assert error["code"] == "not_found"
        assert error["hint"] == "Its operator turns it on: add rooms to MEMORY_TOOLSETS"
    assert "MEMORY_TOOLSETS" not in str(agent.call("no_such_tool").structured)


@pytest.mark.spec("TOOL-8")
def test_all_and_rooms_alone_are_sets_too(portal: BlockingPortal, tmp_path: Path) -> None:
    for toolsets, has_core in ((("rooms",), False), (("all",), True)):
        with Server(portal, tmp_path / toolsets[0], toolsets=toolsets) as server:
            listed = {tool.name for tool in server.agent().tools()}
        assert "join_room" in listed
        assert ("read_knowledge" in listed) is has_core


@pytest.mark.spec("AUTH-5", "AUTH-7")
@pytest.mark.parametrize("kind", ["sync", "read"])
def test_other_roles_are_not_shown_the_tools_of_rooms(server: Server, home: Home, other: Home, kind: str) -> None:
    token = caller_of(server, kind, home, other).token or ""

    assert not {tool.name for tool in server.agent(token).tools()} & {tool.name for tool in rooms.TOOLS}
