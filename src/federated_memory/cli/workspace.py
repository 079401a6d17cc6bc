"""`workspace`: who writes here, and a new write token when one is lost (SPEC: CLI-8)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from federated_memory.cli.output import counted, json_option, print_json, print_line, print_pairs, print_table
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("workspace", help="list and show workspaces", description="The workspaces of a server.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    json = json_option()
    found = actions.add_parser("list", parents=[json], help="all of them", description="Workspaces by id.")
    for name in ("machine", "tool", "project"):
        found.add_argument(f"--{name}", default="", metavar="NAME", help=f"only of this {name}; case is ignored")
    found.set_defaults(run=run_list)
    show = actions.add_parser("show", parents=[json], help="one of them", description="One workspace.")
    show.add_argument("workspace_id", metavar="ID")
    show.set_defaults(run=run_show)
    reissue = actions.add_parser(
        "reissue", parents=[json], help="a new write token, when the old one is lost",
        description="Make a new write token. It is shown this once; the old one ends at once.",
    )  # fmt: skip
    reissue.add_argument("workspace_id", metavar="ID")
    reissue.set_defaults(run=run_reissue)
    rename = actions.add_parser(
        "rename", parents=[json], help="another id; the old one goes on working",
        description="Give a workspace another id. Requests that name the old one mean it; rights go by the new one.",
    )  # fmt: skip
    rename.add_argument("workspace_id", metavar="ID")
    rename.add_argument("to", metavar="NEW_ID")
    rename.set_defaults(run=run_rename)
    merge = actions.add_parser(
        "merge", parents=[json], help="take one into another; its id goes on working",
        description="Move all that SOURCE holds into TARGET. What has the same name there and says something else is "
        "kept beside it, versions and all. Requests that name SOURCE then mean TARGET, and SOURCE's write token is "
        "good for it until TARGET's is reissued. Without --apply it only tells what would happen.",
    )  # fmt: skip
    merge.add_argument("workspace_id", metavar="SOURCE")
    merge.add_argument("into", metavar="TARGET")
    merge.add_argument("--apply", action="store_true", help="do it; there is no way back but a backup")
    merge.set_defaults(run=run_merge)
    archive = actions.add_parser(
        "archive", parents=[json], help="neither listed nor written any more",
        description="Keep a workspace readable and searchable, but list it no more and refuse writes.",
    )  # fmt: skip
    archive.add_argument("workspace_id", metavar="ID")
    archive.add_argument("--undo", action="store_true", help="bring it back")
    archive.set_defaults(run=run_archive)


def run_list(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        return print_workspaces(backend, options)


def print_workspaces(backend: Backend, options: argparse.Namespace) -> int:
    rows = backend.workspaces(machine=options.machine, tool=options.tool, project=options.project)
    if options.json:
        print_json([row.as_dict() for row in rows])
    elif not rows:
        print_line("No workspaces. An agent makes its own with register_workspace.")
    else:
        print_table(
            ("WORKSPACE", "MACHINE", "TOOL", "PROJECT", "DOCUMENTS", "SESSIONS", "LAST ACTIVE", "SUMMARY"),
            [
                (
                    row.workspace_id, row.machine, row.tool, row.project, row.documents, row.sessions,
                    row.last_activity[:16].replace("T", " "), row.summary,
                )
                for row in rows
            ],
        )  # fmt: skip
    return 0


def run_show(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.names import parse_workspace_id

    wanted = parse_workspace_id(options.workspace_id)
    with open_backend(load_settings()) as backend:
        row = backend.workspace(wanted)
    if options.json:
        print_json(row.as_dict())
        return 0
    print_pairs(
        [
            ("Workspace", row.workspace_id),
            ("Machine", row.machine),
            ("Tool", row.tool),
            ("Project", row.project),
            ("Summary", row.summary),
            ("Documents", f"{row.documents:,}"),
            ("Sessions", f"{row.sessions:,}"),
            ("Last active", row.last_activity),
        ]
    )
    return 0


def run_reissue(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.names import parse_workspace_id

    wanted = parse_workspace_id(options.workspace_id)
    with open_backend(load_settings()) as backend:
        done = backend.reissue(wanted)
    if options.json:
        print_json({"workspace_id": done.workspace_id, "write_token": done.write_token})
        return 0
    print_pairs([("Workspace", done.workspace_id), ("Write token", done.write_token or "")])
    print_line("Keep it now: it is not shown again. The old one has ended.")
    return 0


def run_rename(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        done = backend.operate("rename", workspace_id=options.workspace_id, to=options.to)
    if options.json:
        print_json(done)
    else:
        print_line(f"{done['was']} is {done['workspace_id']} now; the old id leads to it. The index is made anew.")
    return 0


def run_merge(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        done = backend.operate("merge", workspace_id=options.workspace_id, into=options.into, apply=options.apply)
    if options.json:
        print_json(done)
        return 0
    what = f"{counted(done['documents'], 'document')} and {counted(done['sessions'], 'session')}"
    verb = "moved" if done["applied"] else "would move"
    print_line(f"{what} {verb} from {done['was']} to {done['workspace_id']}; {done['known']:,} are there already.")
    if done["beside"]:
        print_line(f"Kept beside what has their name there ({done['beside']:,}):")
        print_table(("FROM", "TO"), [tuple(pair) for pair in done["renamed"]])
    for note in done["notes"]:
        print_line(f"{note}.")
    if done["applied"]:
        print_line(f"{done['was']} leads to {done['workspace_id']} now, with its own write token too.")
    else:
        print_line("Nothing was changed: --apply does it.")
    return 0


def run_archive(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        done = backend.operate("archive", workspace_id=options.workspace_id, undo=options.undo)
    if options.json:
        print_json(done)
    else:
        print_line(f"{done['workspace_id']} is {'archived' if done['archived'] else 'back'}.")
    return 0
