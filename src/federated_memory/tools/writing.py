"""Tools that write: AI callers through their binding, sync callers with a workspace's write token."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from federated_memory.service.results import DocumentDeleted, DocumentWritten, Registered, SessionStored
from federated_memory.tools import parameters as p
from federated_memory.tools.toolkit import Call, ToolSpec, spec


def register_workspace(
    call: Call,
    machine: p.Name = "",
    tool: p.Name = "",
    project: p.Name = "",
    description: Annotated[str, Field(max_length=4_000)] = "",
    workspace_id: Annotated[str, Field(max_length=200, description="Default: made of the names.")] = "",
) -> Registered:
    """Register your workspace, once at the start of a session: this computer's name, your tool, the repository's name.

    The same names give the same workspace. Keep the `binding` it returns and pass it to every tool that writes.
    """
    return call.services.workspaces.register(
        call.caller, machine=machine, tool=tool, project=project, description=description, workspace_id=workspace_id
    )


def write_overview(call: Call, text: p.Text, binding: p.Binding = None, if_match: p.IfMatch = None) -> DocumentWritten:
    """Replace your workspace's overview: what the project is, where it stands, what comes next. Keep it to a screen."""
    return call.services.knowledge.write_overview(call.caller, text, binding=binding, if_match=if_match)


def write_knowledge(
    call: Call, path: p.Path, text: p.Text, binding: p.Binding = None, if_match: p.IfMatch = None
) -> DocumentWritten:
    """Create a document in your workspace, or replace one: facts, decisions, how-tos; one topic each.

    The replaced text is kept as a version. Fails with `conflict` when `if_match` is out of date: read the document
    again, merge, and retry.
    """
    return call.services.knowledge.write(call.caller, path, text, binding=binding, if_match=if_match)


def delete_knowledge(
    call: Call, path: p.Path, binding: p.Binding = None, if_match: p.IfMatch = None
) -> DocumentDeleted:
    """Delete a document of your workspace. Its versions are kept; restore_knowledge brings it back."""
    return call.services.knowledge.delete(call.caller, path, binding=binding, if_match=if_match)


def restore_knowledge(
    call: Call, path: p.Path, version: p.Version, binding: p.Binding = None, if_match: p.IfMatch = None
) -> DocumentWritten:
    """Make an old version of a document the current text, as a new version."""
    return call.services.knowledge.restore(call.caller, path, version, binding=binding, if_match=if_match)


def upload_knowledge(
    call: Call, workspace_id: p.Id, write_token: p.Id, path: p.Path, text: p.Text, if_match: p.IfMatch = None
) -> DocumentWritten:
    """Create or replace a document of a workspace, for sync scripts."""
    return call.services.knowledge.upload(call.caller, workspace_id, write_token, path, text, if_match)


def upload_session(
    call: Call,
    workspace_id: p.Id,
    write_token: p.Id,
    session_id: p.SessionId,
    content: Annotated[str | None, Field(description="The whole transcript, JSONL.")] = None,
    content_base64: Annotated[str | None, Field(description="Instead of content: compressed.")] = None,
    encoding: Annotated[Literal["gzip", "zstd"] | None, Field(description="Of content_base64.")] = None,
    source: Annotated[dict[str, Any] | None, Field(description="Agent, machine, cwd.")] = None,
) -> SessionStored:
    """Store a session's transcript, or what it has grown to. Over 3 MB: PUT it to /api/v1 instead."""
    return call.services.sessions.upload(
        call.caller, workspace_id, write_token, session_id,
        content=content, content_base64=content_base64, encoding=encoding, source=source,
    )  # fmt: skip


TOOLS: tuple[ToolSpec, ...] = (
    spec(register_workspace, "Register this workspace", "ai", "sync", "admin", writes=True),
    spec(write_overview, "Write the overview", "ai", "admin", writes=True),
    spec(write_knowledge, "Write a knowledge document", "ai", "admin", writes=True),
    spec(delete_knowledge, "Delete a knowledge document", "ai", "admin", writes=True, destroys=True),
    spec(restore_knowledge, "Restore a version", "ai", "admin", writes=True),
    spec(upload_knowledge, "Upload a document", "sync", "admin", writes=True),
    spec(upload_session, "Upload a session", "sync", "admin", writes=True),
)
