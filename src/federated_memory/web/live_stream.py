"""Answers without end: server-sent events, to somebody who may vanish (SPEC: EVENT-4, ROOM-9)."""

from __future__ import annotations

import logging
import socket
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from federated_memory.errors import RateLimited
from federated_memory.web.protocol import TRANSPORT

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
STALL_SECONDS = 18.0
"""Who takes nothing for so long, or acknowledges nothing, is gone: with the heartbeat before it, and the time that the
kernel needs to say so, less than 30 s after it went."""
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class OpenStreams:
    """How many streams each token holds open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def ensure_free(self, fingerprint: str) -> None:
        """Raises: RateLimited: that token may open no more."""
        if self._open[fingerprint] >= self._most:
            raise RateLimited(
                f"This token holds {self._most} event streams open already", hint="Close some", retry_after_seconds=5
            )

    @contextmanager
    def held(self, fingerprint: str) -> Iterator[None]:
        self._open[fingerprint] += 1
        try:
            yield
        finally:
            self._open[fingerprint] -= 1
            if not self._open[fingerprint]:
                del self._open[fingerprint]


class LiveStream(Response):
    """An answer that goes on until one side ends it. `parts` gives something at least every `HEARTBEAT_SECONDS`."""

    name = ""
    """For the log."""

    def __init__(self, streams: OpenStreams, fingerprint: str) -> None:
        super().__init__()
        self._streams = streams
        self._fingerprint = fingerprint

    @abstractmethod
    def parts(self) -> AsyncGenerator[bytes, None]:
        """What is sent, piece by piece; empty pieces are not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.held(self._fingerprint):
            _notice_silence(scope)
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                await self._send_all(send)
                tasks.cancel_scope.cancel()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async with aclosing(self.parts()) as parts:
            async for part in parts:
                if not part:
                    continue
                with anyio.move_on_after(STALL_SECONDS) as patience:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                if patience.cancelled_caught:
                    logger.info("a watcher that takes nothing is let go", extra={"source": self.name})
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _notice_silence(scope: Scope) -> None:
    """Have the kernel end the connection when a peer acknowledges nothing any more, such as one without power."""
    transport = scope.get("extensions", {}).get(TRANSPORT)
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000))
