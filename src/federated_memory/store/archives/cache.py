"""What was read last of archives, found by what it is a part of, so that it never goes stale."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

_ENTRY_BYTES = 200
"""What an entry costs beside its bytes."""


class BytesCache:
    """The byte strings used last, up to `max_bytes` of them. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, data: bytes) -> None:
        size = len(data) + _ENTRY_BYTES
        if size > self._max_bytes:
            return
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped) + _ENTRY_BYTES
