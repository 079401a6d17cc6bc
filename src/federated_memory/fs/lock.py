"""One process owns a root."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from federated_memory.errors import Locked


class RootLock:
    """The lock that a process holds on a root for as long as it writes there; the kernel frees it when it dies."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path, mode=0o600)

    def acquire(self) -> None:
        """Raises: Locked: another process holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise Locked(
                "Another process is using this memory root",
                hint="Stop the other server, or set MEMORY_ROOT to another folder",
            ) from None

    def release(self) -> None:
        self._lock.release()
