"""Who is told when a resource changes, in both protocol eras; follows the change feed (SPEC: RES-4).

2026-07-28: `subscriptions/listen`, through the SDK's bus. Before: `resources/subscribe` per connection, told on its
standing GET stream.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
from mcp.server.connection import Connection
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated

from federated_memory.store.changes import Change
from federated_memory.store.root import Root
from federated_memory.tools.resources import uri_of_change

logger = logging.getLogger(__name__)

MOST_SUBSCRIPTIONS = 1_000
_BATCH = 500
_RETRY_SECONDS = 5.0
_PAUSE_SECONDS = 0.05
"""Changes that come close together are told of once."""


class Notices:
    """Belongs to one event loop, but for what the feed calls."""

    def __init__(self, root: Root, bus: InMemorySubscriptionBus) -> None:
        self._feed = root.feed
        self._bus = bus
        self._subscribed: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        root.database.on_commit(self._committed)

    def subscribe(self, connection: Connection, uri: str) -> bool:
        """False: this connection has as many as it may."""
        uris = self._subscribed.setdefault(connection, set())
        if len(uris) >= MOST_SUBSCRIPTIONS and uri not in uris:
            return False
        uris.add(uri)
        return True

    def unsubscribe(self, connection: Connection, uri: str) -> None:
        self._subscribed.get(connection, set()).discard(uri)

    @property
    def has_subscribers(self) -> bool:
        return bool(self._subscribed)

    def subscriptions(self) -> list[tuple[Connection, list[str]]]:
        return [(connection, list(uris)) for connection, uris in list(self._subscribed.items())]

    async def tell(self, connection: Connection, uri: str) -> None:
        try:
            await connection.send_resource_updated(uri)
        except Exception as error:  # whoever is gone must not keep the others from being told
            logger.debug("not told of a change", extra={"error": type(error).__name__})

    def _committed(self) -> None:
        """In the writer's thread; must be quick."""
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None and not wake.is_set():
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(wake.set)

    async def follow(self) -> None:
        """For as long as the server runs: tell of every change from now on."""
        cursor = await anyio.to_thread.run_sync(self._feed.head)
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake = asyncio.Event()
            try:
                changes = await anyio.to_thread.run_sync(self._feed.after, cursor, _BATCH)
            except Exception:
                logger.exception("changes cannot be told of")
                await anyio.sleep(_RETRY_SECONDS)
                continue
            if changes:
                cursor = changes[-1].number
                await self._tell(changes)
                await anyio.sleep(_PAUSE_SECONDS)
            else:
                await self._wake.wait()

    async def _tell(self, changes: list[Change]) -> None:
        for uri in dict.fromkeys(uri for change in changes if (uri := uri_of_change(change))):
            await self._bus.publish(ResourceUpdated(uri=uri))
            for connection, uris in list(self._subscribed.items()):
                if uri in uris:
                    await self.tell(connection, uri)
        if any(change.kind == "workspace" for change in changes):
            await self._bus.publish(ResourcesListChanged())
