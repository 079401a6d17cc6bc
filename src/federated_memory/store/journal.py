"""The journal: document writes that are durable in the state database, until their files are (SPEC: STORE-3, STORE-4).

`flush` makes the files durable and empties it; `recover`, at start, finishes what a crash interrupted.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from federated_memory.errors import Unavailable
from federated_memory.fs import Folder, NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import DocumentPath, WorkspaceId, etag_of
from federated_memory.store import versions
from federated_memory.store.document import Key, stamp_of
from federated_memory.store.root import Root
from federated_memory.store.versions import Version

logger = logging.getLogger(__name__)

_BATCH = 500
_MANY = 8
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    replaced_etag: str | None
    version: Version
    text: bytes | None


class Journal:
    def __init__(self, root: Root) -> None:
        self._root = root
        self._unsettled: set[Key] = set()
        self._flushing = threading.Lock()

    @property
    def is_settled(self) -> bool:
        """False while a file could not be written after its commit, because the disk failed."""
        return not self._unsettled

    def add(
        self,
        transaction: sqlite3.Connection,
        number: int,
        key: Key,
        entry: Version,
        replaced_etag: str | None,
        text: bytes | None,
    ) -> None:
        """Part of the caller's transaction. `text` None is a deletion."""
        transaction.execute(
            "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number, key.workspace_id, key.kind, key.path, entry.version, entry.etag, replaced_etag,
                entry.operation, entry.at, entry.by, entry.source, text,
            ),
        )  # fmt: skip

    def text_of(self, key: Key, version: int) -> bytes | None:
        texts = (entry.text for entry in self._entries(key) if entry.version.version == version)
        return next((text for text in texts if text is not None), None)

    def versions_after(self, key: Key, version: int) -> list[Version]:
        """Versions whose log line may still be missing, oldest first."""
        return [entry.version for entry in self._entries(key) if entry.version.version > version]

    @contextmanager
    def switching(self, key: Key) -> Iterator[None]:
        """Around the step that changes the file after its commit; what the disk fails there is finished later."""
        try:
            yield
        except OSError:
            self._unsettled.add(key)
            raise

    def ensure_settled(self, key: Key) -> None:
        """Raises: Unavailable: the disk still refuses to finish an earlier write of this document."""
        if key in self._unsettled:
            waiting = Unavailable(f"{key.path} waits for the server's disk to recover", hint="Retry later")
            if not self._flushing.acquire(timeout=_PATIENCE_SECONDS):  # whoever flushes may wait for our workspace
                raise waiting
            try:
                self._settle(key, self._entries(key))
            except OSError as error:
                raise waiting from error
            finally:
                self._flushing.release()
            self._unsettled.discard(key)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While held, no version copy and no log changes; writers go on. Take it before `Root.locked`."""
        with self._flushing:
            yield

    def flush(self) -> int:
        """Make the files of every journalled write durable, then forget it; returns how many that were.

        Writers go on meanwhile: each workspace's lock is taken once, so that the files of what was committed before
        have been switched, but not while the disk works.
        """
        (head,) = self._root.database.row("SELECT max(number) FROM journal") or (None,)
        if head is None:
            self._root.database.checkpoint()
            return 0
        for (workspace_id,) in self._root.database.rows("SELECT DISTINCT workspace_id FROM journal"):
            with self._root.locked(workspace_id):
                pass
        finished = 0
        with self._flushing:
            while pending := self._pending(head):
                done = self._flush(pending)
                finished += done
                if not done:
                    break
        self._root.database.checkpoint()
        return finished

    def _flush(self, pending: dict[Key, list[_Entry]]) -> int:
        """First every write, then every fsync: the disk does in one go what it would do file by file."""
        done: list[_Entry] = []
        kept = [key for key, entries in pending.items() if self._try(self._keep, key, entries)]
        is_durable = len(kept) > _MANY and self._root.workspaces.sync_file_system()
        for key in kept:
            if is_durable or self._try(self._sync, key, pending[key]):
                self._unsettled.discard(key)
                done += pending[key]
        self._forget(done)
        return len(done)

    def _try(self, step: Callable[[Key, list[_Entry]], None], key: Key, entries: list[_Entry]) -> bool:
        """Whether the step worked; if not, the text stays in the journal and its files are written anew later."""
        try:
            step(key, entries)
        except OSError as error:
            logger.error("document not durable yet", extra={"workspace_id": key.workspace_id, "error": error.strerror})
            self._unsettled.add(key)
            return False
        return True

    def recover(self) -> int:
        """At start, before anybody writes: finish every journalled write; returns how many there were."""
        finished = 0
        while pending := self._pending(sys.maxsize):
            for key, entries in pending.items():
                with storage_errors():
                    self._settle(key, entries)
                self._forget(entries)
                finished += len(entries)
        return finished

    def _pending(self, head: int) -> dict[Key, list[_Entry]]:
        rows = self._root.database.rows(
            "SELECT DISTINCT workspace_id, kind, path FROM"
            " (SELECT * FROM journal WHERE number <= ? ORDER BY number LIMIT ?)",
            head, _BATCH,
        )  # fmt: skip
        keys = [Key(WorkspaceId(row[0]), row[1], DocumentPath(row[2])) for row in rows]
        return {key: self._entries(key, head) for key in keys}

    def _entries(self, key: Key, head: int = sys.maxsize) -> list[_Entry]:
        """What is journalled of a document, oldest first."""
        rows = self._root.database.rows(
            "SELECT number, replaced_etag, text, version, etag, at, actor, source, operation FROM journal"
            " WHERE workspace_id = ? AND kind = ? AND path = ? AND number <= ? ORDER BY number",
            key.workspace_id, key.kind, key.path, head,
        )  # fmt: skip
        return [_Entry(row[0], row[1], Version(*row[3:]), row[2]) for row in rows]

    def _forget(self, entries: list[_Entry]) -> None:
        with self._root.database.transaction() as transaction:
            transaction.executemany("DELETE FROM journal WHERE number = ?", [(entry.number,) for entry in entries])

    def _keep(self, key: Key, entries: list[_Entry]) -> None:
        is_anew = key in self._unsettled
        if key.is_versioned:
            with open_folder(self._root, key, key.version_folders, create=True) as folder:
                versions.keep(folder, [(entry.version, entry.text) for entry in entries], anew=is_anew)
        if is_anew:
            self._settle_file(key, entries)

    def _sync(self, key: Key, entries: list[_Entry]) -> None:
        if key.is_versioned:
            with open_folder(self._root, key, key.version_folders) as folder:
                versions.sync(folder, [(entry.version, entry.text) for entry in entries])
        with suppress(FileNotFoundError, NotRegular), open_folder(self._root, key, key.folders) as folder:
            with suppress(FileNotFoundError, NotRegular):  # deleted, or replaced by hand by something else
                folder.sync_file(key.name)
            folder.sync_names()
        for folders in (key.folders, key.version_folders if key.is_versioned else []):
            for depth in range(len(folders)):
                with suppress(FileNotFoundError), open_folder(self._root, key, folders[:depth]) as folder:
                    folder.sync_names()

    def _settle(self, key: Key, entries: list[_Entry]) -> None:
        if entries:
            self._keep(key, entries)
            self._settle_file(key, entries)
            self._sync(key, entries)

    def _settle_file(self, key: Key, entries: list[_Entry]) -> None:
        """Give the file its last committed text, unless somebody has edited it by hand since."""
        last = entries[-1]
        if last.version.operation == "external":
            return  # the file was the source
        replaced = {entry.version.etag for entry in entries} | {entry.replaced_etag for entry in entries}
        with open_folder(self._root, key, key.folders, create=True) as folder:
            try:
                current: bytes | None = folder.read(key.name)
            except (FileNotFoundError, NotRegular):
                current = None
            is_ours = (
                current is None
                or etag_of(current) in replaced
                or any(versions.could_be_torn(current, entry.text or b"") for entry in entries)
            )
            if last.text is None:
                if current is not None and is_ours:
                    folder.remove(key.name)
            elif is_ours:
                if current != last.text or key in self._unsettled:
                    folder.replace(key.name, last.text)
                self._stamp(key, stamp_of(folder.stat(key.name)))

    def _stamp(self, key: Key, stamp: str) -> None:
        with self._root.database.transaction() as transaction:
            transaction.execute(
                "UPDATE documents SET stamp = ? WHERE workspace_id = ? AND kind = ? AND path = ?",
                (stamp, key.workspace_id, key.kind, key.path),
            )


def open_folder(root: Root, key: Key, folders: list[str], *, create: bool = False) -> Folder:
    """A folder of the document's workspace; new ones are made durable by the journal, not here."""
    with root.workspace_folder(key.workspace_id) as workspace:
        return workspace.folder(*folders, create=create, sync=False)
