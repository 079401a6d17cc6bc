"""`save` and `delete`: memories from the shell (SPEC: CLI-30, CLI-31)."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from federated_memory.cli.find import KINDS, count
from federated_memory.cli.output import json_option, print_json, print_line
from federated_memory.cli.read import address
from federated_memory.errors import InvalidArgument
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend

_MOST_BYTES = 1024**2


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    save = verbs.add_parser(
        "save", parents=[json_option()], help="remember something",
        description="Store a memory: a sentence or two that the next session should know. It goes to this machine's "
        "workspace of the current folder's project, unless --workspace names another.",
    )  # fmt: skip
    save.add_argument("text", nargs="*", metavar="TEXT", help="what to remember; `-` or nothing: from standard input")
    save.add_argument("--kind", choices=KINDS, default="note", help="what it is (note)")
    save.add_argument("--subject", metavar="TEXT", help="what it is about (its first line)")
    save.add_argument("--summary", metavar="TEXT", help="it in a line")
    save.add_argument("--importance", type=int, default=3, metavar="1-5", help="5: must be known (3)")
    for name, told in (
        ("tag", "a tag"), ("file", "a file that it is about"), ("reference", "an issue, a commit, a URL"),
        ("supersedes", "the id of a memory that it replaces"),
    ):  # fmt: skip
        save.add_argument(f"--{name}", action="append", default=[], metavar="TEXT", help=f"{told}; again for more")
    save.add_argument("--expires", default="", metavar="TIME", help="hidden from then on")
    save.add_argument("--ttl", type=count, metavar="SECONDS", help="hidden after so long")
    save.add_argument("--visibility", choices=("all", "team", "workspace"), default="all", help="who sees it (all)")
    save.add_argument("--project", default="", metavar="NAME", help="of another project than the workspace's")
    save.add_argument("--workspace", default="", metavar="ID", help="write there")
    save.set_defaults(run=run_save)
    delete = verbs.add_parser(
        "delete", parents=[json_option()], help="memories by id or by what they are; a document",
        description="Hide memories at once; a document's versions are kept. Conditions in place of names: all memories "
        "that meet them, for admins; their count comes first.",
    )  # fmt: skip
    delete.add_argument("names", nargs="*", metavar="NAME", help="a memory's id, or WORKSPACE/path.md")
    delete.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept")
    for name, told in (
        ("workspace", "in this workspace"), ("project", "of this project"), ("machine", "from this machine"),
        ("tool", "of this agent"),
    ):  # fmt: skip
        delete.add_argument(f"--{name}", default="", metavar="NAME", help=f"all {told}")
    delete.add_argument("--since", default="", metavar="TIME", help="all stored since then")
    delete.add_argument("--before", default="", metavar="TIME", help="all stored before then")
    delete.add_argument("--dry-run", action="store_true", help="say how many, and delete none")
    delete.add_argument("--yes", action="store_true", help="ask nothing")
    delete.set_defaults(run=run_delete)


def run_save(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.calls import STORE
    from federated_memory.cli.place import bound

    content = _text(options.text)
    with open_backend(load_settings()) as backend:
        workspace_id, binding = bound(backend, options.workspace)
        done = backend.ask(
            STORE, workspace_id=workspace_id, binding=binding, content=content, kind=options.kind,
            subject=options.subject, summary=options.summary, project=options.project, importance=options.importance,
            tags=options.tag, files=options.file, references=options.reference, supersedes=options.supersedes,
            expires_at=options.expires, ttl_seconds=options.ttl, visibility=options.visibility,
        )  # fmt: skip
    if options.json:
        print_json(done.as_dict())
        return 0
    print_line(done.memory_id)
    for warning in done.warnings:
        print(f"federated-memory: {warning}", file=sys.stderr)
    for one in done.similar:
        print(
            f"federated-memory: {one.memory_id} is on the same subject; to replace it: --supersedes {one.memory_id}",
            file=sys.stderr,
        )
    return 0


def run_delete(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    names = ("workspace", "project", "machine", "tool", "since", "before")
    wanted = {name: getattr(options, name) for name in names if getattr(options, name)}
    if bool(wanted) == bool(options.names):
        raise InvalidArgument("Say what to delete", hint="Name memories by id, or give conditions such as --project")
    with open_backend(load_settings()) as backend:
        if wanted:
            return _delete_all(backend, wanted, options)
        done = [_delete_one(backend, name, options) for name in options.names]
    if options.json:
        print_json(done)
    else:
        for one in done:
            print_line(f"{one} {'would be deleted' if options.dry_run else 'is deleted'}.")
    return 0


def _delete_one(backend: Backend, name: str, options: argparse.Namespace) -> str:
    from federated_memory.cli.calls import DELETE, DELETE_DOCUMENT, HISTORY, MEMORY
    from federated_memory.cli.place import bound

    wanted = address(name)
    if wanted.kind == "knowledge":
        if options.dry_run:
            backend.ask(HISTORY, workspace_id=wanted.workspace_id, path=wanted.name, limit=1, max_bytes=_MOST_BYTES)
            return name
        workspace_id, binding = bound(backend, wanted.workspace_id)
        backend.ask(DELETE_DOCUMENT, workspace_id=workspace_id, path=wanted.name, binding=binding)
        return name
    if wanted.kind not in ("any", "memory"):
        raise InvalidArgument(f"{name} is no memory and no document", hint="Sessions and overviews: see `purge`")
    found = backend.ask(MEMORY, memory_id=wanted.name, workspace_id=wanted.workspace_id)
    if not options.dry_run:
        workspace_id, binding = bound(backend, found.workspace_id)
        backend.ask(
            DELETE, memory_id=found.memory_id, workspace_id=workspace_id, reason=options.reason, binding=binding
        )
    return found.memory_id


def _delete_all(backend: Backend, wanted: dict[str, str], options: argparse.Namespace) -> int:
    from federated_memory.cli.calls import DELETE_MANY

    asked: dict[str, Any] = {"workspace_id" if name == "workspace" else name: text for name, text in wanted.items()}
    found = backend.ask(DELETE_MANY, **asked, dry_run=True)
    if found.count and not options.dry_run:
        _ensure_meant(found.count, options)
        found = backend.ask(DELETE_MANY, **asked, reason=options.reason, dry_run=False)
    if options.json:
        print_json(found.as_dict())
    else:
        print_line(f"{_memories(found.count)} {'would be deleted' if found.dry_run and found.count else 'deleted'}.")
    return 0


def _ensure_meant(number: int, options: argparse.Namespace) -> None:
    """Raises: InvalidArgument: nobody said yes."""
    if options.yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidArgument(f"This would delete {_memories(number)}", hint="Pass --yes, or --dry-run to see only")
    print(f"Delete {_memories(number)}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidArgument("Nothing was deleted", hint="Answer y to delete")


def _memories(number: int) -> str:
    return "1 memory" if number == 1 else f"{number:,} memories"


def _text(words: list[str]) -> str:
    """Raises: InvalidArgument: nothing to remember, or no text."""
    if words and words != ["-"]:
        return " ".join(words)
    if sys.stdin.isatty() and not words:
        raise InvalidArgument("There is nothing to remember", hint='Say it: save "…", or pipe it in')
    data = sys.stdin.buffer.read(_MOST_BYTES)
    try:
        return data.decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise InvalidArgument("Standard input is not UTF-8", hint="Pipe text in") from error
