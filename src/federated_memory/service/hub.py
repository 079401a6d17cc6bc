"""Those who watch, and what they have not been sent yet: bounded for each, so that nobody slows the others.

(SPEC: EVENT-3, EVENT-4)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

MOST_WAITING = 2_048
MOST_WAITING_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Event:
    """One change, ready to be sent; `subject` is what rights and globs are about."""

    number: int
    subject: str
    data: bytes


@dataclass(eq=False, slots=True)
class Subscriber:
    wants: Callable[[str], bool]
    waiting: deque[Event] = field(default_factory=deque)
    waiting_bytes: int = 0
    has_missed: bool = False
    """Its queue was full: what it has not been sent is only in the log now."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, event: Event) -> None:
        if self.has_missed or not self.wants(event.subject):
            return
        if len(self.waiting) >= MOST_WAITING or self.waiting_bytes >= MOST_WAITING_BYTES:
            self.clear()
            self.has_missed = True
        else:
            self.waiting.append(event)
            self.waiting_bytes += len(event.data)
        self.news.set()

    def take(self) -> list[Event]:
        found = list(self.waiting)
        self.clear()
        return found

    def clear(self) -> None:
        self.waiting.clear()
        self.waiting_bytes = 0
        self.has_missed = False
        self.news.clear()


class Hub:
    """Belongs to one event loop, but for `publish_soon`."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    @property
    def is_watched(self) -> bool:
        return bool(self._subscribers)

    def subscribe(self, wants: Callable[[str], bool]) -> Subscriber:
        subscriber = Subscriber(wants)
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)

    def publish(self, events: Iterable[Event]) -> None:
        """In the order of their numbers."""
        for event in events:
            for subscriber in self._subscribers:
                subscriber.offer(event)

    def publish_soon(self, make: Callable[[], Iterable[Event]]) -> None:
        """From any thread, in order; `make` is not called when nobody watches."""
        loop = self._loop
        if loop is not None and self._subscribers:
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(lambda: self.publish(make()))
