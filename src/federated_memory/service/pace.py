"""How fast somebody may go on: a budget that fills up again (SPEC: STATE-8, RATE-1)."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from federated_memory.errors import RateLimited

_MOST_KNOWN = 4_096


class Pace:
    """`per_second` on the average, and what `at_once_seconds` bring at once; thread-safe."""

    def __init__(
        self, per_second: int, what: str, *, at_once_seconds: float = 2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`what` is counted, and of whom, in the words of an error."""
        self._per_second = per_second
        self._most = at_once_seconds * per_second
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, who: str, amount: int = 1) -> None:
        """Raises: RateLimited: the budget is used up; `retry_after_seconds` says when there is some again."""
        most = self._most
        with self._lock:
            moment = self._clock()
            left, at = self._left.pop(who, (most, moment))
            left = min(most, left + (moment - at) * self._per_second)
            allowed = left >= min(amount, most)
            self._left[who] = (left - amount if allowed else left, moment)
            while len(self._left) > _MOST_KNOWN:
                self._left.popitem(last=False)
        if not allowed:
            wait = max(1, math.ceil((amount - left) / self._per_second))
            raise RateLimited(
                f"More than {self._per_second} {self._what}", hint=f"Wait {wait} s", retry_after_seconds=wait,
            )  # fmt: skip
