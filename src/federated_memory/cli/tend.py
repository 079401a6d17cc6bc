"""`purge` and `gc`: what goes for good, and what old versions may (SPEC: PURGE-1 to PURGE-3, GC-1)."""

from __future__ import annotations

import argparse
from pathlib import Path

from federated_memory.cli.output import counted, json_option, print_json, print_line, size
from federated_memory.errors import InvalidArgument
from federated_memory.settings import load_settings

_KINDS = ("session", "knowledge", "overview", "memory", "workspace")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "purge", parents=[json_option()], help="remove something for good",
        description="Remove the text from files, versions, revisions, databases and index, and tell which backups "
        "still hold it. No later sync brings it back.",
    )  # fmt: skip
    parser.add_argument("kind", choices=_KINDS)
    parser.add_argument("workspace_id", metavar="WORKSPACE")
    parser.add_argument("key", nargs="?", default="", metavar="KEY", help="a session's id, or a document's path")
    parser.add_argument("--yes", action="store_true", help="do it; there is no way back")
    parser.set_defaults(run=run_purge)
    parser = verbs.add_parser(
        "gc", parents=[json_option()], help="remove old versions",
        description="Remove versions of documents, and transcripts that others replaced, that are neither among the "
        "newest nor young. Without --apply it only tells what would go. What is current always stays.",
    )  # fmt: skip
    parser.add_argument("--keep-versions", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--keep-days", type=int, default=90, metavar="N", help="default: %(default)s")
    parser.add_argument("--apply", action="store_true", help="remove them")
    parser.set_defaults(run=run_gc)


def run_purge(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.operate.holding import backups_holding

    if not options.yes:
        raise InvalidArgument("Purging cannot be undone", hint="Pass --yes to do it")
    settings = load_settings()
    with open_backend(settings) as backend:
        done = backend.operate("purge", kind=options.kind, workspace_id=options.workspace_id, key=options.key)
        root = Path(backend.status().root)
    held = backups_holding(root, options.kind, options.workspace_id, options.key)
    if options.json:
        print_json({**done, "backups": held.holding, "unknown": held.unknown})
        return 0
    print_line(f"Purged: {counted(done['files'], 'file')}. The index is made anew.")
    for note in done["notes"]:
        print_line(f"{note}.")
    if held.holding:
        print_line("These backups still hold it; remove them when you can do without:")
    for path in held.holding:
        print_line(f"  {path}")
    for path in held.unknown:
        print_line(f"  {path} (its manifest is missing: it may)")
    if not held.holding and not held.unknown:
        print_line("No backup that this root knows of holds it.")
    print_line("Copies on other machines are theirs: remove it there too.")
    return 0


def run_gc(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        done = backend.operate(
            "gc", keep_versions=options.keep_versions, keep_days=options.keep_days, apply=options.apply
        )
    if options.json:
        print_json(done)
        return 0
    what = f"{counted(done['versions'], 'version')} and {counted(done['revisions'], 'replaced transcript')}"
    print_line(f"{'Removed' if done['applied'] else 'Would remove'} {what}, {size(done['bytes'])}.")
    if not done["applied"]:
        print_line("Nothing was changed: --apply does it.")
    return 0
