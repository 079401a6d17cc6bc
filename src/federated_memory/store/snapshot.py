"""A root as of one moment, while writers go on: what backups and exports read (SPEC: BACKUP-1).

Names are cheap: nearly every file is replaced by a rename when it changes, and an archive that has a second name is
never written in place, so a second name keeps the bytes. What grows in place (the logs of versions) is copied. Writers
wait for the live names only; the many old versions are linked before that, while the journal's flush waits.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from federated_memory.errors import FederatedMemoryError, NotFound
from federated_memory.fs import Folder, NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import WorkspaceId
from federated_memory.store.archive import Archives
from federated_memory.store.archives.files import link_or_copy
from federated_memory.store.journal import Journal
from federated_memory.store.registry import Registry
from federated_memory.store.root import Root
from federated_memory.store.versions import LOG

logger = logging.getLogger(__name__)

FOLDER = "snapshots"
VERSIONS = ".versions"
META_FILES = ("format.json", "workspaces.json", "tokens.json")
"""Of `_meta`, beside the state database. Keys, generated tokens and the control file never leave their root; of
named tokens only the hashes are there."""
_NAME = re.compile(r"[0-9a-f]{16}\Z")
_TOP_FILES = ("README.md", "INDEX.md")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`path` is a folder with the shape of a root. It takes no room until what it names is replaced."""

    name: str
    path: Path
    files: int
    paused_ms: int


class Snapshots:
    """One at a time: making one removes the one before."""

    def __init__(self, root: Root, registry: Registry, journal: Journal, archives: Archives) -> None:
        self._root = root
        self._registry = registry
        self._journal = journal
        self._archives = archives

    def make(self, workspace_id: WorkspaceId | None = None) -> Snapshot:
        """Of the whole root, or of one workspace without the server's own state.

        Raises:
            StorageFull, Unavailable: The disk failed; nothing is left.
        """
        self.sweep()
        name = secrets.token_hex(8)
        try:
            with storage_errors(), self._root.meta.folder(FOLDER, name, create=True) as target:
                path = self._root.path / "_meta" / FOLDER / name
                files, paused_ms = self._fill(target, path, workspace_id)
        except BaseException:
            with suppress(OSError, FederatedMemoryError):
                self.remove(name)
            raise
        return Snapshot(name, path, files, paused_ms)

    def remove(self, name: str) -> None:
        """Raises: NotFound: there is no such snapshot."""
        with suppress(FileNotFoundError, NotRegular), self._root.meta.folder(FOLDER) as folder:
            if _NAME.match(name) and folder.exists(name):
                folder.remove_tree(name)
                return
        raise NotFound("No such snapshot", hint="Another backup may have replaced it")

    def sweep(self) -> None:
        """Remove what an interrupted backup left."""
        with suppress(FileNotFoundError, NotRegular), self._root.meta.folder(FOLDER) as folder:
            for entry in folder.entries():
                with suppress(OSError, FederatedMemoryError):
                    folder.remove_tree(entry.name)

    def _fill(self, target: Folder, path: Path, only: WorkspaceId | None) -> tuple[int, int]:
        files = 0
        with ExitStack() as stop, target.folder("workspaces", create=True, sync=False) as workspaces:
            stop.enter_context(self._journal.paused())
            for workspace in self._wanted(only):
                files += self._versions(workspace, workspaces)
            started = time.monotonic()
            with ExitStack() as still:
                still.enter_context(self._registry.unchanging())
                known = self._wanted(only)
                for workspace in known:
                    still.enter_context(self._root.locked(workspace))
                still.enter_context(self._archives.nothing_grows())
                pinned = stop.enter_context(self._root.database.pinned()) if only is None else None
                for workspace in known:
                    files += self._live(workspace, workspaces)
                if only is None:
                    files += self._meta(target)
            paused_ms = round(1000 * (time.monotonic() - started))
            if pinned is not None:
                pinned.copy_to(path / "_meta" / "state.sqlite3")
                files += 1
        logger.info("snapshot made", extra={"files": files, "paused_ms": paused_ms})
        return files, paused_ms

    def _wanted(self, only: WorkspaceId | None) -> list[WorkspaceId]:
        return [only] if only else [workspace.workspace_id for workspace in self._registry.all()]

    def _versions(self, workspace_id: WorkspaceId, workspaces: Folder) -> int:
        files = 0
        for place in ((), ("knowledge",)):
            with (
                suppress(FileNotFoundError, NotRegular),
                self._root.workspace_folder(workspace_id) as workspace,
                workspace.folder(*place, VERSIONS) as source,
                workspaces.folder(workspace_id, *place, VERSIONS, create=True, sync=False) as target,
            ):
                files += _link(source, target, copied=(LOG,))
        return files

    def _live(self, workspace_id: WorkspaceId, workspaces: Folder) -> int:
        with (
            suppress(FileNotFoundError, NotRegular),
            self._root.workspace_folder(workspace_id) as source,
            workspaces.folder(workspace_id, create=True, sync=False) as target,
        ):
            return _link(source, target, skipped=(VERSIONS,), copied=(LOG,))
        return 0

    def _meta(self, target: Folder) -> int:
        files = 0
        with target.folder("_meta", create=True, sync=False) as meta:
            for name in META_FILES:
                with suppress(FileNotFoundError):
                    meta.create(name, self._root.meta.read(name), sync=False)
                    files += 1
        for name in _TOP_FILES:
            if text := self._root.read_top(name):
                target.create(name, text.encode(), sync=False)
                files += 1
        return files


def _link(source: Folder, target: Folder, *, skipped: tuple[str, ...] = (), copied: tuple[str, ...] = ()) -> int:
    """Give every plain file below `source` a second name below `target`; links, devices and such are left out."""
    files = 0
    for entry in source.entries():
        if entry.name in skipped:
            continue
        with suppress(FileNotFoundError, NotRegular):  # an editor's file that is gone again
            if entry.is_dir(follow_symlinks=False):
                with (
                    source.folder(entry.name) as inner,
                    target.folder(entry.name, create=True, sync=False) as below,
                ):
                    inner_skipped = skipped if entry.name == "knowledge" else ()
                    files += _link(inner, below, skipped=inner_skipped, copied=copied)
            elif entry.is_file(follow_symlinks=False):
                if entry.name in copied:
                    target.create(entry.name, source.read(entry.name), sync=False)
                else:
                    link_or_copy(source, entry.name, target, entry.name)
                files += 1
    return files
