"""The rows of one session brought to what its files hold (SPEC: ARCH-12, ARCH-13).

The caller has the session's lease.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from federated_memory.errors import Unavailable
from federated_memory.fs import Folder
from federated_memory.names import SessionId, WorkspaceId
from federated_memory.store.archives.adopting import SCANNER, Adopting, Seen
from federated_memory.store.archives.files import is_as_seen, open_folder, provenance_name, read_provenance
from federated_memory.store.archives.member_scan import Scanned, scan_members
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.archives.staging import Stage
from federated_memory.store.archives.walk import SessionFiles
from federated_memory.store.members import DamagedMember, MemberWriter, first_boundary, inflate_member
from federated_memory.store.root import Root


@dataclass(slots=True)
class Recovered:
    """What a recovery did, in sessions; `problems` names files that are not served, or are not whole."""

    checked: int = 0
    adopted: int = 0
    cut: int = 0
    removed: int = 0
    swept: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


Damaged = dict[tuple[WorkspaceId, str], tuple[tuple[int, int], str]]
"""Files that were read and found damaged: their size and time then, and what is wrong. They are not read again."""


class Settling:
    def __init__(
        self, root: Root, rows: ArchiveRows, workspace_id: WorkspaceId, session_id: SessionId, damaged: Damaged
    ) -> None:
        self._damaged = damaged
        self._root = root
        self._rows = rows
        self._workspace_id = workspace_id
        self._session_id = session_id
        self._adopting = Adopting(root, rows, workspace_id, session_id)

    def settle(self, files: SessionFiles, done: Recovered, *, is_thorough: bool = False) -> None:
        """Take in what was changed by hand or left by a crash; `is_thorough`: read every file from end to end."""
        current = self._rows.current(self._workspace_id, self._session_id)
        found = sorted(files.transcripts, key=lambda file: (current is None or file != current.file, file))
        for file in found[1:]:
            done.problems.append(f"{self._shown(file)}: the session is stored elsewhere too")
        if found:
            self._settle_current(found[0], current, files, done, is_thorough)
        elif current:
            self._remove(current)
            done.removed += 1
        self._settle_revisions(files, done, is_thorough)
        done.swept += self._sweep(files)

    # -- the session's transcript

    def _settle_current(
        self, file: str, current: Archive | None, files: SessionFiles, done: Recovered, is_thorough: bool
    ) -> None:
        if current and current.file != file:  # moved by hand
            current = replace(current, file=file, modified_ns=-1)
        with self._open(file) as folder:
            descriptor = folder.open_file(_name(file))
            try:
                stat = os.fstat(descriptor)
                if current and is_as_seen(stat, current) and not is_thorough:
                    return
                if current and stat.st_size > current.gzip_bytes and self._is_torn(descriptor, current):
                    self._cut(folder, current, descriptor)
                    done.cut += 1
                    return
                seen = self._read(folder, file, descriptor, current.raw_bytes if current else None)
            finally:
                os.close(descriptor)
            if seen.scanned.problem:
                done.problems.append(f"{self._shown(file)}: {seen.scanned.problem}")
                return
            others = {
                number: other for number, (other, stat) in files.revisions.items() if stat.st_ino != seen.stat.st_ino
            }
            done.adopted += self._adopting.current(folder, current, seen, others)

    def _is_torn(self, descriptor: int, current: Archive) -> bool:
        """Is the last committed member intact, and what follows it no whole gzip?"""
        try:
            inflate_member(descriptor, self._rows.members(current.id)[-1])
        except DamagedMember:
            return False
        return scan_members(descriptor, start=current.gzip_bytes).problem != ""

    def _cut(self, folder: Folder, current: Archive, descriptor: int) -> None:
        """Remove what an append left that was never acknowledged."""
        with self._root.locked(self._workspace_id):
            if os.fstat(descriptor).st_nlink == 1:
                writable = folder.open_file(_name(current.file), os.O_RDWR)
                try:
                    os.ftruncate(writable, current.gzip_bytes)
                    os.utime(writable, ns=(current.modified_ns, current.modified_ns))
                    os.fsync(writable)
                finally:
                    os.close(writable)
                return
            stage = Stage(self._root, copy_from=descriptor, copy_bytes=current.gzip_bytes)
            stat = self._put(folder, current.file, stage)
            with self._root.database.transaction() as transaction:
                self._rows.update(transaction, replace(current, modified_ns=stat.st_mtime_ns, inode=stat.st_ino))

    def _read(self, folder: Folder, file: str, descriptor: int, mark: int | None = None) -> Seen:
        """Read a file from end to end; one that is whole, but cut into other members than ours, is written anew."""
        stat = os.fstat(descriptor)
        key, stamp = (self._workspace_id, file), (stat.st_size, stat.st_mtime_ns)
        if key in self._damaged and self._damaged[key][0] == stamp:
            return Seen(file, stat, Scanned(problem=self._damaged[key][1]))
        scanned = scan_members(descriptor, mark=mark)
        if scanned.problem:
            self._damaged[key] = (stamp, scanned.problem)
        if scanned.problem or scanned.is_ours:
            return Seen(file, stat, scanned)
        stage = Stage(self._root)
        try:
            writer = MemberWriter(stage.write, first_boundary())
            scan_members(descriptor, sink=writer.feed)
            end = writer.finish()
            if end.digest.hexdigest() != scanned.sha256:
                raise Unavailable(f"The file of session {self._session_id} changes while it is read", hint="Retry")
            with self._root.locked(self._workspace_id):
                stat = self._put(folder, file, stage)
        finally:
            stage.discard()
        return Seen(file, stat, replace(scanned, members=writer.members, gzip_bytes=end.gzip_offset))

    def _put(self, folder: Folder, file: str, stage: Stage) -> os.stat_result:
        self._root.temporary.rename(stage.seal(), folder, _name(file))
        folder.sync_names()
        return folder.stat(_name(file))

    def _remove(self, current: Archive) -> None:
        with self._root.database.transaction() as transaction:
            self._rows.delete(transaction, current.id)
            self._root.feed.append(
                transaction, self._workspace_id, "session", self._session_id, "removed", SCANNER,
                version=current.revision, etag=current.sha256,
            )  # fmt: skip

    # -- what it replaced, and what belongs to nothing

    def _settle_revisions(self, files: SessionFiles, done: Recovered, is_thorough: bool) -> None:
        rows = {row.revision: row for row in self._rows.revisions(self._workspace_id, self._session_id)}
        current = next((row for row in rows.values() if row.is_current), None)
        for number, (file, stat) in sorted(files.revisions.items()):
            if current and number >= current.revision:
                if stat.st_ino == current.inode:  # left by an upload that did not come to its end
                    with self._open(file) as folder:
                        folder.remove(_name(file))
                    done.swept += 1
                else:
                    done.problems.append(f"{self._shown(file)}: the session has no such revision")
                continue
            row = rows.get(number)
            if row and row.file == file and is_as_seen(stat, row) and not is_thorough:
                continue
            self._settle_revision(number, row, file, done)
        gone = [row for row in rows.values() if not row.is_current and row.revision not in files.revisions]
        if gone:
            with self._root.database.transaction() as transaction:
                for row in gone:
                    self._rows.delete(transaction, row.id)

    def _settle_revision(self, number: int, row: Archive | None, file: str, done: Recovered) -> None:
        with self._open(file) as folder:
            descriptor = folder.open_file(_name(file))
            try:
                seen = self._read(folder, file, descriptor)
            finally:
                os.close(descriptor)
        if seen.scanned.problem:
            done.problems.append(f"{self._shown(file)}: {seen.scanned.problem}")
        else:
            self._adopting.revision(number, row, seen)

    def _sweep(self, files: SessionFiles) -> int:
        """Remove provenance that no transcript stands beside."""
        swept = 0
        for file in files.provenances:
            if file.removesuffix(".json") + ".jsonl.gz" in files.transcripts:
                continue
            with self._open(file) as folder:
                if read_provenance(folder, self._session_id):
                    folder.remove(provenance_name(self._session_id))
                    swept += 1
        return swept

    def _open(self, file: str) -> Folder:
        return open_folder(self._root, self._workspace_id, file)

    def _shown(self, file: str) -> str:
        return f"workspaces/{self._workspace_id}/sessions/{file}"


def _name(file: str) -> str:
    return file.rsplit("/", 1)[1]
