"""Search over knowledge and sessions, within what the caller may read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Literal

from federated_memory.auth.caller import Caller
from federated_memory.search import Found, Hit, parse_query
from federated_memory.service.core import Core
from federated_memory.service.pages import decode_cursor, encode_cursor, fit_rows
from federated_memory.service.results import HitRow, Hits
from federated_memory.service.times import parse_since, parse_until
from federated_memory.transcripts import Role

Mode = Literal["ranked", "literal", "regex"]


class Searching:
    def __init__(self, core: Core) -> None:
        self._core = core

    def knowledge(
        self,
        caller: Caller,
        query: str,
        mode: Mode = "ranked",
        *,
        workspace_id: str = "",
        since: str | None = None,
        until: str | None = None,
        limit: int,
        cursor: str | None = None,
        max_bytes: int,
        cancelled: threading.Event | None = None,
    ) -> Hits:
        """Documents and overviews. `ranked`: best first; `literal`, `regex`: complete, newest first."""
        order = f"knowledge:{mode}"
        workspaces = self._core.policy.chosen(caller, workspace_id, "")
        search = partial(
            self._core.search.knowledge,
            parse_query(query, mode),
            [workspace.workspace_id for workspace in workspaces],
            since=parse_since(since),
            until=parse_until(until),
            after=_position(cursor, order),
            cancelled=cancelled,
        )
        return _page(search, limit, max_bytes, mode, order)

    def sessions(
        self,
        caller: Caller,
        query: str,
        mode: Mode = "ranked",
        *,
        workspace_id: str = "",
        role: Role | None = None,
        tool: str = "",
        since: str | None = None,
        until: str | None = None,
        limit: int,
        cursor: str | None = None,
        max_bytes: int,
        cancelled: threading.Event | None = None,
    ) -> Hits:
        """What was said in sessions, one hit per turn."""
        order = f"sessions:{mode}"
        workspaces = self._core.policy.chosen(caller, workspace_id, tool)
        search = partial(
            self._core.search.sessions,
            parse_query(query, mode),
            [workspace.workspace_id for workspace in workspaces],
            role=role,
            since=parse_since(since),
            until=parse_until(until),
            after=_position(cursor, order),
            cancelled=cancelled,
        )
        return _page(search, limit, max_bytes, mode, order)


def _position(cursor: str | None, order: str) -> tuple[str | int | float, ...] | None:
    key = decode_cursor(cursor, order)
    return tuple(key) if key else None


def _page(search: Callable[..., Found], limit: int, max_bytes: int, mode: Mode, order: str) -> Hits:
    found = search(limit=limit)
    rows, cut = fit_rows((_row(hit, mode) for hit in found.hits), limit, max_bytes)
    if cut:
        found = found.first(len(rows))
    return Hits(
        hits=rows,
        complete=found.is_complete,
        note=found.note or None,
        next_cursor=encode_cursor(order, found.next) if found.next else None,
    )


def _row(hit: Hit, mode: Mode) -> HitRow:
    is_session = hit.kind == "session"
    return HitRow(
        kind=hit.kind,
        workspace_id=hit.workspace_id,
        path=None if is_session else hit.key,
        session_id=hit.key if is_session else None,
        offset=hit.line,
        role=hit.role or None,
        title=hit.title,
        at=hit.at,
        snippet=hit.snippet,
        score=round(hit.score, 4) if mode == "ranked" else None,
    )
