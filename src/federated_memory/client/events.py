"""Server-sent events: blocks to changes, and where to go on after a cut."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args
from urllib.parse import quote

import orjson

from federated_memory.errors import FederatedMemoryError, RateLimited, Unavailable

SILENCE_SECONDS = 30.0
"""The server sends something every 10 seconds; who hears nothing for so long has lost the connection."""
ChangeKind = Literal["snapshot", "change", "ready", "reset"]
RoomKind = Literal["ready", "notice", "memory", "memory_deleted", "cancel"]
E = TypeVar("E")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 15.0


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """Something that was told. `kind`: `snapshot` (it is there), `change`, `ready` (all that was there has been told),
    `reset` (forget what you know: a snapshot follows). `data` is what the server told, as `docs/state.md` has it."""

    kind: ChangeKind
    data: dict[str, Any]
    id: str = ""

    @property
    def key(self) -> str:
        return str(self.data.get("key", ""))

    @property
    def value(self) -> Any:
        return self.data.get("value")

    @property
    def version(self) -> int:
        return int(self.data.get("version") or 0)

    @property
    def operation(self) -> str:
        """`set`, `delete` or `expire`; of the change feed, what was done."""
        return str(self.data.get("operation", ""))


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """Something that was said in a room. `kind`: `ready` (what follows is told), `notice`, `memory` and
    `memory_deleted` (`about` is its id), `cancel` (`about` is the task's). `data` is what the server told."""

    kind: RoomKind
    data: dict[str, Any]
    id: str = ""

    @property
    def sender(self) -> str:
        """Workspace and session."""
        return str(self.data.get("sender", ""))

    @property
    def text(self) -> str:
        return str(self.data.get("text", ""))

    @property
    def about(self) -> str:
        return str(self.data.get("about", ""))

    @property
    def message_id(self) -> int:
        return int(self.data.get("message_id") or 0)


@dataclass(slots=True)
class Progress(Generic[E]):
    """What a subscription knows between connections."""

    last_id: str = ""
    _failures: int = 0
    _block: dict[str, str] = field(default_factory=dict)

    @property
    @abstractmethod
    def path(self) -> str: ...

    @property
    def params(self) -> list[tuple[str, str]]:
        return []

    @abstractmethod
    def event(self, kind: str, data: dict[str, Any], id: str) -> E | None:
        """None: of a kind that this client does not know."""

    @property
    def headers(self) -> dict[str, str]:
        return {"accept": "text/event-stream", **({"last-event-id": self.last_id} if self.last_id else {})}

    def opened(self) -> None:
        self._block = {}

    def line(self, line: str) -> Iterator[E]:
        """The events that a line completes: none or one. `resume` is none: the server ends the stream then."""
        if line:
            name, _, value = line.partition(":")
            if name:
                self._block[name] = value.removeprefix(" ")
            return
        block, self._block = self._block, {}
        if "data" not in block:
            return
        self._failures = 0
        self.last_id = block.get("id", self.last_id)
        event = self.event(block.get("event", ""), orjson.loads(block["data"]), block.get("id", ""))
        if event is not None:
            yield event

    def pause_seconds(self, problem: FederatedMemoryError | None) -> float:
        """How long to wait before the next connection. Raises: the problem, if another try would meet it again."""
        if problem is not None and not isinstance(problem, Unavailable | RateLimited):
            raise problem
        wanted = problem.facts.get("retry_after_seconds") if problem is not None else None
        self._failures += 1
        most = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10))
        return float(wanted) if isinstance(wanted, int | float) else random.uniform(0, most)


@dataclass(slots=True)
class ChangeProgress(Progress[ChangeEvent]):
    """Of the shared state, or (without globs) of the change feed."""

    globs: Sequence[str] = ()

    @property
    def path(self) -> str:
        return "/api/v1/events"

    @property
    def params(self) -> list[tuple[str, str]]:
        return [("keys", glob) for glob in self.globs]

    def event(self, kind: str, data: dict[str, Any], id: str) -> ChangeEvent | None:
        return ChangeEvent(kind, data, id) if kind in get_args(ChangeKind) else None  # type: ignore[arg-type]


@dataclass(slots=True)
class RoomProgress(Progress[RoomEvent]):
    room: str = ""

    @property
    def path(self) -> str:
        return f"/api/v1/rooms/{quote(self.room, safe='')}/events"

    def event(self, kind: str, data: dict[str, Any], id: str) -> RoomEvent | None:
        return RoomEvent(kind, data, id) if kind in get_args(RoomKind) else None  # type: ignore[arg-type]
