"""A memory root: its folders, its lock, its format, its secrets (SPEC: STORE-1)."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from federated_memory.errors import FederatedMemoryError, StorageFull, UnsupportedFormat
from federated_memory.fs import Folder, RootLock
from federated_memory.names import WorkspaceId
from federated_memory.store.changes import ChangeFeed
from federated_memory.store.database import Database

logger = logging.getLogger(__name__)

FORMAT = 1
TEMPORARY = "tmp"
STAGED_DOCUMENT = "document"


class Root:
    """An open root. Owns the lock, the state database and the folder descriptors until `close`."""

    def __init__(self, path: Path, *, min_free_bytes: int = 0) -> None:
        """Open the root at `path`, made if it is missing.

        Raises:
            Locked: Another process owns it.
            UnsupportedFormat: It was written by a newer version.
        """
        self.path = path.resolve()
        self._min_free_bytes = min_free_bytes
        self._folder = Folder.open(self.path, create=True)
        with self._folder.folder("_meta", create=True) as meta:
            self.temporary = meta.folder(TEMPORARY, create=True)
            self.meta = meta.staged_in(self.temporary)
        self._lock = RootLock(self.path / "_meta" / "lock")
        self._lock.acquire()
        try:
            self._check_format()
            with self._folder.folder("workspaces", create=True) as workspaces:
                self.workspaces = workspaces.staged_in(self.temporary)
            self._sweep()
            try:
                self.database = Database(self.path / "_meta" / "state.sqlite3")
                self.feed = ChangeFeed(self.database)
            except sqlite3.DatabaseError as error:
                raise UnsupportedFormat(
                    f"_meta/state.sqlite3 is damaged ({error}), as when a root is copied while its server runs",
                    hint="Restore a backup. Or move state.sqlite3, -wal and -shm away: it is made anew from the files",
                ) from error
            self.was_killed = self._mark_open(True)
            """Whether the process before this one ended without closing the root."""
        except BaseException:
            self._lock.release()
            raise
        self._workspace_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    def close(self) -> None:
        self._mark_open(False)
        self.database.close()
        for folder in (self.temporary, self.workspaces, self.meta, self._folder):
            folder.close()
        self._lock.release()

    def _mark_open(self, is_open: bool) -> bool:
        """Note whether the root is open; returns what was noted before."""
        before = self.database.row("SELECT value FROM node WHERE key = 'open'")
        with suppress(FederatedMemoryError), self.database.transaction() as transaction:
            transaction.execute("INSERT OR REPLACE INTO node VALUES ('open', ?)", (str(int(is_open)),))
        return before == ("1",)

    def _check_format(self) -> None:
        try:
            found = json.loads(self.meta.read("format.json"))["format"]
        except FileNotFoundError:
            self.meta.replace("format.json", json.dumps({"format": FORMAT}).encode() + b"\n")
            return
        except (ValueError, KeyError, TypeError):
            raise UnsupportedFormat(
                "_meta/format.json is damaged", hint=f'It should hold {{"format": {FORMAT}}}: restore it'
            ) from None
        if found != FORMAT:
            raise UnsupportedFormat(
                f"This memory root has format {found}, this version reads format {FORMAT}",
                hint="Install the version of federated-memory that wrote it, or a newer one",
            )

    def _sweep(self) -> None:
        """Remove what an interrupted write left in the temporary folder; nothing there was ever acknowledged.

        A document's that has its second name already stays: it tells which file that is (`store.scan.drop_unfinished`).
        """
        leftovers = [entry for entry in self.temporary.entries() if not _is_named(entry)]
        for entry in leftovers:
            with suppress(IsADirectoryError):
                self.temporary.remove(entry.name)
        if leftovers:
            logger.info("leftovers of an interrupted write removed", extra={"files": len(leftovers)})

    def workspace_folder(self, workspace_id: WorkspaceId) -> Folder:
        """Raises: FileNotFoundError: the folder is gone."""
        return self.workspaces.folder(workspace_id)

    @contextmanager
    def locked(self, workspace_id: WorkspaceId) -> Iterator[None]:
        """Hold the one lock under which the files of a workspace change; not for longer than a write takes."""
        with self._workspace_locks[workspace_id]:
            yield

    def ensure_space(self) -> None:
        """Raises: StorageFull: less is free than the floor allows."""
        if self._min_free_bytes and self._folder.free_bytes() < self._min_free_bytes:
            raise StorageFull("The server's disk is almost full", hint="Free space on the server, then retry")

    def free_bytes(self) -> int:
        return self._folder.free_bytes()

    def install_content(self, content: Path) -> None:
        """Copy the default README.md and INDEX.md to a root that has none."""
        for name in ("README.md", "INDEX.md"):
            with suppress(FileExistsError):
                self._folder.create(name, (content / name).read_bytes())

    def read_top(self, name: str) -> str:
        """The text of README.md or INDEX.md; empty if it was removed."""
        try:
            return self._folder.read(name, 1 << 20).decode("utf-8", "replace")
        except OSError:
            return ""

    def secret_key(self) -> bytes:
        """The key that signs bindings: 32 random bytes, made once, mode 0600."""
        with suppress(FileExistsError):
            if not self.meta.exists("secret.key"):
                self.meta.create("secret.key", secrets.token_hex(32).encode())
                self.meta.sync_names()
        return bytes.fromhex(self.meta.read("secret.key").decode())


def _is_named(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(f".{STAGED_DOCUMENT}.") and entry.stat(follow_symlinks=False).st_nlink > 1
