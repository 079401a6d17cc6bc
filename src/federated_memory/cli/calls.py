"""What the verbs that read and write memory ask: each once, for a server and for the root itself (SPEC: CLI-22).

A call names its HTTP route and what answers it when no server runs. Its arguments bear the names of the route's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from federated_memory.cli.protocol import Backend, Call, Given
from federated_memory.service.memory_results import (
    Imported,
    MemoriesDeleted,
    MemoryDeleted,
    MemoryExport,
    MemoryList,
    MemoryStored,
    MemoryText,
)
from federated_memory.service.results import (
    Brief,
    DocumentDeleted,
    DocumentList,
    DocumentWritten,
    History,
    MemoryHits,
    Registered,
    Result,
    SessionList,
    SessionPage,
)

if TYPE_CHECKING:
    from federated_memory.auth.caller import Caller
    from federated_memory.service.services import Services
    from federated_memory.store.registry import Workspace

MOST_BYTES = 4 * 1024**2
"""What one answer may hold: a person's terminal has no context window to spare."""
PAGE = 1000


class Plan(Result):
    """Of what was told, what is not there as it was told."""

    knowledge: list[str]
    sessions: dict[str, dict[str, Any]]


def _search(services: Services, caller: Caller, given: Given) -> MemoryHits:
    rest = {name: value for name, value in given.items() if name not in ("query", "mode", "kinds")}
    rest["tags"] = [tag for tag in given.get("tags", "").split(",") if tag]
    kinds = tuple(kind for kind in given.get("kinds", "").split(",") if kind)
    return services.searching.memory(caller, given["query"], given.get("mode", "ranked"), kinds=kinds, **rest)


def _brief(services: Services, caller: Caller, given: Given) -> Brief:
    from federated_memory.service.brief_scope import Asked

    names = {name: given.get(name, "") for name in ("workspace_id", "machine", "tool", "project")}
    keys = (given["project_key"],) if given.get("project_key") else ()
    return services.briefing.brief(caller, Asked(**names, project_keys=keys), given["max_bytes"])


def _restore(services: Services, caller: Caller, given: Given) -> DocumentWritten:
    workspace = _writable(services, caller, given)
    return services.knowledge.put_back(caller, workspace, given["path"], given["version"], None)


def _writable(services: Services, caller: Caller, given: Given) -> Workspace:
    return services.core.policy.writer_at(caller, given["workspace_id"], given.get("binding"), None)


def _store(services: Services, caller: Caller, given: Given) -> MemoryStored:
    from federated_memory.service.memory_draft import MemoryDraft

    draft = {name: value for name, value in given.items() if name not in ("workspace_id", "binding")}
    return services.memories.keep(caller, _writable(services, caller, given), MemoryDraft(**draft))


def _import(services: Services, caller: Caller, given: Given) -> Imported:
    from federated_memory.service.memory_transfer import imported_draft

    drafts = [imported_draft(row) for row in given["memories"]]
    return services.memory_transfer.import_many(
        caller, _writable(services, caller, given), drafts, dry_run=given["dry_run"]
    )


def _delete(services: Services, caller: Caller, given: Given) -> MemoryDeleted:
    return services.memories.remove(
        caller, _writable(services, caller, given), given["memory_id"], given.get("reason", "")
    )


def _delete_document(services: Services, caller: Caller, given: Given) -> DocumentDeleted:
    return services.knowledge.remove(caller, _writable(services, caller, given), given["path"], None)


def _plan(services: Services, caller: Caller, given: Given) -> Plan:
    told = {name: given[name] for name in ("knowledge", "sessions") if name in given}
    return Plan.model_validate(services.sessions.plan(caller, given["workspace_id"], told))


def _list_memories(services: Services, caller: Caller, given: Given) -> MemoryList:
    tags = [tag for tag in given.get("tags", "").split(",") if tag]
    return services.memories.list(caller, **{**_paged(given), "tags": tags})


SEARCH = Call("GET", "/search", MemoryHits, _search, needs_index=True)
BRIEF = Call("GET", "/brief", Brief, _brief)
REGISTER = Call("POST", "/workspaces", Registered, lambda s, c, given: s.workspaces.register(c, **given))
DOCUMENTS = Call(
    "GET", "/workspaces/{workspace_id}/knowledge", DocumentList,
    lambda s, c, given: s.knowledge.list(c, **_paged(given)),
)  # fmt: skip
HISTORY = Call(
    "GET", "/workspaces/{workspace_id}/versions/{path}", History,
    lambda s, c, given: s.knowledge.history(c, **_paged(given)),
)  # fmt: skip
RESTORE = Call("POST", "/workspaces/{workspace_id}/versions/{path}", DocumentWritten, _restore)
SESSIONS = Call("GET", "/sessions", SessionList, lambda s, c, given: s.sessions.list(c, **_paged(given)))
FIND_SESSION = Call(
    "GET", "/sessions/{session_id}", SessionList, lambda s, c, given: s.sessions.locate(c, given["session_id"])
)
MESSAGES = Call(
    "GET", "/workspaces/{workspace_id}/sessions/{session_id}/messages", SessionPage,
    lambda s, c, given: s.sessions.read(c, **given),
)  # fmt: skip
STORE = Call("POST", "/memories", MemoryStored, _store)
MEMORIES = Call("GET", "/memories", MemoryList, _list_memories)
MEMORY = Call(
    "GET", "/memories/{memory_id}", MemoryText,
    lambda s, c, given: s.memories.content(c, given["memory_id"], given.get("workspace_id", ""), None),
)  # fmt: skip
DELETE = Call("DELETE", "/memories/{memory_id}", MemoryDeleted, _delete)
DELETE_MANY = Call(
    "POST", "/memories/delete", MemoriesDeleted, lambda s, c, given: s.memories.delete_many(c, **given), is_long=True
)
DELETE_DOCUMENT = Call("DELETE", "/workspaces/{workspace_id}/knowledge/{path}", DocumentDeleted, _delete_document)
IMPORT = Call("POST", "/memories/import", Imported, _import, is_long=True)
EXPORT = Call("GET", "/memories/export", MemoryExport, lambda s, c, given: s.memory_transfer.export(c, **_paged(given)))
PLAN = Call(
    "POST", "/workspaces/{workspace_id}/plan", Plan,
    _plan,
)  # fmt: skip


def every(backend: Backend, call: Call[Any], rows: str, limit: int = 0, **given: object) -> list[Any]:
    """The first `limit` rows of a list, or (0) all of them, page by page."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        wanted = min(limit - len(found), PAGE) if limit else PAGE
        page = backend.ask(call, **given, limit=wanted, max_bytes=MOST_BYTES, cursor=cursor)
        found += getattr(page, rows)
        cursor = page.next_cursor
        if cursor is None or (limit and len(found) >= limit):
            return found


def _paged(given: Given) -> dict[str, Any]:
    return {"cursor": None, **given}
