"""`check --repair`: what is in the way goes to `_meta/quarantine`, rows that lead nowhere as well (SPEC: CHECK-9)."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from federated_memory.fs import Folder, NotRegular, RootLock
from federated_memory.fs.folder import storage_errors
from federated_memory.operate.check_meta import read_registry
from federated_memory.operate.check_shared import WHERE, mend_shared
from federated_memory.operate.findings import MEND, Finding, Report
from federated_memory.operate.state_file import NAME

QUARANTINE = "quarantine"
_ROWS = "state.jsonl"


def repair(report: Report) -> list[tuple[str, str]]:
    """Move what the report names as in the way; returns (from, to) below the root, as far as it could be done.

    No file is deleted, written or overwritten, and what is damaged stays where it is. Rows of what agents share that
    lead nowhere are kept in `state.jsonl` beside what was moved, and mended.

    Raises:
        Locked: A server runs on the root.
    """
    wanted = [finding for finding in report.findings if finding.is_in_the_way]
    moved: list[tuple[str, str]] = []
    is_to_mend = any(finding.advice == MEND for finding in report.findings)
    if not wanted and not is_to_mend:
        return moved
    lock = RootLock(report.root / "_meta" / "lock")
    lock.acquire()
    try:
        at = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
        with storage_errors(), Folder.open(report.root) as root:
            for finding in wanted:
                to = f"_meta/{QUARANTINE}/{at}/{finding.path}"
                if _move(root, report.root, finding, to):
                    moved.append((finding.path, to))
            if is_to_mend:
                place = ("_meta", QUARANTINE, at)
                moved += [(f"{WHERE}: {what}", "/".join([*place, _ROWS])) for what in _mend(root, report.root, place)]
    finally:
        lock.release()
    return moved


def _mend(root: Folder, top: Path, place: tuple[str, ...]) -> list[str]:
    def keep(rows: bytes) -> None:
        with root.folder(*place, create=True) as folder:
            folder.create(_ROWS, rows)

    with root.folder("_meta") as meta:
        registered = read_registry(meta).workspaces
    return mend_shared(top / "_meta" / NAME, registered, keep)


def _move(root: Folder, top: Path, finding: Finding, to: str) -> bool:
    """False: it is gone, or its name cannot be printed, so that the report does not say it exactly."""
    if not os.path.lexists(top / finding.path):
        return False
    *folders, name = PurePosixPath(finding.path).parts
    *target_folders, target_name = PurePosixPath(to).parts
    try:
        with root.folder(*folders) as source, root.folder(*target_folders, create=True) as target:
            source.rename(name, target, target_name)
            target.sync_names()
            source.sync_names()
    except (FileNotFoundError, NotRegular):
        return False
    return True
