"""A file that was read from end to end becomes a row (SPEC: ARCH-13)."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from federated_memory.fs import Folder
from federated_memory.names import ETag, SessionId, WorkspaceId
from federated_memory.store.archives.describing import Described, describe, describe_longer
from federated_memory.store.archives.files import provenance_name, read_provenance, revision_file_of
from federated_memory.store.archives.member_scan import Scanned
from federated_memory.store.archives.provenance import Provenance, provenance_of
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.changes import Actor, now
from federated_memory.store.root import Root

SCANNER = Actor("scan")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that was read from end to end, and its state then. `file` is below `sessions/`."""

    file: str
    stat: os.stat_result
    scanned: Scanned


class Adopting:
    """Of the files of one session."""

    def __init__(self, root: Root, rows: ArchiveRows, workspace_id: WorkspaceId, session_id: SessionId) -> None:
        self._root = root
        self._rows = rows
        self._workspace_id = workspace_id
        self._session_id = session_id

    def current(self, folder: Folder, current: Archive | None, seen: Seen, revisions: dict[int, str]) -> bool:
        """Make the row of the session's transcript say what its file holds; was that news?

        `revisions` are the files of replaced transcripts. When another text took the place of the known one by hand,
        and no revision keeps that, it is gone.
        """
        scanned = seen.scanned
        if current and current.sha256 == scanned.sha256:
            self._commit_quietly(_with_file(current, seen), scanned)
            return False
        with self._root.locked(self._workspace_id):
            known = read_provenance(folder, self._session_id) or Provenance(self._session_id)
            is_longer = current is not None and scanned.sha256_at_mark.hex() == current.sha256
            if current and is_longer:
                row = self._longer(current, known, seen)
            else:
                taken = max([current.revision if current else 0, *revisions])
                row = self._new(known, seen, taken + 1)
            told = provenance_of(row, known, SCANNER)
            if told != known:
                folder.replace(provenance_name(self._session_id), told.to_bytes())
            is_kept = current is not None and current.revision in revisions
            self._commit_current(row, scanned, None if is_longer else current, is_kept=is_kept)
        return True

    def revision(self, number: int, known: Archive | None, seen: Seen) -> None:
        """Make the row of a replaced transcript say what its file holds."""
        row = known or self._new(Provenance(self._session_id), seen, number)
        row = replace(row, is_current=False, revision=number)
        self._commit_quietly(_with_file(row, seen), seen.scanned)

    def _longer(self, current: Archive, known: Provenance, seen: Seen) -> Archive:
        edges = seen.scanned.edges
        described = _told(known, seen) or describe_longer(current, edges, edges.head)
        return self._row(current.id, current.revision, described, known, seen)

    def _new(self, known: Provenance, seen: Seen, revision: int) -> Archive:
        modified_at = datetime.fromtimestamp(seen.stat.st_mtime, timezone.utc).isoformat(timespec="milliseconds")
        uploaded_at = known.uploaded_at or modified_at.replace("+00:00", "Z")
        told = _told(known, seen)
        described = told or describe(seen.scanned.edges, known.source, known.native_id, uploaded_at)
        return self._row(0, max(revision, known.revision) if told else revision, described, known, seen)

    def _row(self, row_id: int, revision: int, described: Described, known: Provenance, seen: Seen) -> Archive:
        scanned = seen.scanned
        return Archive(
            id=row_id,
            workspace_id=self._workspace_id,
            session_id=self._session_id,
            revision=revision,
            is_current=True,
            file=seen.file,
            sha256=ETag(scanned.sha256),
            raw_bytes=scanned.raw_bytes,
            gzip_bytes=scanned.gzip_bytes,
            lines=scanned.lines,
            has_open_line=scanned.has_open_line,
            agent=described.agent,
            native_id=described.native_id or self._session_id,
            title=described.title,
            cwd=described.cwd,
            started_at=described.started_at,
            ended_at=described.ended_at,
            updated_at=known.updated_at if _told(known, seen) else now(),
            modified_ns=seen.stat.st_mtime_ns,
            inode=seen.stat.st_ino,
        )

    def _commit_current(self, row: Archive, scanned: Scanned, replaced: Archive | None, *, is_kept: bool) -> None:
        with self._root.database.transaction() as transaction:
            if replaced and is_kept:
                retired = replace(replaced, is_current=False, file=revision_file_of(replaced), modified_ns=-1)
                self._rows.update(transaction, retired)  # its file is looked at next
            elif replaced:
                self._rows.delete(transaction, replaced.id)
            self._store(transaction, row, scanned)
            self._root.feed.append(
                transaction, row.workspace_id, "session", row.session_id, "external", SCANNER,
                version=row.revision, etag=row.sha256,
            )  # fmt: skip

    def _commit_quietly(self, row: Archive, scanned: Scanned) -> None:
        with self._root.database.transaction() as transaction:
            self._store(transaction, row, scanned)

    def _store(self, transaction: sqlite3.Connection, row: Archive, scanned: Scanned) -> None:
        if row.id:
            self._rows.update(transaction, row)
            row_id = row.id
        else:
            row_id = self._rows.insert(transaction, row)
        self._rows.replace_members(transaction, row_id, 0, scanned.members)


def _with_file(row: Archive, seen: Seen) -> Archive:
    scanned = seen.scanned
    return replace(
        row,
        file=seen.file,
        sha256=ETag(scanned.sha256),
        raw_bytes=scanned.raw_bytes,
        gzip_bytes=scanned.gzip_bytes,
        lines=scanned.lines,
        has_open_line=scanned.has_open_line,
        modified_ns=seen.stat.st_mtime_ns,
        inode=seen.stat.st_ino,
    )


def _told(known: Provenance, seen: Seen) -> Described | None:
    """What the provenance tells, when it is of these very bytes."""
    if known.sha256 != seen.scanned.sha256 or not known.started_at:
        return None
    return Described(known.agent, known.native_id, known.title, known.cwd, known.started_at, known.ended_at)
