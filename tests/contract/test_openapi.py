"""The OpenAPI document says what the routes do: no route, method or parameter more or less (SPEC: HTTP-9)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.datastructures import Headers, QueryParams
from starlette.routing import Route

from federated_memory.pages.site import Site
from federated_memory.web.openapi.administering import ACTIONS
from federated_memory.web.openapi.document import document, operations
from federated_memory.web.openapi.parts import Operation
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Server

MCP = "/mcp"
PLACES = {"path": "a.md", "session_id": "s1", "key": "k", "room": "r", "name": "spare", "action": "none"}
BODIES = {
    "register": {"machine": "box", "tool": "claude", "project": "home"}, "append_session": {},
    "restore_version": {"version": 1}, "store_memory": {"content": "m", "workspace_id": "box-claude-home"},
    "import_memories": {"workspace_id": "box-claude-home", "memories": []},
    "join_room": {"room": "r"}, "notify_peers": {"message": "m"}, "acknowledge": {"read": []},
    "delegate_task": {"room": "r", "task": "t"}, "submit_result": {"success": True, "output": ""},
}  # fmt: skip
STREAMS = {"events", "room_events"}
"""Answers without end."""
READ_BY_ALL = {"content-length", "content-type", "host", "authorization", "transfer-encoding"}


def routes_of(server: Server) -> list[Route]:
    app: Any = server.built.asgi
    while not hasattr(app, "routes"):
        app = app._app
    return [route for route in app.routes if isinstance(route, Route)]


def pages_of(server: Server) -> set[str]:
    return {route.path for route in Site(server.services).all()}


def wrong(served: set[tuple[str, str]], described: set[tuple[str, str]]) -> list[str]:
    """What one has and the other has not; every GET answers HEAD, which is said once."""
    served = {pair for pair in served if pair[0] != "HEAD"}
    return [*(f"not described: {pair}" for pair in sorted(served - described)),
            *(f"not served: {pair}" for pair in sorted(described - served))]  # fmt: skip


@pytest.fixture(scope="module")
def home(shared: Server) -> Home:
    home = shared.settle()
    sync = shared.http(SYNC_TOKEN, x_write_token=home.write_token)
    sync.put(home.url("/knowledge/a.md"), b"# a")
    sync.put(home.url("/overview"), b"# a")
    sync.put(home.url("/sessions/s1"), b'{"type":"user"}\n')
    return home


@pytest.mark.spec("HTTP-9")
def test_every_route_is_described_and_every_described_one_exists(shared: Server) -> None:
    pages = pages_of(shared)
    served = {
        (method, route.path)
        for route in routes_of(shared)
        if route.path not in pages and route.path != MCP
        for method in route.methods or ()
    }
    described = [(one.method, one.path) for one in operations() if one.path != MCP]

    assert wrong(served, set(described)) == []
    assert len(described) == len(set(described)) > 70
    # The broken twins: a route that nobody described, a described one that is gone, a method more.
    assert wrong(served | {("GET", "/api/v1/new")}, set(described)) == ["not described: ('GET', '/api/v1/new')"]
    assert wrong(served, {*described, ("PUT", "/healthz")}) == ["not served: ('PUT', '/healthz')"]


@pytest.mark.spec("HTTP-9")
def test_the_document_is_served_whole_and_is_sound(shared: Server) -> None:
    reply = shared.http(AI_TOKEN).get("/api/v1/openapi.json")
    made = reply.json
    text = json.dumps(made)

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert made == json.loads(json.dumps(document()))
    for _, kind, name in re.findall(r'"#/(components)/(schemas|responses)/([^"]+)"', text):
        assert name in made["components"][kind]
    assert "$defs" not in text
    assert "__" not in "".join(made["components"]["schemas"])
    for schema in made["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [one["operationId"] for path in made["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))
    assert shared.http(None).get("/api/v1/openapi.json").status == 401


@pytest.mark.spec("HTTP-9")
def test_the_actions_that_are_described_are_those_that_there_are(shared: Server) -> None:
    assert {name: kind for name, (kind, _) in shared.services.operations.actions.items()} == ACTIONS


@pytest.mark.spec("HTTP-9", "HTTP-10")
def test_another_method_is_told_all_those_that_a_path_takes(shared: Server, home: Home) -> None:
    pages, taken = pages_of(shared), {}
    for route in routes_of(shared):
        if route.path not in pages and route.path != MCP:
            taken.setdefault(route.path, set()).update(route.methods or ())

    for path, methods in taken.items():
        target = filled(path, home)
        for method in ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
            if method in methods:
                continue
            reply = shared.http(ADMIN_TOKEN).request(method, target)
            if reply.status != 405:  # a neighbour with a wider path takes it
                assert reply.status in (400, 403, 404), (method, target, reply)
                continue
            assert set(reply.headers["allow"].split(", ")) >= methods, (method, target, reply.headers)
            assert reply.code == "invalid_argument"


@pytest.mark.spec("HTTP-9")
def test_every_get_answers_head_with_the_same_status_and_no_body(shared: Server, home: Home) -> None:
    for one in operations():
        if one.method != "GET" or one.name in STREAMS or one.path == MCP:
            continue
        target = filled(one.path, home)
        got, head = (shared.http(ADMIN_TOKEN).request(method, target) for method in ("GET", "HEAD"))
        assert (head.status, head.headers.get("content-type")) == (got.status, got.headers.get("content-type")), target


@pytest.mark.spec("HTTP-9")
@pytest.mark.parametrize("one", [one for one in operations() if one.path != MCP], ids=lambda one: one.name)
def test_a_handler_reads_the_parameters_that_are_described_and_no_others(
    shared: Server, home: Home, one: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = recorded(monkeypatch)
    body = json.dumps(BODIES.get(one.name, {})).encode() if one.method != "GET" else None
    extra = {"upload_offset": "0"} if one.name == "append_session" else {}
    query = "?query=x" if one.name == "search" else ""
    if one.name in STREAMS:
        query = "?" + "keys=a&" * 65 if one.name == "events" else ""
    for token in (AI_TOKEN, SYNC_TOKEN, ADMIN_TOKEN):
        http = shared.http(token, x_memory_binding=home.binding, x_write_token=home.write_token, **extra)
        if not (one.name == "room_events" and token == AI_TOKEN):
            http.request(one.method, filled(one.path, home) + query, body)

    described = {(taken.name.lower(), taken.is_header) for taken in one.takes}
    assert {name for name in read if name[0] not in READ_BY_ALL} <= described
    never = described - read - {(name, True) for name in BY_RAW_HEADERS} - BEYOND.get(one.name, set())
    assert never == set()


BY_RAW_HEADERS = {"x-memory-source-agent", "x-memory-source-machine", "x-memory-source-cwd"}
BEYOND = {"events": {("last-event-id", True)}}
"""What is read later than such a call comes."""


def recorded(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, bool]]:
    """The names of query parameters (and, True, headers) that are asked for from now on."""
    read: set[tuple[str, bool]] = set()
    for kind, name in ((QueryParams, "get"), (QueryParams, "getlist"), (QueryParams, "__getitem__"),
                       (Headers, "get"), (Headers, "getlist"), (Headers, "__getitem__")):  # fmt: skip
        before = getattr(kind, name)

        def asked(self: Any, key: str, *rest: Any, _before: Any = before) -> Any:
            if isinstance(self, (QueryParams, Headers)):
                read.add((key.lower(), isinstance(self, Headers)))
            return _before(self, key, *rest)

        monkeypatch.setattr(kind, name, asked)
    return read


def filled(path: str, home: Home) -> str:
    return re.sub(r"\{(\w+)(?::path)?\}", lambda found: {**PLACES, "workspace_id": home.workspace_id}.get(
        found[1], "nothing"), path)  # fmt: skip
