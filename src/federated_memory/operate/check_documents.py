"""One document: its text, and what the state database knows of it (SPEC: CHECK-2)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from federated_memory.fs import Folder, NotRegular
from federated_memory.fs.folder import read_fully
from federated_memory.names import etag_of
from federated_memory.operate.check_versions import VersionFolder
from federated_memory.operate.findings import Finding, error, info, warning
from federated_memory.operate.state_file import DocumentRow, Pending
from federated_memory.store.document import Key, stamp_of
from federated_memory.store.versions import Version, file_name


@dataclass(frozen=True, slots=True)
class Facts:
    """What the state database knows of a document; `history` None: there is no database to ask."""

    row: DocumentRow | None
    pending: Sequence[Pending]
    history: Sequence[Version] | None


@dataclass(frozen=True, slots=True)
class _Text:
    data: bytes
    stamp: str

    @property
    def etag(self) -> str:
        return etag_of(self.data)


class DocumentCheck:
    """`path` is the workspace's, below the root; `counts` gets what was looked at."""

    def __init__(self, key: Key, path: str, facts: Facts, max_bytes: int, counts: Counter[str]) -> None:
        self._key = key
        self._where = "/".join([path, *key.folders, key.name])
        self._versions_where = "/".join([path, *key.version_folders])
        self._facts = facts
        self._max_bytes = max_bytes
        self._counts = counts
        self._findings: list[Finding] = []

    def run(self, workspace: Folder) -> list[Finding]:
        facts = self._facts
        journalled = [pending.version for pending in facts.pending]
        if not self._key.is_versioned:
            return self._run_unversioned(workspace)
        versions = VersionFolder(self._versions_where, journalled, self._counts)
        log = versions.read(workspace, self._key.version_folders, facts.history)
        entries = [*log, *(entry for entry in journalled if entry not in log)]
        last = entries[-1] if entries else None
        text = self._read(workspace)
        if isinstance(text, _Text) or text is None:
            self._compare(text, last)
        self._compare_row(last)
        copy_of_last = text.data if isinstance(text, _Text) and last and text.etag == last.etag else None
        return [*self._findings, *versions.findings(copy_of_last)]

    def _run_unversioned(self, workspace: Folder) -> list[Finding]:
        """A memory: there are no copies and no log, so the state database alone tells what its file should hold."""
        text, row = self._read(workspace), self._facts.row
        if isinstance(text, NotRegular):
            return self._findings
        expected = {row.etag if row and not row.deleted else None}
        expected |= {etag for pending in self._facts.pending for etag in (pending.replaced_etag, pending.version.etag)}
        if (text.etag if text else None) in expected:
            return self._findings
        advice = "A running server records it; a backup holds what was there before"
        if text is None:
            self._add(warning(self._where, "removed by hand, not yet recorded", advice))
        elif row and not row.deleted and row.stamp == text.stamp:
            problem = "its text changed, but not its time: damaged, or edited by hand and its time put back"
            self._add(error(self._where, problem, "Restore it from a backup, or save it anew"))
        elif row and not row.deleted:
            self._add(warning(self._where, "edited by hand, not yet recorded", advice))
        else:
            self._add(info(self._where, "put there by hand, not yet recorded", "A running server records it"))
        return self._findings

    def _read(self, workspace: Folder) -> _Text | NotRegular | None:
        """The document's file; an exception that says why there is none to look at was reported already."""
        try:
            with workspace.folder(*self._key.folders) as folder:
                descriptor = folder.open_file(self._key.name)
        except FileNotFoundError:
            return None
        except NotRegular as problem:
            return problem  # the walk over the names reports it
        except OSError as problem:
            self._add(error(self._where, f"cannot be read: {problem.strerror}", "Check its owner and mode"))
            return NotRegular()
        try:
            found = os.fstat(descriptor)
            data = read_fully(descriptor, min(found.st_size, self._max_bytes) + 1)
        finally:
            os.close(descriptor)
        self._counts["documents"] += 1
        self._counts["bytes"] += len(data)
        if found.st_size > self._max_bytes:
            self._add(
                warning(
                    self._where,
                    f"has {found.st_size:,} bytes, at most {self._max_bytes:,} are served",
                    "Split it, or raise MEMORY_MAX_DOCUMENT_BYTES",
                )
            )
            return NotRegular()
        self._ensure_utf8(data)
        return _Text(data, stamp_of(found))

    def _ensure_utf8(self, data: bytes) -> None:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as problem:
            self._add(
                warning(
                    self._where,
                    f"is not UTF-8 at byte {problem.start}; it is served with replacement characters",
                    "Save it as UTF-8",
                )
            )

    def _compare(self, text: _Text | None, last: Version | None) -> None:
        """Is the current text the newest version?"""
        live = last if last and last.operation != "delete" else None
        row = self._facts.row
        expected = {live.etag if live else None}
        for pending in self._facts.pending:  # after a crash: what was there, or is to be
            expected |= {pending.replaced_etag, pending.version.etag}
        if (text.etag if text else None) in expected:
            return
        if text is None:
            assert live
            self._add(
                warning(
                    self._where,
                    f"removed by hand, not yet recorded; version {live.version} holds its text",
                    f"Nothing, or copy {self._versions_where}/{file_name(live.version)} back",
                )
            )
        elif row and not row.deleted and row.stamp == text.stamp:
            self._add(
                error(
                    self._where,
                    f"its text changed (etag {text.etag[:12]}), but not its time: damaged, or edited by hand "
                    "and its time put back",
                    self._undo_advice(live),
                )
            )
        elif live:
            self._add(
                warning(
                    self._where,
                    f"edited by hand, not yet recorded (etag {text.etag[:12]}, version {live.version} has "
                    f"{live.etag[:12]})",
                    f"Meant so: a running server records it as a version. {self._undo_advice(live)}",
                )
            )
        else:
            self._add(
                info(
                    self._where,
                    f"made by hand, not yet recorded (etag {text.etag[:12]})",
                    "A running server records it",
                )
            )

    def _undo_advice(self, live: Version | None) -> str:
        return f"Not meant so: copy {self._versions_where}/{file_name(live.version)} over it" if live else ""

    def _compare_row(self, last: Version | None) -> None:
        row = self._facts.row
        is_gone = last is None or last.operation == "delete"
        if self._facts.history is None or (row is None and is_gone):
            return
        said = (row.version, row.etag, row.deleted) if row else None
        written = (last.version, last.etag, last.operation == "delete") if last else None
        if said != written:
            self._add(
                error(
                    self._where,
                    f"the state database has {_shown(said)} for its newest version, its log {_shown(written)}",
                    "Restore _meta/state.sqlite3 and this document's versions from one backup",
                )
            )

    def _add(self, finding: Finding) -> None:
        self._findings.append(finding)


def _shown(found: tuple[int, str, bool] | None) -> str:
    if found is None:
        return "none"
    version, etag, deleted = found
    return f"{version} ({etag[:12]}{', deleted' if deleted else ''})"
