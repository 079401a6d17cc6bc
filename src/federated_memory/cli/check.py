"""`check`: is everything that was ever acknowledged still there, and whole? (SPEC: CHECK-1 to CHECK-8)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from federated_memory.cli.output import Progress, counted, json_option, print_json, print_line, size
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.operate.findings import Report

_MARKS = {"error": "ERROR", "warning": "warning", "info": "info"}


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "check",
        parents=[json_option()],
        help="verify everything that is stored",
        description="Verify every name and hash of the memory root, beside a running server or without one. Changes "
        "nothing without --repair. Exit code 1: there are errors or warnings.",
    )
    parser.add_argument("--read-data", action="store_true", help="also inflate and hash every transcript")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="move what is in the way, and rows that lead nowhere, to quarantine",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from federated_memory.operate.check import PAUSE_SECONDS, check_root
    from federated_memory.operate.repair import repair

    settings = load_settings()
    with Progress("Checking", is_shown=not options.json) as progress:
        report = check_root(
            settings.root.resolve(),
            read_data=options.read_data,
            max_document_bytes=settings.max_document_bytes,
            pause_seconds=PAUSE_SECONDS,
            progress=progress.show,
        )
    moved = repair(report) if options.repair else []
    if options.json:
        print_json({**_as_dict(report), **({"moved": dict(moved)} if options.repair else {})})
    else:
        _print(report)
        for source, target in moved:
            print_line(f"Moved {source} to {target}.")
        if options.repair and not moved:
            print_line("Nothing is in the way: there was nothing to move.")
    return 0 if report.is_clean else 1


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "root": str(report.root),
        "read_data": report.read_data,
        "ok": report.is_clean,
        "checked": dict(report.counts),
        "findings": [finding.as_dict() for finding in report.findings],
    }


def _print(report: Report) -> None:
    for finding in report.findings:
        print_line(f"{_MARKS[finding.severity]}: {finding.path}: {finding.problem}")
        if finding.advice and finding.severity != "info":
            print_line(f"    {finding.advice}.")
    counts = report.counts
    checked = ", ".join(
        counted(counts[f"{noun}s"], noun) for noun in ("workspace", "document", "version", "session", "member")
    )
    print_line(f"Checked {report.root}: {checked}; {size(counts['bytes'])} read and hashed.")
    if not report.read_data and counts["sessions"]:
        print_line("Transcripts were not read: --read-data does.")
    if report.is_clean:
        print_line("Nothing is wrong.")
    else:
        print_line(
            f"Found {counted(report.count('error'), 'error')} and {counted(report.count('warning'), 'warning')}."
        )
