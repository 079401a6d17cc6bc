"""Rooms and tasks of a running server, over real connections: progress, streams, clients that vanish, stops, kills."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from scripts.bench.wire import McpClient
from tests.e2e.conftest import Api, RunningServer, Workspace, start_server, wait_until
from tests.e2e.test_lifecycle import Stream
from tests.e2e.test_two_agents import named_token

Serve = Callable[..., RunningServer]
both_eras = pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
ROOMS = {"MEMORY_TOOLSETS": "core,rooms"}
STOP_SECONDS = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = start_server(tmp_path_factory.mktemp("rooms") / "memory", **ROOMS, MEMORY_PROGRESS_SECONDS="0.2")
    yield running
    assert running.stop() == 0
    assert running.problems() == [], running.shown()


class Agent:
    """One agent over HTTP."""

    def __init__(self, server: RunningServer, name: str, *rooms: str, token: str = "") -> None:
        self.api: Api = server.api(token or server.ai_token)
        self.home: Workspace = self.api.register(name)
        self.token = token or server.ai_token
        for room in rooms:
            self.ok("/rooms", room=room)

    def ok(self, path: str, method: str = "POST", **body: object) -> dict[str, Any]:
        data = json.dumps(body).encode() if method == "POST" else None
        answer = self.api.call(method, "/api/v1" + path, data, X_Memory_Binding=self.home.binding)
        assert answer.status in (200, 201), answer
        return answer.json

    def task(self, room: str, text: str = "t", **more: object) -> str:
        return str(self.ok("/tasks", room=room, task=text, **more)["task_id"])

    def claim(self, **more: object) -> dict[str, Any]:
        (task,) = self.ok("/tasks/poll", **more)["tasks"]
        found: dict[str, Any] = task
        return found


class Scene:
    """Agents and connections of one test, closed with it."""

    def __init__(self) -> None:
        self._exits = contextlib.ExitStack()

    def agent(self, server: RunningServer, name: str, *rooms: str, token: str = "") -> Agent:
        agent = Agent(server, name, *rooms, token=token)
        self._exits.enter_context(agent.api)
        return agent

    def client(self, server: RunningServer, era: Any, token: str = "") -> McpClient:
        client = McpClient(server.url, token or server.ai_token, era)
        self._exits.callback(client.close)
        return client

    def stream(self, server: RunningServer, request: bytes) -> Stream:
        stream = Stream(server, request)
        self._exits.callback(stream.socket.close)
        return stream

    def poll(self, server: RunningServer, era: Any, agent: Agent, seconds: float = 600) -> Stream:
        """A session of its own that waits for tasks; each session numbers its requests."""
        client = self.client(server, era, agent.token)
        request = client.prepare("poll_pending_tasks", wait_seconds=seconds, binding=agent.home.binding)
        return self.stream(server, request)

    def delegate(self, server: RunningServer, era: Any, agent: Agent, room: str, to: str) -> Stream:
        client = self.client(server, era, agent.token)
        bound = {"binding": agent.home.binding}
        return self.stream(
            server, client.prepare("delegate_task", room=room, task="x", to=to, timeout_seconds=600, **bound)
        )

    def close(self) -> None:
        self._exits.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    opened = Scene()
    yield opened
    opened.close()


@contextlib.asynccontextmanager
async def client_of(server: RunningServer, era: str, read_seconds: float) -> AsyncIterator[Client]:
    """The real client, whose connection gives up after so long without a byte."""
    headers = {"Authorization": f"Bearer {server.ai_token}"}
    mode: Any = "legacy" if era == "2025-11-25" else era
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=read_seconds)) as http,
        Client(streamable_http_client(server.mcp_url, http_client=http), mode=mode) as client,
    ):
        yield client


async def registered(client: Client, name: str, room: str) -> dict[str, str]:
    found = await client.call_tool("register_workspace", {"machine": "box", "tool": "agent", "project": name})
    assert found.structured_content is not None
    bound = {"binding": str(found.structured_content["binding"])}
    assert not (await client.call_tool("join_room", {"room": room, **bound})).is_error
    return bound


@pytest.mark.spec("TASK-1", "TOOL-7")
@both_eras
def test_progress_arrives_and_keeps_a_long_call_alive(scene: Scene, server: RunningServer, era: str) -> None:
    room, told = f"progress-{era}", []
    worker = scene.agent(server, f"worker-{era}", room)

    async def work() -> Any:
        async with client_of(server, era, read_seconds=1.0) as client:
            bound = await registered(client, f"asks-{era}", room)

            async def hear(number: float, _: float | None, message: str | None) -> None:
                told.append((number, message or ""))
                if len(told) == 15:  # three seconds on: thrice what the connection would wait
                    await anyio.to_thread.run_sync(lambda: answer(worker))

            return await client.call_tool(
                "delegate_task", {"room": room, "task": "t", "timeout_seconds": 60, **bound}, progress_callback=hear
            )

    found = anyio.run(work)

    assert found.structured_content["status"] == "completed", found
    assert found.structured_content["output"] == "done at last"
    assert [number for number, _ in told] == sorted({number for number, _ in told})
    assert told[0][1] == f"{found.structured_content['task_id']}: waits for somebody to take it"


def answer(worker: Agent) -> None:
    task = worker.claim()
    worker.ok(f"/tasks/{task['task_id']}/result", success=True, output="done at last", attempt=1)


@pytest.mark.spec("TOOL-7")
@both_eras
def test_without_progress_the_same_call_would_not_live(serve: Serve, era: str) -> None:
    """The broken twin: what the test above shows is the progress, and nothing else."""
    server = serve(**ROOMS, MEMORY_PROGRESS_SECONDS="600")

    async def work() -> str:
        async with client_of(server, era, read_seconds=1.0) as client:
            bound = await registered(client, "asks", "r")
            with anyio.move_on_after(20):
                try:
                    await client.call_tool("delegate_task", {"room": "r", "task": "t", "timeout_seconds": 60, **bound})
                except MCPError as error:
                    return str(error)
            return "it hung"

    assert anyio.run(work) != "it hung"


@pytest.mark.spec("TOOL-7")
@both_eras
def test_what_ends_at_once_is_plain_json_and_what_waits_a_stream(scene: Scene, server: RunningServer, era: Any) -> None:
    agent = scene.agent(server, f"forms-{era}", f"forms-{era}")
    client = scene.client(server, era)
    poll = partial(client.prepare, "poll_pending_tasks", binding=agent.home.binding)

    head, _ = client.answer(poll(wait_seconds=0))
    assert b"content-type: application/json" in head.lower()
    stream = scene.stream(server, poll(wait_seconds=1))
    assert stream.read_to_end()
    events = [line for line in stream.received.split(b"\r\n") if line.startswith(b"data: ")]
    assert json.loads(events[-1][6:])["result"]["structuredContent"] == {"tasks": [], "notices": []}
    client.headers["Accept"] = "application/json"  # whoever takes no stream gets none, however long it takes
    client.reopen()
    head, body = client.answer(poll(wait_seconds=1))
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body)["result"]["structuredContent"] == {"tasks": [], "notices": []}


@pytest.mark.spec("TASK-2", "TASK-6")
@both_eras
def test_whoever_vanishes_takes_nothing_along(scene: Scene, server: RunningServer, era: Any) -> None:
    room = f"vanish-{era}"
    a, b = scene.agent(server, f"va-{era}", room), scene.agent(server, f"vb-{era}", room)
    poll = scene.poll(server, era, b)
    asked = scene.delegate(server, era, a, room, b.home.workspace_id)
    assert poll.read_to_end()  # it has claimed the task
    asked.socket.close()
    gone = scene.poll(server, era, b)
    gone.socket.close()
    (task,) = b.ok(f"/rooms/{room}", "GET")["tasks"]
    b.ok(f"/tasks/{task['task_id']}/result", success=True, output="kept for you")

    assert a.ok(f"/tasks/{task['task_id']}", "GET")["output"] == "kept for you"
    task_id = a.task(room)
    found: list[str] = []

    def claimed() -> bool:  # the poller that has gone may hold it for the moment until that is noticed
        found.extend(row["task_id"] for row in b.ok("/tasks/poll")["tasks"])
        return bool(found)

    wait_until(claimed)
    assert found == [task_id]


def events_of(scene: Scene, server: RunningServer, agent: Agent, room: str, after: int | None = None) -> Stream:
    last = "" if after is None else f"Last-Event-ID: {after}\r\n"
    head = (
        f"GET /api/v1/rooms/{room}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {agent.token}\r\n"
        f"X-Memory-Binding: {agent.home.binding}\r\n{last}\r\n"
    )
    return scene.stream(server, head.encode())


def read_events(stream: Stream, count: int) -> list[tuple[int, str, str]]:
    """Number, kind and text of so many events, after the one that says that the stream is open."""
    begins = b"event: ready"
    while stream.received.count(b"\ndata: ") - stream.received.count(begins) < count or not stream.received.endswith(
        b"\n\n\r\n"
    ):
        data = stream.socket.recv(65_536)
        assert data, stream.received
        stream.received += data
    found, event = [], {}
    for line in stream.received.replace(b"\r\n", b"\n").split(b"\n"):
        name, _, value = line.partition(b": ")
        event[name] = value
        if name == b"data" and event[b"event"] != b"ready":
            found.append((int(event[b"id"]), event[b"event"].decode(), str(json.loads(value)["text"])))
    return found


@pytest.mark.spec("ROOM-9", "ROOM-4")
def test_a_rooms_events_come_at_once_and_resume_without_loss(scene: Scene, server: RunningServer) -> None:
    a, b = scene.agent(server, "ea", "events"), scene.agent(server, "eb", "events", "quiet")
    stream = events_of(scene, server, b, "events")

    assert a.ok("/rooms/events/messages", message="first")["delivered"] == [b.home.workspace_id]
    ((first, kind, text),) = read_events(stream, 1)
    assert (kind, text) == ("notice", "first")
    a.ok("/rooms/events/messages", message="for the other", to=a.home.workspace_id)
    a.ok("/rooms/events/messages", message="second")
    stream.socket.close()
    assert [event[2] for event in read_events(events_of(scene, server, b, "events", after=first), 1)] == ["second"]
    assert [event[2] for event in read_events(events_of(scene, server, b, "events", after=0), 2)] == ["first", "second"]
    quiet = events_of(scene, server, b, "quiet")
    quiet.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        read_events(quiet, 1)


@pytest.mark.spec("ROOM-9")
def test_a_memory_for_a_room_is_an_event_for_its_members(scene: Scene, serve: Serve) -> None:
    server = serve(MEMORY_TOOLSETS="all")
    a, b = scene.agent(server, "ma", "notes"), scene.agent(server, "mb", "notes", "other")
    stream, other = events_of(scene, server, b, "notes"), events_of(scene, server, b, "other")
    client = scene.client(server, "2026-07-28")
    content = {"content": "The queue drains at night only.", "kind": "note", "subject": "queue"}

    client.send(client.prepare("store_memory", **content, room="notes", binding=a.home.binding))

    ((_, kind, text),) = read_events(stream, 1)
    assert (kind, text) == ("memory", "queue")
    assert b.ok("/rooms/notes", "GET")["notices"] == []  # an event, no notice
    other.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        read_events(other, 1)


@pytest.mark.spec("ROOM-9", "ROOM-1")
def test_events_end_when_one_leaves_and_when_the_token_ends(scene: Scene, server: RunningServer) -> None:
    a = scene.agent(server, "la", "left")
    stream = events_of(scene, server, a, "left")
    a.ok("/rooms/left/leave")
    assert stream.read_to_end()

    token = named_token(server, "leaving")
    b = scene.agent(server, "lb", "left", token=token)
    streams = [events_of(scene, server, b, "left")]
    streams.append(scene.poll(server, "2026-07-28", b))
    with server.api(server.admin_token) as admin:
        assert admin.call("DELETE", "/api/v1/tokens/leaving").status == 200
    assert all(stream.read_to_end() for stream in streams)


@pytest.mark.spec("TASK-9", "RUN-4", "ROOM-9")
def test_sigterm_with_a_hundred_who_wait_answers_them_all(scene: Scene, serve: Serve) -> None:
    server = serve(**ROOMS)
    agents = [scene.agent(server, f"w{number}", "r") for number in range(4)]
    streams = []
    for number in range(100):
        agent, era = agents[number % 4], ("2025-11-25", "2026-07-28")[number % 2]
        match number % 5:
            case 0:
                streams.append(events_of(scene, server, agent, "r"))
            case 1:
                streams.append(scene.delegate(server, era, agent, "r", "role:nobody"))
            case _:
                streams.append(scene.poll(server, era, agent))
    plain = socket.create_connection(server.address, timeout=30)
    body = b'{"wait_seconds": 600}'
    plain.sendall(
        f"POST /api/v1/tasks/poll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.ai_token}\r\n"
        f"X-Memory-Binding: {agents[0].home.binding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )

    started = time.monotonic()
    code = server.stop()
    elapsed = time.monotonic() - started

    ended_well = [stream.read_to_end() for stream in streams]
    print(f"SIGTERM, 100 waiting streams: {elapsed:.2f} s, {sum(ended_well)} ended properly")
    assert elapsed < STOP_SECONDS
    assert code == 0, server.shown()
    assert all(ended_well)
    assert server.problems() == [], server.shown()
    polls = [stream.received for number, stream in enumerate(streams) if number % 5 not in (0, 1)]
    assert all(b'"tasks":[],"notices":[]' in received for received in polls)
    assert all(b'"status":"timeout"' in streams[number].received for number in range(1, 100, 5))
    plain.close()


@pytest.mark.spec("TASK-8", "ROOM-4")
def test_kill_9_loses_no_task_no_message_and_no_result(scene: Scene, serve: Serve) -> None:
    server = serve(**ROOMS)
    a, b = scene.agent(server, "a", "r"), scene.agent(server, "b", "r")
    finished, claimed, waiting = a.task("r", "finished"), a.task("r", "claimed"), a.task("r", "open")
    b.claim()
    b.ok(f"/tasks/{finished}/result", success=True, output="the result")
    b.claim()
    a.ok("/rooms/r/messages", message="kept")

    server.process.kill()
    server.wait()
    again = serve(**ROOMS)

    with again.api(again.ai_token) as api:
        a.api.close()
        b.api.close()
        a.api = b.api = api
        assert a.ok(f"/tasks/{finished}", "GET")["output"] == "the result"
        assert [notice["text"] for notice in b.ok("/rooms/r", "GET")["notices"]] == ["kept"]
        assert b.ok(f"/tasks/{claimed}/result", success=True, output="after", attempt=1)["state"] == "completed"
        assert b.claim()["task_id"] == waiting
