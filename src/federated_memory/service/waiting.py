"""Calls that wait for something to happen: woken by events of this process, never by asking again (SPEC: TASK-5).

A topic is a word, such as a workspace's or a task's id. Whoever changes something signals its topics after the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import anyio

from federated_memory.errors import RateLimited

T = TypeVar("T")
LONG_CALL = "federated_memory.long_call"
"""Key of the ASGI scope under which the waiter of a call is left whose answer can be a stream."""
MOST_WAITING = 2_000
MOST_WAITING_EACH = 100
_SOON_SECONDS = 0.1
"""What is over by then is not told of: a call that is answered at once needs no stream."""


class Waiter:
    """Whoever waits for a long call. It may be told that the call goes on, and it may leave."""

    def __init__(self, tell: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._tell = tell
        self._wake: asyncio.Event | None = None
        self.is_gone = False

    async def tell(self, message: str) -> None:
        if self._tell is not None and not self.is_gone:
            await self._tell(message)

    def wakes(self, event: asyncio.Event) -> None:
        """The event that ends its waiting."""
        self._wake = event

    def leave(self) -> None:
        """Nobody waits for the answer any more; in the loop's thread."""
        self.is_gone = True
        if self._wake is not None:
            self._wake.set()


class Waiting:
    """Everybody who waits; belongs to one event loop, but for `signal`."""

    def __init__(self, progress_seconds: float) -> None:
        self._progress_seconds = progress_seconds
        self._listening: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._waiting: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._idle = 0
        self.is_stopping = False

    @property
    def count(self) -> int:
        """How many calls wait for an event right now."""
        return self._idle

    def signal(self, *topics: str) -> None:
        """Wake whoever listens to one of the topics; from any thread."""
        loop = self._loop
        if threading.get_ident() == self._thread:
            self._wake(topics)
        elif loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(self._wake, topics)

    def _wake(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for event in self._listening.get(topic, ()):
                event.set()

    def stop(self) -> None:
        """The server stops: everybody gets an answer now; in the loop's thread."""
        self.is_stopping = True
        for events in list(self._listening.values()):
            for event in events:
                event.set()

    @contextmanager
    def listening(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event that is set when one of the topics is signalled, or the server stops."""
        event = asyncio.Event()
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        for topic in topics:
            self._listening[topic].add(event)
        try:
            yield event
        finally:
            for topic in topics:
                self._listening[topic].discard(event)
                if not self._listening[topic]:
                    del self._listening[topic]

    async def until(
        self,
        ready: Callable[[], Awaitable[T | None]],
        *topics: str,
        seconds: float,
        waiter: Waiter,
        told: Callable[[], str],
    ) -> T | None:
        """What `ready` finds: now, or after a signal. None: the time is over, the waiter has left, or the server stops.

        `told` says how things stand; the waiter hears of it when it has changed for a moment, and now and then. Whoever
        waits is `counted` all the while.
        """
        deadline = anyio.current_time() + seconds
        with self.listening(*topics) as wake:
            waiter.wakes(wake)
            said = ""
            while True:
                wake.clear()
                found = await ready()
                if found is not None or not self._goes_on(waiter, deadline):
                    return found
                if told() != said and not await self._comes_soon(wake, deadline):
                    said = told()
                    await waiter.tell(said)
                await self._event(wake, waiter, deadline, said)
                if not self._goes_on(waiter, deadline):
                    return None

    async def _comes_soon(self, wake: asyncio.Event, deadline: float) -> bool:
        """Whether there is a signal before it is worth the while to tell of the waiting."""
        self._idle += 1
        try:
            with anyio.move_on_after(min(_SOON_SECONDS, deadline - anyio.current_time())):
                await wake.wait()
        finally:
            self._idle -= 1
        return wake.is_set()

    async def _event(self, wake: asyncio.Event, waiter: Waiter, deadline: float, said: str) -> None:
        """Until it is set, or the waiting is over; the waiter hears now and then that it goes on."""
        self._idle += 1
        try:
            while not wake.is_set() and self._goes_on(waiter, deadline):
                with anyio.move_on_after(min(self._progress_seconds, deadline - anyio.current_time())):
                    await wake.wait()
                if not wake.is_set() and self._goes_on(waiter, deadline):
                    await waiter.tell(said)
        finally:
            self._idle -= 1

    def _goes_on(self, waiter: Waiter, deadline: float) -> bool:
        return not waiter.is_gone and not self.is_stopping and anyio.current_time() < deadline

    @contextmanager
    def counted(self, who: str, seconds: float) -> Iterator[None]:
        """A call that may wait. Raises: RateLimited: too many do, of `who` or in all."""
        if seconds <= 0:
            yield
            return
        if self._waiting[who] >= MOST_WAITING_EACH or self._waiting.total() >= MOST_WAITING:
            raise RateLimited(
                "Too many calls wait already", hint="Wait with one call rather than several", retry_after_seconds=5
            )
        self._waiting[who] += 1
        try:
            yield
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]
