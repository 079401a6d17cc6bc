"""What agents share (rooms, tasks, state, their memories): tools and routes with values of every type, size and depth.

An answer or a refusal in the promised form, never a failure, never a word of our insides (SPEC: ERR-1, ERR-2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from federated_memory.tools import memories, rooms, state, tasks
from federated_memory.web.live_stream import OpenStreams
from federated_memory.web.memories import MemoryRoutes
from federated_memory.web.rooms import RoomRoutes
from federated_memory.web.state import StateRoutes
from federated_memory.web.tasks import TaskRoutes
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Home, Server, Wire
from tests.contract.test_fuzz import (
    ANYTHING,
    CODES,
    EXAMPLES,
    FUZZED,
    INSIDES,
    NUMBERS,
    TEXTS,
    WAITING,
    ensure_told_well,
    quoted,
    values_of,
)
from tests.fault.tally import tally

pytestmark = pytest.mark.timeout(1_800 if EXAMPLES > 100 else 120)

SPECS = (*rooms.TOOLS, *tasks.TOOLS, *state.TOOLS, *memories.TOOLS)


def nested(levels: int, *, as_list: bool) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value] if as_list else {"a": value}
    return value


EXTREMES = st.builds(nested, st.sampled_from([1, 60, 64, 65, 200]), as_list=st.booleans()) | st.sampled_from(
    ["x" * 70_000, "\x00" * 10, "\ud800", {"\ud800": 1}, {"": {"\x00": []}}, [0.1] * 5_000,
     {str(number): number for number in range(900)}, 1e308, -0.0, 2**53, 2**63, 10**40, "\u202e",
     {"$ref": "#"}, {"type": "nonsense"}, {"pattern": "("}, True]
)  # fmt: skip
VALUES = ANYTHING | EXTREMES
RAW = (
    b"[" * 100_000, b'{"a":' * 50_000, b"[" * 5_000 + b"]" * 5_000, b"1e999", b"-", b"NaN", b'"\\ud800"', b'"\xff"',
    b"\x00", b'{"a": 1, "a": 2}', b"9" * 5_000, b" " * 70_000, b"", b"\xef\xbb\xbf{}",
)  # fmt: skip
"""Bodies that are no JSON, or just so."""
KNOWN = {
    "room": "r", "key": "k/a", "prefix": "k/", "value": 1, "message": "m", "task": "t", "output": "o", "success": True,
    "schema": {"type": "integer"}, "content": "a note", "to": "role:reviewer", "items": [{"key": "k/b", "value": 2}],
}  # fmt: skip
"""Arguments that make sense, so that the others are looked at too."""


@pytest.fixture(scope="module")
def server(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("fuzz-shared") / "memory"
    with Server(portal, root, toolsets=("all",)) as opened:
        yield opened
    assert not opened.errors


@pytest.fixture(scope="module")
def home(server: Server) -> Home:
    home = server.settle()
    agent = server.agent()
    agent.ok("join_room", room="r", binding=home.binding)
    agent.ok("set_state", key="k/a", value=1, binding=home.binding)
    return home


@pytest.fixture(scope="module")
def schemas(server: Server) -> dict[str, dict[str, Any]]:
    names = {spec.name for spec in SPECS}
    return {tool.name: tool.input_schema for tool in server.agent(ADMIN_TOKEN).tools() if tool.name in names}


@pytest.fixture(scope="module")
def wires(server: Server) -> list[Wire]:
    return [server.wire(AI_TOKEN, era) for era in ERAS]


@pytest.mark.thorough
@pytest.mark.spec("ERR-1", "ERR-2", "STATE-8", "ROOM-8", "TASK-9")
@given(data=st.data())
@FUZZED
def test_no_arguments_make_a_tool_of_theirs_fail(
    server: Server, home: Home, schemas: dict[str, dict[str, Any]], wires: list[Wire], data: st.DataObject
) -> None:
    tool = data.draw(st.sampled_from(sorted(schemas)))
    schema = schemas[tool]["properties"]
    needed = schemas[tool].get("required", [])
    arguments = {name: KNOWN[name] for name in schema if name in KNOWN and (name in needed or data.draw(st.booleans()))}
    for name in data.draw(st.lists(st.sampled_from(sorted(schema)), min_size=1, max_size=4)):
        arguments[name] = data.draw(values_of(schema[name]) if data.draw(st.booleans()) else VALUES)
    for name in schema.keys() & WAITING:  # also where it is left out: a task would wait for its default
        arguments[name] = 0
    if "binding" in schema and data.draw(st.integers(0, 4)):
        arguments["binding"] = home.binding

    reply = data.draw(st.sampled_from(wires)).call(tool, arguments)

    assert reply.status in (200, 400), reply
    if reply.status == 200 and reply.json["result"].get("isError"):
        result = reply.json["result"]
        assert result["structuredContent"]["error"]["code"] in CODES - {"unavailable"}, result
        assert not INSIDES.search(result["content"][0]["text"]), result
    assert server.errors == []


NAMES = {
    "room": ("r", "none", "..", "R", "x" * 70, "\u202e", "é"), "task_id": ("none", "..", "x" * 300),
    "key": ("k/a", "k/*", "none", "../x", "x" * 300, "a//b", "*"),
    "memory_id": ("20261121-101502-k3f9x2ma", "..", "x" * 90),
}  # fmt: skip
QUERIES = (
    "limit", "cursor", "max_bytes", "if_version", "ttl_seconds", "prefix", "on_violation", "after", "message_id",
    "wait_seconds", "workspace_id", "reason", "tags", "since", "room", "key", "nonsense",
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.spec("ERR-1", "ERR-2", "HTTP-1", "STATE-8", "ROOM-8", "TASK-9")
@given(data=st.data())
@FUZZED
def test_no_request_makes_a_route_of_theirs_fail(server: Server, home: Home, data: st.DataObject) -> None:
    found = (
        *StateRoutes(server.services).all(), *RoomRoutes(server.services, OpenStreams(1)).all(),
        *TaskRoutes(server.services).all(), *MemoryRoutes(server.services).all(),
    )  # fmt: skip
    routes = [route for route in found if isinstance(route, Route) and route.methods and "events" not in route.path]
    route = data.draw(st.sampled_from(routes))
    path = route.path
    for name in re.findall(r"\{(\w+)(?::path)?\}", path):
        value = data.draw(st.sampled_from(NAMES.get(name, ("a", "..", "\x00"))) | TEXTS)
        path = re.sub(r"\{" + name + r"(?::path)?\}", lambda _, value=value: quoted(value), path, count=1)
    asked = data.draw(st.dictionaries(st.sampled_from(QUERIES), TEXTS | NUMBERS.map(str), max_size=3))
    if "wait_seconds" in asked:
        asked["wait_seconds"] = data.draw(st.sampled_from(["0", "", "-1", "x", "nan", "1e9"]))
    query = urlencode([(key, value.encode("utf-8", "surrogatepass")) for key, value in asked.items()])
    body = data.draw(st.sampled_from(RAW) | st.binary(max_size=40) | bodies())
    token = data.draw(st.sampled_from([AI_TOKEN, AI_TOKEN, ADMIN_TOKEN, SYNC_TOKEN]))
    headers = {"x_memory_binding": home.binding} if data.draw(st.integers(0, 4)) else {}

    method = data.draw(st.sampled_from(sorted(route.methods or ())))
    ensure_told_well(server.http(token, **headers).request(method, path + ("?" + query if query else ""), body))

    assert server.errors == []


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A value, or an object with fields that the routes know."""
    known = draw(st.lists(st.sampled_from(sorted(KNOWN)), max_size=4))
    fields: dict[str, Any] = {name: KNOWN[name] for name in known}
    others = ("closed", "ticket", "role", "status", "attempt", "limit", "read", "operations", "ttl_seconds", "tags",
              "kind", "importance", "supersedes", "expires_at", "files", "references", "memories",
              "dry_run")  # fmt: skip
    for name in draw(st.lists(st.sampled_from([*sorted(KNOWN), *others]), max_size=3)):
        fields[name] = draw(VALUES)
    return json.dumps(fields if draw(st.integers(0, 3)) else draw(VALUES)).encode()


@pytest.mark.spec("ERR-1", "STATE-8", "ROOM-8", "TASK-9")
@pytest.mark.parametrize("how", ["tool", "route"])
def test_extremes_are_refused_by_name_or_kept_as_they_are(server: Server, home: Home, how: str) -> None:
    """Each extreme at each place that takes a value or a text."""
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    wire = server.wire()
    extremes = ["x" * 70_000, "\x00", "\ud800", nested(200, as_list=True), 2**64, 10**40, [], {}, True, None, ""]
    for number, extreme in enumerate(extremes):
        body = json.dumps(extreme)
        if how == "route":
            for reply in (
                http.put(f"/api/v1/state/keys/x/{number}", body),
                http.put(f"/api/v1/state/schemas/x/{number}", body),
                http.request("POST", "/api/v1/rooms/r/messages", f'{{"message": {body}}}'),
                http.request("POST", "/api/v1/tasks", f'{{"room": "r", "task": {body}, "timeout_seconds": 0}}'),
            ):
                ensure_told_well(reply)
        else:
            for tool, name in (
                ("set_state", "value"), ("set_state", "key"), ("set_state_schema", "schema"),
                ("notify_peers", "message"), ("delegate_task", "task"),
                ("join_room", "status"), ("join_room", "room"), ("get_task", "task_id"),
            ):  # fmt: skip
                given = {
                    "key": f"y/{number}",
                    "room": "r",
                    "timeout_seconds": 0,
                    "binding": home.binding,
                    name: extreme,
                }
                known = {spec.name: spec for spec in SPECS}[tool].function.__annotations__
                code = wire.code(tool, {key: value for key, value in given.items() if key in known})
                assert code in CODES - {"unavailable"} | {"ok"} or str(code) == "-32602", (tool, name, extreme, code)
    for raw in RAW:
        ensure_told_well(http.put("/api/v1/state/keys/raw", raw))
        ensure_told_well(http.request("POST", "/api/v1/state/batch", raw))
    assert server.errors == []


def test_the_number_of_what_was_tried_is_told() -> None:
    tally("fuzz of what agents share", trials=2 * EXAMPLES)
