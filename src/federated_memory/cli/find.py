"""`search` and `brief`: what is known, and what a session should start with (SPEC: CLI-23, CLI-24)."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from federated_memory.cli.output import json_option, print_json, print_line, print_table, print_text, styled
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.service.results import MemoryHit

KINDS = (
    "note", "decision", "implementation", "context", "skill", "status", "bug", "pattern", "config", "summary",
)  # fmt: skip
"""Of memories."""
_KINDS = ("knowledge", "memory", "session")
_MODES = ("ranked", "literal", "regex")
_ROLES = ("user", "assistant", "tool", "system")
_NOTHING_FOUND = 1


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    search = verbs.add_parser(
        "search", parents=[json_option()], help="knowledge, memories and transcripts, best first",
        description="Search everything that may be read. Exit code 1: nothing was found.",
    )  # fmt: skip
    search.add_argument("query", nargs="+", metavar="QUERY", help="words; several are looked for together")
    search.add_argument("--kind", action="append", choices=_KINDS, default=[], help="again for more; all if left out")
    search.add_argument("--mode", choices=_MODES, default="ranked", help="literal, regex: complete, newest first")
    search.add_argument("--here", action="store_true", help="only the project of the current folder")
    for name, told in (
        ("workspace", "only this one; may be a glob"), ("project", "only of this project"),
        ("machine", "only from this machine"), ("tool", "only of this agent, such as claude-code"),
        ("session", "only this session"),
    ):  # fmt: skip
        search.add_argument(f"--{name}", default="", metavar="NAME", help=told)
    search.add_argument("--role", choices=_ROLES, default="", help="who said it, in sessions")
    for name in ("since", "until"):
        search.add_argument(f"--{name}", default="", metavar="TIME", help="a day (2026-11-21) or a time, UTC")
    search.add_argument("--memory-kind", action="append", choices=KINDS, default=[], help="of memories; again for more")
    search.add_argument("--tag", action="append", default=[], metavar="TAG", help="of memories; again: all of them")
    search.add_argument("--as-of", default="", metavar="TIME", help="of memories: what was known then")
    search.add_argument("--all", action="store_true", help="of memories: superseded, expired and deleted ones too")
    search.add_argument("--limit", type=count, default=20, metavar="N", help="how many hits at most (20)")
    search.set_defaults(run=run_search)
    brief = verbs.add_parser(
        "brief", parents=[json_option()], help="what a session in this folder should know",
        description="The brief of the project around the current folder, or of a workspace.",
    )  # fmt: skip
    brief.add_argument("--workspace", default="", metavar="ID", help="that of this workspace")
    brief.add_argument("--project", default="", metavar="NAME", help="that of this project")
    brief.add_argument("--max-bytes", type=count, default=9_000, metavar="N", help="how long it may be (9000)")
    brief.set_defaults(run=run_brief)


def run_search(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.calls import MOST_BYTES, SEARCH
    from federated_memory.cli.place import place_here

    project = place_here().project if options.here else options.project
    with open_backend(load_settings()) as backend:
        found = backend.ask(
            SEARCH, query=" ".join(options.query), mode=options.mode, kinds=",".join(options.kind),
            workspace_id=options.workspace, project=project, machine=options.machine, tool=options.tool,
            session_id=options.session, role=options.role, since=options.since, until=options.until,
            memory_kind=",".join(options.memory_kind), tags=",".join(options.tag), as_of=options.as_of,
            include_superseded=options.all or None, include_hidden=options.all or None,
            limit=options.limit, max_bytes=MOST_BYTES,
        )  # fmt: skip
    if options.json:
        print_json(found.as_dict())
    elif not found.hits:
        print_line("Nothing found.")
    elif sys.stdout.isatty():
        for hit in found.hits:
            _print_hit(hit)
    else:
        print_table(
            ("WHERE", "WHEN", "TITLE", "TEXT"),
            [(address_of(hit), minute(hit.at), hit.title, hit.snippet.replace("\n", " ")) for hit in found.hits],
        )
    if found.note and not options.json:
        print(f"federated-memory: {found.note}", file=sys.stderr)
    return 0 if found.hits else _NOTHING_FOUND


def run_brief(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.calls import BRIEF
    from federated_memory.cli.place import host_name, place_here

    asked: dict[str, Any] = {"workspace_id": options.workspace, "project": options.project}
    if not options.workspace and not options.project:
        here = place_here()
        asked = {"project": here.project, "project_key": here.project_key}
    with open_backend(load_settings()) as backend:
        found = backend.ask(BRIEF, machine=host_name(), max_bytes=options.max_bytes, **asked)
    if options.json:
        print_json(found.as_dict())
    elif found.text:
        print_text(found.text.rstrip("\n") + "\n")
    else:
        print_line(found.why)
        for workspace_id in found.candidates or ():
            print_line(f"  federated-memory brief --workspace {workspace_id}")
    return 0 if found.text else _NOTHING_FOUND


def address_of(hit: MemoryHit) -> str:
    """What `get` takes to show the whole of it."""
    if hit.memory_id:
        return hit.memory_id
    if hit.session_id:
        return f"{hit.workspace_id}/{hit.session_id}:{hit.offset}"
    return f"{hit.workspace_id}/{hit.path or 'overview.md'}"


def minute(at: str) -> str:
    return at[:16].replace("T", " ")


def _print_hit(hit: MemoryHit) -> None:
    from federated_memory.cli.output import plain, print_raw

    said = f" {hit.role}" if hit.role else ""
    print_raw(f"{styled(plain(address_of(hit)), 'name')}  {styled(plain(f'{minute(hit.at)}{said}'), 'dim')}")
    if hit.title:
        print_raw(f"  {styled(plain(hit.title), 'bold')}")
    for line in hit.snippet.split("\n"):
        print_raw("  " + _marked(plain(line)))
    print_raw("")


def _marked(text: str) -> str:
    if not styled("«", "mark").startswith("\x1b"):
        return text
    opened, closed = styled("\0", "mark").split("\0")
    return text.replace("«", opened).replace("»", closed)


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
