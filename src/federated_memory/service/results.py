"""What the services return: the same shapes in tools and HTTP. Absent means null; times are RFC 3339 UTC."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Result(BaseModel):
    """Base of every result; `as_dict` is its wire form."""

    model_config = ConfigDict(defer_build=True)  # a command uses two of a hundred, and each takes about a millisecond

    @property
    def is_change(self) -> bool:
        """Whether the call that it ends has changed anything, as far as it is one that may."""
        return True

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


class DeletedDocument(Result):
    path: str
    title: str
    bytes: int
    version: int = Field(description="The last one, which restoring brings back.")
    updated_at: str


class DeletedDocuments(Result):
    workspace_id: str
    documents: list[DeletedDocument]
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
    kind: Literal["knowledge", "overview", "memory", "session"]
    workspace_id: str
    path: str | None = None
    session_id: str | None = None
    memory_id: str | None = None
    offset: int = Field(description="Line to read on from: the `offset` of the tool that reads it.")
    role: str | None = None
    title: str
    at: str
    snippet: str
    score: float | None = None


class MemoryHit(HitRow):
    machine: str
    tool: str
    project: str
    read_with: Literal["read_knowledge", "get_overview", "read_session", "get_memory"] = Field(
        description="The tool to read on with, at `offset`."
    )
    user: str | None = Field(default=None, description="Of a memory: who stored it; then by which agent, and so on.")
    agent: str | None = None
    room: str | None = None
    memory_kind: str | None = None


class MemoryHits(Result):
    hits: list[MemoryHit]
    complete: bool = Field(description="False: the search stopped early; `note` says why.")
    note: str | None = None
    next_cursor: str | None = None


class Hits(Result):
    hits: list[HitRow]
    complete: bool = Field(description="False: the search stopped early; `note` says why.")
    note: str | None = None
    next_cursor: str | None = None


class Brief(Result):
    workspace_id: str | None = Field(default=None, description="Yours, once it is registered.")
    why: str = Field(description="Why this workspace; unsure: what to do.")
    text: str = Field(description="Empty when unsure.")
    truncated: bool = False
    as_of: str
    candidates: list[str] | None = Field(default=None, description="Workspaces it may be, when unsure.")


class TokenRow(Result):
    name: str
    role: str
    read: list[str]
    write: list[str]
    read_keys: list[str] = Field(default_factory=list, description="Of the shared state.")
    write_keys: list[str] = Field(default_factory=list)
    read_rooms: list[str] = Field(default_factory=list)
    write_rooms: list[str] = Field(default_factory=list)
    machine: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    state: Literal["active", "expired", "revoked"]


class TokenCreated(TokenRow):
    token: str = Field(description="Shown this once.")


class InvitationRow(Result):
    invitation_id: str
    machine: str
    read: list[str]
    created_at: str
    created_by: str
    expires_at: str
    used_at: str | None = None
    used_from: str | None = None
    state: Literal["open", "used", "withdrawn", "expired"]


class Invited(InvitationRow):
    code: str = Field(description="Shown this once.")
    url: str = Field(description="PUBLIC_URL; empty when it is not set.")
    fingerprint: str | None = Field(default=None, description="Of the certificate, unless it is trusted anyway.")
    pin: str | None = Field(default=None, description="Of its public key, as curl's --pinnedpubkey takes it.")
    notes: list[str] = Field(default_factory=list)


class Enrolled(Result):
    machine: str
    url: str
    mcp_url: str
    ai_token: str = Field(description="Shown this once.")
    sync_token: str = Field(description="Shown this once.")
    ca: str | None = Field(description="PEM, for a certificate that machines do not trust by themselves.")

    def as_dict(self) -> dict[str, object]:
        """With `ca` also when it is null: the client asks for it by name."""
        return self.model_dump(mode="json")


class SecretRow(Result):
    workspace_id: str
    kind: Literal["knowledge", "overview", "memory", "tombstone", "session"]
    name: str = Field(description="The path, or the session's id.")
    counts: dict[str, int] = Field(description="Kind of secret -> how many. Never their text.")


class SecretFlags(Result):
    secrets: list[SecretRow] = Field(description="Where secrets were found: at most 50.")
    total: int = Field(description="How many documents and sessions hold some.")
    pending: int = Field(description="Changes that were not looked at yet.")


class IndexStatus(Result):
    state: Literal["current", "behind", "building", "failing"]
    behind: int = Field(description="Changes that are not indexed yet; searches read these files directly.")
    done: int = Field(description="While it is built: sources that are indexed, of `total`.")
    total: int
    problem: str | None = None


class Status(Result):
    version: str
    root: str
    workspaces: int
    documents: int
    sessions: int
    memories: int = 0
    bytes: int
    last_change: int
    free_bytes: int
    uploads: bool = Field(description="Whether a sync token exists.")
    index: IndexStatus | None = None
    ready: bool
    reasons: list[str]
    secrets: list[SecretRow] = Field(default_factory=list, description="Where secrets were found: at most 50.")
    secrets_total: int = Field(default=0, description="How many documents and sessions hold some.")
    secrets_pending: int = Field(default=0, description="Changes that were not looked at yet.")


class Nothing(Result):
    ok: bool = True
