"""How often an address may be wrong (SPEC: ENROL-6)."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from federated_memory.errors import RateLimited

_MAX_ADDRESSES = 4_096


class Attempts:
    """Failures by address, in the last minute. Holds a few thousand addresses, whatever arrives."""

    def __init__(self, *, limit: int = 10, seconds: float = 60, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def ensure_allowed(self, address: str) -> None:
        """Raises: RateLimited: too many failures; its `retry_after_seconds` says when the next try counts."""
        with self._lock:
            failures = self._failures.get(network_of(address))
            now = self._clock()
            if failures is None or len(failures) < self._limit or failures[0] <= now - self._seconds:
                return
            wait = math.ceil(failures[0] + self._seconds - now)
        raise RateLimited(
            "Too many wrong tries from this address",
            hint=f"Wait {wait} seconds; ask for a new one if what you have is not valid",
            retry_after_seconds=wait,
        )

    def failed(self, address: str) -> None:
        key = network_of(address)
        with self._lock:
            failures = self._failures.setdefault(key, deque(maxlen=self._limit))
            failures.append(self._clock())
            self._failures.move_to_end(key)
            while len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)


def network_of(address: str) -> str:
    """What limits count by: whoever has one IPv6 address has all of its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
