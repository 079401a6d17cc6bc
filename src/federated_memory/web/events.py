"""`GET /api/v1/events`: server-sent events of the shared state (`?keys=GLOB`), or of the change feed.

(SPEC: EVENT-1 to EVENT-5)
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from federated_memory.errors import InvalidArgument, RateLimited
from federated_memory.names import glob_matches
from federated_memory.service.events import FeedSource, StateSource
from federated_memory.service.hub import Event, Hub, Subscriber
from federated_memory.service.services import Services
from federated_memory.web.protocol import TRANSPORT
from federated_memory.web.requests import caller_of
from federated_memory.web.transfer import in_thread

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
STALL_SECONDS = 20.0
"""Who takes nothing for so long, or acknowledges nothing, is gone: with the heartbeat, at most 30 s after it went."""
_MOST_GLOBS = 64
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Source(Protocol):
    """Something with a log and a hub: what is there, what has changed since, what changes from now on."""

    hub: Hub

    def prepare(self) -> None:
        """Before the first look at the log, on the event loop."""

    def resumes(self, number: int) -> bool: ...

    def head(self) -> int: ...

    def snapshot(self, wants: Callable[[str], bool], after: str) -> tuple[list[Event], str | None]:
        """A page of what is there, and where the next begins."""

    def after(self, number: int) -> tuple[list[Event], int | None]:
        """A page of changes, and where the next begins; None: that was the newest."""

    def parse_id(self, text: str) -> int | None: ...

    def format_id(self, number: int) -> str: ...

    name: str


class EventRoutes:
    def __init__(self, services: Services, feed: FeedSource) -> None:
        self._services = services
        self._feed = feed
        self._state = StateSource(services.core.state)
        self._most = services.core.settings.max_event_streams
        self._open: Counter[str] = Counter()

    def all(self) -> list[Route]:
        return [Route("/api/v1/events", self.events, methods=["GET"])]

    async def events(self, request: Request) -> Response:
        caller = caller_of(request)
        unknown = request.query_params.keys() - {"keys"}
        if unknown:
            raise InvalidArgument("events takes only `keys`", hint="See docs/state.md")
        asked = request.query_params.getlist("keys")
        if len(asked) > _MOST_GLOBS:
            raise InvalidArgument(f"More than {_MOST_GLOBS} globs", hint="Watch a wider glob, or open another stream")
        grant = caller.grant
        source: Source = self._feed
        wants: Callable[[str], bool] = grant.reads
        if asked:
            globs = self._services.state.readable_globs(caller, asked)
            source = self._state

            def wants_key(key: str) -> bool:
                return grant.reads_key(key) and any(glob_matches(glob, key) for glob in globs)

            wants = wants_key
        if self._open[grant.fingerprint] >= self._most:
            raise RateLimited(
                f"This token holds {self._most} event streams open already", hint="Close some", retry_after_seconds=5
            )
        resume = _last_id(request, source)
        return EventStream(source, wants, resume, lambda change: self._count(grant.fingerprint, change))

    def _count(self, fingerprint: str, change: int) -> None:
        self._open[fingerprint] += change
        if not self._open[fingerprint]:
            del self._open[fingerprint]


def _last_id(request: Request, source: Source) -> int | None:
    """Where the client goes on; -1: an id that is not of this server's, so that it starts anew."""
    text = request.headers.get("last-event-id", "").strip()
    if not text:
        return None
    found = source.parse_id(text)
    return -1 if found is None else found


class EventStream(Response):
    """An answer without end. It catches up from the log first, then sends what is published."""

    def __init__(
        self, source: Source, wants: Callable[[str], bool], resume: int | None, count: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._source = source
        self._wants = wants
        self._resume = resume
        self._count = count
        self._seen: dict[str, int] = {}
        """What the snapshot showed that was newer than where the log is read from."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count(1)
        self._source.prepare()
        subscriber = self._source.hub.subscribe(self._wants)
        try:
            _notice_silence(scope)
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                await self._send_all(send, subscriber)
                tasks.cancel_scope.cancel()
        finally:
            self._source.hub.unsubscribe(subscriber)
            self._count(-1)

    async def _send_all(self, send: Send, subscriber: Subscriber) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async for part in self._parts(subscriber):
            if not part:
                continue
            with anyio.move_on_after(STALL_SECONDS) as patience:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            if patience.cancelled_caught:
                logger.info("a watcher that takes nothing is let go", extra={"source": self._source.name})
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self, subscriber: Subscriber) -> AsyncIterator[bytes]:
        source, last = self._source, -1
        yield b": " + source.name.encode() + b"\n\n"
        if self._resume is not None and await in_thread(source.resumes, self._resume):
            last = self._resume
        else:
            if self._resume is not None:
                yield b'event: reset\ndata: {"reason":"what followed that id is not kept any more"}\n\n'
            last = await in_thread(source.head)
            place: str | None = ""
            while place is not None:
                found, place = await in_thread(source.snapshot, self._wants, place)
                # Without ids: who is cut off in the middle begins again.
                yield b"".join(b"event: snapshot\ndata: " + event.data + b"\n\n" for event in found)
                self._seen |= {event.subject: event.number for event in found if event.number > last}
        async for part, number in self._caught_up(subscriber, last):
            last = number
            yield part
        yield self._frame(b"ready", last, orjson.dumps({"id": source.format_id(last)}))
        while True:
            with anyio.move_on_after(HEARTBEAT_SECONDS):
                await subscriber.news.wait()
            if subscriber.has_missed:
                yield self._frame(b"resume", last, orjson.dumps({"id": source.format_id(last)}))
                return
            found = [event for event in subscriber.take() if event.number > last]
            if not found:
                yield b": heartbeat\n\n"
                continue
            last = found[-1].number
            yield b"".join(self._frame(b"change", event.number, event.data) for event in found if self._is_new(event))

    async def _caught_up(self, subscriber: Subscriber, last: int) -> AsyncIterator[tuple[bytes, int]]:
        """What the log has, until nothing is missed: what comes meanwhile is in the queue or in the next page."""
        place: int | None = last
        while place is not None:
            subscriber.clear()
            found, place = await in_thread(self._source.after, place)
            number = found[-1].number if found else last
            wanted = [event for event in found if self._wants(event.subject) and self._is_new(event)]
            yield b"".join(self._frame(b"change", event.number, event.data) for event in wanted), number
            last = number
            if place is None and subscriber.has_missed:
                place = last

    def _is_new(self, event: Event) -> bool:
        """Whether the snapshot has not shown it already."""
        return event.number > self._seen.get(event.subject, 0)

    def _frame(self, kind: bytes, number: int, data: bytes) -> bytes:
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (self._source.format_id(number).encode(), kind, data)


def _notice_silence(scope: Scope) -> None:
    """Have the kernel end the connection when a peer acknowledges nothing any more, such as one without power."""
    transport = scope.get("extensions", {}).get(TRANSPORT)
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000))
