"""Search over knowledge and sessions, within what the caller may read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import orjson

from federated_memory.auth.caller import Caller
from federated_memory.errors import NotFound
from federated_memory.names import WorkspaceId, fold, parse_session_id
from federated_memory.search import Found, Hit, parse_query
from federated_memory.search.memory_view import EVERYTHING, MEMORY_KINDS, MemoryView
from federated_memory.search.snippet import shortened
from federated_memory.service.core import Core
from federated_memory.service.memory_scope import MemoryScopes
from federated_memory.service.pages import (
    DEFAULT_MAX_BYTES,
    ENVELOPE_BYTES,
    decode_cursor,
    encode_cursor,
    fit_rows,
    json_bytes,
)
from federated_memory.service.results import HitRow, Hits, MemoryHit, MemoryHits
from federated_memory.service.times import parse_since, parse_until
from federated_memory.store.memories import key_of
from federated_memory.store.memory_file import called_after
from federated_memory.store.memory_query import MemoryFilter
from federated_memory.store.memory_rows import MemoryRow
from federated_memory.store.registry import Workspace
from federated_memory.transcripts import Role

Mode = Literal["ranked", "literal", "regex"]
Kind = Literal["knowledge", "memory", "session"]
KINDS: tuple[Kind, ...] = ("knowledge", "memory", "session")
_READERS: dict[str, Literal["read_knowledge", "get_overview", "read_session", "get_memory"]] = {
    "knowledge": "read_knowledge", "overview": "get_overview", "session": "read_session",
    "memory": "get_memory", "tombstone": "get_memory",
}  # fmt: skip
_ROOMS = (300, 220, 160, 110, 70)
"""Lengths of snippets to try."""
_INCLUDED = "~"
"""Behind a time: what was stored at that very moment counts too."""
_USUAL_ROW_BYTES = 360
"""What a row takes when snippets are short; if there is room for more, it is looked for then."""
_LEAST_ROW_BYTES = 120
"""What no row of an answer is smaller than: more are not looked for than could fit."""


class Searching:
    def __init__(self, core: Core, scopes: MemoryScopes) -> None:
        self._core = core
        self._scopes = scopes

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

    def memory(
        self,
        caller: Caller,
        query: str,
        mode: Mode = "ranked",
        *,
        kinds: Collection[Kind] = (),
        workspace_id: str = "",
        project: str = "",
        machine: str = "",
        tool: str = "",
        session_id: str = "",
        role: Role | None = None,
        agent: str = "",
        memory_kind: str = "",
        tags: Sequence[str] = (),
        room: str = "",
        since: str | None = None,
        until: str | None = None,
        as_of: str | None = None,
        include_superseded: bool = False,
        include_hidden: bool = False,
        binding: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        cancelled: threading.Event | None = None,
    ) -> MemoryHits:
        """One list over knowledge, memories and sessions. `workspace_id` may be a glob; `kinds` empty: all of them.

        `agent`, `memory_kind`, `tags`, `room` are of memories alone, and leave the other kinds out. `as_of`: what was
        known then, of documents those not changed since. Within `max_bytes`, more hits come with shorter snippets
        rather than fewer with longer ones.
        """
        order = f"memory:{mode}"
        chosen = self._core.policy.matching(caller, workspace_id, machine=machine, tool=tool)
        workspaces = {workspace.workspace_id: workspace for workspace in chosen}
        wanted = self._scopes.filter(
            caller, binding, chosen, project=project, agent=agent, memory_kind=memory_kind, tags=tags, room=room,
            as_of=as_of, include_superseded=include_superseded, include_hidden=include_hidden,
        )  # fmt: skip
        of_project = self._of_project(chosen, project)
        has_memory_filter = bool(agent or wanted.kinds or wanted.tags or room)
        asked = {kind for kind in kinds or KINDS if kind == "memory" or not has_memory_filter}
        ends = [end for end in (parse_until(until), wanted.as_of and wanted.as_of + _INCLUDED) if end]
        search = partial(
            self._core.search.memory,
            parse_query(query, mode),
            list(workspaces if "memory" in asked else of_project),
            kinds=asked | ({"tombstone"} if "memory" in asked and (include_hidden or as_of) else set()),
            memories=self._view(wanted, of_project, project) if "memory" in asked else EVERYTHING,
            session_id=parse_session_id(session_id) if session_id else "",
            role=role,
            since=parse_since(since),
            until=min(ends) if ends else None,
            cancelled=cancelled,
        )
        most = _looked_for(limit, max_bytes, workspaces.values())
        found = search(limit=min(most, max_bytes // _USUAL_ROW_BYTES + 1), after=_position(cursor, order))

        told = [self._told(hit, mode, workspaces) for hit in found.hits]
        rows = _fitted(told, limit, max_bytes)
        if len(rows) == len(found.hits) < most and found.next is not None and found.is_complete:
            more = search(limit=most - len(rows), after=found.next)
            told += [self._told(hit, mode, workspaces) for hit in more.hits]
            found = found.followed_by(more)
            rows = _fitted(told, limit, max_bytes)
        if len(rows) < len(found.hits):
            found = found.first(len(rows))
        return MemoryHits(
            hits=rows,
            complete=found.is_complete,
            note=found.note or None,
            next_cursor=encode_cursor(order, found.next) if found.next else None,
        )

    def _of_project(self, workspaces: Sequence[Workspace], project: str) -> list[WorkspaceId]:
        names = self._core.aliases.names_of(project) if project else ()
        return [one.workspace_id for one in workspaces if not names or fold(one.project) in names]

    def _told(self, hit: Hit, mode: Mode, workspaces: Mapping[WorkspaceId, Workspace]) -> MemoryHit:
        workspace = workspaces[hit.workspace_id]
        return MemoryHit(
            **_facts(hit, mode),
            machine=workspace.machine,
            tool=workspace.tool,
            project=workspace.project,
            read_with=_READERS[hit.kind],
            **self._provenance(hit),
        )

    def _provenance(self, hit: Hit) -> dict[str, Any]:
        """Of a memory: who stored it, for which room; of others nothing, their workspace says it."""
        if hit.kind not in MEMORY_KINDS:
            return {}
        memory_id = called_after(hit.key)
        for row in self._core.memories.rows.find(memory_id):
            if row.workspace_id == hit.workspace_id:
                try:
                    user = self._core.memories.read(row).memory.user
                except NotFound:  # it has gone meanwhile
                    user = ""
                told = {"user": user, "agent": row.agent, "room": row.room, "memory_kind": row.kind}
                return {name: value or None for name, value in told.items()}
        return {}

    def _view(self, wanted: MemoryFilter, of_project: Sequence[WorkspaceId], project: str) -> MemoryView:
        """What of the memories may be shown; a memory may be of another project than its workspace."""
        ids = frozenset(of_project) if project else None
        signature = repr((wanted.viewer, wanted.kinds, wanted.projects, wanted.tags, wanted.agent, wanted.room,
                          wanted.as_of, wanted.include_superseded, wanted.include_hidden))  # fmt: skip
        memories = self._core.memories
        if wanted.is_plain:
            # A file that a sync has put back beside its tombstone is hidden too.
            hidden = frozenset((row.workspace_id, "memory", row.file) for row in memories.hidden(wanted))
            return MemoryView(signature, hidden, None, ids) if hidden or ids is not None else EVERYTHING
        allowed = frozenset(_place(row) for row in memories.select(wanted))
        return MemoryView(signature, frozenset(), allowed, ids)


def _place(row: MemoryRow) -> tuple[str, str, str]:
    key = key_of(row)
    return key.workspace_id, key.kind, key.path


def _position(cursor: str | None, order: str) -> tuple[str | int | float, ...] | None:
    key = decode_cursor(cursor, order)
    return tuple(key) if key else None


def _page(search: Callable[..., Found], limit: int, max_bytes: int, mode: Mode, order: str) -> Hits:
    found = search(limit=_looked_for(limit, max_bytes))
    rows, cut = fit_rows((HitRow(**_facts(hit, mode)) for hit in found.hits), limit, max_bytes)
    if cut:
        found = found.first(len(rows))
    return Hits(
        hits=rows,
        complete=found.is_complete,
        note=found.note or None,
        next_cursor=encode_cursor(order, found.next) if found.next else None,
    )


def _looked_for(limit: int, max_bytes: int, workspaces: Collection[Workspace] = ()) -> int:
    """How many hits to look for: `limit`, or one more than fit into an answer."""
    told = min((len(one.workspace_id) + len(one.machine) + len(one.tool) + len(one.project) for one in workspaces),
               default=0)  # fmt: skip
    return min(limit, max_bytes // (_LEAST_ROW_BYTES + told) + 1)


def _facts(hit: Hit, mode: Mode) -> dict[str, Any]:
    """The fields of a row."""
    is_session, is_memory = hit.kind == "session", hit.kind in MEMORY_KINDS
    return {
        "kind": "memory" if is_memory else hit.kind,
        "workspace_id": hit.workspace_id,
        "path": None if is_session or is_memory else hit.key,
        "session_id": hit.key if is_session else None,
        "memory_id": called_after(hit.key) if is_memory else None,
        "offset": hit.line,
        "role": hit.role or None,
        "title": hit.title,
        "at": hit.at,
        "snippet": hit.snippet,
        "score": round(hit.score, 4) if mode == "ranked" else None,
    }


def _fitted(rows: Sequence[MemoryHit], limit: int, max_bytes: int) -> list[MemoryHit]:
    """As many rows as fit, with the longest snippets that let all of them in, if any do."""
    rows = rows[:limit]
    framing = [len(orjson.dumps(row.as_dict())) + 1 - json_bytes(row.snippet) - json_bytes(row.title) for row in rows]
    fitting: list[tuple[str, str]] = []
    for room in _ROOMS:
        fitting.clear()
        used = ENVELOPE_BYTES
        for row, bytes_around in zip(rows, framing, strict=True):
            text = shortened(row.snippet, room), cut_title(row.title, room)
            used += bytes_around + json_bytes(text[0]) + json_bytes(text[1])
            if fitting and used > max_bytes:
                break
            fitting.append(text)
        if len(fitting) == len(rows):
            break
    return [
        row if text == (row.snippet, row.title) else row.model_copy(update={"snippet": text[0], "title": text[1]})
        for row, text in zip(rows, fitting, strict=False)
    ]


def cut_title(title: str, room: int) -> str:
    return title if len(title) <= room // 2 else title[: room // 2] + "…"
