"""Where everything begins: the workspaces, one of them, and the machines that fill them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from starlette.responses import Response

from federated_memory.errors import NotFound
from federated_memory.names import fold
from federated_memory.pages.asked import Asked
from federated_memory.pages.reading import Reading, reading
from federated_memory.pages.rendering import page
from federated_memory.service.results import WorkspaceRow
from federated_memory.service.services import Services

_MOST_WORKSPACES, _MOST_BYTES = 500, 1024**2
_RECENT = 8
_FRESH, _QUIET = timedelta(days=2), timedelta(days=14)


@dataclass(slots=True)
class Machine:
    """All workspaces of one machine. Times are RFC 3339."""

    name: str
    workspaces: list[WorkspaceRow] = field(default_factory=list)
    last_activity: str = ""

    @property
    def tools(self) -> list[str]:
        return sorted({row.tool for row in self.workspaces})

    @property
    def sessions(self) -> int:
        return sum(row.sessions for row in self.workspaces)

    @property
    def documents(self) -> int:
        return sum(row.documents for row in self.workspaces)

    def freshness(self, now: datetime) -> str:
        """`fresh`, `quiet` or `silent`."""
        day = (now - _FRESH).isoformat()
        return "fresh" if self.last_activity >= day else (
            "quiet" if self.last_activity >= (now - _QUIET).isoformat() else "silent"
        )  # fmt: skip


class WorkspacePages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def home(self, asked: Asked) -> Response:
        """Workspaces, the latest first, and the newest sessions of all of them."""
        found = self._services.workspaces.list(
            asked.caller, limit=_MOST_WORKSPACES, cursor=asked.query.get("cursor"), max_bytes=_MOST_BYTES
        )
        recent = self._services.sessions.list(asked.caller, limit=_RECENT, cursor=None, max_bytes=_MOST_BYTES)
        return page(
            asked, "home.html", title="Workspaces", section="workspaces",
            workspaces=sorted(found.workspaces, key=lambda row: row.last_activity, reverse=True),
            total=found.total, next_cursor=found.next_cursor, sessions=recent.sessions,
        )  # fmt: skip

    def overview(self, asked: Asked) -> Response:
        caller, workspace_id = asked.caller, asked.part("workspace_id")
        row = self._services.workspaces.show(caller, workspace_id)
        found: Reading | None = None
        with contextlib.suppress(NotFound):
            found = reading(self._services.knowledge, asked, row.workspace_id, None)
        documents = self._services.knowledge.list(
            caller, row.workspace_id, limit=_MOST_WORKSPACES, cursor=None, max_bytes=_MOST_BYTES
        )
        sessions = self._services.sessions.list(
            caller, row.workspace_id, limit=_RECENT, cursor=None, max_bytes=_MOST_BYTES
        )
        memories = self._services.memories.list(
            caller, workspace_id=row.workspace_id, limit=_RECENT, cursor=None, max_bytes=_MOST_BYTES
        )
        return page(
            asked, "workspace.html", title=row.workspace_id, section="workspaces", tab="overview", workspace=row,
            found=found, query_text=asked.query.get("q", ""),
            documents=sorted(documents.documents, key=lambda one: one.updated_at, reverse=True)[:_RECENT],
            sessions=sessions.sessions, memories=memories,
        )  # fmt: skip

    def machines(self, asked: Asked) -> Response:
        """Which machines write here, and since when they have been quiet."""
        found = self._services.workspaces.list(asked.caller, limit=1_000, cursor=None, max_bytes=4 * _MOST_BYTES)
        flags = self._services.status.flags(asked.caller)
        now = datetime.now(timezone.utc)
        machines = [(machine, machine.freshness(now)) for machine in machines_of(found.workspaces)]
        return page(
            asked, "machines.html", title="Machines", section="machines", machines=machines,
            is_cut=found.next_cursor is not None, flags=flags,
        )  # fmt: skip


def machines_of(rows: Iterable[WorkspaceRow]) -> list[Machine]:
    """By machine, the latest first; names that differ in case only are one."""
    found: dict[str, Machine] = {}
    for row in rows:
        machine = found.setdefault(fold(row.machine), Machine(row.machine))
        machine.workspaces.append(row)
        machine.last_activity = max(machine.last_activity, row.last_activity)
    return sorted(found.values(), key=lambda machine: machine.last_activity, reverse=True)
