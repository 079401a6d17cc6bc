"""Tools of the toolset `memories`: small typed notes (SPEC: MEM-1 to MEM-13)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from federated_memory.service.memory_draft import (
    MAX_ENTRIES,
    MAX_PROJECT,
    MAX_REFERENCE,
    MAX_SUBJECT,
    MAX_SUMMARY,
    MemoryDraft,
)
from federated_memory.service.memory_results import MemoryDeleted, MemoryList, MemoryStored, MemoryText
from federated_memory.store.memory_file import MemoryKind, Visibility
from federated_memory.tools import parameters as p
from federated_memory.tools.toolkit import Call, ToolSpec, spec

Id = Annotated[str, Field(max_length=200)]
Texts = Annotated[list[Annotated[str, Field(max_length=MAX_REFERENCE)]] | None, Field(max_length=MAX_ENTRIES)]


def store_memory(
    call: Call,
    content: Annotated[str, Field(description="One fact, Markdown.")],
    kind: MemoryKind = "note",
    subject: Annotated[str | None, Field(max_length=MAX_SUBJECT)] = None,
    summary: Annotated[str | None, Field(max_length=MAX_SUMMARY)] = None,
    project: Annotated[str, Field(max_length=MAX_PROJECT)] = "",
    importance: Annotated[int, Field(ge=1, le=5, description="5: must be known.")] = 3,
    tags: Texts = None,
    files: Texts = None,
    references: Texts = None,
    supersedes: Annotated[list[Id] | None, Field(max_length=MAX_ENTRIES, description="Ids it replaces.")] = None,
    expires_at: p.Time = None,
    ttl_seconds: Annotated[int | None, Field(ge=1)] = None,
    visibility: Annotated[Visibility, Field(description="team: same project.")] = "all",
    room: p.Name = "",
    binding: p.Binding = None,
) -> MemoryStored:
    """Remember one thing for later sessions: a decision and why, a bug's cause, a command that works. Longer texts go
    to write_knowledge. Answers with `similar` notes that it may replace."""
    draft = MemoryDraft(
        content, kind, subject, summary, project, importance, tags or (), files or (), references or (),
        supersedes or (), expires_at, ttl_seconds, visibility, room,
    )  # fmt: skip
    return call.services.memories.store(call.caller, draft, binding=binding)


def get_memory(
    call: Call,
    memory_id: p.Id,
    workspace_id: p.AnyWorkspace = "",
    offset: p.Offset = 0,
    byte_offset: p.ByteOffset = 0,
    binding: p.Binding = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> MemoryText:
    """A whole memory, every field, also when it is superseded or deleted."""
    return call.services.memories.get(
        call.caller, memory_id, workspace_id=workspace_id, binding=binding, offset=offset, byte_offset=byte_offset,
        max_bytes=max_bytes,
    )  # fmt: skip


def list_memories(
    call: Call,
    workspace_id: Annotated[str, Field(max_length=200, description="Id or glob.")] = "",
    project: p.Name = "",
    machine: p.Name = "",
    tool: p.Name = "",
    agent: p.Name = "",
    memory_kind: p.MemoryKinds = "",
    tags: p.Tags = None,
    room: p.Name = "",
    since: p.Since = None,
    until: p.Time = None,
    as_of: p.AsOf = None,
    include_superseded: bool = False,
    include_hidden: p.Hidden = False,
    binding: p.Binding = None,
    limit: p.Limit = 50,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> MemoryList:
    """Memories by filter, newest first."""
    return call.services.memories.list(
        call.caller, workspace_id=workspace_id, project=project, machine=machine, tool=tool, agent=agent,
        memory_kind=memory_kind, tags=tags or (), room=room, since=since, until=until, as_of=as_of,
        include_superseded=include_superseded, include_hidden=include_hidden, binding=binding, limit=limit,
        cursor=cursor, max_bytes=max_bytes,
    )  # fmt: skip


def delete_memory(
    call: Call,
    memory_id: p.Id,
    reason: Annotated[str, Field(max_length=500)] = "",
    binding: p.Binding = None,
) -> MemoryDeleted:
    """Hide a wrong or outdated memory of your workspace, saying why. If another replaces it, store that with
    `supersedes` instead."""
    return call.services.memories.delete(call.caller, memory_id, reason, binding=binding)


TOOLS: tuple[ToolSpec, ...] = (
    spec(store_memory, "Store a memory", "ai", "admin", writes=True, idempotent=False),
    spec(get_memory, "Read a memory"),
    spec(list_memories, "List memories"),
    spec(delete_memory, "Delete a memory", "ai", "admin", writes=True, destroys=True),
)
