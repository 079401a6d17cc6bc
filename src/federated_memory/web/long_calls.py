"""Calls that may wait for others, answered by a stream when it takes a while (SPEC: TOOL-7).

The SDK answers plain JSON here, which has no room for progress. In front of it, a `tools/call` of one of the named
tools whose client accepts a stream is watched: as soon as it has something to tell, or has taken long, its answer
becomes `text/event-stream` with progress notifications and, at the end, the JSON answer as the last event. Whatever
ends before that stays plain JSON. It is the same in both protocol eras, and nothing of it is the SDK's own.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from federated_memory.service.waiting import LONG_CALL, Waiter

_PING_SECONDS = 15.0
_MOST_PEEKED = 1024**2
_PROGRESS_HELD = 8
"""Progress that a slow reader has not taken yet; more of it is left out."""
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_PING = b": ping\r\n\r\n"


class LongCalls:
    """ASGI middleware of the MCP endpoint."""

    def __init__(self, app: ASGIApp, tools: Iterable[str]) -> None:
        self._app = app
        self._tools = frozenset(tools)
        self._marks = [json.dumps(tool).encode() for tool in self._tools]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not self._marks or not _accepts_stream(scope):
            await self._app(scope, receive, send)
            return
        messages, body = await _peek(receive)
        asked = self._asked(body)
        if asked is None:
            await self._app(scope, _replay(messages, receive), send)
        else:
            await _Answer(self._app, scope, messages, receive, send, asked.get("progressToken")).run()

    def _asked(self, body: bytes) -> dict[str, object] | None:
        """The `_meta` of a call of one of the tools."""
        if not any(mark in body for mark in self._marks):
            return None
        try:
            match json.loads(body):
                case {"method": "tools/call", "params": {"name": str(name), **params}} if name in self._tools:
                    meta = params.get("_meta")
                    return meta if isinstance(meta, dict) else {}
        except (ValueError, RecursionError):
            pass
        return None


class _Answer:
    """One call under way. What it has to tell is sent by a task of its own: a slow reader holds nothing up."""

    def __init__(
        self, app: ASGIApp, scope: Scope, messages: list[Message], receive: Receive, send: Send, token: object
    ) -> None:
        self._app, self._scope, self._messages, self._receive, self._send = app, scope, messages, receive, send
        is_token = isinstance(token, str | int) and not isinstance(token, bool)
        self._token = token if is_token else None
        self._told = 0
        self._head: Message = {}
        self._body = bytearray()
        self._events: deque[bytes] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._is_stream = False
        self._waiter = Waiter(self._tell)

    async def run(self) -> None:
        self._scope[LONG_CALL] = self._waiter
        self._loop = asyncio.get_running_loop()
        self._pinging = self._loop.call_later(_PING_SECONDS, self._offer, _PING)
        watching = asyncio.ensure_future(self._watch())
        try:
            await self._app(self._scope, _replay(self._messages, None), self._hold)
            self._pinging.cancel()
            if self._sending is not None:
                await self._sending
            await self._end()
        finally:
            self._waiter.leave()
            self._pinging.cancel()
            watching.cancel()
            if self._sending is not None:
                self._sending.cancel()

    async def _hold(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
        else:
            self._body += message.get("body", b"")

    async def _watch(self) -> None:
        """Nobody works for a client that has gone: the call ends by itself, soon."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._waiter.leave()

    async def _tell(self, message: str) -> None:
        if self._token is None:
            self._offer(_PING)
        else:
            self._told += 1
            self._offer(_event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": self._token, "progress": self._told, "message": message,
            }}))  # fmt: skip

    def _offer(self, event: bytes) -> None:
        if len(self._events) < _PROGRESS_HELD:
            self._events.append(event)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send_waiting())
        self._pinging.cancel()
        self._pinging = self._loop.call_later(_PING_SECONDS, self._offer, _PING)

    async def _send_waiting(self) -> None:
        if not self._is_stream:
            self._is_stream = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while self._events:
            await self._send({"type": "http.response.body", "body": self._events.popleft(), "more_body": True})

    async def _end(self) -> None:
        if self._is_stream:
            last = b"event: message\r\n" + _data(bytes(self._body)) + b"\r\n" if self._body else b""
            await self._send({"type": "http.response.body", "body": last})
        elif self._head:
            await self._send(self._head)
            await self._send({"type": "http.response.body", "body": bytes(self._body)})


def _accepts_stream(scope: Scope) -> bool:
    return any(key == b"accept" and b"text/event-stream" in value for key, value in scope["headers"])


async def _peek(receive: Receive) -> tuple[list[Message], bytes]:
    """The body, unless it is a large one; and the messages it came in."""
    messages: list[Message] = []
    body = bytearray()
    while len(body) <= _MOST_PEEKED:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return messages, bytes(body)
    return messages, b""


def _replay(messages: list[Message], receive: Receive | None) -> Receive:
    """The same messages again, then what follows them; None: nothing, since somebody else looks."""
    waiting = list(messages)

    async def next_message() -> Message:
        if waiting:
            return waiting.pop(0)
        while receive is None:
            await anyio.sleep_forever()
        return await receive()

    return next_message


def _event(message: dict[str, object]) -> bytes:
    return b"event: message\r\n" + _data(json.dumps(message, separators=(",", ":")).encode()) + b"\r\n"


def _data(body: bytes) -> bytes:
    return b"".join(b"data: " + line + b"\r\n" for line in body.splitlines())
