"""Archives as a search reads them: newest first, two at a time, and of each the lines that may match."""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from federated_memory.errors import FederatedMemoryError, Unavailable
from federated_memory.index.sessions import reader_for
from federated_memory.names import WorkspaceId
from federated_memory.search.hit import After, Budget, Found, Hit, is_within
from federated_memory.search.raw_lines import RawFilter, lines_with, whole_lines
from federated_memory.store.archive import Archive, Archives, Line
from federated_memory.transcripts import Reader, Role, Turn, read_turns

T = TypeVar("T")

_PAGE = 50
_AHEAD = 4
_STEP_SECONDS = 0.05
_BIG_LINE_BYTES = 1024**2
_one_big_line = threading.Lock()  # parsed, a line takes many times its size


@dataclass(frozen=True, slots=True)
class Scope:
    """Which turns count. `since` is included, `until` is not; a turn without a time has its session's. With a
    `session_id`, only those of that session."""

    role: Role | None
    since: str | None
    until: str | None
    session_id: str = ""

    def holds(self, archive: Archive, turn: Turn) -> bool:
        if self.role is not None and turn.role != self.role:
            return False
        return is_within(turn.at or archive.started_at, self.since, self.until)

    def may_hold(self, archive: Archive) -> bool:
        """False when it is another session, or was all before `since`."""
        if self.session_id and archive.session_id != self.session_id:
            return False
        return self.since is None or max(archive.ended_at, archive.updated_at) >= self.since


@dataclass(slots=True)
class Notes:
    """What kept a search from being complete."""

    stopped: str = ""
    long_lines: int = 0
    damaged: int = 0

    def add(self, walk: Walk) -> None:
        self.long_lines += walk.long_lines
        self.damaged += walk.is_damaged

    def found(self, hits: list[Hit], places: list[After], reached: After | None) -> Found:
        notes = [self.stopped] if self.stopped else []
        if self.long_lines:
            notes.append(f"lines of over 4 MiB, which were passed over: {self.long_lines}")
        if self.damaged:
            notes.append(f"sessions that could not be read to their end: {self.damaged}")
        return Found(hits, reached, not notes, "; ".join(notes), places)


@dataclass(slots=True)
class Walk:
    """One pass over the lines of an archive, from `first_line` on.

    Every line before `reached` has been looked at; `is_finished` when that is all of them.
    """

    archives: Archives
    archive: Archive
    filter: RawFilter | None
    first_line: int
    budget: Budget
    reached: int = field(init=False)
    is_finished: bool = False
    is_damaged: bool = False
    long_lines: int = 0

    def __post_init__(self) -> None:
        self.reached = self.first_line

    def turns(self) -> Generator[list[Turn], None, None]:
        """The turns of each line that passes the filter. Looks at one member at least, however late it is."""
        try:
            reader = reader_for(self.archives, self.archive)
            with closing(self._members()) as members:
                for number, (first_line, raw) in enumerate(whole_lines(members, self.filter)):
                    self.reached = max(first_line, self.first_line)
                    if number and self.budget.is_spent():
                        return
                    if raw is None:
                        self.long_lines += 1
                    else:
                        yield from self._turns_in(reader, first_line, raw)
        except (FederatedMemoryError, OSError):  # `check` says what is wrong
            self.is_damaged = True
        self.is_finished = True

    def _members(self) -> Generator[tuple[int, bytes], None, None]:
        yield from self.archives.members(self.archive, self.first_line, self._note_damage)

    def _note_damage(self, _: object) -> None:
        self.is_damaged = True

    def _turns_in(self, reader: Reader, first_line: int, raw: bytes) -> Iterator[list[Turn]]:
        with _one_big_line if len(raw) > _BIG_LINE_BYTES else nullcontext():
            for line, data in lines_with(self.filter, raw, first_line):
                if line >= self.first_line:
                    turns = read_turns(reader, data, line)
                    yield turns
                    turns.clear()  # the consumer's name for them would keep a long text until the next one is there


@dataclass(slots=True)
class Picked(Walk):
    """A pass over some lines of an archive only: those of which the index says that they may match."""

    numbers: Sequence[int] = ()

    def turns(self) -> Generator[list[Turn], None, None]:
        try:
            reader = reader_for(self.archives, self.archive)
            wanted = [number for number in self.numbers if number >= self.first_line]
            for count, line in enumerate(self._lines(wanted)):
                self.reached = line.number
                if count and self.budget.is_spent():
                    return
                if self.filter is not None and not self.filter.may_be_in(line.data):
                    continue
                turns = read_turns(reader, line.data, line.number)
                yield turns
                turns.clear()
        except (FederatedMemoryError, OSError):  # `check` says what is wrong
            self.is_damaged = True
        self.is_finished = True

    def _lines(self, wanted: list[int]) -> Iterator[Line]:
        """Those that can be read; when a member is damaged, line by line from there on."""
        read = 0
        try:
            for line in self.archives.lines_at(self.archive, wanted):
                yield line
                read = bisect_right(wanted, line.number)
            return
        except Unavailable:
            self.is_damaged = True
        for number in wanted[read:]:
            with suppress(Unavailable):
                yield from self.archives.lines_at(self.archive, [number])


Place = tuple[str, str, str]
"""`started_at`, session and workspace; the greatest comes first."""


def place_of(archive: Archive) -> Place:
    return archive.started_at, archive.session_id, archive.workspace_id


def newest_first(
    archives: Archives, workspace_ids: Sequence[WorkspaceId], scope: Scope, begin: Sequence[object] | None = None
) -> Iterator[Archive]:
    """The current transcripts of all workspaces, from the one at `begin` on."""
    ids = tuple(dict.fromkeys(workspace_ids))
    # Nothing sorts between a session's id and the same id with a NUL.
    after = (str(begin[0]), f"{begin[1]}\0") if begin else None
    streams = (_pages(archives, workspace_id, scope, after, max(5, _PAGE // len(ids))) for workspace_id in ids)
    for archive in heapq.merge(*streams, key=place_of, reverse=True):
        if scope.may_hold(archive) and (begin is None or place_of(archive) <= tuple(begin[:3])):
            yield archive


def _pages(
    archives: Archives, workspace_id: WorkspaceId, scope: Scope, after: tuple[str, str] | None, limit: int
) -> Iterator[Archive]:
    while page := archives.newest(workspace_id, until=scope.until, after=after, limit=limit):
        yield from page
        after = page[-1].started_at, page[-1].session_id


def in_order(
    pool: ThreadPoolExecutor,
    archives: Iterator[Archive],
    work: Callable[[Archive], T],
    budget: Budget,
    is_quick: Callable[[Archive], bool] = lambda _: False,
) -> Generator[tuple[Archive, T | None], None, None]:
    """What `work` makes of each archive, in the order of the archives; None where the budget ended before it began.

    Works a few archives ahead. When the consumer leaves, nothing goes on after that. What is quick is done here and
    now: to hand it over would take as long.
    """
    waiting: deque[tuple[Archive, Future[T]]] = deque()
    try:
        for archive in archives:
            if not waiting and is_quick(archive):
                yield archive, work(archive)
                continue
            waiting.append((archive, pool.submit(work, archive)))
            if len(waiting) > _AHEAD:
                yield waiting[0][0], _result(waiting[0][1], budget)
                waiting.popleft()
        while waiting:
            yield waiting[0][0], _result(waiting[0][1], budget)
            waiting.popleft()
    finally:
        budget.stop()
        for _, future in waiting:
            if not future.cancel():
                future.exception()


def _result(future: Future[T], budget: Budget) -> T | None:
    """Waits for a thread that other searches use too, but not longer than the budget allows."""
    while True:
        try:
            return future.result(_STEP_SECONDS)
        except TimeoutError:
            if budget.is_spent() and future.cancel():
                return None
