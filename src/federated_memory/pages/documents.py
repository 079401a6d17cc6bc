"""Knowledge and overviews: the list, one document, its versions side by side, and bringing one back, deleted ones too
(SPEC: SITE-7)."""

from __future__ import annotations

from starlette.responses import Response

from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.pages.asked import Asked
from federated_memory.pages.compare import Row, compare
from federated_memory.pages.paging import pages_of
from federated_memory.pages.reading import reading
from federated_memory.pages.rendering import page, redirect, url_of
from federated_memory.service.services import Services

_MOST_ROWS, _MOST_BYTES = 200, 1024**2
_VERSIONS = 50
OVERVIEW = "overview.md"


class DocumentPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def list(self, asked: Asked) -> Response:
        caller = asked.caller
        row = self._services.workspaces.show(caller, asked.part("workspace_id"))
        prefix = asked.query.get("prefix", "")
        found = self._services.knowledge.list(
            caller, row.workspace_id, prefix=prefix, limit=_MOST_ROWS, cursor=asked.query.get("cursor"),
            max_bytes=_MOST_BYTES,
        )  # fmt: skip
        return page(
            asked, "knowledge.html", title=f"Knowledge of {row.workspace_id}", section="workspaces", tab="knowledge",
            workspace=row, documents=found.documents, total=found.total, prefix=prefix,
            pages=pages_of(asked, url_of("w", row.workspace_id, "knowledge"), {"prefix": prefix}, found.next_cursor),
        )  # fmt: skip

    def deleted(self, asked: Asked) -> Response:
        """What is gone and can be brought back."""
        caller = asked.caller
        row = self._services.workspaces.show(caller, asked.part("workspace_id"))
        found = self._services.knowledge.deleted(
            caller, row.workspace_id, limit=_MOST_ROWS, cursor=asked.query.get("cursor"), max_bytes=_MOST_BYTES
        )
        return page(
            asked, "deleted.html", title=f"Deleted documents of {row.workspace_id}", section="workspaces",
            tab="knowledge", workspace=row, documents=found.documents, total=found.total,
            pages=pages_of(asked, url_of("w", row.workspace_id, "deleted"), {}, found.next_cursor),
            may_restore=self._services.knowledge.may_restore(caller, row.workspace_id),
        )  # fmt: skip

    def document(self, asked: Asked) -> Response:
        """As it is, or one of its versions; long ones in pages. `line` is where a hit was."""
        caller = asked.caller
        row = self._services.workspaces.show(caller, asked.part("workspace_id"))
        path = asked.part("path")
        found = reading(self._services.knowledge, asked, row.workspace_id, path)
        return page(
            asked, "document.html", title=path, section="workspaces", tab="knowledge", workspace=row, path=path,
            text=found.text, html=found.html, is_version=asked.number("version") is not None,
            query_text=asked.query.get("q", ""),
        )  # fmt: skip

    def history(self, asked: Asked) -> Response:
        """The versions; with `from` and `to`, both side by side. Without a path: the overview's."""
        caller, path = asked.caller, asked.request.path_params.get("path")
        row = self._services.workspaces.show(caller, asked.part("workspace_id"))
        found = self._services.knowledge.history(
            caller, row.workspace_id, path, limit=_VERSIONS, cursor=asked.query.get("cursor"), max_bytes=_MOST_BYTES
        )
        if not found.versions:
            raise NotFound("This document has no versions", hint="See the workspace's knowledge")
        older, newer = asked.number("from"), asked.number("to")
        if older is None and newer is None and len(found.versions) > 1 and not asked.query.get("cursor"):
            newer, older = found.versions[0].version, found.versions[1].version
        here = url_of("w", row.workspace_id, "history", *([path] if path else []))
        rows: list[Row] | None = None
        trouble = ""
        if older is not None and newer is not None:
            try:
                rows = compare(*(self._version(asked, row.workspace_id, path, number) for number in (older, newer)))
            except InvalidArgument as error:
                trouble = str(error)
        return page(
            asked, "history.html", title=f"History of {path or OVERVIEW}", section="workspaces",
            tab="knowledge" if path else "overview", workspace=row, path=path or "", name=path or OVERVIEW,
            versions=found.versions, pages=pages_of(asked, here, {}, found.next_cursor),
            older=older, newer=newer, rows=rows,
            trouble=trouble, may_restore=self._services.knowledge.may_restore(caller, row.workspace_id),
            restored=asked.number("restored"),
        )  # fmt: skip

    def restore(self, asked: Asked) -> Response:
        """A new version that equals an old one, if nobody changed the document since the page was shown."""
        form, workspace_id = asked.form, asked.part("workspace_id")
        version, path = form.get("version", ""), form.get("path") or None
        if not version.isdecimal() or len(version) > 9:
            raise InvalidArgument("No version was chosen", hint="Choose one on the page of the history")
        if_match = "" if form.get("only_create") else form.get("if_match") or None
        done = self._services.knowledge.restore_by_hand(
            asked.caller, workspace_id, path, int(version), if_match=if_match
        )
        return redirect(url_of("w", workspace_id, "history", *([path] if path else []), restored=done.version))

    def _version(self, asked: Asked, workspace_id: str, path: str | None, version: int) -> str:
        _, _, data = self._services.knowledge.content(asked.caller, workspace_id, path, version)
        return data.decode("utf-8", "replace")
