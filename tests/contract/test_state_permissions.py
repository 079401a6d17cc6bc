"""Who may do what with the shared state and the events: every tool and route against every kind of caller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.service.events import FeedSource
from federated_memory.web.events import EventRoutes
from federated_memory.web.live_stream import OpenStreams
from federated_memory.web.state import StateRoutes
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Era, Home, Server
from tests.contract.test_permissions import CALLERS, CODES, caller_of, choose, parse_table, register, wire_code

pytestmark = pytest.mark.thorough

TOOLS = """
                     non wrg rev exp | ai  bnd els  wgl rgl mac | syn wrg non glb mac | rea adm adb
get_state            401 401 401 401 | ok  ok  ok   F   F   ok  | F   F   F   F   F   | ok  ok  ok
list_state           401 401 401 401 | ok  ok  ok   B   B   ok  | F   F   F   F   F   | ok  ok  ok
state_history        401 401 401 401 | ok  ok  ok   F   F   ok  | F   F   F   F   F   | ok  ok  ok
get_state_schema     401 401 401 401 | ok  ok  ok   B   B   ok  | F   F   F   F   F   | ok  ok  ok
set_state            401 401 401 401 | N   ok  ok   F   F   F   | F   F   F   F   F   | F   N   ok
delete_state         401 401 401 401 | N   ok  ok   F   F   F   | F   F   F   F   F   | F   N   ok
set_state_schema     401 401 401 401 | N   ok  ok   F   F   F   | F   F   F   F   F   | F   N   ok
"""
ROUTES = """
                                non wrg rev exp | ai  bnd els wgl rgl mac | syn wrg non glb mac | rea adm adb
GET /state/keys                 401 401 401 401 | ok  ok  ok  B   B   ok  | F   F   F   F   F   | ok  ok  ok
GET /state/keys/{key}           401 401 401 401 | ok  ok  ok  F   F   ok  | F   F   F   F   F   | ok  ok  ok
GET /state/history/{key}        401 401 401 401 | ok  ok  ok  F   F   ok  | F   F   F   F   F   | ok  ok  ok
GET /state/schemas              401 401 401 401 | ok  ok  ok  B   B   ok  | F   F   F   F   F   | ok  ok  ok
PUT /state/keys/{key}           401 401 401 401 | N   ok  ok  F   F   F   | F   F   F   F   F   | F   N   ok
POST /state/batch               401 401 401 401 | N   ok  ok  F   F   F   | F   F   F   F   F   | F   N   ok
DELETE /state/keys/{key}        401 401 401 401 | N   ok  ok  F   F   F   | F   F   F   F   F   | F   N   ok
PUT /state/schemas/{key}        401 401 401 401 | N   ok  ok  F   F   F   | F   F   F   F   F   | F   N   ok
DELETE /state/schemas/{key}     401 401 401 401 | N   ok  ok  F   F   F   | F   F   F   F   F   | F   N   ok
GET /events?keys=no*            401 401 401 401 | s   s   s   F   F   s   | F   F   F   F   F   | s   s   s
GET /events                     401 401 401 401 | s   s   s   s   s   s   | s   s   s   s   s   | s   s   s
"""
KEY = "notes/xyzzy"
READING = {"get_state", "list_state", "state_history", "get_state_schema"}


@pytest.fixture
def server(portal: BlockingPortal, tmp_path: Path) -> Iterator[Server]:
    with Server(portal, tmp_path / "memory", toolsets=("all",)) as opened:
        yield opened
    assert not opened.errors


@pytest.fixture
def home(server: Server) -> Home:
    home = server.settle("home")
    writer = server.http(AI_TOKEN, x_memory_binding=home.binding)
    for value in (b'"xyzzy"', b'"xyzzy again"'):
        assert writer.put(f"/api/v1/state/keys/{KEY}", value).code == "ok"
    assert writer.put(f"/api/v1/state/schemas/{KEY}", b'{"title": "xyzzy"}').code == "ok"
    return home


@pytest.fixture
def other(server: Server) -> Home:
    return server.settle("other")


def arguments_of(tool: str, binding: str | None) -> dict[str, Any]:
    bound = {} if binding is None else {"binding": binding}
    return {
        "get_state": {"key": KEY}, "list_state": {}, "state_history": {"key": KEY}, "get_state_schema": {},
        "set_state": {"key": KEY, "value": "mine", **bound}, "delete_state": {"key": KEY, **bound},
        "set_state_schema": {"key": "notes/*", "schema": {}, **bound},
    }[tool]  # fmt: skip


def judge(cell: str, code: str, shown: bytes, said: list[str]) -> str:
    wanted = CODES.get(cell, cell)
    if code != wanted:
        return f"{code} instead of {wanted}"
    if cell != "ok" and b"xyzzy again" in shown:
        return "shows what is stored"
    if len(said) != (wanted != "ok"):
        return f"logged {said}"
    return ""


@pytest.mark.spec("AUTH-1", "AUTH-5", "AUTH-12")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", CALLERS)
def test_every_tool_does_what_the_table_says(server: Server, home: Home, other: Home, kind: str, era: Era) -> None:
    caller = caller_of(server, kind, home, other)
    wire = server.wire(caller.token, era if kind not in ("wrong", "revoked", "expired") else "2026-07-28")
    if era == "legacy" and caller.bound_to:
        register(wire, caller.bound_to)
    wrong = {}
    for tool, cells in parse_table(TOOLS).items():
        binding = None if era == "legacy" and caller.bound_to else caller.binding
        before = len(server.auth_lines())
        reply = wire.call(tool, arguments_of(tool, binding))
        code = wire_code(reply.status, reply.body)
        wrong[tool] = judge(choose(cells[kind], era), code, reply.body, server.auth_lines()[before:])
    assert {tool: problem for tool, problem in wrong.items() if problem} == {}


@pytest.mark.spec("AUTH-1", "AUTH-5", "AUTH-12", "HTTP-1")
@pytest.mark.parametrize("kind", CALLERS)
def test_every_route_does_what_the_table_says(server: Server, home: Home, other: Home, kind: str) -> None:
    caller = caller_of(server, kind, home, other)
    given = {"x_memory_binding": caller.binding, "x_write_token": caller.write_token}
    http = server.http(caller.token, **{name: value for name, value in given.items() if value})
    bodies = {"PUT": b'"mine"', "POST": json.dumps({"operations": [{"key": KEY, "value": 1}]}).encode()}
    wrong = {}
    for row, cells in parse_table(ROUTES).items():
        method, path = row.split(" ")
        if cells[kind] == "s":
            continue  # a stream without end: tests/e2e/test_events.py
        body = b"{}" if "schemas" in path else bodies.get(method, b"")
        before = len(server.auth_lines())
        reply = http.request(method, "/api/v1" + path.replace("{key}", KEY), body)
        code = "401" if reply.status == 401 else reply.code
        wrong[row] = judge(cells[kind], code, reply.body, server.auth_lines()[before:])
    assert {row: problem for row, problem in wrong.items() if problem} == {}


@pytest.mark.spec("AUTH-5")
def test_the_table_has_every_tool_and_every_route(server: Server) -> None:
    rows = parse_table(TOOLS).keys()
    routes = {
        (method, route.path.removeprefix("/api/v1").replace("{key:path}", "{key}"))
        for route in (
            *StateRoutes(server.services).all(),
            *EventRoutes(
                server.services, FeedSource(server.services.core.root, server.services.core.memories), OpenStreams(1)
            ).all(),
        )
        for method in route.methods or ()
        if method != "HEAD"
    }

    assert {(row.split(" ")[0], row.split(" ")[1].split("?")[0]) for row in parse_table(ROUTES)} == routes
    offered = {tool.name for tool in server.agent(ADMIN_TOKEN).tools()}
    assert {name for name in offered if "state" in name} == rows
    for token, wanted in ((AI_TOKEN, rows), (SYNC_TOKEN, set()), (server.token("r", "read"), READING)):
        listed = {tool.name for tool in server.agent(token).tools()}
        assert {name for name in listed if "state" in name} == wanted


@pytest.mark.spec("TOOL-3")
def test_the_toolset_is_not_offered_by_default_and_small(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "plain") as plain:
        assert not [tool.name for tool in plain.agent(AI_TOKEN).tools() if "state" in tool.name]
    with Server(portal, tmp_path / "only", toolsets=("state",)) as only:
        listed = only.agent(AI_TOKEN).tools()
        seen = [{"description": tool.description, "inputSchema": tool.input_schema} for tool in listed]
        assert len(json.dumps(seen, separators=(",", ":"), ensure_ascii=False).encode()) < 5_000


GLOBS = [
    # read_keys, write_keys → reads a/x, reads b/x, writes a/x, writes b/x
    (("a/*",), None, "ok", "forbidden", "ok", "ok"),
    (("a/*",), ("a/*",), "ok", "forbidden", "ok", "forbidden"),
    ((), ("a/x",), "forbidden", "forbidden", "ok", "forbidden"),
    (("?/x",), (), "ok", "ok", "forbidden", "forbidden"),
]


@pytest.mark.spec("AUTH-12")
@pytest.mark.parametrize(("read", "write", "reads_a", "reads_b", "writes_a", "writes_b"), GLOBS)
def test_globs_of_keys_hold_at_every_door(
    server: Server, home: Home, read: Any, write: Any, reads_a: str, reads_b: str, writes_a: str, writes_b: str
) -> None:
    from federated_memory.auth.tokens import Scopes

    admin = server.http(ADMIN_TOKEN, x_memory_binding=server.binding_for(ADMIN_TOKEN, home.workspace_id))
    for key in ("a/x", "b/x"):
        assert admin.put(f"/api/v1/state/keys/{key}", b"1").status == 200
    token = server.token("t", "ai", scopes=Scopes(read_keys=read, write_keys=write))
    binding = server.binding_for(token, home.workspace_id)
    http, agent = server.http(token, x_memory_binding=binding), server.agent(token)

    for key, reads, writes in (("a/x", reads_a, writes_a), ("b/x", reads_b, writes_b)):
        assert http.get(f"/api/v1/state/keys/{key}").code == agent.call("get_state", key=key).code == reads
        listed = {row["key"] for row in http.get("/api/v1/state/keys").json["values"]}
        assert (key in listed) == (reads == "ok")
        assert http.put(f"/api/v1/state/keys/{key}", b"2").code == writes
        assert agent.call("set_state", key=key, value=3, binding=binding).code == writes
        assert http.put("/api/v1/state/schemas/" + key, b"{}").code == writes
    wide = http.put("/api/v1/state/schemas/*", b"{}").code
    assert wide == ("ok" if write is None else "forbidden")
    batch = [{"key": "a/x", "value": 1}, {"key": "b/x", "value": 1}]
    wanted = "ok" if (writes_a, writes_b) == ("ok", "ok") else "forbidden"
    assert http.post("/api/v1/state/batch", {"operations": batch}).code == wanted


@pytest.mark.spec("AUTH-12")
def test_a_token_limited_to_workspaces_has_no_keys_unless_told(server: Server) -> None:
    plain, limited = server.grant(server.token("p", "ai")), server.grant(server.token("l", "ai", read=("x-*",)))
    reader = server.grant(server.token("r", "read"))
    kept = server.services.core.tokens._load()[0]

    assert (plain.reads_key("a"), plain.writes_key("a"), plain.reads_room("a"), plain.writes_room("a")) == (True,) * 4
    assert not any((limited.reads_key("a"), limited.writes_key("a"), limited.reads_room("a"), limited.writes_room("a")))
    assert (reader.reads_key("a"), reader.writes_key("a"), reader.writes_room("a")) == (True, False, False)
    assert kept["l"].grant == limited
    rows = server.http(ADMIN_TOKEN).get("/api/v1/tokens").json["tokens"]
    assert {row["name"]: row["read_keys"] for row in rows} == {"p": ["*"], "l": [], "r": ["*"]}
    body = {"name": "k", "role": "ai", "read": ["x-*"], "read_keys": ["x/*"], "write_rooms": ["x"]}
    made = server.http(ADMIN_TOKEN).post("/api/v1/tokens", body).json
    assert (made["read_keys"], made["write_keys"], made["write_rooms"]) == (["x/*"], [], ["x"])
    for bad in ({"read_keys": ["a b"]}, {"write_rooms": ["A"]}, {"role": "read", "write_keys": ["a"]}):
        assert server.http(ADMIN_TOKEN).post("/api/v1/tokens", {**body, "name": "n", **bad}).status == 400


@pytest.mark.spec("AUTH-12")
def test_globs_of_rooms_hold(server: Server, home: Home, other: Home) -> None:
    from federated_memory.auth.tokens import Scopes

    def caller(name: str, where: Home, **scopes: Any) -> Any:
        token = server.token(name, "ai", scopes=Scopes(**scopes))
        return server.http(token, x_memory_binding=server.binding_for(token, where.workspace_id))

    host, guest = caller("host", home), caller("guest", other, read_rooms=("open-*",), write_rooms=("open-a",))
    for room in ("open-a", "open-b", "hidden"):
        assert host.post("/api/v1/rooms", {"room": room}).status == 201
    joined = {room: guest.post("/api/v1/rooms", {"room": room}).code for room in ("open-a", "open-b", "hidden")}
    assert joined == {"open-a": "ok", "open-b": "ok", "hidden": "forbidden"}
    assert guest.post("/api/v1/rooms", {"room": "open-new"}).code == "forbidden"
    said = {room: guest.post(f"/api/v1/rooms/{room}/messages", {"message": "hi"}).code for room in ("open-a", "open-b")}
    assert said == {"open-a": "ok", "open-b": "forbidden"}
    assert guest.get("/api/v1/rooms/open-b").code == "ok"
    assert guest.post("/api/v1/tasks", {"room": "open-b", "task": "dig"}).code == "forbidden"
    assert guest.post("/api/v1/tasks/poll", {}).code == "forbidden"
    assert guest.post("/api/v1/tasks/poll", {"room": "open-a"}).code == "ok"
    # Another token of the same workspace is a member by that: its own globs hold all the same.
    narrow = caller("narrow", other, read_rooms=("none",), write_rooms=())
    assert narrow.get("/api/v1/rooms/open-a").code == "forbidden"
    note = {"content": "a zeppelin", "room": "open-a"}
    assert guest.post("/api/v1/memories", {**note, "room": "open-b"}).code == "forbidden"
    memory_id = host.post("/api/v1/memories", note).json["memory_id"]
    assert guest.get(f"/api/v1/memories/{memory_id}").code == "ok"
    assert narrow.get(f"/api/v1/memories/{memory_id}").status == 404
    assert narrow.get("/api/v1/search?query=zeppelin").json["hits"] == []
    assert narrow.get("/api/v1/rooms").json["rooms"] == []
