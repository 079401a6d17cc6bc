"""One session: its transcript, those it replaced, and where they came from (SPEC: CHECK-4)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from federated_memory.fs import Folder, NotRegular
from federated_memory.operate.check_archive import LOST, ArchiveFile, Problem, row_problems
from federated_memory.operate.findings import Finding, error, warning
from federated_memory.store.archives.files import SUFFIX, revision_file_of
from federated_memory.store.archives.member_scan import scan_members
from federated_memory.store.archives.rows import Archive
from federated_memory.store.members import Member

_ONE_BACKUP = "Restore the whole root from one backup"
_REPEATED = (
    "session_id", "sha256", "raw_bytes", "lines", "revision", "native_id", "agent", "title", "started_at", "ended_at",
    "cwd", "updated_at",
)  # fmt: skip
"""What the provenance repeats of the archive's row."""

Rows = Sequence[tuple[Archive, list[Member]]]


@dataclass(slots=True)
class Reading:
    """How archives are read. `known`: files that were read already, by inode; two names of one file are read once."""

    read_data: bool
    is_served: bool
    counts: Counter[str]
    known: dict[tuple[object, ...], list[Problem]] = field(default_factory=dict)


class SessionCheck:
    """`files` are those that bear the session's name, below `sessions/`; `rows` None: there is no database to ask."""

    def __init__(self, session_id: str, path: str, files: Sequence[str], rows: Rows | None, reading: Reading) -> None:
        self._session_id = session_id
        self._path = f"{path}/sessions"
        self._files = files
        self._rows = rows or ()
        self._has_rows = rows is not None
        self._reading = reading

    def run(self, workspace: Folder) -> Iterator[Finding]:
        self._reading.counts["sessions"] += 1
        known = {archive.file for archive, _ in self._rows}
        current = next((archive for archive, _ in self._rows if archive.is_current), None)
        if self._rows and current is not self._rows[-1][0]:
            yield error(self._where(self._rows[-1][0].file), "its newest revision is not the current one", _ONE_BACKUP)
        for archive, members in self._rows:
            problems = self._problems(workspace, archive, members)
            if problems and archive is current and self._is_kept_aside(workspace, archive, members):
                known.add(revision_file_of(archive))
                yield warning(
                    self._where(archive.file),
                    "holds a transcript whose upload was interrupted; the acknowledged one is whole, at "
                    + revision_file_of(archive),
                    "Nothing: the next start records both",
                    archive.sha256,
                )
                current = None  # its .json may be of either
            else:
                yield from (self._finding(archive, problem) for problem in problems)
        for file in self._files:
            if file.endswith(".json"):
                yield from self._provenance(workspace, file, current)
            elif file not in known:
                yield from self._unknown(workspace, file)
        if current and current.file.removesuffix(SUFFIX) + ".json" not in self._files:
            yield error(
                self._where(current.file),
                "has no .json beside it: who uploaded it, and from where, is lost",
                "Restore the .json from a backup",
            )

    # -- transcripts

    def _problems(self, workspace: Folder, archive: Archive, members: list[Member]) -> list[Problem]:
        problems = list(row_problems(archive, members))
        if problems:
            return problems
        try:
            return self._file_problems(workspace, archive, members)
        except FileNotFoundError:
            what = "the transcript" if archive.is_current else f"revision {archive.revision} of the session"
            return [Problem(f"is missing: {what} is lost", LOST)]
        except NotRegular:
            return [Problem("is no regular file, and never read", LOST)]
        except OSError as problem:
            return [Problem(f"cannot be read: {problem.strerror}", "Check its owner and mode, and the disk")]

    def _is_kept_aside(self, workspace: Folder, archive: Archive, members: list[Member]) -> bool:
        """Whether a crash came between the switch of the files and the commit: the old file has its second name."""
        aside = replace(archive, file=revision_file_of(archive))
        return aside.file in self._files and not self._problems(workspace, aside, members)

    def _finding(self, archive: Archive, problem: Problem) -> Finding:
        report = error if problem.is_loss else warning
        return report(self._where(archive.file), problem.text, problem.advice, problem.evidence)

    def _file_problems(self, workspace: Folder, archive: Archive, members: list[Member]) -> list[Problem]:
        reading = self._reading
        descriptor = self._open(workspace, archive.file)
        try:
            found = os.fstat(descriptor)
            key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, archive.sha256, archive.gzip_bytes)
            if key not in reading.known:
                file = ArchiveFile(descriptor, archive, members, reading.counts)
                reading.known[key] = list(file.problems(read_data=reading.read_data, is_served=reading.is_served))
            return reading.known[key]
        finally:
            os.close(descriptor)

    def _unknown(self, workspace: Folder, file: str) -> Iterator[Finding]:
        """A transcript that the state database does not know, or one while there is none."""
        where = self._where(file)
        if self._has_rows:
            yield warning(
                where,
                "not recorded: put there by hand, or left by an upload that was not acknowledged",
                "A running server takes it in, if it is a transcript. Or move it elsewhere",
            )
        if not self._reading.read_data:
            return
        try:
            descriptor = self._open(workspace, file)
        except OSError:
            return
        try:
            found = scan_members(descriptor)
        finally:
            os.close(descriptor)
        self._reading.counts["bytes"] += found.gzip_bytes
        told = self._told(workspace, file.removesuffix(SUFFIX) + ".json")
        if found.problem:
            yield error(where, found.problem, LOST)
        elif not self._has_rows and told and told.get("sha256") != found.sha256:
            yield error(where, f"its SHA-256 is {found.sha256[:12]}, the .json beside it says otherwise", LOST)

    # -- provenance

    def _provenance(self, workspace: Folder, file: str, current: Archive | None) -> Iterator[Finding]:
        where = self._where(file)
        found = self._told(workspace, file)
        if found is None:
            yield error(
                where,
                "cannot be read: who uploaded the transcript, and from where, is lost",
                "Restore it from a backup",
            )
        elif current is None or file != current.file.removesuffix(SUFFIX) + ".json":
            if self._has_rows and file.removesuffix(".json") + SUFFIX not in self._files:
                yield warning(where, "belongs to no transcript", "A running server removes it. Or move it elsewhere")
        else:
            differing = [name for name in _REPEATED if found.get(name) != getattr(current, name)]
            if differing:
                yield warning(
                    where,
                    f"differs from the state database in {', '.join(differing)}: edited by hand, or damaged",
                    "Restore it from a backup; the next upload of the session writes it anew",
                    f"{found.get('sha256')} {current.sha256} {found.get('updated_at')} {current.updated_at}",
                )

    def _told(self, workspace: Folder, file: str) -> dict[str, Any] | None:
        """The provenance as it stands in the file."""
        *folders, name = file.split("/")
        try:
            with workspace.folder("sessions", *folders) as folder:
                found = json.loads(folder.read(name, 1 << 20))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _open(self, workspace: Folder, file: str) -> int:
        *folders, name = file.split("/")
        with workspace.folder("sessions", *folders) as folder:
            return folder.open_file(name)

    def _where(self, file: str) -> str:
        return f"{self._path}/{file}"
