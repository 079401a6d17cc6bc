"""`GET /api/v1/events`: server-sent events of the shared state (`?keys=GLOB`), or of the change feed.

(SPEC: EVENT-1 to EVENT-5)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import InvalidArgument
from federated_memory.names import glob_matches
from federated_memory.service.events import FeedSource, StateSource
from federated_memory.service.hub import Event, Hub, Subscriber
from federated_memory.service.services import Services
from federated_memory.web import live_stream
from federated_memory.web.live_stream import LiveStream, OpenStreams
from federated_memory.web.requests import caller_of
from federated_memory.web.transfer import in_thread

_MOST_GLOBS = 64


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
    def __init__(self, services: Services, feed: FeedSource, streams: OpenStreams) -> None:
        self._services = services
        self._feed = feed
        self._state = StateSource(services.core.state)
        self._streams = streams

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
        self._streams.ensure_free(grant.fingerprint)
        return EventStream(source, wants, _last_id(request, source), self._streams, grant.fingerprint)


def _last_id(request: Request, source: Source) -> int | None:
    """Where the client goes on; -1: an id that is not of this server's, so that it starts anew."""
    text = request.headers.get("last-event-id", "").strip()
    if not text:
        return None
    found = source.parse_id(text)
    return -1 if found is None else found


class EventStream(LiveStream):
    """An answer without end. It catches up from the log first, then sends what is published."""

    def __init__(
        self, source: Source, wants: Callable[[str], bool], resume: int | None, streams: OpenStreams, fingerprint: str
    ) -> None:
        super().__init__(streams, fingerprint)
        self.name = source.name
        self._source = source
        self._wants = wants
        self._resume = resume
        self._seen: dict[str, int] = {}
        """What the snapshot showed that was newer than where the log is read from."""

    async def parts(self) -> AsyncGenerator[bytes, None]:
        self._source.prepare()
        subscriber = self._source.hub.subscribe(self._wants)
        try:
            async with aclosing(self._parts(subscriber)) as parts:
                async for part in parts:
                    yield part
        finally:
            self._source.hub.unsubscribe(subscriber)

    async def _parts(self, subscriber: Subscriber) -> AsyncGenerator[bytes, None]:
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
            with anyio.move_on_after(live_stream.HEARTBEAT_SECONDS):
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
