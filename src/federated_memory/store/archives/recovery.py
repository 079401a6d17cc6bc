"""Rows and files brought together: after a crash, a restore, or changes by hand (SPEC: ARCH-12, ARCH-13)."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from dataclasses import replace

from federated_memory.errors import FederatedMemoryError, InvalidName, Locked
from federated_memory.fs import NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import SessionId, WorkspaceId, parse_workspace_id
from federated_memory.store.archives.files import (
    REVISIONS,
    SUFFIX,
    is_as_seen,
    name_of,
    open_archive,
    open_folder,
    read_provenance,
)
from federated_memory.store.archives.leases import Leases
from federated_memory.store.archives.member_scan import scan_members
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.archives.settling import Damaged, Recovered, Settling
from federated_memory.store.archives.walk import SessionFiles, find_session, walk_sessions
from federated_memory.store.root import Root

logger = logging.getLogger(__name__)


class Recovery:
    def __init__(self, root: Root, rows: ArchiveRows, leases: Leases) -> None:
        self._root = root
        self._rows = rows
        self._leases = leases
        self._damaged: Damaged = {}

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
                if is_thorough or not _is_settled(files, rows) or not self._is_told(rows):
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
            with suppress(FileNotFoundError), storage_errors():
                files = find_session(self._root, workspace_id, session_id)
                self._settling(workspace_id, session_id).settle(files, done, is_thorough=is_thorough)
        except (FederatedMemoryError, OSError) as error:  # the others are to be recovered all the same
            done.problems.append(f"workspaces/{workspace_id}/sessions: {session_id}: {error}")
        finally:
            self._leases.give_back(workspace_id, session_id)

    def _is_told(self, rows: list[Archive]) -> bool:
        """After a kill: does the provenance tell of what was acknowledged, or of an upload that came to no end?"""
        current = next((row for row in rows if row.is_current), None)
        if current is None or not self._root.was_killed:
            return True
        with open_folder(self._root, current.workspace_id, current.file) as folder:
            known = read_provenance(folder, current.session_id)
        return known is not None and (known.sha256, known.revision) == (current.sha256, current.revision)

    def session(self, workspace_id: WorkspaceId, session_id: SessionId) -> tuple[Archive | None, bool]:
        """What is stored of a session, for its next upload, which has the lease; is it damaged?

        Raises:
            FileNotFoundError: No such workspace.
        """
        row = self._rows.current(workspace_id, session_id)
        if row is None:
            self._root.workspace_folder(workspace_id).close()
            return None, False
        if self._is_as_seen(row):
            return row, False
        self._settling(workspace_id, session_id).settle(find_session(self._root, workspace_id, session_id), Recovered())
        row = self._rows.current(workspace_id, session_id)
        if row is None:
            return None, False
        with open_folder(self._root, workspace_id, row.file) as folder:
            found = folder.stat(name_of(row))
        if is_as_seen(found, row):
            return row, False
        return replace(row, gzip_bytes=found.st_size, modified_ns=found.st_mtime_ns, inode=found.st_ino), True

    def make_room(self, workspace_id: WorkspaceId, session_id: SessionId) -> None:
        """Take in files of a session that has no row, or put aside what is no transcript. The caller has the lease."""
        files = find_session(self._root, workspace_id, session_id)
        self._settling(workspace_id, session_id).settle(files, Recovered())
        if self._rows.current(workspace_id, session_id) is None:
            for file in files.transcripts:
                self._put_aside(workspace_id, session_id, file)

    def problem(self, archive: Archive) -> str:
        found = self._problem(archive)
        fresh = self._rows.by_id(archive.id)
        # An upload may have moved the file while it was read.
        return self._problem(fresh) if found and fresh and fresh != archive else found

    def _problem(self, archive: Archive) -> str:
        try:
            descriptor = open_archive(self._root, archive)
        except (FileNotFoundError, NotRegular):
            return "the file is missing"
        try:
            found = scan_members(descriptor, mark=archive.raw_bytes)
        finally:
            os.close(descriptor)
        if found.problem and found.gzip_bytes < archive.gzip_bytes:
            return found.problem
        is_same = found.sha256_at_mark.hex() == archive.sha256  # what follows is an append on its way
        return "" if is_same else "the file holds another transcript"

    def _settling(self, workspace_id: WorkspaceId, session_id: SessionId) -> Settling:
        return Settling(self._root, self._rows, workspace_id, session_id, self._damaged)

    def _is_as_seen(self, row: Archive) -> bool:
        try:
            with open_folder(self._root, row.workspace_id, row.file) as folder:
                return is_as_seen(folder.stat(name_of(row)), row)
        except (FileNotFoundError, NotRegular):
            return False

    def _put_aside(self, workspace_id: WorkspaceId, session_id: SessionId, file: str) -> None:
        with (
            open_folder(self._root, workspace_id, file) as folder,
            folder.folder(REVISIONS, session_id, create=True) as aside,
        ):
            name = f"{secrets.token_hex(6)}{SUFFIX}"
            folder.rename(file.rsplit("/", 1)[1], aside, name)
        logger.warning("a file that is no transcript was put aside", extra={"workspace_id": workspace_id, "file": name})


def _is_settled(files: SessionFiles, rows: list[Archive]) -> bool:
    """Do the rows of a session say what the look of its files says?"""
    current = next((row for row in rows if row.is_current), None)
    known = {row.file: row for row in rows}
    found = {**files.transcripts, **dict(files.revisions.values())}
    if found.keys() != known.keys() or len(files.transcripts) > 1:
        return False
    if any(file.removesuffix(".json") + SUFFIX not in files.transcripts for file in files.provenances):
        return False
    if current and (current.file not in files.transcripts or any(row.revision > current.revision for row in rows)):
        return False
    return all(is_as_seen(stat, known[file]) for file, stat in found.items())


def _moved(files: SessionFiles, rows: list[Archive]) -> list[tuple[Archive, int]]:
    """Archives whose file is another one of the same size and time: restored from a backup, most likely."""
    found = {**files.transcripts, **dict(files.revisions.values())}
    return [(row, found[row.file].st_ino) for row in rows if found[row.file].st_ino != row.inode]
