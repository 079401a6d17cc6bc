"""Requests of rooms and tasks that make no sense: refused by name, never an unexpected failure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import AI_TOKEN, ERAS, Era, Server
from tests.contract.room_rig import ROUTES, Peer, peers_of

POSTS = [(tool, path) for tool, (method, path) in ROUTES.items() if method == "POST" and tool != "leave_room"]
"""Leaving takes no body."""
BODIES = [
    b"", b"{", b"[]", b"null", b'"room"', b"\xff\xfe", b'{"room": "\\ud800"}', b'{"unknown": 1}', b"[" * 100_000,
    b'{"room": 1, "message": 2, "task": [], "read": "x", "success": "yes", "output": {}, "wait_seconds": "soon"}',
    b'{"room": {"a": 1}}', b'{"wait_seconds": 1e400}', b'{"limit": 99999999999999999999999}',
    b'{"timeout_seconds": NaN}',
    b'{"room": "r", "task": "t", "timeout_seconds": -1}', b'{"room": "r", "message": "m", "ttl_seconds": 1e3}',
    b'{"lease_seconds": 0}', b'{"read": [-1, 99999999999999999999]}', b'{"success": true, "output": "x", "attempt": 0}',
    b'{"room": "r", "message": "m", "to": "\\u202e"}', b'{"room": "r", "status": "\\u0000"}',
]  # fmt: skip


@pytest.fixture(scope="module")
def server(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("requests") / "memory"
    with Server(portal, root, toolsets=("core", "rooms")) as opened:
        yield opened
        assert not opened.errors


@pytest.mark.spec("HTTP-1", "ERR-2", "ROOM-8", "TASK-9")
@pytest.mark.parametrize(("tool", "path"), POSTS)
def test_malformed_bodies_are_refused_and_never_an_unexpected_failure(server: Server, tool: str, path: str) -> None:
    peer = Peer(server, "http", "malformed")
    peer.ok("join_room", room="r")
    task_id = peer.ok("delegate_task", room="r", task="t", timeout_seconds=0)["task_id"]
    http = server.http(AI_TOKEN, x_memory_binding=peer.binding)

    for body in BODIES:
        reply = http.request("POST", "/api/v1" + path.format(room="r", task_id=task_id), body)
        assert reply.status in (400, 404, 409, 413), (tool, body[:60], reply.body)
        assert len(reply.body) < 1_000
    assert http.request("POST", "/api/v1" + path.format(room="r", task_id=task_id), b" " * (1024**2 + 1)).status == 413


@pytest.mark.spec("HTTP-1", "ERR-2")
def test_malformed_queries_are_refused(server: Server) -> None:
    peer = Peer(server, "http", "queries")
    peer.ok("join_room", room="r")
    http = server.http(AI_TOKEN, x_memory_binding=peer.binding, last_event_id="x")
    for url in ("/rooms?limit=0", "/rooms?limit=x", "/rooms?cursor=nonsense", "/rooms/r/messages?after=-1",
                "/rooms/r/messages?limit=501", "/rooms/r?message_id=x", "/tasks/t?wait_seconds=x", "/rooms/r/events",
                "/tasks/t?wait_seconds=4000", "/rooms/R"):  # fmt: skip
        assert http.get("/api/v1" + url).status == 400, url
    for url in ("/tasks/none", "/tasks/%00", "/rooms/none/messages", "/rooms/r?message_id=-5"):
        assert http.get("/api/v1" + url).status in (400, 404), url
    assert http.get("/api/v1/tasks/poll").status == 404


@pytest.mark.spec("TOOL-5", "ERR-2", "ROOM-8", "TASK-9")
@pytest.mark.parametrize("era", ERAS)
def test_tools_refuse_what_makes_no_sense(server: Server, era: Era) -> None:
    home = server.settle_anew()
    wire = server.wire(era=era)
    bound = {"binding": home.binding}
    wire.call("join_room", {"room": "r", **bound})
    for tool, arguments in (
        ("join_room", {}), ("join_room", {"room": 7.5}), ("join_room", {"room": "r", "closed": "perhaps"}),
        ("join_room", {"room": "r", "nonsense": 1}), ("get_room_status", {"room": "r", "read": "x"}),
        ("get_room_status", {"room": "r", "read": [-1]}), ("get_room_status", {"room": "r", "after": -1}),
        ("notify_peers", {"room": "r"}), ("notify_peers", {"room": "r", "message": ""}),
        ("notify_peers", {"room": "r", "message": "m", "ttl_seconds": 10**20}),
        ("delegate_task", {"room": "r", "task": "t", "timeout_seconds": "soon"}),
        ("delegate_task", {"room": "r", "task": "t", "timeout_seconds": 10**400}),
        ("poll_pending_tasks", {"wait_seconds": -1}), ("poll_pending_tasks", {"limit": 1_000}),
        ("submit_task_result", {"task_id": "t"}),
        ("submit_task_result", {"task_id": "t", "success": True, "output": 1.5}),
        ("get_task", {}), ("cancel_task", {"task_id": ["x"]}),
    ):  # fmt: skip
        code = wire.code(tool, {**arguments, **bound})
        assert code in ("invalid_argument", "invalid_name", "not_found"), (tool, arguments, code)


@pytest.mark.spec("TOOL-7")
@pytest.mark.parametrize("era", ERAS)
def test_what_looks_like_a_long_call_and_is_none_is_answered_as_ever(server: Server, era: Era) -> None:
    """The layer in front of the endpoint takes no part in it."""
    wire = server.wire(era=era)
    for body in (b'"poll_pending_tasks"', b'{"poll_pending_tasks"', b'["poll_pending_tasks"]' + b"[" * 100_000):
        reply = wire.send(body, mcp_method="tools/call", mcp_name="poll_pending_tasks")
        assert reply.status == 400
        assert reply.headers["content-type"] == "application/json"
    assert wire.code("noop", {"text": '"poll_pending_tasks"'}) == "not_found"
    large = {"room": "r", "task": "x" * 1_500_000, "timeout_seconds": 0}
    assert wire.code("delegate_task", {**large, "binding": "fmb1.x.y"}) in ("not_bound", "too_large")


@pytest.mark.spec("TOOL-7")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("token", ["a word", 7, None, True, {"no": "token"}])
def test_progress_comes_under_the_clients_own_token(server: Server, era: Era, token: Any) -> None:
    home = server.settle_anew()
    wire = server.wire(era=era)
    wire.call("join_room", {"room": "r", "binding": home.binding})
    arguments = {"room": "r", "task": "t", "timeout_seconds": 0.2, "binding": home.binding}
    meta = {} if token is None else {"_meta": {"progressToken": token}}

    reply = with_meta(wire, {"name": "delegate_task", "arguments": arguments, **meta})

    if reply.headers["content-type"] == "application/json":  # the era refuses such a token
        assert isinstance(token, bool | dict)
        return
    events = [json.loads(line[6:]) for line in reply.body.split(b"\r\n") if line.startswith(b"data: ")]
    assert events[-1]["result"]["structuredContent"]["status"] == "timeout"
    told = [event["params"] for event in events[:-1]]
    assert {str(event["progressToken"]) for event in told} == ({str(token)} if token in ("a word", 7) else set())
    assert all(event["message"].startswith("task-") for event in told)
    if not told:
        assert reply.body.startswith(b": ping")


def with_meta(wire: Any, params: dict[str, Any]) -> Any:
    """As `Wire.post`, with what `_meta` holds already."""
    given = params.pop("_meta", {})
    posted = wire._server.exchange

    def exchange(method: str, target: bytes, headers: Any, chunks: Any, **more: Any) -> Any:
        message = json.loads(chunks[0])
        message["params"].setdefault("_meta", {}).update(given)
        body = json.dumps(message).encode()
        pairs = [pair for pair in headers if pair[0] != b"content-length"]
        return posted(method, target, [*pairs, (b"content-length", b"%d" % len(body))], [body], **more)

    wire._server.exchange = exchange
    try:
        return wire.post("tools/call", params)
    finally:
        wire._server.exchange = posted


@pytest.mark.spec("TASK-4", "TASK-8")
@pytest.mark.parametrize("step", [-10 * 365 * 86_400, -3_600, 3_600, 365 * 86_400])
def test_a_clock_that_is_set_loses_no_task_and_ends_no_lease(
    portal: BlockingPortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    with Server(portal, tmp_path / "memory", toolsets=("core", "rooms"), binding_days=10_000) as server:
        with peers_of(server, "http") as peers:
            a, b = peers("a", "r"), peers("b", "r")
            first, second = (
                a.ok("delegate_task", room="r", task=name, timeout_seconds=0)["task_id"] for name in ("one", "two")
            )
            b.claim(lease_seconds=2_000)
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + step)

            assert a.ok("get_task", task_id=first)["state"] == "claimed"
            assert b.claim()["task_id"] == second
            assert peers.server.services.collaboration.tasks._leases.take_ended() == []
            third = a.ok("delegate_task", room="r", task="three", timeout_seconds=0)["task_id"]
            assert b.claim()["task_id"] == third
            for task_id in (first, second, third):
                assert b.code("submit_task_result", task_id=task_id, success=True, output="x", attempt=1) == "ok"
            monkeypatch.undo()
        assert not server.errors
