"""The requests under way, by token, so that a revoked token or a stop ends them at once (SPEC: AUTH-4, RUN-4)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio


@dataclass(slots=True, eq=False)
class OpenRequest:
    scope: anyio.CancelScope
    is_event_stream: bool = field(default=False)
    """Whether it has begun an answer that is a stream."""
    ends_itself: bool = field(default=False)
    """Whether that stream ends soon when it is told that the server stops."""


class Streams:
    """Open requests; belongs to one event loop."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[OpenRequest]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_stopping = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def opened(self, fingerprint: str, deadline: float | None) -> Iterator[OpenRequest]:
        """Around one request; `deadline` (of the loop's clock) is when its token expires."""
        request = OpenRequest(anyio.CancelScope() if deadline is None else anyio.CancelScope(deadline=deadline))
        requests = self._open[fingerprint]
        requests.add(request)
        try:
            with request.scope:
                yield request
        finally:
            requests.discard(request)
            if not requests:
                self._open.pop(fingerprint, None)

    def end(self, fingerprint: str) -> None:
        """End every open request of a token; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel, fingerprint)

    def end_event_streams(self) -> None:
        """End the answers that would never end by themselves; the rest may finish."""
        for requests in list(self._open.values()):
            for request in list(requests):
                if request.is_event_stream and not request.ends_itself:
                    request.scope.cancel()

    def stop(self) -> None:
        """The time to finish is over: end whatever is still under way."""
        self.is_stopping = True
        for fingerprint in list(self._open):
            self._cancel(fingerprint)

    def _cancel(self, fingerprint: str) -> None:
        for request in list(self._open.get(fingerprint, ())):
            request.scope.cancel()

    @property
    def event_streams(self) -> int:
        """Answers without an end of their own; from any thread."""
        return sum(request.is_event_stream for requests in list(self._open.values()) for request in list(requests))

    @property
    def count(self) -> int:
        return sum(map(len, self._open.values()))
