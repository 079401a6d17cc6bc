"""Sessions: the list, and one of them as a conversation or to keep (SPEC: SITE-8)."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from federated_memory.pages.asked import Asked
from federated_memory.pages.conversation import Place, conversation
from federated_memory.pages.paging import pages_of
from federated_memory.pages.rendering import HEADERS, page, url_of
from federated_memory.service.services import Services

_MOST_ROWS, _MOST_BYTES = 100, 1024**2


class TranscriptPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def list(self, asked: Asked) -> Response:
        row = self._services.workspaces.show(asked.caller, asked.part("workspace_id"))
        query = asked.query
        given = {name: query.get(name, "") for name in ("since", "until")}
        found = self._services.sessions.list(
            asked.caller, row.workspace_id, since=query.get("since"), until=query.get("until"), limit=_MOST_ROWS,
            cursor=query.get("cursor"), max_bytes=_MOST_BYTES,
        )  # fmt: skip
        return page(
            asked, "sessions.html", title=f"Sessions of {row.workspace_id}", section="workspaces", tab="sessions",
            workspace=row, sessions=found.sessions, since=given["since"], until=given["until"],
            pages=pages_of(asked, url_of("w", row.workspace_id, "sessions"), given, found.next_cursor),
        )  # fmt: skip

    def session(self, asked: Asked) -> Response:
        """`line`: the page around a hit; `start` (and `byte`), `before`: the pages after and before another."""
        row = self._services.workspaces.show(asked.caller, asked.part("workspace_id"))
        place = Place(
            line=asked.number("line"), before=asked.number("before"),
            start=asked.number("start") or 0, byte=asked.number("byte") or 0,
        )  # fmt: skip
        found = conversation(self._services.sessions, asked.caller, row.workspace_id, asked.part("session_id"), place)
        return page(
            asked, "session.html", title=found.page.title or found.page.session_id, section="workspaces",
            tab="sessions", workspace=row, conversation=found, session=found.page, line=place.line,
            query_text=asked.query.get("q", ""),
        )  # fmt: skip

    def transcript(self, asked: Asked) -> Response:
        """The JSONL as it was uploaded, for keeping: never shown by a browser."""
        archive = self._services.sessions.find(asked.caller, asked.part("workspace_id"), asked.part("session_id"))
        headers = {
            **HEADERS,
            "content-disposition": f'attachment; filename="{archive.session_id}.jsonl"',
            "content-length": str(archive.raw_bytes),
        }
        return StreamingResponse(
            self._services.sessions.stream(archive), headers=headers, media_type="application/jsonl"
        )
