"""What can be watched: the shared state by key, and the change feed by workspace (SPEC: EVENT-1, EVENT-2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.to_thread
import orjson

from federated_memory.service.hub import Event, Hub
from federated_memory.service.state import state_row
from federated_memory.store.changes import Change
from federated_memory.store.memories import Memories
from federated_memory.store.memory_file import called_after
from federated_memory.store.root import Root
from federated_memory.store.shared_state import SharedState, StateChange

logger = logging.getLogger(__name__)

_PAGE = 500
_PAGE_BYTES = 1024**2
_RETRY_SECONDS = 5.0
_WHOLE = 1 << 30
_TOLD_KINDS = frozenset({"workspace", "knowledge", "overview", "session"})
"""Kinds whose every change all may know who read the workspace."""


class StateSource:
    """The shared state: events carry the whole value."""

    name = "state"

    def __init__(self, shared: SharedState) -> None:
        self.hub = Hub()
        self._shared = shared
        shared.on_change(self._changed)

    def _changed(self, changes: list[StateChange]) -> None:
        self.hub.publish_soon(lambda: [_state_event(change) for change in changes])

    def prepare(self) -> None:
        self.hub.start()

    def resumes(self, number: int) -> bool:
        return self._shared.holds_all_after(number)

    def head(self) -> int:
        return self._shared.head()

    def snapshot(self, wants: Callable[[str], bool], after: str) -> tuple[list[Event], str | None]:
        found: list[Event] = []
        size = 0
        for change in self._shared.values(after=after):
            if wants(change.key):
                found.append(_state_event(change))
                size += len(found[-1].data)
            if len(found) >= _PAGE or size >= _PAGE_BYTES:
                return found, change.key
        return found, None

    def after(self, number: int) -> tuple[list[Event], int | None]:
        found = self._shared.after(number, _PAGE)
        return [_state_event(change) for change in found], found[-1].number if len(found) == _PAGE else None

    def parse_id(self, text: str) -> int | None:
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None

    def format_id(self, number: int) -> str:
        return str(number)


class FeedSource:
    """The change feed: what was written where, by whom; texts are read with the routes and tools."""

    name = "changes"

    def __init__(self, root: Root, memories: Memories) -> None:
        self.hub = Hub()
        self._feed = root.feed
        self._memories = memories
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cursor = 0
        root.database.on_commit(self._committed)

    def _committed(self) -> None:
        """In the writer's thread; must be quick."""
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None and self.hub.is_watched and not wake.is_set():
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(wake.set)

    async def follow(self) -> None:
        """For as long as the server runs: publish every change while somebody watches."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._publish()
            except Exception:
                logger.exception("changes cannot be told of")
                await anyio.sleep(_RETRY_SECONDS)
                self._wake.set()

    async def _publish(self) -> None:
        while self.hub.is_watched:
            changes = await anyio.to_thread.run_sync(self._feed.after, self._cursor, _PAGE)
            if not changes:
                return
            self._cursor = changes[-1].number
            self.hub.publish(await anyio.to_thread.run_sync(self._told, changes))

    def _told(self, changes: list[Change]) -> list[Event]:
        """Those that all may know of who read the workspace: not of memories that only some see."""
        return [
            _feed_event(change)
            for change in changes
            if change.kind in _TOLD_KINDS or (change.kind == "memory" and self._is_for_all(change))
        ]

    def _is_for_all(self, change: Change) -> bool:
        rows = self._memories.rows.find(called_after(change.key))
        return any(row.workspace_id == change.workspace_id and row.visibility == "all" and not row.room for row in rows)

    def prepare(self) -> None:
        if not self.hub.is_watched:  # what is older, the first to watch finds in the feed itself
            self._cursor = self._feed.head()

    def resumes(self, number: int) -> bool:
        return 0 <= number <= self._feed.head()

    def head(self) -> int:
        return self._feed.head()

    def snapshot(self, wants: Callable[[str], bool], after: str) -> tuple[list[Event], str | None]:
        """None: the lists of workspaces, documents and sessions are that."""
        del wants, after
        return [], None

    def after(self, number: int) -> tuple[list[Event], int | None]:
        found = self._feed.after(number, _PAGE)
        return self._told(found), found[-1].number if len(found) == _PAGE else None

    def parse_id(self, text: str) -> int | None:
        """A root that was restored has another epoch, in which the numbers mean other changes."""
        epoch, _, number = text.partition("-")
        if epoch != str(self._feed.epoch) or not (number.isascii() and number.isdigit() and len(number) <= 16):
            return None
        return int(number)

    def format_id(self, number: int) -> str:
        return f"{self._feed.epoch}-{number}"


def _state_event(change: StateChange) -> Event:
    return Event(change.number, change.key, orjson.dumps(state_row(change)))


def _feed_event(change: Change) -> Event:
    row = {
        "number": change.number, "workspace_id": change.workspace_id, "kind": change.kind, "key": change.key,
        "operation": change.operation, "version": change.version, "etag": change.etag, "at": change.at,
        "by": change.actor,
    }  # fmt: skip
    return Event(change.number, change.workspace_id, orjson.dumps(row))
