"""`status`: what the server holds, and whether it is ready (SPEC: CLI-9)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from federated_memory.cli.output import counted, json_option, print_json, print_pairs, size
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.service.results import Status


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "status", parents=[json_option()], help="what the server holds, and whether it is ready",
        description="What the server holds, and whether it is ready. Exit code 1: it is not, or it does not run.",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.operate.diagnosis import secret_line

    with open_backend(load_settings()) as backend:
        found = backend.status()
        url, pid = backend.url, backend.pid
    if options.json:
        print_json({"running": bool(url), "url": url, "pid": pid, **found.as_dict()})
        return 0 if found.ready else 1
    process = f" (pid {pid})" if pid else ""
    holds = (
        counted(found.workspaces, "workspace"),
        counted(found.documents, "document"),
        counted(found.sessions, "session"),
        size(found.bytes),
    )
    print_pairs(
        [
            ("Server", f"running at {url}{process}" if url else "stopped"),
            ("Ready", "yes" if found.ready else "no"),
            *(("", reason) for reason in found.reasons),
            ("Version", found.version),
            ("Root", found.root),
            ("Holds", ", ".join(holds)),
            ("Last change", f"number {found.last_change:,}" if found.last_change else "none yet"),
            ("Free space", size(found.free_bytes)),
            ("Index", _index(found)),
            ("Backup", _backup(Path(found.root))),
            ("Secrets", _secrets(found)),
            *(("", secret_line(row.workspace_id, row.kind, row.name, row.counts)) for row in found.secrets[:5]),
            ("Uploads", "on" if found.uploads else "off: no SYNC_TOKEN"),
        ]
    )
    return 0 if found.ready else 1


def _index(found: Status) -> str:
    index = found.index
    if index is None:
        return "unknown"
    if index.state == "building":
        return f"being made, {index.done:,} of {index.total:,}; searches read the files meanwhile"
    if index.state == "failing":
        return f"does not follow: {index.problem}"
    return "follows" if not index.behind else f"{counted(index.behind, 'change')} behind"


def _backup(root: Path) -> str:
    from federated_memory.operate.backup_record import noted_backups

    noted = noted_backups(root)
    return f"{noted[0].name} in {noted[0].folder}, verified" if noted else "none made by this program yet"


def _secrets(found: Status) -> str:
    waiting = f"; {counted(found.secrets_pending, 'change')} not looked at yet" if found.secrets_pending else ""
    if not found.secrets_total:
        return f"none found{waiting}"
    return (
        f"found in {counted(found.secrets_total, 'place')}: replace them, and change them where they are used{waiting}"
    )
