"""`get` and `list`: one thing whole, and what there is (SPEC: CLI-25, CLI-26)."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from federated_memory.cli.find import KINDS, minute
from federated_memory.cli.output import (
    json_option,
    print_json,
    print_line,
    print_pairs,
    print_styled,
    print_table,
    print_text,
    size,
)
from federated_memory.errors import Conflict, InvalidArgument, NotFound
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend
    from federated_memory.service.memory_results import MemoryRowResult
    from federated_memory.service.results import DocumentRow, Message

_OVERVIEW = "overview.md"
_SESSION = re.compile(r"(?:sessions/)?([^/:]+?)(?::(\d+))?\Z")
_MEMORY = re.compile(r"\d{8}-\d{6}-[a-z0-9]+\Z")
_LISTS = ("memories", "knowledge", "sessions", "workspaces")


@dataclass(frozen=True, slots=True)
class Address:
    """What a name on the command line means. An empty workspace: it is to be found by its id alone."""

    kind: Literal["knowledge", "overview", "session", "memory", "any"]
    workspace_id: str
    name: str
    offset: int = 0


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    get = verbs.add_parser(
        "get", parents=[json_option()], help="a document, a session or a memory, whole",
        description="Print one thing: WORKSPACE/path.md, WORKSPACE (its overview), WORKSPACE/SESSION, a session's or a "
        "memory's id, or a memory:// address. What is piped is exactly what is stored.",
    )  # fmt: skip
    get.add_argument("name", metavar="NAME", help="as search and list print it; SESSION:LINE starts at a line")
    get.add_argument("--workspace", default="", metavar="ID", help="where it is, if several have it")
    get.add_argument("--version", type=int, metavar="N", help="an older version of a document")
    get.add_argument("--revision", type=int, metavar="N", help="what a session was before it was replaced")
    get.add_argument("--offset", type=int, metavar="LINE", help="of a session: start here; negative: from its end")
    get.add_argument("--lines", type=int, metavar="N", help="of a session: at most so many lines")
    get.add_argument("--raw", action="store_true", help="of a session: the JSONL itself")
    get.set_defaults(run=run_get)
    listed = verbs.add_parser(
        "list", parents=[json_option()], help="memories, knowledge, sessions or workspaces",
        description="List what there is, the newest first (knowledge by path).",
    )  # fmt: skip
    listed.add_argument("kind", nargs="?", choices=_LISTS, default=_LISTS[0], help="memories if left out")
    listed.add_argument("--workspace", default="", metavar="ID", help="only of this one")
    listed.add_argument("--here", action="store_true", help="only of the project of the current folder")
    for name in ("project", "machine", "tool"):
        listed.add_argument(f"--{name}", default="", metavar="NAME", help=f"only of this {name}")
    for name in ("since", "until"):
        listed.add_argument(f"--{name}", default="", metavar="TIME", help="a day (2026-11-21) or a time, UTC")
    listed.add_argument("--memory-kind", action="append", default=[], choices=KINDS, help="of memories; again for more")
    listed.add_argument("--tag", action="append", default=[], metavar="TAG", help="of memories; again: all of them")
    listed.add_argument("--all", action="store_true", help="of memories: superseded, expired and deleted ones too")
    listed.add_argument("--prefix", default="", metavar="PATH", help="of knowledge: only what is below this folder")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="how many at most (50; 0: all)")
    listed.set_defaults(run=run_list)


def address(text: str) -> Address:
    """Raises: InvalidArgument: nothing can be called that."""
    text = text.removeprefix("memory://")
    workspace_id, slash, rest = text.partition("/")
    if not slash:
        return Address("any", "", text)
    if rest in ("overview", _OVERVIEW, ""):
        return Address("overview", workspace_id, _OVERVIEW)
    if rest.startswith("memories/"):
        return Address("memory", workspace_id, rest.removeprefix("memories/"))
    if rest.endswith(".md") or rest.startswith("knowledge/"):
        return Address("knowledge", workspace_id, rest.removeprefix("knowledge/"))
    if _MEMORY.match(rest):
        return Address("memory", workspace_id, rest)
    if found := _SESSION.match(rest):
        return Address("session", workspace_id, found[1], int(found[2] or 0))
    raise InvalidArgument(
        f"{text} is no address", hint="A document ends in .md: WORKSPACE/path.md; a session is WORKSPACE/ID"
    )


def run_get(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    wanted = address(f"{options.workspace}/{options.name}" if options.workspace else options.name)
    with open_backend(load_settings()) as backend:
        if wanted.kind == "any" and _MEMORY.match(wanted.name):
            wanted = Address("memory", "", wanted.name)
        if wanted.kind == "any":
            wanted = _found(backend, wanted.name)
        if wanted.kind == "memory":
            return _print_memory(backend, wanted, options)
        if wanted.kind == "session":
            return _print_session(backend, wanted, options)
        etag, version, data = backend.content(
            wanted.workspace_id, wanted.name if wanted.kind == "knowledge" else None, options.version
        )
    text = data.decode("utf-8", "replace")
    if options.json:
        named = {"workspace_id": wanted.workspace_id, "path": wanted.name}
        print_json({**named, "version": version, "etag": etag, "text": text})
    else:
        print_text(text)
    return 0


def _found(backend: Backend, name: str) -> Address:
    """What has this id: a workspace, or else a session.

    Raises:
        NotFound: Nothing has.
        Conflict: Sessions in several workspaces have.
    """
    from federated_memory.cli.calls import FIND_SESSION

    name, _, line = name.partition(":")
    if not line:
        try:
            return Address("overview", backend.workspace(name).workspace_id, _OVERVIEW)
        except NotFound:
            pass
    try:
        rows = backend.ask(FIND_SESSION, session_id=name).sessions
    except NotFound:
        raise NotFound(f"Nothing is called {name}", hint="search and list print what get takes") from None
    if len(rows) > 1:
        places = ", ".join(f"{row.workspace_id}/{row.session_id}" for row in rows[:5])
        raise Conflict(f"Several workspaces have a session {name}", hint=f"Name one: {places}")
    return Address("session", rows[0].workspace_id, rows[0].session_id, int(line) if line.isdigit() else 0)


# -- memories


def _print_memory(backend: Backend, wanted: Address, options: argparse.Namespace) -> int:
    from federated_memory.cli.calls import MEMORY

    found = backend.ask(MEMORY, memory_id=wanted.name, workspace_id=wanted.workspace_id)
    if options.json:
        print_json(found.as_dict())
        return 0
    if sys.stdout.isatty():
        told = {
            "Subject": found.subject, "Summary": found.summary, "Kind": f"{found.kind}, importance {found.importance}",
            "State": found.state if found.state != "live" else "", "Project": found.project,
            "Tags": ", ".join(found.tags), "Files": ", ".join(found.files), "See": ", ".join(found.references),
            "Replaces": ", ".join(found.supersedes), "Replaced by": ", ".join(found.superseded_by or ()),
            "Expires": minute(found.expires_at or ""), "Stored": f"{minute(found.created_at)} by {found.user}, "
            f"{found.agent} on {found.machine}", "Workspace": found.workspace_id,
        }  # fmt: skip
        print_pairs([(name, value) for name, value in told.items() if value])
        print_line()
    print_text(found.content + "\n")
    return 0


def _list_memories(backend: Backend, options: argparse.Namespace) -> int:
    from federated_memory.cli.calls import MEMORIES, every

    found = every(
        backend, MEMORIES, "memories", options.limit, workspace_id=options.workspace, project=options.project,
        machine=options.machine, tool=options.tool, memory_kind=",".join(options.memory_kind),
        tags=",".join(options.tag), since=options.since, until=options.until,
        include_superseded=options.all or None, include_hidden=options.all or None,
    )  # fmt: skip
    if options.json:
        print_json([row.as_dict() for row in found])
    elif not found:
        print_line("No memories. Store one with `federated-memory save`.")
    else:
        print_table(
            ("MEMORY", "STORED", "KIND", *(("STATE",) if options.all else ()), "PROJECT", "SUBJECT"),
            [
                (row.memory_id, minute(row.created_at), row.kind, *((_state(row),) if options.all else ()),
                 row.project, row.subject)
                for row in found
            ],
        )  # fmt: skip
    return 0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _state(row: MemoryRowResult) -> str:
    if row.deleted_at:
        return "deleted"
    if row.superseded_by:
        return "superseded"
    return "expired" if row.expires_at and row.expires_at <= _now() else "live"


# -- sessions


def _print_session(backend: Backend, wanted: Address, options: argparse.Namespace) -> int:
    from federated_memory.cli.calls import MESSAGES, MOST_BYTES, PAGE

    start = wanted.offset if options.offset is None else options.offset
    left = options.lines if options.lines is not None else sys.maxsize
    asked = {
        "workspace_id": wanted.workspace_id, "session_id": wanted.name, "revision": options.revision,
        "form": "raw" if options.raw else "messages", "max_bytes": MOST_BYTES,
    }  # fmt: skip
    whole: dict[str, object] = {}
    messages: list[object] = []
    byte_offset, printed = None, _Conversation(options.raw)
    while left > 0:
        page = backend.ask(MESSAGES, **asked, offset=start, byte_offset=byte_offset, limit=min(left, PAGE))
        if options.json:
            whole = whole or page.as_dict()
            messages += [message.as_dict() for message in page.messages]
        else:
            for message in page.messages:
                printed.show(message)
        if page.next_offset is None:
            break
        left -= page.next_offset - page.offset
        start, byte_offset = page.next_offset, page.next_byte_offset
    if options.json:
        rest = {name: value for name, value in whole.items() if name not in ("truncated", "next_byte_offset")}
        print_json({**rest, "messages": messages})
    printed.end()
    return 0


class _Conversation:
    """A transcript as people read it, or its JSONL; a line that came in pieces is one line again."""

    def __init__(self, is_raw: bool) -> None:
        self._is_raw = is_raw
        self._line = -1
        self._pieces: list[str] = []

    def show(self, message: Message) -> None:
        if self._is_raw:
            if message.line != self._line:
                self.end()
            self._line = message.line
            self._pieces.append(message.text)
            return
        at = f"  {minute(message.at)}" if message.at else ""
        print_styled(f"[{message.line}] {message.tool or message.role}{at}", "name")
        print_text(message.text.rstrip("\n") + "\n\n")

    def end(self) -> None:
        if self._pieces:
            print_text("".join(self._pieces) + "\n")
        self._pieces = []


# -- lists


def run_list(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.place import place_here

    if options.here:
        options.project = place_here().project
    with open_backend(load_settings()) as backend:
        match options.kind:
            case "workspaces":
                from federated_memory.cli.workspace import print_workspaces

                return print_workspaces(backend, options)
            case "memories":
                return _list_memories(backend, options)
            case "knowledge":
                return _list_knowledge(backend, options)
            case _:
                return _list_sessions(backend, options)


def _list_knowledge(backend: Backend, options: argparse.Namespace) -> int:
    from federated_memory.cli.calls import DOCUMENTS, every

    found: list[tuple[str, DocumentRow]] = []
    for workspace_id in _workspaces(backend, options):
        left = options.limit - len(found) if options.limit else 0
        rows = every(backend, DOCUMENTS, "documents", left, workspace_id=workspace_id, prefix=options.prefix)
        found += [(workspace_id, row) for row in rows]
        if options.limit and len(found) >= options.limit:
            break
    if options.json:
        print_json([{"workspace_id": workspace_id, **row.as_dict()} for workspace_id, row in found])
    elif not found:
        print_line("No knowledge.")
    else:
        print_table(
            ("DOCUMENT", "CHANGED", "SIZE", "TITLE"),
            [(f"{w}/{row.path}", minute(row.updated_at), size(row.bytes), row.title) for w, row in found],
        )
    return 0


def _list_sessions(backend: Backend, options: argparse.Namespace) -> int:
    from federated_memory.cli.calls import SESSIONS, every

    window = {"since": options.since, "until": options.until}
    if options.workspace or not (options.project or options.machine):
        found = every(
            backend, SESSIONS, "sessions", options.limit, workspace_id=options.workspace, tool=options.tool, **window
        )
    else:
        parts = [
            every(backend, SESSIONS, "sessions", options.limit, workspace_id=workspace_id, **window)
            for workspace_id in _workspaces(backend, options)
        ]
        found = sorted((row for part in parts for row in part), key=lambda row: row.started_at, reverse=True)
        found = found[: options.limit or None]
    if options.json:
        print_json([row.as_dict() for row in found])
    elif not found:
        print_line("No sessions.")
    else:
        print_table(
            ("SESSION", "STARTED", "AGENT", "LINES", "SIZE", "TITLE"),
            [
                (f"{row.workspace_id}/{row.session_id}", minute(row.started_at), row.agent, row.lines,
                 size(row.bytes), row.title)
                for row in found
            ],
        )  # fmt: skip
    return 0


def _workspaces(backend: Backend, options: argparse.Namespace) -> list[str]:
    if options.workspace:
        return [backend.workspace(options.workspace).workspace_id]
    rows = backend.workspaces(machine=options.machine, tool=options.tool, project=options.project)
    return [row.workspace_id for row in rows]
