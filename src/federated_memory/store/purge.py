"""Removing something for good: files, versions, revisions, rows (SPEC: PURGE-1).

First the tombstone, durable, so that a crash half-way brings nothing back; then the files; then the rows with the
change. Purging again finishes what was interrupted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from federated_memory.errors import NotFound
from federated_memory.fs import Folder, NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import SessionId, WorkspaceId
from federated_memory.store import versions
from federated_memory.store.archive import Archives
from federated_memory.store.archives.files import REVISIONS, SUFFIX, provenance_name
from federated_memory.store.changes import Actor
from federated_memory.store.document import Key
from federated_memory.store.journal import Journal
from federated_memory.store.memory_rows import TABLES as MEMORY_TABLES
from federated_memory.store.memory_rows import MemoryRows
from federated_memory.store.registry import Registry
from federated_memory.store.rooms import purge_from_rooms
from federated_memory.store.root import Root
from federated_memory.store.tombstones import Tombstones


@dataclass(slots=True)
class Purged:
    """`elsewhere`: other sessions that hold the same bytes, as (workspace, session); they stay."""

    files: int = 0
    elsewhere: list[tuple[str, str]] = field(default_factory=list)


class Purging:
    """Blocking; thread-safe."""

    def __init__(
        self, root: Root, registry: Registry, journal: Journal, archives: Archives, tombstones: Tombstones
    ) -> None:
        self._root = root
        self._registry = registry
        self._journal = journal
        self._archives = archives
        self._tombstones = tombstones

    def document(self, key: Key, actor: Actor) -> Purged:
        """Every version of a document. Raises: NotFound: there never was one."""
        database = self._root.database
        done = Purged()
        with self._journal.paused(), self._root.locked(key.workspace_id), storage_errors():
            where = (key.workspace_id, key.kind, key.path)
            etags = {row[0] for row in database.rows(
                "SELECT etag FROM journal WHERE workspace_id = ? AND kind = ? AND path = ?"
                " UNION SELECT etag FROM documents WHERE workspace_id = ? AND kind = ? AND path = ?", *where, *where
            )}  # fmt: skip
            with suppress(FileNotFoundError, NotRegular), self._folder(key, key.version_folders) as folder:
                etags |= {entry.etag for entry in versions.read_log(folder)}
            if not etags:
                raise NotFound(f"No document {key.path} in {key.workspace_id}", hint="See list_knowledge")
            self._tombstones.add(key.workspace_id, "text", etags - {""}, actor)
            with suppress(FileNotFoundError, NotRegular), self._folder(key, key.folders) as folder:
                folder.remove(key.name)
                folder.sync_names()
                done.files += 1
            with (
                suppress(FileNotFoundError, NotRegular),
                self._folder(key, key.version_folders[:-1]) as folder,
                folder.folder(key.version_folders[-1]) as copies,
            ):
                done.files += len(copies.entries())
                folder.remove_tree(key.version_folders[-1])
                folder.sync_names()
            with database.transaction() as transaction:
                matching = "WHERE workspace_id = ? AND kind = ? AND path = ?"
                transaction.execute(f"DELETE FROM journal {matching}", where)
                # Counts are kept by the trigger of updates.
                transaction.execute(f"UPDATE documents SET deleted = 1 {matching} AND deleted = 0", where)
                transaction.execute(f"DELETE FROM documents {matching}", where)
                self._root.feed.append(transaction, key.workspace_id, key.kind, key.path, "purged", actor)
        return done

    def memory(self, workspace_id: WorkspaceId, memory_id: str, actor: Actor) -> Purged:
        """A memory and what is left of it. Raises: NotFound: there never was one."""
        rows = [row for row in MemoryRows(self._root.database).find(memory_id) if row.workspace_id == workspace_id]
        if not rows and not self._tombstones.has(workspace_id, "memory", memory_id):
            raise NotFound(f"No memory {memory_id} in {workspace_id}", hint="See list_memories")
        done = Purged()
        for row in rows:
            self._tombstones.add(workspace_id, "memory", row.marks, actor)
            for key in (row.file_key, row.tombstone_key):
                with suppress(NotFound):
                    done.files += self.document(key, actor).files
        with self._root.database.transaction() as transaction:
            where = (workspace_id, memory_id)
            transaction.execute("DELETE FROM memories WHERE workspace_id = ? AND memory_id = ?", where)
            transaction.execute("DELETE FROM memory_supersedes WHERE workspace_id = ? AND new_id = ?", where)
        return done

    def session(self, workspace_id: WorkspaceId, session_id: SessionId, actor: Actor) -> Purged:
        """A transcript and all that it replaced. Raises: NotFound: there is none. Locked: it is being uploaded."""
        done = Purged()
        with self._archives.alone(workspace_id, session_id) as rows, storage_errors():
            if not rows and not self._tombstones.has(workspace_id, "session", session_id):
                raise NotFound(f"No session {session_id} in {workspace_id}", hint="See list_sessions")
            for row in rows:
                for twin in self._archives.twins(row):
                    other = (str(twin.workspace_id), str(twin.session_id))
                    if other != (workspace_id, session_id) and other not in done.elsewhere:
                        done.elsewhere.append(other)
            self._tombstones.add(workspace_id, "session", [session_id], actor)
            for month in {row.file.split(f"/{REVISIONS}/")[0] for row in rows}:
                year, number = month.split("/")[:2]
                with (
                    suppress(FileNotFoundError, NotRegular),
                    self._root.workspace_folder(workspace_id) as workspace,
                    workspace.folder("sessions", year, number) as folder,
                ):
                    done.files += _remove_session(folder, session_id)
            with self._root.database.transaction() as transaction:
                transaction.execute(
                    "DELETE FROM archives WHERE workspace_id = ? AND session_id = ?", (workspace_id, session_id)
                )
                self._root.feed.append(transaction, workspace_id, "session", session_id, "purged", actor)
        return done

    def workspace(self, workspace_id: WorkspaceId, actor: Actor) -> Purged:
        """Everything of a workspace, its registration too. Raises: NotFound: there is none."""
        done = Purged()
        with storage_errors():
            known = self._registry.find(workspace_id) is not None or self._root.workspaces.exists(workspace_id)
            if not known and not self._tombstones.has(workspace_id, "workspace"):
                raise NotFound(f"No workspace {workspace_id}", hint="See list_workspaces")
            self._tombstones.add(workspace_id, "workspace", [""], actor)
            self._registry.remove(workspace_id)
            with self._journal.paused(), self._root.locked(workspace_id), self._archives.nothing_grows():
                with suppress(FileNotFoundError, NotRegular):
                    with self._root.workspaces.folder(workspace_id) as folder:
                        done.files = _count(folder)
                    self._root.workspaces.remove_tree(workspace_id)
                    self._root.workspaces.sync_names()
                with self._root.database.transaction() as transaction:
                    tables = {row[0] for row in transaction.execute("SELECT name FROM sqlite_master")}
                    for table in {
                        "journal",
                        "documents",
                        "archives",
                        "counts",
                        "secret_findings",
                        *MEMORY_TABLES,
                    } & tables:
                        transaction.execute(f"DELETE FROM {table} WHERE workspace_id = ?", (workspace_id,))
                    purge_from_rooms(transaction, tables, workspace_id)
                    self._root.feed.append(transaction, workspace_id, "workspace", workspace_id, "purged", actor)
                    transaction.execute("DELETE FROM counts WHERE workspace_id = ?", (workspace_id,))
        return done

    def _folder(self, key: Key, folders: list[str]) -> Folder:
        with self._root.workspace_folder(key.workspace_id) as workspace:
            return workspace.folder(*folders)


def _remove_session(month: Folder, session_id: str) -> int:
    removed = 0
    for name in (session_id + SUFFIX, provenance_name(session_id)):
        with suppress(FileNotFoundError):
            month.remove(name)
            removed += 1
    with suppress(FileNotFoundError, NotRegular), month.folder(REVISIONS) as revisions:
        with revisions.folder(session_id) as folder:
            removed += len(folder.entries())
        revisions.remove_tree(session_id)
        revisions.sync_names()
    month.sync_names()
    return removed


def _count(folder: Folder) -> int:
    found = 0
    for entry in folder.entries():
        if entry.is_dir(follow_symlinks=False):
            with folder.folder(entry.name) as inner:
                found += _count(inner)
        else:
            found += 1
    return found
