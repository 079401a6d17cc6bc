"""Workspaces, search, knowledge, sessions, memories: each function says what is sent and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from federated_memory.client.calls import Answer, Call, Content, Method, given, json_body, path_of, result, segment
from federated_memory.service.memory_results import MemoryDeleted, MemoryList, MemoryStored, MemoryText
from federated_memory.service.results import (
    Brief,
    DocumentDeleted,
    DocumentList,
    DocumentWritten,
    History,
    MemoryHits,
    Registered,
    SessionList,
    SessionStored,
    WorkspaceList,
    WorkspaceRow,
)

V1 = "/api/v1"


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is: pass `etag` as `if_match` to replace just this text."""

    text: str
    etag: str
    version: int


@dataclass(frozen=True, slots=True)
class Held:
    """What the server holds of a session: an append goes on at `offset`."""

    offset: int
    etag: str
    revision: int
    lines: int


# -- workspaces, search, brief


def register(**names: str) -> Call[Registered]:
    return Call("POST", f"{V1}/workspaces", result(Registered), content=json_body(given(**names)))


def _workspaces(
    *, machine: str = "", tool: str = "", project: str = "", limit: int | None = None, cursor: str | None = None
) -> Call[WorkspaceList]:
    """The workspaces that the token may read."""
    asked = given(machine=machine, tool=tool, project=project, limit=limit, cursor=cursor)
    return Call("GET", f"{V1}/workspaces", result(WorkspaceList), asked)


def _workspace(workspace_id: str) -> Call[WorkspaceRow]:
    """One workspace."""
    return Call("GET", f"{V1}/workspaces/{segment(workspace_id)}", result(WorkspaceRow))


class Workspaces:
    list = Method(_workspaces)
    get = Method(_workspace)


def search(
    query: str, *, mode: Literal["ranked", "literal", "regex"] = "ranked",
    kinds: Sequence[Literal["knowledge", "memory", "session"]] = (), workspace_id: str = "", project: str = "",
    machine: str = "", tool: str = "", session_id: str = "", role: str = "", since: str = "", until: str = "",
    limit: int | None = None, cursor: str | None = None,
) -> Call[MemoryHits]:  # fmt: skip
    """One ranked list over everything that the token may read."""
    asked = given(
        query=query, mode=mode, kinds=[*kinds], workspace_id=workspace_id, project=project, machine=machine, tool=tool,
        session_id=session_id, role=role, since=since, until=until, limit=limit, cursor=cursor,
    )  # fmt: skip
    return Call("GET", f"{V1}/search", result(MemoryHits), asked)


def brief(
    *, workspace_id: str = "", machine: str = "", tool: str = "", project: str = "", max_bytes: int | None = None
) -> Call[Brief]:
    """What an agent needs at the start of a session."""
    asked = given(workspace_id=workspace_id, machine=machine, tool=tool, project=project, max_bytes=max_bytes)
    return Call("GET", f"{V1}/brief", result(Brief), asked)


class Search:
    search = Method(search)
    brief = Method(brief)


# -- knowledge


def _document(answer: Answer) -> Document:
    return Document(answer.body.decode("utf-8"), answer.etag, int(answer.headers.get("x-version", "0")))


def _precondition(if_match: str | None) -> dict[str, str]:
    if if_match is None:
        return {}
    return {"if-match": f'"{if_match}"'} if if_match else {"if-none-match": "*"}


def _place(workspace_id: str, path: str | None) -> str:
    """`path` None: the overview."""
    rest = "overview" if path is None else f"knowledge/{path_of(path)}"
    return f"{V1}/workspaces/{segment(workspace_id)}/{rest}"


def _documents(
    workspace_id: str, *, prefix: str = "", limit: int | None = None, cursor: str | None = None
) -> Call[DocumentList]:
    """The knowledge documents of a workspace."""
    asked = given(prefix=prefix, limit=limit, cursor=cursor)
    return Call("GET", f"{V1}/workspaces/{segment(workspace_id)}/knowledge", result(DocumentList), asked)


def _read(workspace_id: str, path: str | None, *, version: int | None = None) -> Call[Document]:
    """A document, whole; `path` None: the overview."""
    return Call("GET", _place(workspace_id, path), _document, given(version=version))


def _write(workspace_id: str, path: str | None, text: str, *, if_match: str | None = None) -> Call[DocumentWritten]:
    """Create or replace a document (None: the overview). `if_match`: only that text; empty: only create."""
    return Call(
        "PUT", _place(workspace_id, path), result(DocumentWritten), content=text.encode(),
        headers=_precondition(if_match),
    )  # fmt: skip


def _remove(workspace_id: str, path: str, *, if_match: str | None = None) -> Call[DocumentDeleted]:
    """Delete a document; its versions stay."""
    return Call("DELETE", _place(workspace_id, path), result(DocumentDeleted), headers=_precondition(if_match))


def _versions(
    workspace_id: str, path: str, *, from_version: int | None = None, to_version: int | None = None,
    limit: int | None = None, cursor: str | None = None,
) -> Call[History]:  # fmt: skip
    """The versions of a document, newest first; of two versions their diff."""
    asked = given(from_version=from_version, to_version=to_version, limit=limit, cursor=cursor)
    return Call("GET", f"{V1}/workspaces/{segment(workspace_id)}/versions/{path_of(path)}", result(History), asked)


class Knowledge:
    list = Method(_documents)
    read = Method(_read)
    write = Method(_write)
    delete = Method(_remove)
    history = Method(_versions)


# -- memories


def _store(
    content: str, *, kind: str = "note", subject: str = "", summary: str = "", project: str = "",
    importance: int | None = None, tags: Sequence[str] = (), files: Sequence[str] = (), references: Sequence[str] = (),
    supersedes: Sequence[str] = (), expires_at: str = "", ttl_seconds: int | None = None, visibility: str = "",
    room: str = "", workspace_id: str = "",
) -> Call[MemoryStored]:  # fmt: skip
    """Store a small typed note in the workspace that the client is bound to."""
    lists = {"tags": tags, "files": files, "references": references, "supersedes": supersedes}
    body = given(
        content=content, kind=kind, subject=subject, summary=summary, project=project, importance=importance,
        expires_at=expires_at, ttl_seconds=ttl_seconds, visibility=visibility, room=room, workspace_id=workspace_id,
    ) | {name: [*values] for name, values in lists.items() if values}  # fmt: skip
    return Call("POST", f"{V1}/memories", result(MemoryStored), content=json_body(body))


def _memory(memory_id: str, *, workspace_id: str = "") -> Call[MemoryText]:
    """A memory, whole."""
    return Call("GET", f"{V1}/memories/{segment(memory_id)}", result(MemoryText), given(workspace_id=workspace_id))


def _memories(
    *, workspace_id: str = "", project: str = "", machine: str = "", tool: str = "", agent: str = "",
    memory_kind: str = "", tags: Sequence[str] = (), room: str = "", since: str = "", until: str = "", as_of: str = "",
    include_superseded: bool = False, include_hidden: bool = False, limit: int | None = None, cursor: str | None = None,
) -> Call[MemoryList]:  # fmt: skip
    """The memories that the caller may see, newest first."""
    asked = given(
        workspace_id=workspace_id, project=project, machine=machine, tool=tool, agent=agent, memory_kind=memory_kind,
        tags=[*tags], room=room, since=since, until=until, as_of=as_of, include_superseded=include_superseded,
        include_hidden=include_hidden, limit=limit, cursor=cursor,
    )  # fmt: skip
    return Call("GET", f"{V1}/memories", result(MemoryList), asked)


def _forget(memory_id: str, *, reason: str = "", workspace_id: str = "") -> Call[MemoryDeleted]:
    """Hide a memory at once."""
    asked = given(reason=reason, workspace_id=workspace_id)
    return Call("DELETE", f"{V1}/memories/{segment(memory_id)}", result(MemoryDeleted), asked)


class Memories:
    store = Method(_store)
    get = Method(_memory)
    list = Method(_memories)
    delete = Method(_forget)


# -- sessions


def session_path(workspace_id: str, session_id: str) -> str:
    return f"{V1}/workspaces/{segment(workspace_id)}/sessions/{segment(session_id)}"


def _sessions(
    workspace_id: str, *, tool: str = "", since: str = "", until: str = "", limit: int | None = None,
    cursor: str | None = None,
) -> Call[SessionList]:  # fmt: skip
    """The sessions of a workspace, newest first."""
    asked = given(tool=tool, since=since, until=until, limit=limit, cursor=cursor)
    return Call("GET", f"{V1}/workspaces/{segment(workspace_id)}/sessions", result(SessionList), asked)


def _held(answer: Answer) -> Held:
    number = {name: int(answer.headers.get(name, "0")) for name in ("upload-offset", "x-revision", "x-lines")}
    return Held(number["upload-offset"], answer.etag, number["x-revision"], number["x-lines"])


def _look(workspace_id: str, session_id: str) -> Call[Held]:
    """What the server holds of a session. Raises: NotFound: nothing."""
    return Call("HEAD", session_path(workspace_id, session_id), _held)


def _upload(workspace_id: str, session_id: str, content: Content, *, encoding: str = "") -> Call[SessionStored]:
    """Send a whole transcript (JSONL), streamed where `content` is an iterator; `encoding`: gzip or zstd."""
    headers = {"content-encoding": encoding} if encoding else {}
    return Call("PUT", session_path(workspace_id, session_id), result(SessionStored), content=content, headers=headers)


def _append(
    workspace_id: str, session_id: str, content: Content, *, offset: int, if_match: str = ""
) -> Call[SessionStored]:
    """Send what follows the bytes that the server holds. Raises: Conflict: it holds others; the facts say which."""
    headers = {"upload-offset": str(offset), **({"if-match": f'"{if_match}"'} if if_match else {})}
    return Call(
        "PATCH", session_path(workspace_id, session_id), result(SessionStored), content=content, headers=headers
    )


class Sessions:
    list = Method(_sessions)
    look = Method(_look)
    upload = Method(_upload)
    append = Method(_append)
