"""The rows of one session brought to what its files hold (SPEC: ARCH-12, ARCH-13).

The caller has the session's lease.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from federated_memory.fs import Folder
from federated_memory.names import SessionId, WorkspaceId
from federated_memory.store.archives.adopting import SCANNER, Adopting, Seen
from federated_memory.store.archives.files import is_as_seen, open_folder, provenance_name, read_provenance
from federated_memory.store.archives.member_scan import Scanned, scan_members
from federated_memory.store.archives.mending import cut, cut_anew
from federated_memory.store.archives.provenance import provenance_of
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.archives.walk import SessionFiles
from federated_memory.store.members import DamagedMember, inflate_member
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
        self._tell()
        done.swept += self._sweep(files)

    # -- the session's transcript

    def _settle_current(
        self, file: str, current: Archive | None, files: SessionFiles, done: Recovered, is_thorough: bool
    ) -> None:
        if current and current.file != file:  # moved by hand
            current = replace(current, file=file, modified_ns=-1)
        with self._open(file) as folder:
            stat = folder.stat(_name(file))
            if current and is_as_seen(stat, current) and not is_thorough:
                return
            if current and stat.st_size > current.gzip_bytes and self._is_torn(folder, current):
                stat = cut(self._root, self._workspace_id, folder, _name(file), current.gzip_bytes)
                with self._root.database.transaction() as transaction:
                    self._rows.update(transaction, replace(current, modified_ns=stat.st_mtime_ns, inode=stat.st_ino))
                done.cut += 1
                return
            seen = self._read(folder, file, mark=current.raw_bytes if current else None)
            if seen.scanned.problem and current is None and (size := self._acknowledged(folder, seen.scanned)):
                cut(self._root, self._workspace_id, folder, _name(file), size)
                seen = self._read(folder, file)
                done.cut += 1
            if seen.scanned.problem:
                done.problems.append(f"{self._shown(file)}: {seen.scanned.problem}")
                return
            others = {
                number: other for number, (other, stat) in files.revisions.items() if stat.st_ino != seen.stat.st_ino
            }
            done.adopted += self._adopting.current(folder, current, seen, others)

    def _is_torn(self, folder: Folder, current: Archive) -> bool:
        """Is the last committed member intact, and what follows it no whole gzip?"""
        descriptor = folder.open_file(_name(current.file))
        try:
            inflate_member(descriptor, self._rows.members(current.id)[-1])
            return scan_members(descriptor, start=current.gzip_bytes).problem != ""
        except DamagedMember:
            return False
        finally:
            os.close(descriptor)

    def _acknowledged(self, folder: Folder, scanned: Scanned) -> int:
        """Where the bytes end that the provenance tells of, in a file without a row; 0 when they are not all there."""
        known = read_provenance(folder, self._session_id)
        ends = (member.gzip_end for member in scanned.members if known and member.sha256_so_far.hex() == known.sha256)
        return next(ends, 0)

    def _read(self, folder: Folder, file: str, *, mark: int | None = None) -> Seen:
        """Read a file from end to end; one that is whole, but cut into other members than ours, is written anew."""
        name = _name(file)
        descriptor = folder.open_file(name)
        try:
            stat = os.fstat(descriptor)
            key, stamp = (self._workspace_id, file), (stat.st_size, stat.st_mtime_ns)
            if key in self._damaged and self._damaged[key][0] == stamp:
                return Seen(file, stat, Scanned(problem=self._damaged[key][1]))
            scanned = scan_members(descriptor, mark=mark)
        finally:
            os.close(descriptor)
        if scanned.problem:
            self._damaged[key] = (stamp, scanned.problem)
        elif not scanned.is_ours:
            scanned, stat = cut_anew(self._root, self._workspace_id, folder, name, scanned)
        return Seen(file, stat, scanned)

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
        current_file = files.transcripts.get(current.file) if current else None
        for number, (file, stat) in sorted(files.revisions.items()):
            if current and number >= current.revision:
                if current_file and os.path.samestat(stat, current_file):  # left by an upload that came to no end
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
            seen = self._read(folder, file)
        if seen.scanned.problem:
            done.problems.append(f"{self._shown(file)}: {seen.scanned.problem}")
        else:
            self._adopting.revision(number, row, seen)

    def _tell(self) -> None:
        """Make the provenance tell of what the row says, where an upload that came to no end has written its own."""
        row = self._rows.current(self._workspace_id, self._session_id)
        if row is None:
            return
        with self._open(row.file) as folder:
            known = read_provenance(folder, self._session_id)
            if known is None or (known.sha256, known.revision) != (row.sha256, row.revision):
                told = provenance_of(row, known, SCANNER)
                folder.replace(provenance_name(self._session_id), told.to_bytes())

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
