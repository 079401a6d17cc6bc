"""Rows and files brought together: after a crash, a restore, or changes by hand (SPEC: ARCH-12 to ARCH-14)."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress

from federated_memory.errors import InvalidName, Locked
from federated_memory.fs import NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import SessionId, WorkspaceId, parse_workspace_id
from federated_memory.store.archive_files import REVISIONS, SUFFIX, is_as_seen, name_of, open_archive, open_folder
from federated_memory.store.archive_rows import Archive, ArchiveRows
from federated_memory.store.archive_walk import SessionFiles, find_session, walk_sessions
from federated_memory.store.leases import Leases
from federated_memory.store.member_scan import scan_members
from federated_memory.store.root import Root
from federated_memory.store.settling import Recovered, Settling

logger = logging.getLogger(__name__)


class Recovery:
    def __init__(self, root: Root, rows: ArchiveRows, leases: Leases) -> None:
        self._root = root
        self._rows = rows
        self._leases = leases

    def run(self, done: Recovered | None = None) -> Recovered:
        """Every workspace that has a folder or rows."""
        done = done or Recovered()
        ids = {entry.name for entry in self._root.workspaces.entries() if entry.is_dir(follow_symlinks=False)}
        for text in sorted(ids | set(self._rows.workspace_ids())):
            with suppress(InvalidName):
                self.workspace(parse_workspace_id(text), done)
        return done

    def workspace(
        self, workspace_id: WorkspaceId, done: Recovered | None = None, *, is_thorough: bool = False
    ) -> Recovered:
        done = done or Recovered()
        with storage_errors():
            try:
                found = walk_sessions(self._root, workspace_id)
            except (FileNotFoundError, NotRegular):
                found = {}
            known: dict[SessionId, list[Archive]] = {}
            for row in self._rows.of_workspace(workspace_id):
                known.setdefault(row.session_id, []).append(row)
            moved: list[tuple[Archive, int]] = []
            for session_id in sorted(found.keys() | known.keys()):
                files, rows = found.get(session_id, SessionFiles()), known.get(session_id, [])
                done.checked += 1
                if is_thorough or not _is_settled(files, rows):
                    self._settle(workspace_id, session_id, done, is_thorough)
                else:
                    moved += _moved(files, rows)
            self._rows.update_inodes(moved)
        if done.problems:
            logger.warning("archives with problems", extra={"workspace_id": workspace_id, "files": len(done.problems)})
        return done

    def _settle(self, workspace_id: WorkspaceId, session_id: SessionId, done: Recovered, is_thorough: bool) -> None:
        try:
            self._leases.take(workspace_id, session_id, 0)
        except Locked:
            done.busy += 1  # its upload sees to it
            return
        try:
            files = self._files(workspace_id, session_id)
            Settling(self._root, self._rows, workspace_id, session_id).settle(files, done, is_thorough=is_thorough)
        finally:
            self._leases.give_back(workspace_id, session_id)
