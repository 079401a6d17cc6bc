"""A root with archives that tests can crash, open again and look into."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from federated_memory.names import SessionId
from federated_memory.store import members
from federated_memory.store.archive import Archive, Archives, SessionStored
from federated_memory.store.archives import member_scan, upload
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root
from tests.conftest import ACTOR, WORKSPACE

SESSION = SessionId("s1")
OTHER = SessionId("s2")
STEPS = (
    "open",
    "mkdir",
    "write",
    "pwrite",
    "copy_file_range",
    "ftruncate",
    "rename",
    "link",
    "unlink",
    "fsync",
    "utime",
)


class Crash(BaseException):
    """The process dies here: whatever it tries afterwards fails too."""


def disk_error() -> OSError:
    return OSError(errno.EIO, "the disk failed")


class Interrupted:
    """Lets the n-th call that changes files fail: with a crash every later one too, with an error only that one."""

    def __init__(self, step: int, error: Callable[[], BaseException] = Crash) -> None:
        self._left = step
        self._error = error
        self._real = {name: getattr(os, name) for name in STEPS}
        self.happened = False

    def __enter__(self) -> Interrupted:
        for name, real in self._real.items():
            setattr(os, name, self._counted(name, real))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not (arguments[1] & os.O_CREAT):
                return real(*arguments, **options)
            self._left -= 1
            if self._left == -1 or (self._left < 0 and self._error is Crash):
                self.happened = True
                raise self._error()
            return real(*arguments, **options)

        return call


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where there is one: these tests open hundreds of roots, and power never fails here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@contextmanager
def small_members() -> Iterator[None]:
    """Members of 64 bytes, parts of long lines of 160: everything happens within a few hundred bytes. No fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(members, "MEMBER_BYTES", 64)
        for module in (members, member_scan):
            patch.setattr(module, "LONGEST_MEMBER_BYTES", 160)
        patch.setattr(upload, "_SMALL_MEMBER_BYTES", 24)
        patch.setattr(upload, "_SMALL_FILE_BYTES", 600)
        yield


class Rig:
    def __init__(self, path: Path, *, is_durable: bool = True) -> None:
        """Not durable: what only a power cut would show is left out, for speed."""
        self.is_durable = is_durable
        self.root = Root(path)
        if not is_durable:
            self.root.database._writer.execute("PRAGMA synchronous=OFF")
        Registry(self.root).register(new_workspace(WORKSPACE, "box", "claude", "demo", "", "", ACTOR), ACTOR)
        self.archives = Archives(self.root, lease_wait_seconds=0)

    def abandon(self) -> None:
        """Leave everything as a killed process does."""
        self.root.database.close()
        for folder in (self.root.temporary, self.root.workspaces, self.root.meta, self.root._folder):
            folder.close()
        self.root._lock.release()

    def reopened(self, *, without_database: bool = False) -> Rig:
        path = self.root.path
        self.abandon()
        if without_database:
            for name in ("state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"):
                (path / "_meta" / name).unlink(missing_ok=True)
        rig = Rig(path, is_durable=self.is_durable)
        rig.archives.recover()
        return rig

    def put(self, data: bytes, session_id: SessionId = SESSION, *, chunk: int = 1 << 16, **told: Any) -> SessionStored:
        with self.archives.receive(WORKSPACE, session_id, actor=ACTOR, **told) as upload:
            for start in range(0, len(data), chunk):
                upload.feed(data[start : start + chunk])
            return upload.finish()

    def patch(self, offset: int, data: bytes, session_id: SessionId = SESSION, **told: Any) -> SessionStored:
        with self.archives.append(WORKSPACE, session_id, offset, actor=ACTOR, **told) as upload:
            upload.feed(data)
            return upload.finish()

    def find(self, session_id: SessionId = SESSION, revision: int | None = None) -> Archive:
        return self.archives.find(WORKSPACE, session_id, revision)

    def raw(self, session_id: SessionId = SESSION, revision: int | None = None) -> bytes:
        return b"".join(self.archives.stream(self.find(session_id, revision)))

    @property
    def sessions(self) -> Path:
        return self.root.path / "workspaces" / WORKSPACE / "sessions"

    def path(self, session_id: SessionId = SESSION) -> Path:
        return self.sessions / self.find(session_id).file

    def zcat(self, session_id: SessionId = SESSION) -> bytes:
        return gzip.decompress(self.path(session_id).read_bytes())

    def files(self) -> list[str]:
        """Every file of the workspace's sessions and of the temporary folder."""
        below = [path for path in self.sessions.rglob("*") if path.is_file()]
        temporary = list((self.root.path / "_meta" / "tmp").iterdir())
        return sorted(str(path.relative_to(self.root.path)) for path in below + temporary)

    def operations(self) -> list[str]:
        return [change.operation for change in self.root.feed.after(0) if change.kind == "session"]
