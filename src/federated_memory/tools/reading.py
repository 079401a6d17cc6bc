"""Tools that read: everybody may call them, within their token's read globs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from federated_memory.service.results import (
    DocumentList,
    DocumentText,
    History,
    Hits,
    MemoryHits,
    Overview,
    SessionList,
    SessionPage,
    WorkspaceList,
)
from federated_memory.tools import parameters as p
from federated_memory.tools.toolkit import Call, ToolSpec, spec


def get_overview(
    call: Call,
    workspace_id: Annotated[str, Field(max_length=200, description="Show its whole overview.")] = "",
    offset: p.Offset = 0,
    byte_offset: p.ByteOffset = 0,
    limit: p.Limit = 50,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> Overview:
    """What this memory holds: its README and every workspace with a one-line summary. Call it first."""
    return call.services.workspaces.overview(
        call.caller, workspace_id=workspace_id, offset=offset, byte_offset=byte_offset, limit=limit, cursor=cursor,
        max_bytes=max_bytes,
    )  # fmt: skip


def list_workspaces(
    call: Call,
    machine: p.Name = "",
    tool: p.Name = "",
    project: p.Name = "",
    limit: p.Limit = 50,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> WorkspaceList:
    """Workspaces with counts and last activity."""
    return call.services.workspaces.list(
        call.caller, machine=machine, tool=tool, project=project, limit=limit, cursor=cursor, max_bytes=max_bytes
    )


def list_knowledge(
    call: Call,
    workspace_id: p.WorkspaceId = "",
    prefix: Annotated[str, Field(max_length=1_000, description="Such as `design/`.")] = "",
    limit: p.Limit = 100,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> DocumentList:
    """The knowledge documents of a workspace, by path."""
    return call.services.knowledge.list(
        call.caller, workspace_id, prefix=prefix, limit=limit, cursor=cursor, max_bytes=max_bytes
    )


def read_knowledge(
    call: Call,
    path: p.Path,
    workspace_id: p.WorkspaceId = "",
    version: Annotated[int | None, Field(ge=1, description="Default: the current one.")] = None,
    offset: p.Offset = 0,
    limit: p.Lines = 1_000_000,
    byte_offset: p.ByteOffset = 0,
    max_bytes: p.MaxBytes = p.BYTES,
) -> DocumentText:
    """Read a document. When `truncated`, go on at `next_offset`: a part must not be written back."""
    return call.services.knowledge.read(
        call.caller, workspace_id, path,
        version=version, offset=offset, byte_offset=byte_offset, limit=limit, max_bytes=max_bytes,
    )  # fmt: skip


def knowledge_history(
    call: Call,
    path: p.Path,
    workspace_id: p.WorkspaceId = "",
    from_version: Annotated[int | None, Field(ge=1, description="With to_version: a diff.")] = None,
    to_version: Annotated[int | None, Field(ge=1)] = None,
    limit: p.Limit = 50,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> History:
    """The versions of a document, newest first; with two of them, their unified diff."""
    return call.services.knowledge.history(
        call.caller, workspace_id, path,
        from_version=from_version, to_version=to_version, limit=limit, cursor=cursor, max_bytes=max_bytes,
    )  # fmt: skip


def list_sessions(
    call: Call,
    workspace_id: p.AnyWorkspace = "",
    tool: p.Name = "",
    since: p.Since = None,
    until: p.Time = None,
    limit: p.Limit = 20,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> SessionList:
    """Stored transcripts, newest first."""
    return call.services.sessions.list(
        call.caller, workspace_id, tool=tool, since=since, until=until, limit=limit, cursor=cursor, max_bytes=max_bytes
    )


def read_session(
    call: Call,
    session_id: p.SessionId,
    workspace_id: p.WorkspaceId = "",
    offset: Annotated[int, Field(description="Lines to skip; negative: from the end.")] = 0,
    limit: p.Lines = 1_000_000,
    byte_offset: p.ByteOffset = 0,
    format: Annotated[Literal["messages", "raw"], Field(description="raw: the JSONL lines.")] = "messages",
    revision: Annotated[int | None, Field(ge=1, description="Default: the current one.")] = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> SessionPage:
    """A page of a transcript. Go on at `next_offset`; around a hit, start a few lines before it."""
    return call.services.sessions.read(
        call.caller, workspace_id, session_id,
        offset=offset, byte_offset=byte_offset, limit=limit, form=format, revision=revision, max_bytes=max_bytes,
    )  # fmt: skip


def search_memory(
    call: Call,
    query: p.Query,
    kinds: Annotated[list[Literal["knowledge", "memory", "session"]] | None, Field(max_length=3)] = None,
    workspace_id: Annotated[str, Field(max_length=200, description="Id or glob.")] = "",
    project: p.Name = "",
    machine: p.Name = "",
    tool: p.Name = "",
    session_id: p.SessionId = "",
    role: p.Role | None = None,
    agent: p.Name = "",
    memory_kind: p.MemoryKinds = "",
    tags: p.Tags = None,
    room: p.Name = "",
    since: p.Since = None,
    until: p.Time = None,
    as_of: p.AsOf = None,
    mode: p.Mode = "ranked",
    include_superseded: bool = False,
    include_hidden: p.Hidden = False,
    binding: p.Binding = None,
    limit: p.Limit = 20,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> MemoryHits:
    """Search everything: knowledge, memories and past sessions. ranked: any of the words, best first, "quotes" for a
    phrase, -word to exclude; literal, regex: newest first. Each hit says how to read on."""
    return call.services.searching.memory(
        call.caller, query, mode, kinds=kinds or (), workspace_id=workspace_id, project=project, machine=machine,
        tool=tool, session_id=session_id, role=role, agent=agent, memory_kind=memory_kind, tags=tags or (), room=room,
        since=since, until=until, as_of=as_of, include_superseded=include_superseded, include_hidden=include_hidden,
        binding=binding, limit=limit, cursor=cursor, max_bytes=max_bytes, cancelled=call.cancelled,
    )  # fmt: skip


def search_knowledge(
    call: Call,
    query: p.Query,
    workspace_id: p.AnyWorkspace = "",
    mode: p.Mode = "ranked",
    since: p.Since = None,
    until: p.Time = None,
    limit: p.Limit = 20,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> Hits:
    """Search documents and overviews. Read on at a hit's `offset` with read_knowledge."""
    return call.services.searching.knowledge(
        call.caller, query, mode, workspace_id=workspace_id, since=since, until=until, limit=limit, cursor=cursor,
        max_bytes=max_bytes, cancelled=call.cancelled,
    )  # fmt: skip


def search_sessions(
    call: Call,
    query: p.Query,
    workspace_id: p.AnyWorkspace = "",
    mode: p.Mode = "ranked",
    role: p.Role | None = None,
    tool: p.Name = "",
    since: p.Since = None,
    until: p.Time = None,
    limit: p.Limit = 20,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> Hits:
    """Search what was said and done in past sessions. Read on at a hit's `offset` with read_session."""
    return call.services.searching.sessions(
        call.caller, query, mode, workspace_id=workspace_id, role=role, tool=tool, since=since, until=until,
        limit=limit, cursor=cursor, max_bytes=max_bytes, cancelled=call.cancelled,
    )  # fmt: skip


TOOLS: tuple[ToolSpec, ...] = (
    spec(get_overview, "Overview of the memory"),
    spec(list_workspaces, "List workspaces"),
    spec(list_knowledge, "List knowledge documents"),
    spec(read_knowledge, "Read a knowledge document"),
    spec(search_memory, "Search everything", lane="search"),
    spec(search_knowledge, "Search knowledge", lane="search"),
    spec(knowledge_history, "History of a document"),
    spec(list_sessions, "List sessions"),
    spec(read_session, "Read a session"),
    spec(search_sessions, "Search sessions", lane="search"),
)
