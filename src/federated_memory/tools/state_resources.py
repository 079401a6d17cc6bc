"""Shared values as resources: `memory:///state/{key}`, read and subscribed to like any other (SPEC: RES-5).

A subscription may name a glob (`memory:///state/build/*`); it is told of under the name it was given.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import unquote

from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp_types import ReadResourceResult, ResourceTemplate, TextResourceContents

from federated_memory.auth.caller import Caller
from federated_memory.errors import FederatedMemoryError, InvalidName
from federated_memory.names import glob_matches, is_glob, parse_key_glob, parse_state_key
from federated_memory.service.services import Services
from federated_memory.store.shared_state import SharedState, StateChange
from federated_memory.tools.notices import Notices
from federated_memory.tools.render import render

PREFIX = "memory:///state/"
_MAX_BYTES = 65_536
_PAUSE_SECONDS = 0.02
"""Changes that come close together are told of once."""

TEMPLATE = ResourceTemplate(
    uri_template=PREFIX + "{+key}", name="state", title="A shared value",
    description="A small JSON value that agents share. Subscribe to a key, or to a glob such as build/*.",
    mime_type="text/plain",
)  # fmt: skip

logger = logging.getLogger(__name__)


def key_of(uri: str) -> str:
    """The key, or glob, that a URI names. Raises: InvalidName."""
    try:
        plain = unquote(uri.removeprefix(PREFIX), errors="strict")
    except UnicodeDecodeError:
        raise InvalidName("The URI is not UTF-8", hint="Percent-encode UTF-8") from None
    return parse_key_glob(plain) if is_glob(plain) else parse_state_key(plain)


def read(services: Services, caller: Caller, uri: str) -> ReadResourceResult:
    """Raises: FederatedMemoryError: as `get_state` does."""
    found = services.state.get(caller, parse_state_key(key_of(uri)), _MAX_BYTES)
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="text/plain", text=render(found))])


def ensure_may_watch(services: Services, caller: Caller, uri: str) -> None:
    """Raises: Forbidden: something that the URI names is outside of the token's rights."""
    services.core.policy.ensure_reads_keys_of(caller, key_of(uri))


def may_watch(services: Services, caller: Caller, uri: str) -> bool:
    try:
        ensure_may_watch(services, caller, uri)
    except FederatedMemoryError:
        return False
    return True


class StateNotices:
    """Tells subscribers in both protocol eras. Belongs to one event loop, but for what the state calls."""

    def __init__(self, shared: SharedState, notices: Notices, bus: InMemorySubscriptionBus) -> None:
        self._notices = notices
        self._bus = bus
        self._listened: Counter[str] = Counter()
        self._changed: set[str] = set()
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        shared.on_change(self._state_changed)

    @contextmanager
    def listening(self, uris: Sequence[str]) -> Iterator[None]:
        """While a listener of 2026-07-28 waits for these."""
        mine = [uri for uri in uris if uri.startswith(PREFIX)]
        self._listened.update(mine)
        try:
            yield
        finally:
            self._listened.subtract(mine)
            self._listened += Counter()

    def _state_changed(self, changes: list[StateChange]) -> None:
        """In the writer's thread."""
        loop = self._loop
        if loop is not None and (self._listened or self._notices.has_subscribers):
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(self._note, {change.key for change in changes})

    def _note(self, keys: set[str]) -> None:
        self._changed |= keys
        if self._news is not None:
            self._news.set()

    async def follow(self) -> None:
        """For as long as the server runs."""
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            keys, self._changed = self._changed, set()
            for uri in list(self._listened):
                if _is_about(uri, keys):
                    await self._bus.publish(ResourceUpdated(uri=uri))
            for connection, uris in self._notices.subscriptions():
                for uri in uris:
                    if uri.startswith(PREFIX) and _is_about(uri, keys):
                        await self._notices.tell(connection, uri)
            await asyncio.sleep(_PAUSE_SECONDS)


def _is_about(uri: str, keys: set[str]) -> bool:
    name = key_of(uri)
    return any(glob_matches(name, key) for key in keys) if is_glob(name) else name in keys
