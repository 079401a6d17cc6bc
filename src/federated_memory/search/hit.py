"""What a search answers with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from federated_memory.errors import InvalidArgument
from federated_memory.names import WorkspaceId

T = TypeVar("T")
Kind = Literal["knowledge", "overview", "memory", "tombstone", "session"]
After = tuple[str | int | float, ...]
"""Where a page ended. Opaque to callers; survives JSON."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: a line of a document, or what one role said in a line of a transcript.

    `key` is the document's path or the session's id; `line` counts from 0 and is what `offset` of a read tool takes.
    `at` is the document's last change, or when the turn was said, else when its session began. `snippet` has at most
    300 characters and three lines, matches in «…». `score` is 0 unless ranked, and comparable within one answer only.
    """

    kind: Kind
    workspace_id: WorkspaceId
    key: str
    line: int
    role: str
    title: str
    at: str
    snippet: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits. `next` is what to continue after, None at the end; `note` says why an answer is not complete.

    `places` are those of the hits, one by one.
    """

    hits: list[Hit]
    next: After | None = None
    is_complete: bool = True
    note: str = ""
    places: list[After] = field(default_factory=list, repr=False, compare=False)

    def first(self, count: int) -> Found:
        """The page cut after so many hits, at least one: the same as a search with that limit."""
        if count >= len(self.hits):
            return self
        return replace(self, hits=self.hits[:count], places=self.places[:count], next=self.places[count - 1])

    def followed_by(self, other: Found) -> Found:
        """One page of two, the other of which goes on after this one."""
        notes = "; ".join(dict.fromkeys(filter(None, (self.note, other.note))))
        is_complete = self.is_complete and other.is_complete
        return Found([*self.hits, *other.hits], other.next, is_complete, notes, [*self.places, *other.places])


class Budget:
    """How long a search may go on: until its deadline, until its caller has gone, or until it has what it wants."""

    def __init__(self, seconds: float, cancelled: threading.Event | None = None) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._cancelled = cancelled
        self._has_enough = False

    def stop(self) -> None:
        """Let what still goes on end soon."""
        self._has_enough = True

    def part(self) -> Budget:
        """The same deadline and caller, for a part of the search that may have enough before the others do."""
        part = copy(self)
        part._has_enough = False
        return part

    def is_cancelled(self) -> bool:
        return self._cancelled is not None and self._cancelled.is_set()

    def is_spent(self) -> bool:
        return self._has_enough or self.is_cancelled() or time.monotonic() >= self._deadline

    @property
    def reason(self) -> str:
        return "the search was cancelled" if self.is_cancelled() else f"the search took over {self._seconds:g} seconds"


def parse_after(after: Sequence[object] | None, *types: type) -> After | None:
    """The place where an earlier page ended: values of exactly these types.

    Raises:
        InvalidArgument: It is of another search, or no place at all.
    """
    if after is None:
        return None
    if len(after) != len(types) or not all(map(_is_value, after, types)):
        raise InvalidArgument("The cursor is not of this search", hint="Leave it out to start again")
    return tuple(after)  # type: ignore[arg-type]


def _is_value(value: object, kind: type) -> bool:
    if type(value) is not kind:
        return False
    if isinstance(value, str):
        return value.isprintable()
    return 0 <= value < 2**63  # type: ignore[operator]


def sort_places(rows: list[T], place: Callable[[T], After], falling: int) -> None:
    """Sort by place: the first `falling` values from the greatest down, the others from the least up."""
    rows.sort(key=lambda row: place(row)[falling:])
    rows.sort(key=lambda row: place(row)[:falling], reverse=True)


def comes_after(place: After, other: After, falling: int) -> bool:
    """Whether `place` stands behind `other` when sorted so."""
    if place[:falling] != other[:falling]:
        return place[:falling] < other[:falling]
    return place[falling:] > other[falling:]


def is_within(at: str, since: str | None, until: str | None) -> bool:
    """`since` is included, `until` is not; times compare as text, so a date alone works too."""
    return (since is None or at >= since) and (until is None or at < until)
