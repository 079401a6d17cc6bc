"""`AsyncMemoryClient`: the same calls, to be awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx2

from federated_memory.client import collaboration, groups
from federated_memory.client.calls import Answer, AsyncGroup, Call, error_of, nothing, pause_seconds
from federated_memory.client.connection import DEFAULT_TIMEOUT_SECONDS, endpoint, http_options
from federated_memory.client.events import (
    SILENCE_SECONDS,
    ChangeEvent,
    ChangeProgress,
    Progress,
    RoomEvent,
    RoomProgress,
)
from federated_memory.client.synchronous import unreachable
from federated_memory.errors import FederatedMemoryError
from federated_memory.service.results import Registered

E = TypeVar("E")
T = TypeVar("T")


class Workspaces(AsyncGroup, groups.Workspaces):
    pass


class Knowledge(AsyncGroup, groups.Knowledge):
    pass


class Sessions(AsyncGroup, groups.Sessions):
    def __init__(self, client: AsyncMemoryClient) -> None:
        super().__init__(client._run)
        self._client = client

    async def download(self, workspace_id: str, session_id: str) -> AsyncIterator[bytes]:
        """The transcript's bytes, streamed."""
        call = Call("GET", groups.session_path(workspace_id, session_id), nothing)
        async with self._client._stream(call) as response:
            async for part in response.aiter_bytes():
                yield part


class Memories(AsyncGroup, groups.Memories):
    pass


class Rooms(AsyncGroup, collaboration.Rooms):
    def __init__(self, client: AsyncMemoryClient) -> None:
        super().__init__(client._run)
        self._client = client

    def subscribe(self, room: str, *, last_id: str = "") -> AsyncSubscription[RoomEvent]:
        """What is said in a room from now on, or after `last_id`. It reconnects by itself and resumes where it was."""
        return AsyncSubscription(self._client, RoomProgress(last_id, room=room))


class Tasks(AsyncGroup, collaboration.Tasks):
    pass


class State(AsyncGroup, collaboration.State):
    pass


class _Search(AsyncGroup, groups.Search):
    pass


class AsyncMemoryClient:
    """One server, one caller, one event loop. Close it, or use it as a context manager.

    Raises:
        InvalidArgument: No server or no token is known.
    """

    def __init__(
        self, url: str = "", token: str = "", *, binding: str = "", ca: str = "",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS, allow_http: bool = False,
        http: httpx2.AsyncClient | None = None,
    ) -> None:  # fmt: skip
        """`ca`: PEM file of a server that the machine does not trust by itself; `http`: a client of one's own."""
        self._endpoint = endpoint(url, token, binding, allow_http=allow_http)
        self._timeout_seconds = timeout_seconds
        self._http = http or httpx2.AsyncClient(**http_options(self._endpoint.origin, ca, timeout_seconds))
        self._subscriptions: set[AsyncSubscription[Any]] = set()
        found = _Search(self._run)
        self.search, self.brief = found.search, found.brief
        self.workspaces = Workspaces(self._run)
        self.knowledge = Knowledge(self._run)
        self.sessions = Sessions(self)
        self.memories = Memories(self._run)
        self.rooms = Rooms(self)
        self.tasks = Tasks(self._run)
        self.state = State(self._run)

    @property
    def binding(self) -> str:
        """What proves which workspace this client writes."""
        return self._endpoint.binding

    async def register(
        self, *, machine: str = "", tool: str = "", project: str = "", description: str = "", workspace_id: str = ""
    ) -> Registered:
        """Register a workspace and write it from now on; the same names give the same one."""
        done = await self._run(groups.register(
            machine=machine, tool=tool, project=project, description=description, workspace_id=workspace_id
        ))  # fmt: skip
        self._endpoint.binding = done.binding or self._endpoint.binding
        return done

    def subscribe(self, *globs: str, last_id: str = "") -> AsyncSubscription[ChangeEvent]:
        """Watch keys of the shared state; none: the change feed. It reconnects by itself and resumes where it was.

        `last_id`: where an earlier subscription was, so that only what came after it is told.
        """
        return AsyncSubscription(self, ChangeProgress(last_id, globs=globs))

    async def close(self) -> None:
        """End subscriptions and connections."""
        for subscription in list(self._subscriptions):
            subscription.unsubscribe()
        await self._http.aclose()

    async def __aenter__(self) -> AsyncMemoryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        left_seconds = self._timeout_seconds
        while (pause := pause_seconds(call, answer := await self._sent(call), left_seconds)) is not None:
            left_seconds -= pause
            await asyncio.sleep(pause)
        if answer.status >= 300:
            raise error_of(answer)
        return call.parse(answer)

    async def _sent(self, call: Call[Any]) -> Answer:
        timeout = httpx2.Timeout(self._timeout_seconds + call.wait_seconds)
        try:
            response = await self._http.request(
                call.method, call.path, params=dict(call.params), content=call.content,
                headers=self._endpoint.headers(call), timeout=timeout,
            )  # fmt: skip
        except httpx2.HTTPError as error:
            raise unreachable(error) from error
        return Answer(response.status_code, response.headers, response.content)

    @contextlib.asynccontextmanager
    async def _stream(self, call: Call[Any], params: Any = None, timeout: Any = None) -> AsyncIterator[httpx2.Response]:
        options = {"timeout": timeout} if timeout is not None else {}
        try:
            async with self._http.stream(
                call.method, call.path, params=params, headers=self._endpoint.headers(call), **options
            ) as response:
                if response.status_code >= 300:
                    raise error_of(Answer(response.status_code, response.headers, await response.aread()))
                yield response
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise unreachable(error) from error


class AsyncSubscription(Generic[E]):
    """Iterate over it. `unsubscribe` ends the iteration at once."""

    def __init__(self, client: AsyncMemoryClient, progress: Progress[E]) -> None:
        self._client = client
        self._progress = progress
        self._over = asyncio.Event()

    @property
    def last_id(self) -> str:
        """Where it is: pass it to `subscribe` to go on there later."""
        return self._progress.last_id

    async def __aenter__(self) -> AsyncSubscription[E]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()

    def unsubscribe(self) -> None:
        self._over.set()
        self._client._subscriptions.discard(self)

    async def __aiter__(self) -> AsyncIterator[E]:
        """Raises: FederatedMemoryError: what a new connection would meet again, such as a token that was revoked."""
        self._client._subscriptions.add(self)
        try:
            while not self._over.is_set():
                problem: FederatedMemoryError | None = None
                try:
                    async for event in self._connected():
                        yield event
                        if self._over.is_set():
                            return
                except FederatedMemoryError as error:
                    problem = error
                if not self._over.is_set():
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._over.wait(), self._progress.pause_seconds(problem))
        finally:
            self._client._subscriptions.discard(self)

    async def _connected(self) -> AsyncIterator[E]:
        progress = self._progress
        progress.opened()
        timeout = httpx2.Timeout(self._client._timeout_seconds, read=SILENCE_SECONDS)
        call = Call("GET", progress.path, nothing, headers=progress.headers)
        over = asyncio.ensure_future(self._over.wait())
        try:
            async with self._client._stream(call, progress.params, timeout) as response:
                lines = response.aiter_lines().__aiter__()
                while True:
                    line = asyncio.ensure_future(anext(lines, None))
                    await asyncio.wait((line, over), return_when=asyncio.FIRST_COMPLETED)
                    if not line.done():
                        line.cancel()
                        with contextlib.suppress(asyncio.CancelledError, httpx2.HTTPError):
                            await line
                        return
                    found = line.result()
                    if found is None:
                        return
                    for event in progress.line(found):
                        yield event
        finally:
            over.cancel()
