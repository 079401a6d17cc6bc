"""`backup` and `restore` (SPEC: BACKUP-1 to BACKUP-8)."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from federated_memory.cli.output import Progress, counted, json_option, print_json, print_line, print_pairs, size
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend

KEEP_DAYS = 14


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "backup", parents=[json_option()], help="write a verified backup",
        description="Write everything but secrets to one verified .tar.zst, beside a running server or without one; "
        "then remove backups that are too old, but never one of the newest three that are verified.",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder for backups, on another disk")
    parser.add_argument("--keep-days", type=int, default=KEEP_DAYS, metavar="N", help="default: %(default)s")
    parser.set_defaults(run=run_backup)
    parser = verbs.add_parser(
        "restore", parents=[json_option()], help="make a root from a backup",
        description="Extract a backup beside DIR, verify and check it, then put it in place.",
    )  # fmt: skip
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="the new root; made, or empty")
    parser.add_argument("--replace", action="store_true", help="DIR is a root: keep it beside, as DIR.before-…")
    parser.add_argument("--read-data", action="store_true", help="also inflate and hash every transcript")
    parser.set_defaults(run=run_restore)


def snapshot_path(backend: Backend, made: dict[str, object]) -> Path:
    """Where a snapshot lies. Raises: InvalidArgument: on another machine, or in another container."""
    path = Path(str(made["path"]))
    if not path.is_dir():
        backend.operate("release", name=made["name"])
        raise InvalidArgument(
            f"The server's files are not here ({path})", hint="Run this where the server runs, as its user"
        )
    return path


def run_backup(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.operate.backup import target_folder, write_backup
    from federated_memory.operate.backup_record import note_backup

    if options.keep_days < 1:
        raise InvalidArgument("--keep-days is at least 1", hint="Leave it out to keep 14 days")
    settings = load_settings()
    with target_folder(options.to, settings.root) as target, open_backend(settings) as backend:
        made = backend.operate("snapshot")
        try:
            snapshot = snapshot_path(backend, made)
            with Progress("Backing up", is_shown=not options.json) as progress:
                done = write_backup(
                    snapshot, target, options.to.resolve(), keep_days=options.keep_days, progress=progress.show
                )
            note_backup(snapshot.parents[2], done)
        finally:
            with contextlib.suppress(NotFound):
                backend.operate("release", name=made["name"])
    manifest = done.manifest
    if options.json:
        print_json(
            {
                "backup": str(done.path), "bytes": manifest.size, "files": len(manifest.files),
                "sha256": manifest.sha256, "verified_at": manifest.verified_at, "pruned": list(done.pruned),
                "paused_ms": made["paused_ms"],
            }
        )  # fmt: skip
        return 0
    print_pairs(
        [
            ("Backup", str(done.path)),
            ("Holds", f"{counted(len(manifest.files), 'file')}, {size(manifest.size)}; read again and verified"),
            ("Removed", ", ".join(done.pruned) or "none"),
        ]
    )
    return 0


def run_restore(options: argparse.Namespace) -> int:
    from federated_memory.operate.restore import KEPT_SECRETS, restore

    with Progress("Restoring", is_shown=not options.json) as progress:
        done = restore(
            options.archive, options.into, replace=options.replace, read_data=options.read_data, progress=progress.show
        )
    kept = [name for name in KEPT_SECRETS if (done.into / "_meta" / name).exists()]
    if options.json:
        print_json(
            {
                "root": str(done.into), "files": len(done.manifest.files), "made_at": done.manifest.created_at,
                "epoch": done.epoch, "before": str(done.before) if done.before else None,
                "warnings": done.report.count("warning"), "secrets_kept": kept,
            }
        )  # fmt: skip
        return 0
    print_line(f"{done.into} holds the backup of {done.manifest.created_at}: every hash agrees, and it passes check.")
    if done.before:
        print_line(f"The root that was there is {done.before}; remove it when all is well.")
    print_line(
        "The signing key and generated tokens are those of the root that was there."
        if kept
        else "No backup holds secrets: a new signing key is made at the first start, so agents register again; without "
        "MCP_TOKEN in the settings, new tokens are made too."
    )
    return 0
