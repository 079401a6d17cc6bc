"""Old versions and replaced transcripts go, by a policy that is told; what is current never does (SPEC: GC-1)."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

from federated_memory.fs import NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import DocumentPath, WorkspaceId
from federated_memory.store import versions
from federated_memory.store.archive import Archives
from federated_memory.store.archives.files import name_of, open_folder
from federated_memory.store.document import Key
from federated_memory.store.journal import Journal
from federated_memory.store.root import Root


@dataclass(slots=True)
class Collected:
    versions: int = 0
    revisions: int = 0
    bytes: int = 0


class Collecting:
    def __init__(self, root: Root, journal: Journal, archives: Archives) -> None:
        self._root = root
        self._journal = journal
        self._archives = archives

    def run(self, workspace_id: WorkspaceId, keep: int, before: str, *, is_dry: bool) -> Collected:
        """Remove the copies of versions, and transcripts that were replaced, that are neither among the newest `keep`
        (the current one counts) nor newer than the time `before`. The log keeps its lines."""
        done = Collected()
        rows = self._root.database.rows(
            "SELECT kind, path FROM documents WHERE workspace_id = ? AND kind IN ('knowledge', 'overview')"
            " ORDER BY kind, path",
            workspace_id,
        )
        for kind, path in rows:
            with self._journal.paused(), self._root.locked(workspace_id), storage_errors():
                self._document(Key(workspace_id, kind, DocumentPath(path)), keep, before, is_dry, done)
        sessions = self._root.database.rows(
            "SELECT DISTINCT session_id FROM archives WHERE workspace_id = ? AND current = 0", workspace_id
        )
        for (session_id,) in sessions:
            with self._archives.alone(workspace_id, session_id) as found, storage_errors():
                for row in found[keep:]:
                    if row.is_current or row.updated_at >= before:
                        continue
                    done.revisions += 1
                    done.bytes += row.gzip_bytes
                    if not is_dry:
                        with suppress(FileNotFoundError), open_folder(self._root, workspace_id, row.file) as folder:
                            folder.remove(name_of(row))
                            folder.sync_names()
                        with self._root.database.transaction() as transaction:
                            transaction.execute("DELETE FROM archives WHERE id = ?", (row.id,))
        return done

    def _document(self, key: Key, keep: int, before: str, is_dry: bool, done: Collected) -> None:
        with (
            suppress(FileNotFoundError, NotRegular),
            self._root.workspace_folder(key.workspace_id) as workspace,
            workspace.folder(*key.version_folders) as folder,
        ):
            kept = sorted(
                {entry.version: entry.at for entry in versions.read_log(folder) if entry.operation != "delete"}.items(),
                reverse=True,
            )
            old = [version for version, at in kept[max(1, keep) :] if at < before]
            if not old:
                return
            below = max(old) + 1
            old = [version for version in old if folder.exists(versions.file_name(version))]
            if old and not is_dry:
                data = json.dumps({"below": below}).encode() + b"\n"
                folder.replace(versions.COLLECTED, data)
            for version in old:
                done.versions += 1
                done.bytes += folder.stat(versions.file_name(version)).st_size
                if not is_dry:
                    folder.remove(versions.file_name(version))
