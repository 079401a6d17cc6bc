"""`migrate`: a root of an older format becomes one of this version's (SPEC: MIGRATE-1)."""

from __future__ import annotations

import argparse
from pathlib import Path

from federated_memory.cli.output import json_option, print_json, print_line
from federated_memory.errors import NotFound, UnsupportedFormat
from federated_memory.settings import load_settings


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "migrate", parents=[json_option()], help="bring a root up to this version",
        description="Back up a root of an older format, then bring it up to this version's. `serve` does the same by "
        "itself; here the backup may go to another disk. The server must be stopped.",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder for the backup; default: inside the root")
    parser.set_defaults(run=run_migrate)


def run_migrate(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import ensure_not_foreign, has_root
    from federated_memory.fs import Folder
    from federated_memory.operate.check_meta import check_format
    from federated_memory.operate.migrate import migrate
    from federated_memory.store.root import FORMAT

    settings = load_settings()
    if not has_root(settings):
        raise NotFound(f"There is no memory root at {settings.root}", hint="Set MEMORY_ROOT")
    ensure_not_foreign(settings)
    done = migrate(settings.root, to=options.to)
    if done is None:
        with Folder.open(settings.root) as root, root.folder("_meta") as meta:
            problems = check_format(meta)
        if problems:
            raise UnsupportedFormat(f"_meta/format.json {problems[0].problem}", hint=problems[0].advice)
    if options.json:
        print_json(
            {"format": FORMAT, "was": done.before if done else FORMAT, "backup": str(done.backup) if done else None}
        )
    elif done is None:
        print_line(f"{settings.root} has format {FORMAT}, this version's: nothing to do.")
    else:
        print_line(f"{settings.root} has format {done.now} now; it had {done.before}.")
        print_line(f"As it was: {done.backup} (verified). The version that wrote it restores it.")
    return 0
