"""Around everything: an id for each request, its counts, and the audit of writes (SPEC: LOG-3, METRICS-1, AUDIT-1)."""

from __future__ import annotations

import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from federated_memory.auth.caller import CALLER
from federated_memory.logs import request_id
from federated_memory.service.observer import Observer
from federated_memory.web.gate import ADDRESS, OPEN_PATHS
from federated_memory.web.problems import OUTCOME

_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Observed:
    """ASGI middleware, the outermost. A proxy's `X-Request-Id` is kept when it is a plain word."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        given = next((value for key, value in scope["headers"] if key == b"x-request-id"), b"")
        word = given.decode() if _GIVEN.match(given) else secrets.token_hex(8)
        held = request_id.set(word)
        watch = _Watch(receive, send, word.encode())
        started = time.perf_counter()
        try:
            await self._app(scope, watch.receive, watch.send)
        finally:
            self._told(scope, watch, time.perf_counter() - started)
            request_id.reset(held)

    def _told(self, scope: Scope, watch: _Watch, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        path: str = scope["path"]
        route = "mcp" if path == "/mcp" else getattr(scope.get("endpoint"), "__name__", "none")
        self._observer.request_served(
            method, route, watch.status, seconds=None if watch.is_stream else seconds, received=watch.received,
            sent=watch.sent,
        )  # fmt: skip
        # Tools tell of their calls themselves, and a plan changes nothing.
        if method not in _READING and path != "/mcp" and route != "plan":
            outcome = "ok" if 200 <= watch.status < 400 else scope.get(OUTCOME) or str(watch.status or "dropped")
            caller = scope.get(CALLER)
            self._observer.route_written(caller, f"{method} {path}", outcome, scope.get(ADDRESS, ""))


class _Watch:
    def __init__(self, receive: Receive, send: Send, word: bytes) -> None:
        self._receive = receive
        self._send = send
        self._word = word
        self.status = self.received = self.sent = 0
        self.is_stream = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            self.is_stream = any(
                key == b"content-type" and value.startswith(b"text/event-stream") for key, value in headers
            )
            message = {**message, "headers": [*headers, (b"x-request-id", self._word)]}
        self.sent += len(message.get("body", b""))
        await self._send(message)
