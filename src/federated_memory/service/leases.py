"""How long a claim lasts without a word from its claimer (SPEC: TASK-4). In memory only: a start begins them anew."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from federated_memory.store.tasks import Task


class Leases:
    """When claims end, by a clock that nobody sets. Thread-safe."""

    def __init__(self, on_earlier: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`on_earlier` is called when one ends before what `next_seconds` has told."""
        self._on_earlier = on_earlier
        self._clock = clock
        self._awaited = math.inf
        self._lock = threading.Lock()
        self._ends: dict[str, tuple[float, Task]] = {}

    def begin(self, task: Task) -> None:
        end = self._clock() + task.lease_seconds
        with self._lock:
            self._ends[task.task_id] = (end, task)
        self._tell(end)

    def renew(self, task: Task) -> None:
        self._move(task, self._clock() + task.lease_seconds)

    def _move(self, task: Task, end: float) -> None:
        with self._lock:
            held = self._ends.get(task.task_id)
            if held is None or held[1].attempt != task.attempt:
                return
            self._ends[task.task_id] = (end, held[1])
        self._tell(end)

    def _tell(self, end: float) -> None:
        with self._lock:
            is_earlier = end < self._awaited
            self._awaited = min(self._awaited, end)
        if is_earlier:
            self._on_earlier()

    @contextmanager
    def held(self, task: Task) -> Iterator[None]:
        """While its claimer watches it, a lease does not end; then it begins anew."""
        self._move(task, math.inf)
        try:
            yield
        finally:
            self.renew(task)

    def end(self, task_id: str, attempt: int | None = None) -> None:
        with self._lock:
            held = self._ends.get(task_id)
            if held is not None and attempt in (None, held[1].attempt):
                del self._ends[task_id]

    def take_ended(self) -> list[Task]:
        with self._lock:
            ended = [task for end, task in self._ends.values() if end <= self._clock()]
            for task in ended:
                del self._ends[task.task_id]
        return ended

    def left(self, task_id: str) -> float | None:
        with self._lock:
            held = self._ends.get(task_id)
            return min(max(0.0, held[0] - self._clock()), held[1].lease_seconds) if held else None

    def next_seconds(self) -> float:
        """Until the next one ends."""
        with self._lock:
            self._awaited = min((end for end, _ in self._ends.values()), default=math.inf)
            return max(0.0, self._awaited - self._clock())
