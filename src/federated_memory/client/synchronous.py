"""`MemoryClient`: calls that are made at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx2

from federated_memory.client import collaboration, groups
from federated_memory.client.calls import Answer, Call, SyncGroup, error_of, nothing, pause_seconds
from federated_memory.client.connection import DEFAULT_TIMEOUT_SECONDS, endpoint, http_options
from federated_memory.client.events import (
    SILENCE_SECONDS,
    ChangeEvent,
    ChangeProgress,
    Progress,
    RoomEvent,
    RoomProgress,
)
from federated_memory.errors import FederatedMemoryError, Unavailable
from federated_memory.service.results import Registered

E = TypeVar("E")
T = TypeVar("T")


class Workspaces(SyncGroup, groups.Workspaces):
    pass


class Knowledge(SyncGroup, groups.Knowledge):
    pass


class Sessions(SyncGroup, groups.Sessions):
    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client._run)
        self._client = client

    def download(self, workspace_id: str, session_id: str) -> Iterator[bytes]:
        """The transcript's bytes, streamed."""
        call = Call("GET", groups.session_path(workspace_id, session_id), nothing)
        with self._client._stream(call) as response:
            yield from response.iter_bytes()


class Memories(SyncGroup, groups.Memories):
    pass


class Rooms(SyncGroup, collaboration.Rooms):
    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client._run)
        self._client = client

    def subscribe(self, room: str, *, last_id: str = "") -> Subscription[RoomEvent]:
        """What is said in a room from now on, or after `last_id`. It reconnects by itself and resumes where it was."""
        return Subscription(self._client, RoomProgress(last_id, room=room))


class Tasks(SyncGroup, collaboration.Tasks):
    pass


class State(SyncGroup, collaboration.State):
    pass


class _Search(SyncGroup, groups.Search):
    pass


class MemoryClient:
    """One server, one caller; thread-safe. Close it, or use it as a context manager.

    Raises:
        InvalidArgument: No server or no token is known.
    """

    def __init__(
        self, url: str = "", token: str = "", *, binding: str = "", ca: str = "",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS, allow_http: bool = False, http: httpx2.Client | None = None,
    ) -> None:  # fmt: skip
        """`ca`: PEM file of a server that the machine does not trust by itself; `http`: a client of one's own."""
        self._endpoint = endpoint(url, token, binding, allow_http=allow_http)
        self._timeout_seconds = timeout_seconds
        self._http = http or httpx2.Client(**http_options(self._endpoint.origin, ca, timeout_seconds))
        self._subscriptions: set[Subscription[Any]] = set()
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

    def register(
        self, *, machine: str = "", tool: str = "", project: str = "", description: str = "", workspace_id: str = ""
    ) -> Registered:
        """Register a workspace and write it from now on; the same names give the same one."""
        done = self._run(groups.register(
            machine=machine, tool=tool, project=project, description=description, workspace_id=workspace_id
        ))  # fmt: skip
        self._endpoint.binding = done.binding or self._endpoint.binding
        return done

    def subscribe(self, *globs: str, last_id: str = "") -> Subscription[ChangeEvent]:
        """Watch keys of the shared state; none: the change feed. It reconnects by itself and resumes where it was.

        `last_id`: where an earlier subscription was, so that only what came after it is told.
        """
        return Subscription(self, ChangeProgress(last_id, globs=globs))

    def close(self) -> None:
        """End subscriptions and connections."""
        for subscription in list(self._subscriptions):
            subscription.unsubscribe()
        self._http.close()

    def __enter__(self) -> MemoryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        left_seconds = self._timeout_seconds
        while (pause := pause_seconds(call, answer := self._sent(call), left_seconds)) is not None:
            left_seconds -= pause
            time.sleep(pause)
        if answer.status >= 300:
            raise error_of(answer)
        return call.parse(answer)

    def _sent(self, call: Call[Any]) -> Answer:
        timeout = httpx2.Timeout(self._timeout_seconds + call.wait_seconds)
        try:
            response = self._http.request(
                call.method, call.path, params=dict(call.params), content=call.content,
                headers=self._endpoint.headers(call), timeout=timeout,
            )  # fmt: skip
        except httpx2.HTTPError as error:
            raise unreachable(error) from error
        return Answer(response.status_code, response.headers, response.content)

    @contextlib.contextmanager
    def _stream(self, call: Call[Any], params: Any = None, timeout: Any = None) -> Iterator[httpx2.Response]:
        options = {"timeout": timeout} if timeout is not None else {}
        try:
            with self._http.stream(
                call.method, call.path, params=params, headers=self._endpoint.headers(call), **options
            ) as response:
                if response.status_code >= 300:
                    raise error_of(Answer(response.status_code, response.headers, response.read()))
                yield response
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise unreachable(error) from error


class Subscription(Generic[E]):
    """Iterate over it. `unsubscribe`, from any thread, ends the iteration at once."""

    def __init__(self, client: MemoryClient, progress: Progress[E]) -> None:
        self._client = client
        self._progress = progress
        self._over = threading.Event()
        self._response: httpx2.Response | None = None

    @property
    def last_id(self) -> str:
        """Where it is: pass it to `subscribe` to go on there later."""
        return self._progress.last_id

    def __enter__(self) -> Subscription[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()

    def unsubscribe(self) -> None:
        self._over.set()
        self._client._subscriptions.discard(self)
        response = self._response
        stream = response.extensions.get("network_stream") if response is not None else None
        found = stream.get_extra_info("socket") if stream is not None else None
        if found is not None:
            with contextlib.suppress(OSError):  # wakes whoever waits for the next event
                found.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[E]:
        """Raises: FederatedMemoryError: what a new connection would meet again, such as a token that was revoked."""
        self._client._subscriptions.add(self)
        try:
            while not self._over.is_set():
                problem: FederatedMemoryError | None = None
                try:
                    yield from self._connected()
                except FederatedMemoryError as error:
                    problem = error
                if not self._over.is_set():
                    self._over.wait(self._progress.pause_seconds(problem))
        finally:
            self._client._subscriptions.discard(self)

    def _connected(self) -> Iterator[E]:
        progress = self._progress
        progress.opened()
        timeout = httpx2.Timeout(self._client._timeout_seconds, read=SILENCE_SECONDS)
        call = Call("GET", progress.path, nothing, headers=progress.headers)
        with self._client._stream(call, progress.params, timeout) as response:
            self._response = response
            for line in response.iter_lines():
                if self._over.is_set():
                    return
                for event in progress.line(line):
                    yield event
                    if self._over.is_set():
                        return


def unreachable(error: Exception) -> FederatedMemoryError:
    return Unavailable(f"The server cannot be reached ({type(error).__name__})", hint="Check its address; try again")
