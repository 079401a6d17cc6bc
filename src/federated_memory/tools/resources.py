"""Resources: `memory://<workspace_id>/overview`, `…/knowledge/{path}`, `…/sessions/{session_id}` and
`…/memories/{memory_id}` (SPEC: RES-1, RES-2).

The same services, rights and framing as the tools: what is stored is told as data, with where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

from mcp_types import Completion, ReadResourceResult, Resource, ResourceTemplate, TextResourceContents

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidName, NotFound
from federated_memory.names import (
    DocumentPath,
    SessionId,
    WorkspaceId,
    parse_document_path,
    parse_memory_id,
    parse_session_id,
    parse_workspace_id,
)
from federated_memory.service.framing import visible_line
from federated_memory.service.pages import decode_cursor, encode_cursor
from federated_memory.service.results import Result
from federated_memory.service.services import Services
from federated_memory.store.changes import Change
from federated_memory.store.memory_file import called_after
from federated_memory.tools.render import render

SCHEME = "memory://"
_PAGE = 100
_MAX_BYTES = 65_536
_COMPLETIONS = 100
_MARKDOWN, _TEXT = "text/markdown", "text/plain"

Kind = Literal["overview", "knowledge", "sessions", "memories"]

TEMPLATES = (
    ResourceTemplate(
        uri_template=SCHEME + "{workspace_id}/overview", name="overview", title="A workspace's overview",
        description="What a project is and where it stands.", mime_type=_MARKDOWN,
    ),
    ResourceTemplate(
        uri_template=SCHEME + "{workspace_id}/knowledge/{path}", name="knowledge", title="A knowledge document",
        description="Facts, decisions and commands, as Markdown. The path is percent-encoded, `/` may stand as it is.",
        mime_type=_MARKDOWN,
    ),
    ResourceTemplate(
        uri_template=SCHEME + "{workspace_id}/sessions/{session_id}", name="session", title="A session's transcript",
        description="What was said, from the start, up to 64 KiB; read_session reads on.", mime_type=_TEXT,
    ),
    ResourceTemplate(
        uri_template=SCHEME + "{workspace_id}/memories/{memory_id}", name="memory", title="A memory",
        description="One thing that an agent noted: a decision, the cause of a bug, a command.", mime_type=_MARKDOWN,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """What a URI names. `path` only of knowledge, `session_id` only of sessions, `memory_id` only of memories."""

    workspace_id: WorkspaceId
    kind: Kind
    path: DocumentPath | None = None
    session_id: SessionId | None = None
    memory_id: str | None = None


def parse_uri(uri: str) -> Address:
    """Raises: NotFound: no such kind of resource. InvalidName: a name that none can have."""
    workspace_id, _, rest = uri.removeprefix(SCHEME).partition("/")
    kind, _, name = rest.partition("/")
    known = parse_workspace_id(workspace_id)
    if not uri.startswith(SCHEME) or (kind == "overview" and rest != "overview"):
        raise NotFound("No such resource", hint="See resources/templates/list")
    if kind == "overview":
        return Address(known, "overview")
    try:
        plain = unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise InvalidName("The URI is not UTF-8", hint="Percent-encode UTF-8") from None
    if kind == "knowledge":
        return Address(known, "knowledge", path=parse_document_path(plain))
    if kind == "sessions":
        return Address(known, "sessions", session_id=parse_session_id(plain))
    if kind == "memories":
        return Address(known, "memories", memory_id=parse_memory_id(plain))
    raise NotFound("No such resource", hint="See resources/templates/list")


def uri_of(workspace_id: str, kind: str, key: str = "") -> str:
    return f"{SCHEME}{workspace_id}/overview" if kind == "overview" else f"{SCHEME}{workspace_id}/{kind}/{quote(key)}"


def uri_of_change(change: Change) -> str | None:
    """The resource that a change of the feed is about."""
    match change.kind:
        case "overview" | "knowledge":
            return uri_of(change.workspace_id, change.kind, change.key)
        case "memory":
            return uri_of(change.workspace_id, "memories", called_after(change.key))
        case "session":
            return uri_of(change.workspace_id, "sessions", change.key)
    return None


def read(services: Services, caller: Caller, uri: str) -> ReadResourceResult:
    """Raises: FederatedMemoryError: as the tools do."""
    at = parse_uri(uri)
    found: Result
    if at.memory_id is not None:
        found = services.memories.get(caller, at.memory_id, workspace_id=at.workspace_id, max_bytes=_MAX_BYTES)
    elif at.session_id is not None:
        found = services.sessions.read(caller, at.workspace_id, at.session_id, max_bytes=_MAX_BYTES)
    else:
        found = services.knowledge.read(caller, at.workspace_id, at.path, max_bytes=_MAX_BYTES)
    kind = _TEXT if at.kind == "sessions" else _MARKDOWN
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=kind, text=render(found))])


def page(services: Services, caller: Caller, cursor: str | None) -> tuple[list[Resource], str | None]:
    """The overviews of the workspaces that the caller may read; the rest is reached through templates."""
    position = decode_cursor(cursor, "resources", str)
    after = str(position[0]) if position else ""
    core = services.core
    wanted = [item for item in core.policy.readable(caller, core.registry.all()) if item.workspace_id > after]
    found = [
        Resource(
            uri=uri_of(workspace.workspace_id, "overview"), name=str(workspace.workspace_id), mime_type=_MARKDOWN,
            title=visible_line(f"Overview of {workspace.project} ({workspace.tool} on {workspace.machine})", 120),
        )
        for workspace in wanted[:_PAGE]
    ]  # fmt: skip
    more = len(wanted) > _PAGE
    return found, encode_cursor("resources", [wanted[_PAGE - 1].workspace_id]) if more else None


def complete(services: Services, caller: Caller, name: str, begun: str, given: dict[str, str]) -> Completion:
    """Values for one argument of a template or prompt, within the caller's read globs."""
    if name == "workspace_id":
        core = services.core
        return _completion((item.workspace_id for item in core.policy.readable(caller, core.registry.all())), begun)
    if name in ("path", "session_id", "memory_id") and given.get("workspace_id"):
        workspace = services.core.policy.reader(caller, parse_workspace_id(given["workspace_id"]))
        if name == "path":
            return _completion((row.key.path for row in services.core.documents.list(workspace.workspace_id)), begun)
        if name == "memory_id":
            found = services.memories.list(
                caller, workspace_id=workspace.workspace_id, limit=1_000, cursor=None, max_bytes=1_000_000
            )
            return _completion((row.memory_id for row in found.memories), begun)
        newest = services.core.archives.newest(workspace.workspace_id, limit=1_000)
        return _completion((row.session_id for row in newest), begun)
    return Completion(values=[])


def _completion(values: Iterable[str], begun: str) -> Completion:
    folded = begun.casefold()
    found = [str(value) for value in values if value.casefold().startswith(folded)]
    return Completion(values=found[:_COMPLETIONS], total=len(found), has_more=len(found) > _COMPLETIONS)
