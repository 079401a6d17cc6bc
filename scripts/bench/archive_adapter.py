"""The store's archive as the benches see it, so that they need not follow every change of its API."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from federated_memory.names import WorkspaceId, parse_session_id
from federated_memory.store.archive import Archives
from federated_memory.store.changes import Actor
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root

_ACTOR = Actor("bench")
_WORKSPACE = WorkspaceId("bench")


class Archive(Protocol):
    """One workspace's transcripts, in process and without HTTP."""

    def put(self, session_id: str, body: Iterable[bytes]) -> str:
        """Store a whole transcript; durable when this returns `created`, `appended`, `unchanged` or `diverged`."""

    def page(self, session_id: str, first: int, count: int) -> list[bytes]:
        """Raw lines, counted from 0."""

    def stored_bytes(self, session_id: str) -> int:
        """Size of the session's archive file."""

    def close(self) -> None: ...


class _Workspace:
    """One workspace of a root of its own."""

    def __init__(self, folder: Path) -> None:
        self._root = Root(folder)
        registry = Registry(self._root)
        wanted = new_workspace(_WORKSPACE, "bench", "bench", "bench", "", "", _ACTOR)
        registry.register(wanted, _ACTOR)
        self._archives = Archives(self._root)

    def put(self, session_id: str, body: Iterable[bytes]) -> str:
        upload = self._archives.receive(_WORKSPACE, parse_session_id(session_id), actor=_ACTOR)
        try:
            for chunk in body:
                upload.feed(chunk)
            return upload.finish().status
        except BaseException:
            upload.abort()
            raise

    def page(self, session_id: str, first: int, count: int) -> list[bytes]:
        archive = self._archives.find(_WORKSPACE, parse_session_id(session_id))
        return [line.data + b"\n" for line in self._archives.read_lines(archive, first, count, 1 << 30)]

    def stored_bytes(self, session_id: str) -> int:
        archive = self._archives.find(_WORKSPACE, parse_session_id(session_id))
        return (self._root.path / "workspaces" / _WORKSPACE / "sessions" / archive.file).stat().st_size

    def close(self) -> None:
        self._root.close()


def open_archive(folder: Path) -> Archive:
    """A new, empty archive below `folder`."""
    return _Workspace(folder)
