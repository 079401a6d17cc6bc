"""What the services return: the same shapes in tools and HTTP. Absent means null; times are RFC 3339 UTC."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Result(BaseModel):
    """Base of every result; `as_dict` is its wire form."""

    def as_dict(self) -> dict[str, object]:
        """JSON-ready, without nulls but for `next_cursor`, whose null says that a list has ended."""
        found = self.model_dump(mode="json", exclude_none=True)
        if "next_cursor" in type(self).model_fields:
            found.setdefault("next_cursor", None)
        return found


class WorkspaceRow(Result):
    workspace_id: str
    machine: str
    tool: str
    project: str
    summary: str = Field(description="Heading and first line of the overview, else the description.")
    documents: int
    sessions: int
    last_activity: str


class WorkspaceList(Result):
    workspaces: list[WorkspaceRow]
    total: int
    next_cursor: str | None = None


class Registered(Result):
    workspace_id: str
    created: bool
    binding: str | None = Field(default=None, description="Pass it to every write tool.")
    write_token: str | None = Field(default=None, description="Shown this once; uploads need it.")
    note: str | None = None


class DocumentRow(Result):
    path: str
    title: str
    bytes: int
    etag: str
    updated_at: str


class DocumentList(Result):
    workspace_id: str
    documents: list[DocumentRow]
    total: int
    next_cursor: str | None = None


class DocumentText(Result):
    workspace_id: str
    path: str
    version: int
    etag: str | None = Field(default=None, description="Only with a whole read: pass it as `if_match`.")
    updated_at: str
    updated_by: str | None = None
    lines: int = Field(description="Of the whole text.")
    offset: int
    text: str
    truncated: bool = False
    next_offset: int | None = None
    next_byte_offset: int | None = Field(default=None, description="Where the cut line goes on; with `next_offset`.")


class Overview(WorkspaceList):
    readme: str = Field(description="The server's README.")
    overview: DocumentText | None = Field(default=None, description="Of the workspace that was asked for.")


class DocumentWritten(Result):
    workspace_id: str
    path: str
    etag: str
    version: int
    created: bool
    unchanged: bool = False


class DocumentDeleted(Result):
    workspace_id: str
    path: str
    version: int = Field(description="The version that is kept; restore_knowledge brings it back.")
    deleted: bool = True


class VersionRow(Result):
    version: int
    etag: str
    at: str
    by: str
    source: str
    operation: str


class History(Result):
    workspace_id: str
    path: str
    versions: list[VersionRow]
    diff: str | None = Field(default=None, description="Unified diff of from_version to to_version.")
    truncated: bool = False
    next_cursor: str | None = None


class SessionRow(Result):
    workspace_id: str
    session_id: str
    title: str
    agent: str
    started_at: str
    ended_at: str
    lines: int
    bytes: int
    sha256: str
    revision: int


class SessionList(Result):
    sessions: list[SessionRow]
    next_cursor: str | None = None


class Message(Result):
    line: int = Field(description="Number of the JSONL line, from 0: what `offset` takes.")
    role: Literal["user", "assistant", "tool", "system", "raw"]
    at: str | None = None
    tool: str | None = None
    text: str


class SessionPage(Result):
    workspace_id: str
    session_id: str
    title: str
    agent: str
    revision: int
    sha256: str | None = None
    lines: int = Field(description="Of the whole transcript.")
    offset: int
    messages: list[Message]
    truncated: bool = False
    next_offset: int | None = None
    next_byte_offset: int | None = None


class SessionStored(Result):
    workspace_id: str
    session_id: str
    status: Literal["created", "appended", "unchanged", "diverged"]
    revision: int
    sha256: str
    bytes: int
    lines: int
    title: str


class HitRow(Result):
    kind: Literal["knowledge", "overview", "session"]
    workspace_id: str
    path: str | None = None
    session_id: str | None = None
    offset: int = Field(description="Line to read on from: the `offset` of read_knowledge or read_session.")
    role: str | None = None
    title: str
    at: str
    snippet: str
    score: float | None = None


class Hits(Result):
    hits: list[HitRow]
    complete: bool = Field(description="False: the search stopped early; `note` says why.")
    note: str | None = None
    next_cursor: str | None = None


class TokenRow(Result):
    name: str
    role: str
    read: list[str]
    write: list[str]
    machine: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    state: Literal["active", "expired", "revoked"]


class TokenCreated(TokenRow):
    token: str = Field(description="Shown this once.")


class Status(Result):
    version: str
    root: str
    workspaces: int
    documents: int
    sessions: int
    bytes: int
    last_change: int
    free_bytes: int
    uploads: bool = Field(description="Whether a sync token exists.")
    ready: bool
    reasons: list[str]


class Nothing(Result):
    ok: bool = True
