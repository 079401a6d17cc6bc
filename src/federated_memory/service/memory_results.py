"""What the memory services return; the rest is in `results`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from federated_memory.service.results import Result


class SimilarMemory(Result):
    memory_id: str
    kind: str
    subject: str
    created_at: str


class MemoryStored(Result):
    workspace_id: str
    memory_id: str
    created: bool = Field(description="False: an import had stored it before.")
    created_at: str
    expires_at: str | None = None
    warnings: list[str] = Field(default_factory=list)
    similar: list[SimilarMemory] = Field(
        default_factory=list, description="Live notes on the same subject: pass those it replaces as `supersedes`."
    )


class MemoryRowResult(Result):
    workspace_id: str
    memory_id: str
    kind: str
    subject: str
    project: str
    importance: int
    tags: list[str]
    agent: str
    created_at: str
    expires_at: str | None = None
    visibility: str
    room: str | None = None
    superseded_by: list[str] | None = None
    deleted_at: str | None = None


class MemoryList(Result):
    memories: list[MemoryRowResult]
    total: int = Field(description="How many there are; counted to 10,000.")
    next_cursor: str | None = None


class MemoryText(MemoryRowResult):
    summary: str | None = None
    content: str
    files: list[str] = Field(default_factory=list)
    references: list[str] = Field(default_factory=list)
    supersedes: list[str] = Field(default_factory=list)
    user: str
    machine: str
    session: str | None = None
    source: str | None = None
    etag: str
    deleted_by: str | None = None
    reason: str | None = None
    state: Literal["live", "superseded", "expired", "deleted"]
    truncated: bool = False
    next_offset: int | None = None
    next_byte_offset: int | None = None


class ExportedMemory(Result):
    """A memory with every field of its file."""

    memory_id: str
    content: str
    kind: str
    subject: str
    summary: str
    project: str
    importance: int
    tags: list[str]
    files: list[str]
    references: list[str]
    supersedes: list[str]
    created_at: str
    expires_at: str
    visibility: str
    room: str
    user: str
    agent: str
    machine: str
    session: str
    source: str
    others: dict[str, Any]


class MemoryExport(Result):
    memories: list[ExportedMemory]
    next_cursor: str | None = None


class MemoryDeleted(Result):
    workspace_id: str
    memory_id: str
    deleted_at: str


class MemoriesDeleted(Result):
    count: int = Field(description="How many were deleted, or (dry run) would be.")
    dry_run: bool
    memory_ids: list[str] = Field(description="At most 100 of them.")


class Imported(Result):
    created: int
    unchanged: int
    deleted: int = Field(description="Left out because they were deleted here.")
    dry_run: bool
    warnings: list[str] = Field(default_factory=list)
