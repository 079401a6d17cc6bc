"""`export` and `import` (SPEC: EXPORT-1, EXPORT-2)."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import asdict
from pathlib import Path

from federated_memory.cli.output import counted, json_option, print_json, print_line
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.settings import load_settings


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "export", parents=[json_option()], help="a workspace as a folder",
        description="Copy a workspace, with its versions and transcripts, into a folder that git and Obsidian open.",
    )  # fmt: skip
    parser.add_argument("workspace_id", metavar="WORKSPACE")
    parser.add_argument("folder", type=Path, metavar="DIR", help="new, or empty")
    parser.set_defaults(run=run_export)
    parser = verbs.add_parser(
        "import", parents=[json_option()], help="a workspace from such a folder",
        description="Take an exported folder in: the same texts, versions and transcripts, by its id or another.",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--as", dest="workspace_id", default="", metavar="ID", help="another id")
    parser.set_defaults(run=run_import)


def run_export(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.backup import snapshot_path
    from federated_memory.operate.exchange import export_to

    with open_backend(load_settings()) as backend:
        made = backend.operate("snapshot", workspace_id=options.workspace_id)
        try:
            (workspace,) = (snapshot_path(backend, made) / "workspaces").iterdir()
            files = export_to(workspace, options.folder)
        finally:
            with contextlib.suppress(NotFound):
                backend.operate("release", name=made["name"])
    if options.json:
        print_json({"folder": str(options.folder), "files": files})
    else:
        print_line(f"{options.folder} holds {counted(files, 'file')} of {options.workspace_id}.")
    return 0


def run_import(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.operate.exchange import lay_down, read_identity, take_up

    identity = read_identity(options.folder)
    with open_backend(load_settings()) as backend:
        root = Path(backend.status().root)
        if not (root / "_meta").is_dir():
            raise InvalidArgument(f"The server's files are not here ({root})", hint="Run this where the server runs")
        name = lay_down(options.folder, root)
        try:
            wanted = {**asdict(identity), "workspace_id": options.workspace_id or identity.workspace_id}
            done = backend.operate("adopt", name=name, **wanted)
        finally:
            take_up(root, name)
    if options.json:
        print_json(done)
        return 1 if done["problems"] else 0
    taken = f"{counted(done['documents'], 'document')} and {counted(done['sessions'], 'session')}"
    print_line(f"{done['workspace_id']}: {taken} taken in.")
    for problem in done["problems"]:
        print_line(f"Left alone: {problem}.")
    return 1 if done["problems"] else 0
