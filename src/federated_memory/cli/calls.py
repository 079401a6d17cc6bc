"""What the verbs that read and write memory ask: each once, for a server and for the root itself (SPEC: CLI-22).

A call names its HTTP route and what answers it when no server runs. Its arguments bear the names of the route's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from federated_memory.service.results import (
    Brief,
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
    from federated_memory.cli.backend import Backend
    from federated_memory.service.services import Services

R = TypeVar("R", bound=Result)
Given = Mapping[str, Any]

MOST_BYTES = 4 * 1024**2
"""What one answer may hold: a person's terminal has no context window to spare."""
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    method: str
    path: str
    """Of the route below `/api/v1`; `{name}` stands for an argument."""
    result: type[R]
    here: Callable[[Services, Caller, Given], R]
    """The same, on a root that no server holds."""
    needs_index: bool = False


def _search(services: Services, caller: Caller, given: Given) -> MemoryHits:
    rest = {name: value for name, value in given.items() if name not in ("query", "mode", "kinds")}
    kinds = tuple(kind for kind in given.get("kinds", "").split(",") if kind)
    return services.searching.memory(caller, given["query"], given.get("mode", "ranked"), kinds=kinds, **rest)


def _brief(services: Services, caller: Caller, given: Given) -> Brief:
    from federated_memory.service.brief_scope import Asked

    names = {name: given.get(name, "") for name in ("workspace_id", "machine", "tool", "project")}
    keys = (given["project_key"],) if given.get("project_key") else ()
    return services.briefing.brief(caller, Asked(**names, project_keys=keys), given["max_bytes"])


def _restore(services: Services, caller: Caller, given: Given) -> DocumentWritten:
    workspace = services.core.policy.writer_at(caller, given["workspace_id"], given.get("binding"), None)
    return services.knowledge.put_back(caller, workspace, given["path"], given["version"], None)


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
