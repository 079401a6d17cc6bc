"""What a check finds, and the report that it makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "info"]

MOVE = "Rename it, or move it elsewhere"
MOVE_OR_DELETE = "Move it elsewhere, or delete it"
DELETE = "Delete it"
MEND = "Stop the server and run `check --repair`: it keeps these rows in `_meta/quarantine` and mends the rest"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    `error`: something that was kept is damaged or lost. `warning`: nothing is lost, but somebody should act, or decide.
    `info`: as it should be. `path` is below the root, escaped where a name cannot be printed; `problem` says what is
    wrong and what it means, `advice` what to do. `evidence` is what tells this from the same trouble with other bytes:
    a finding that is there again a moment later, evidence and all, is no write under way.
    """

    severity: Severity
    path: str
    problem: str
    advice: str = ""
    evidence: str = ""

    @property
    def is_in_the_way(self) -> bool:
        """Whether it is a name that is not served, so that moving it away loses nothing that was."""
        return self.advice in (MOVE, MOVE_OR_DELETE, DELETE)

    def as_dict(self) -> dict[str, str]:
        return {"severity": self.severity, "path": self.path, "problem": self.problem, "advice": self.advice}


@dataclass(slots=True)
class Report:
    """`counts`: how many `workspaces`, `documents`, `versions`, `sessions`, `members` and `bytes` were looked at."""

    root: Path
    read_data: bool
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to act on."""
        return all(finding.severity == "info" for finding in self.findings)

    def count(self, severity: Severity) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def error(path: str, problem: str, advice: str = "", evidence: str = "") -> Finding:
    return Finding("error", _printable(path), problem, advice, evidence)


def warning(path: str, problem: str, advice: str = "", evidence: str = "") -> Finding:
    return Finding("warning", _printable(path), problem, advice, evidence)


def info(path: str, problem: str, advice: str = "", evidence: str = "") -> Finding:
    return Finding("info", _printable(path), problem, advice, evidence)


def _printable(path: str) -> str:
    return path if path.isprintable() else path.encode("unicode_escape").decode("ascii")
