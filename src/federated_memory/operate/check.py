"""`check`: every name, hash and member of a root, looked at without touching anything (SPEC: CHECK-1 to CHECK-8).

No lock is taken and no file is opened for writing, so it runs beside a server. What a write under way makes look wrong
is looked at again after a pause: a finding counts when it is there both times, to the letter.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from federated_memory.errors import NotFound, Unavailable
from federated_memory.fs import Folder
from federated_memory.operate.check_meta import check_format
from federated_memory.operate.check_units import Look, Unit
from federated_memory.operate.findings import Finding, Report

PAUSE_SECONDS = 2.0
_ORDER = {"error": 0, "warning": 1, "info": 2}

Progress = Callable[[int, int], None]
"""Told how much of how much is done."""


def check_root(
    root: Path,
    *,
    read_data: bool = False,
    max_document_bytes: int = 1024**2,
    pause_seconds: float = PAUSE_SECONDS,
    progress: Progress | None = None,
) -> Report:
    """Look at everything; with `read_data`, inflate every transcript too. Errors come first, then by path.

    Raises:
        NotFound: There is no memory root.
        Unavailable: It may not be read.
    """
    report = Report(root, read_data)
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(_open(root))
        with folder.folder("_meta") as meta:
            report.findings = check_format(meta)
        if report.findings:
            return report  # nothing else can be trusted to mean what it seems to

        def look(counts: Counter[str]) -> Look:
            return cleanup.enter_context(
                Look(root, folder, counts, read_data=read_data, max_document_bytes=max_document_bytes)
            )

        suspects = _first(look(report.counts), progress)
        if suspects:
            time.sleep(pause_seconds)
            report.findings = _confirmed(look(Counter()), suspects)
    report.findings.sort(key=lambda finding: (_ORDER[finding.severity], finding.path, finding.problem))
    return report


def _open(root: Path) -> Folder:
    try:
        folder = Folder.open(root)
        if folder.exists("_meta"):
            return folder
        folder.close()
    except FileNotFoundError:
        pass
    except OSError as problem:
        raise Unavailable(f"{root} cannot be read ({problem.strerror})", hint="Run this as its owner") from problem
    raise NotFound(
        f"There is no memory root at {root}", hint="Set MEMORY_ROOT, or make one with `federated-memory init`"
    )


def _first(look: Look, progress: Progress | None) -> dict[Unit, list[Finding]]:
    units = look.units()
    total, done = sum(unit.weight for unit in units), 0
    suspects: dict[Unit, list[Finding]] = {}
    for unit in units:
        if progress:
            progress(done, total)
        done += unit.weight
        if found := look.check(unit):
            suspects[unit] = found
    return suspects


def _confirmed(look: Look, suspects: dict[Unit, list[Finding]]) -> list[Finding]:
    confirmed: dict[Finding, None] = {}
    for unit, before in suspects.items():
        again = set(look.check(unit))
        confirmed.update(dict.fromkeys(finding for finding in before if finding in again))
    return list(confirmed)
