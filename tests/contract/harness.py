"""A real server in this process, and what speaks to it: plain HTTP, and the real MCP client in both protocol eras.

server
    Services, application and lifespan over a real root. Everything it sends and logs is kept, so that a test can look
    for what must never be there.
agent
    The real `mcp.Client`, over the same ASGI application that `serve` runs.
wire
    JSON-RPC posts made by hand, for what a real client would never send.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import anyio
import httpx2
from anyio.from_thread import BlockingPortal
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver.tools import Tool as ServerTool
from mcp_types import CallToolResult, Tool

from federated_memory.app import close_services, open_services
from federated_memory.asgi import build_app
from federated_memory.auth.caller import Grant
from federated_memory.logs import TextFormatter
from federated_memory.service.services import Services
from federated_memory.settings import load_settings
from federated_memory.tools import briefing, memories, reading, writing
from federated_memory.tools.toolkit import as_handler, compact_schema

Era = Literal["legacy", "2026-07-28"]
ERAS: tuple[Era, ...] = ("legacy", "2026-07-28")
ORIGIN = "http://127.0.0.1:8000"
AI_TOKEN = "canary-ai-5d1f0c77e2b94a63"
SYNC_TOKEN = "canary-sync-9a4be8310c6d4f28"
ADMIN_TOKEN = "canary-control-e7713b0d2f5c4961"
META = "io.modelcontextprotocol"

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


def full_schemas() -> dict[str, dict[str, Any]]:
    """Tool → the schema that its arguments are held to, with what is left out when tools are listed."""
    nothing: Any = None
    specs = (*briefing.TOOLS, *memories.TOOLS, *reading.TOOLS, *writing.TOOLS)
    made = (ServerTool.from_function(as_handler(spec, nothing, nothing, nothing)) for spec in specs)
    return {tool.name: compact_schema(tool.parameters) for tool in made}


@dataclass(frozen=True)
class Reply:
    """What an HTTP request got. `reads` counts how often its body was asked for, when that was watched."""

    status: int
    headers: dict[str, str]
    body: bytes
    reads: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lasting(self) -> dict[str, str]:
        """The headers without the one that names the request."""
        return {name: value for name, value in self.headers.items() if name != "x-request-id"}

    @property
    def code(self) -> str:
        """`ok`, or the `code` of the problem."""
        if self.status < 400:
            return "ok"
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json["code"])


@dataclass(frozen=True)
class Answer:
    """What a tool call got: both forms of its result."""

    structured: dict[str, Any]
    text: str
    is_error: bool

    @classmethod
    def of(cls, result: CallToolResult) -> Answer:
        return cls(
            dict(result.structured_content or {}),
            "".join(getattr(block, "text", "") for block in result.content),
            result.is_error,
        )

    @property
    def code(self) -> str:
        return str(self.structured["error"]["code"]) if self.is_error else "ok"


class _Lines(logging.Handler):
    """Every record as the line that an operator reads."""

    open: ClassVar[list[_Lines]] = []

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self.lines.append(line)
        if record.levelno >= logging.ERROR:
            self.errors.append(line)


class Server:
    """Use it as a context manager. `sent` are the bytes of all answers, `lines` the log, `errors` its worst part."""

    def __init__(self, portal: BlockingPortal, root: Path, **settings: Any) -> None:
        self.portal = portal
        self.root = root
        given = {"mcp_token": AI_TOKEN, "sync_token": SYNC_TOKEN, "min_free_bytes": 0, "scan_interval_seconds": 3_600}
        self.settings = load_settings(_env_file=None, root=root, **{**given, **settings})
        self.sent = bytearray()
        self._log = _Lines()
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Server:
        with contextlib.ExitStack() as exits:
            exits.enter_context(_logging_to(self._log))
            self.services: Services = open_services(self.settings)
            exits.callback(close_services, self.services)
            self.services.core.tokens.add_fixed("control", "admin", ADMIN_TOKEN)
            self.built = built = build_app(self.services)
            self.streams = built.streams
            self.asgi: Asgi = self._recorded(built.asgi)
            exits.enter_context(self.portal.wrap_async_context_manager(_running(built.asgi)))
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @property
    def lines(self) -> list[str]:
        return self._log.lines

    @property
    def errors(self) -> list[str]:
        return self._log.errors

    @staticmethod
    def forgive() -> None:
        """Forget the errors that were expected; servers of one process hear of each other's."""
        for handler in _Lines.open:
            handler.errors.clear()

    def auth_lines(self) -> list[str]:
        """The AUTH_ lines so far, without their time."""
        return [line.split(" ", 1)[1] for line in self.lines if " AUTH_" in line]

    def _recorded(self, asgi: Asgi) -> Asgi:
        async def app(scope: Message, receive: Receive, send: Send) -> None:
            async def watched(message: Message) -> None:
                for key, value in message.get("headers", ()):
                    self.sent += key + b": " + value + b"\n"
                self.sent += message.get("body", b"") + b"\n"
                await send(message)

            await asgi(scope, receive, watched)

        return app

    # -- clients

    def http(self, token: str | None = None, *, address: str = "127.0.0.1", **headers: str) -> Http:
        return Http(self, token, address, _dashed(headers))

    def agent(self, token: str = AI_TOKEN, era: Era = "2026-07-28", **headers: str) -> Agent:
        """A connected MCP client; it leaves with the server, or when told to `close`."""
        agent = Agent(self, token, era, _dashed(headers))
        self._exits.callback(agent.close)
        return agent

    def wire(self, token: str | None = AI_TOKEN, era: Era = "2026-07-28", **headers: str) -> Wire:
        return Wire(self, token, era, _dashed(headers))

    def exchange(
        self,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        chunks: Iterable[bytes] = (),
        *,
        address: str = "127.0.0.1",
    ) -> Reply:
        """One request exactly as uvicorn would hand it over: nothing is quoted, joined or added but the Host."""
        return self.portal.call(partial(self._exchange, method, target, list(headers), list(chunks), address))

    async def _exchange(
        self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], chunks: list[bytes], address: str
    ) -> Reply:
        from urllib.parse import unquote

        path, _, query = target.partition(b"?")
        if not any(key == b"host" for key, _ in headers):
            headers = [(b"host", b"127.0.0.1:8000"), *headers]
        scope: Message = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path.decode("ascii")), "raw_path": path, "query_string": query, "root_path": "",
            "headers": headers, "client": (address, 50_000) if address else None, "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        waiting, reads, started, body = list(chunks), 0, {}, bytearray()
        done = anyio.Event()

        async def receive() -> Message:
            nonlocal reads
            reads += 1
            if waiting:
                return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}
            if reads == 1:
                return {"type": "http.request", "body": b"", "more_body": False}
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    done.set()

        await self.asgi(scope, receive, send)
        found = {key.decode("latin-1"): value.decode("latin-1") for key, value in started["headers"]}
        return Reply(started["status"], found, bytes(body), reads)

    # -- what is there

    def token(self, name: str, role: str, **limits: Any) -> str:
        """The secret of a new named token."""
        return self.services.core.tokens.create(name, role, **limits)[1]

    def grant(self, token: str) -> Grant:
        found = self.services.core.tokens.verify(token)
        assert isinstance(found, Grant)
        return found

    def binding_for(self, token: str, workspace_id: str) -> str:
        """A binding that only the server's own key can make, whether or not the token may have it."""
        return self.services.core.policy.bindings.issue(workspace_id, self.grant(token).fingerprint)

    def files(self) -> dict[str, str]:
        """Every file around and below the root but locks and databases, with a digest of its bytes."""
        self.services.core.journal.flush()
        top = self.root.parent
        return {
            str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in sorted(top.rglob("*"))
            if not path.name.startswith(("state.sqlite3", "index.sqlite3", "lock", "audit"))
        }

    def settle(self, name: str = "home", *, machine: str = "box") -> Home:
        """A registered workspace, `<machine>-claude-<name>`, with its binding for the AI token and its write token."""
        names = {"machine": machine, "tool": "claude", "project": name}
        ai = self.http(AI_TOKEN).post("/api/v1/workspaces", names).json
        sync = self.http(SYNC_TOKEN).post("/api/v1/workspaces", names).json
        return Home(ai["workspace_id"], ai["binding"], sync["write_token"])

    def settle_anew(self) -> Home:
        """A workspace that no other test of this server knows."""
        return self.settle(f"home{len(self.services.core.registry.all())}")


@dataclass(frozen=True)
class Home:
    workspace_id: str
    binding: str
    write_token: str

    def url(self, rest: str = "") -> str:
        return f"/api/v1/workspaces/{self.workspace_id}{rest}"


class Http:
    """Requests of one caller, through httpx."""

    def __init__(self, server: Server, token: str | None, address: str, headers: dict[str, str]) -> None:
        self._server = server
        given = {"Authorization": f"Bearer {token}"} if token is not None else {}
        transport = httpx2.ASGITransport(app=server.asgi, raise_app_exceptions=False, client=(address, 50_000))
        self._client = httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers={**given, **headers})

    def request(self, method: str, path: str, content: bytes | str | None = None, **headers: str) -> Reply:
        send = partial(self._client.request, method, path, content=content, headers=_dashed(headers))
        reply = self._server.portal.call(send)
        return Reply(reply.status_code, dict(reply.headers), reply.content)

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, **headers)

    def put(self, path: str, content: bytes | str, **headers: str) -> Reply:
        return self.request("PUT", path, content, **headers)

    def post(self, path: str, body: object, **headers: str) -> Reply:
        return self.request("POST", path, json.dumps(body), **headers)

    def delete(self, path: str, **headers: str) -> Reply:
        return self.request("DELETE", path, **headers)


class Agent:
    """The real MCP client of one era."""

    def __init__(self, server: Server, token: str, era: Era, headers: dict[str, str]) -> None:
        self._portal = server.portal
        self.era = era
        self._exits = contextlib.ExitStack()
        connected = _connected(server.asgi, era, {"Authorization": f"Bearer {token}", **headers})
        self._client = self._exits.enter_context(self._portal.wrap_async_context_manager(connected))

    def close(self) -> None:
        self._exits.close()

    def call(self, tool: str, /, **arguments: object) -> Answer:
        return Answer.of(self._portal.call(self._client.call_tool, tool, arguments))

    def ok(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """The structured result of a call that must not fail."""
        answer = self.call(tool, **arguments)
        assert not answer.is_error, answer.text
        return answer.structured

    def register(self, name: str = "home", *, machine: str = "box") -> str:
        """Register `<machine>-claude-<name>`; returns the binding."""
        return str(self.ok("register_workspace", machine=machine, tool="claude", project=name)["binding"])

    def tools(self) -> list[Tool]:
        return self._portal.call(partial(self._client.list_tools, cache_mode="refresh")).tools

    @property
    def instructions(self) -> str:
        return self._client.instructions or ""


class Wire:
    """JSON-RPC posts of one caller. In the legacy era it shakes hands first and then sends its session."""

    def __init__(self, server: Server, token: str | None, era: Era, headers: dict[str, str]) -> None:
        given = {"accept": "application/json, text/event-stream", "content-type": "application/json", **headers}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        self._server = server
        self._headers = given
        self.era = era
        self.session = ""
        if era == "legacy" and token is not None:
            self._shake_hands()
        else:
            given["mcp-protocol-version"] = "2026-07-28"

    def _shake_hands(self) -> None:
        offer = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
        reply = self.post("initialize", offer)
        self.session = reply.headers.get("mcp-session-id", "")
        self._headers |= {"mcp-session-id": self.session, "mcp-protocol-version": "2025-11-25"}

    def post(self, method: str, params: dict[str, Any], **headers: str) -> Reply:
        if self._headers.get("mcp-protocol-version") == "2026-07-28":
            params = {**params, "_meta": {
                f"{META}/protocolVersion": "2026-07-28", f"{META}/clientCapabilities": {},
                f"{META}/clientInfo": {"name": "wire", "version": "1"},
            }}  # fmt: skip
            headers = {"mcp_method": method, **({"mcp_name": params["name"]} if "name" in params else {}), **headers}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return self.send(body.encode(), **headers)

    def send(self, body: bytes, **headers: str) -> Reply:
        given = {**self._headers, **_dashed(headers)}
        pairs = [(key.encode(), value.encode("utf-8")) for key, value in given.items()]
        return self._server.exchange("POST", b"/mcp", [*pairs, (b"content-length", b"%d" % len(body))], [body])

    def call(self, tool: str, arguments: dict[str, Any], **headers: str) -> Reply:
        return self.post("tools/call", {"name": tool, "arguments": arguments}, **headers)

    def code(self, tool: str, arguments: dict[str, Any], **headers: str) -> str:
        """`ok`, a tool error's code, or (what is refused before a tool is reached) the HTTP status."""
        reply = self.call(tool, arguments, **headers)
        if reply.status != 200:
            return str(int(reply.status))  # Python 3.10 shows an enumeration otherwise
        result = reply.json["result"]
        return str(result["structuredContent"]["error"]["code"]) if result.get("isError") else "ok"


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in headers.items()}


@contextlib.contextmanager
def _logging_to(handler: _Lines) -> Iterator[None]:
    """As `serve` sets it up, at its most talkative."""
    ours, root = logging.getLogger("federated_memory"), logging.getLogger()
    before = ours.level
    ours.setLevel(logging.DEBUG)
    root.addHandler(handler)
    _Lines.open.append(handler)
    try:
        yield
    finally:
        _Lines.open.remove(handler)
        root.removeHandler(handler)
        ours.setLevel(before)


@contextlib.asynccontextmanager
async def _running(asgi: Asgi) -> AsyncIterator[None]:
    """The application's lifespan, as a server drives it."""
    started, stop = anyio.Event(), anyio.Event()
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        message = next(messages)
        if message == "lifespan.shutdown":
            await stop.wait()
        return {"type": message}

    async def send(message: Message) -> None:
        assert not message["type"].endswith("failed"), message
        started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asgi, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        await started.wait()
        yield
        stop.set()


@contextlib.asynccontextmanager
async def _connected(asgi: Asgi, era: Era, headers: dict[str, str]) -> AsyncIterator[Client]:
    transport = httpx2.ASGITransport(app=asgi, raise_app_exceptions=False)
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{ORIGIN}/mcp", http_client=http), mode=era) as client,
    ):
        yield client
