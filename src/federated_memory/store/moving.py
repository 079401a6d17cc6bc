"""A workspace gets another id; its old one leads to it from then on (SPEC: WS-4).

The rows move in one transaction that also notes what is to be done with the files; a start finishes that.
"""

from __future__ import annotations

import json
from contextlib import suppress

from federated_memory.errors import Conflict
from federated_memory.fs.folder import storage_errors
from federated_memory.names import WorkspaceId
from federated_memory.store.archive import Archives
from federated_memory.store.changes import Actor
from federated_memory.store.journal import Journal
from federated_memory.store.memory_rows import TABLES as MEMORY_TABLES
from federated_memory.store.registry import Registry
from federated_memory.store.rooms import rename_in_rooms
from federated_memory.store.root import Root
from federated_memory.store.tombstones import Tombstones

_INTENT = "renaming"
_TABLES = ("counts", "changes", "documents", "archives", "journal", "secret_findings", *MEMORY_TABLES)


class Moving:
    def __init__(
        self, root: Root, registry: Registry, journal: Journal, archives: Archives, tombstones: Tombstones
    ) -> None:
        self._root = root
        self._registry = registry
        self._journal = journal
        self._archives = archives
        self._tombstones = tombstones

    def rename(self, old: WorkspaceId, new: WorkspaceId, actor: Actor) -> None:
        """Raises: NotFound: there is no `old`. Conflict: `new` is taken, or was."""
        self._registry.get(old)
        with self._journal.paused(), self._registry.unchanging(), self._root.locked(old), self._root.locked(new):
            database = self._root.database
            is_taken = (
                self._registry.find(new) is not None
                or self._root.workspaces.exists(new)
                or database.row("SELECT 1 FROM changes WHERE workspace_id = ? LIMIT 1", new) is not None
            )
            if is_taken:
                raise Conflict(f"{new} is taken, or was once", hint="Choose another id")
            with self._archives.nothing_grows(), storage_errors(), database.transaction() as transaction:
                tables = {row[0] for row in transaction.execute("SELECT name FROM sqlite_master")}
                for table in _TABLES:
                    if table in tables:
                        transaction.execute(f"UPDATE {table} SET workspace_id = ? WHERE workspace_id = ?", (new, old))
                transaction.execute(
                    "UPDATE changes SET key = ? WHERE kind = 'workspace' AND workspace_id = ?", (new, new)
                )
                rename_in_rooms(transaction, tables, old, new)
                self._tombstones.rename(transaction, old, new)
                self._root.feed.append(transaction, new, "workspace", new, "renamed", actor)
                transaction.execute(
                    "INSERT OR REPLACE INTO node VALUES (?, ?)", (_INTENT, json.dumps({"old": old, "new": new}))
                )
            self._finish(old, new)
        self._tombstones.reload()

    def finish(self) -> None:
        """At start: do with the files what an interrupted rename has left."""
        row = self._root.database.row("SELECT value FROM node WHERE key = ?", _INTENT)
        if row:
            intent = json.loads(row[0])
            with self._registry.unchanging():
                self._finish(WorkspaceId(intent["old"]), WorkspaceId(intent["new"]))

    def _finish(self, old: WorkspaceId, new: WorkspaceId) -> None:
        workspaces = self._root.workspaces
        with storage_errors():
            if workspaces.exists(old) and not workspaces.exists(new):
                workspaces.rename(old, workspaces, new)
                workspaces.sync_names()
            self._registry.rename(old, new)
            with suppress(FileNotFoundError), workspaces.folder(new) as folder:
                self._registry.write_identity(self._registry.get(new), folder)
        with self._root.database.transaction() as transaction:
            transaction.execute("DELETE FROM node WHERE key = ?", (_INTENT,))
