"""Memories: the list with its filters, one of them whole, and deleting it with a reason (SPEC: SITE-13)."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from federated_memory.errors import InvalidArgument, InvalidName, NotFound
from federated_memory.pages.asked import Asked
from federated_memory.pages.markdown import HIT_ANCHOR, MOST_BYTES, rendered
from federated_memory.pages.paging import pages_of
from federated_memory.pages.rendering import page, redirect, url_of
from federated_memory.service.memory_results import MemoryList
from federated_memory.service.results import WorkspaceRow
from federated_memory.service.services import Services
from federated_memory.store.memory_file import KINDS

_MOST_ROWS, _MOST_BYTES = 100, 1024**2
_FILTERS = ("workspace_id", "project", "machine", "tool", "memory_kind", "tag", "since", "until", "show")
_SHOWN: dict[str, dict[str, Any]] = {
    "": {},
    "superseded": {"include_superseded": True},
    "all": {"include_superseded": True, "include_hidden": True},
}


class MemoryPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def list(self, asked: Asked) -> Response:
        """Of everything that the caller may read."""
        return self._list(asked, None)

    def of_workspace(self, asked: Asked) -> Response:
        return self._list(asked, self._services.workspaces.show(asked.caller, asked.part("workspace_id")))

    def _list(self, asked: Asked, workspace: WorkspaceRow | None) -> Response:
        given = {name: asked.query.get(name, "").strip() for name in _FILTERS}
        here = url_of("w", workspace.workspace_id, "memories") if workspace else "/memories"
        found: MemoryList | None = None
        trouble = ""
        try:
            found = self._found(asked, given, workspace)
        except (InvalidArgument, InvalidName) as error:
            trouble = str(error)
        except NotFound as error:
            if workspace is not None:
                raise
            trouble = str(error)
        return page(
            asked, "memories.html", 400 if trouble else 200,
            title=f"Memories of {workspace.workspace_id}" if workspace else "Memories",
            section="workspaces" if workspace else "memories", tab="memories", workspace=workspace, here=here,
            given=given, is_filtered=any(given.values()), found=found, trouble=trouble, kinds=KINDS,
            pages=pages_of(asked, here, given, found.next_cursor if found else None),
        )  # fmt: skip

    def _found(self, asked: Asked, given: dict[str, str], workspace: WorkspaceRow | None) -> MemoryList:
        if given["show"] not in _SHOWN:
            raise InvalidArgument("show is not one that is known", hint="It is one of superseded, all")
        return self._services.memories.list(
            asked.caller, workspace_id=workspace.workspace_id if workspace else given["workspace_id"],
            project=given["project"], machine=given["machine"], tool=given["tool"], memory_kind=given["memory_kind"],
            tags=tuple(given["tag"].replace(",", " ").split()), since=given["since"], until=given["until"],
            limit=_MOST_ROWS, cursor=asked.query.get("cursor"), max_bytes=_MOST_BYTES, **_SHOWN[given["show"]],
        )  # fmt: skip

    def memory(self, asked: Asked) -> Response:
        """The whole of it, deleted and superseded ones too."""
        caller, line = asked.caller, asked.number("line")
        row = self._services.workspaces.show(caller, asked.part("workspace_id"))
        found = self._services.memories.get(
            caller, asked.part("memory_id"), workspace_id=row.workspace_id, offset=asked.number("start") or 0,
            byte_offset=asked.number("byte") or 0, max_bytes=MOST_BYTES,
        )  # fmt: skip
        return page(
            asked, "memory.html", title=found.subject or found.memory_id, section="workspaces", tab="memories",
            workspace=row, memory=found, html=rendered(found.content, line), hit_anchor=HIT_ANCHOR,
            query_text=asked.query.get("q", ""),
            may_delete=found.state != "deleted" and self._services.knowledge.may_restore(caller, row.workspace_id),
        )  # fmt: skip

    def delete(self, asked: Asked) -> Response:
        """Hidden at once; the page of what is left of it says why."""
        workspace_id, memory_id = asked.part("workspace_id"), asked.part("memory_id")
        reason = asked.form.get("reason", "").strip()
        self._services.memories.delete_by_hand(asked.caller, workspace_id, memory_id, reason)
        return redirect(url_of("w", workspace_id, "memories", memory_id))
