"""The store's archive as the benches see it, so that they need not follow every change of its API."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from scripts.bench.harness import BenchError


class Archive(Protocol):
    """One workspace's transcripts, in process and without HTTP."""

    def put(self, session_id: str, body: Iterable[bytes]) -> str:
        """Store a whole transcript; durable when this returns `created`, `appended`, `unchanged` or `diverged`."""

    def page(self, session_id: str, first: int, count: int) -> list[bytes]:
        """Raw lines, counted from 0."""

    def stored_bytes(self, session_id: str) -> int:
        """Size of the session's archive file."""

    def close(self) -> None: ...


def open_archive(folder: Path) -> Archive:
    """A new, empty archive below `folder`."""
    raise BenchError(f"waits for federated_memory.store.archive (would use {folder})")
