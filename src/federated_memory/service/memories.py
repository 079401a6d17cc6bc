"""Memories: store, get, list, delete (SPEC: MEM-1 to MEM-14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import orjson

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.names import fold, parse_memory_id, parse_workspace_id, shown
from federated_memory.service.core import Core
from federated_memory.service.memory_draft import CheckedDraft, MemoryDraft, checked
from federated_memory.service.memory_results import (
    MemoriesDeleted,
    MemoryDeleted,
    MemoryList,
    MemoryRowResult,
    MemoryStored,
    MemoryText,
    SimilarMemory,
)
from federated_memory.service.memory_scope import MemoryScopes
from federated_memory.service.pages import ENVELOPE_BYTES, decode_cursor, encode_cursor, fit_rows, json_bytes, page_text
from federated_memory.service.secrets import ensure_no_secret, scanner
from federated_memory.store.changes import now
from federated_memory.store.memories import Stored, new_memory_id
from federated_memory.store.memory_file import Memory, format_memory
from federated_memory.store.memory_query import MemoryFilter, Viewer
from federated_memory.store.memory_rows import MemoryRow
from federated_memory.store.registry import Workspace

_SUGGESTING = ("decision", "config")
_MOST_COMPARED, _MOST_SIMILAR, _ALIKE = 500, 3, 0.5
_MOST_NAMED = 100
MAX_REASON = 500


Announce = Callable[[Literal["memory", "memory_deleted"], str, str, str, str, str, str], None]
"""Tells a room of a memory: what was done, workspace, session and user who did it, the room, the memory's id and
subject."""


class MemoryService:
    def __init__(self, core: Core, scopes: MemoryScopes, announce: Announce) -> None:
        self._announce = announce
        self._core = core
        self._memories = core.memories
        self._scopes = scopes

    # -- writing

    def store(self, caller: Caller, draft: MemoryDraft, *, binding: str | None = None) -> MemoryStored:
        """Keep a note in the workspace that the caller is bound to.

        Raises:
            NotBound, Forbidden: As with every write.
            InvalidArgument, TooLarge: The draft is not one to keep, and why.
            NotFound: It supersedes what is not there, or names a room that the caller is not in.
        """
        workspace = self._core.policy.writer(caller, binding)
        return self.keep(caller, workspace, draft, session=self._core.policy.registration(caller, binding))

    def keep(self, caller: Caller, workspace: Workspace, draft: MemoryDraft, *, session: str = "") -> MemoryStored:
        """As `store`, for a workspace that the policy has already granted."""
        wanted = checked(draft)
        self._ensure_room(workspace, draft.room)
        if draft.room:
            self._core.policy.ensure_writes_room(caller, draft.room)
        wanted, warnings = self.without_secrets(wanted)
        for old in wanted.supersedes:
            self._ensure_own(workspace, old)
        similar = self._similar(workspace, wanted)
        created_at = now()
        memory = memory_of(new_memory_id(created_at), wanted, created_at, project=wanted.project or workspace.project)
        memory = replace(
            memory, user=caller.grant.name, agent=workspace.tool, machine=workspace.machine, session=session,
            room=draft.room,
        )  # fmt: skip
        ensure_no_secret(self._core.settings, partial(format_memory, memory))
        self._memories.add(workspace.workspace_id, memory, caller.actor)
        if memory.room:
            self._announce(
                "memory",
                workspace.workspace_id,
                session,
                caller.grant.name,
                memory.room,
                memory.memory_id,
                memory.subject,
            )
        return MemoryStored(
            workspace_id=workspace.workspace_id, memory_id=memory.memory_id, created=True, created_at=created_at,
            expires_at=memory.expires_at or None, warnings=warnings, similar=similar,
        )  # fmt: skip

    def _ensure_room(self, workspace: Workspace, room: str) -> None:
        if room and room not in self._scopes.rooms_of(workspace.workspace_id):
            raise NotFound(f"You are in no room {shown(room, 64)}", hint="Call join_room first, or leave room out")

    def _ensure_own(self, workspace: Workspace, memory_id: str) -> None:
        rows = [row for row in self._memories.rows.find(memory_id) if row.workspace_id == workspace.workspace_id]
        if not rows:
            raise NotFound(
                f"No memory {shown(memory_id, 64)} in {workspace.workspace_id} to supersede",
                hint="Only memories of your own workspace can be superseded; see list_memories",
            )

    def without_secrets(self, wanted: CheckedDraft) -> tuple[CheckedDraft, list[str]]:
        """Secrets are replaced, and that is said; where the policy refuses them, nothing is kept instead."""
        if self._core.settings.secret_policy == "refuse":
            return wanted, []
        kinds: list[str] = []

        def redacted(text: str) -> str:
            found, told = scanner().redacted(text)
            kinds.extend(told)
            if any(scanner().findings(found)):
                raise InvalidArgument(
                    "It holds a secret inside an encoding", hint="Take the secret out, and send it again"
                )
            return found

        safe = replace(
            wanted,
            content=redacted(wanted.content), subject=redacted(wanted.subject), summary=redacted(wanted.summary),
            files=tuple(map(redacted, wanted.files)), references=tuple(map(redacted, wanted.references)),
            tags=tuple(map(redacted, wanted.tags)),
        )  # fmt: skip
        if not kinds:
            return wanted, []
        told = ", ".join(sorted(set(kinds)))
        many = f"{len(kinds)} secrets were" if len(kinds) > 1 else "A secret was"
        return safe, [f"{many} replaced by [REDACTED:…] ({told}): change it where it is used"]

    def _similar(self, workspace: Workspace, wanted: CheckedDraft) -> list[SimilarMemory]:
        """Live decisions and settings of the workspace on the same subject, for the caller to decide about."""
        if wanted.kind not in _SUGGESTING:
            return []
        plain = MemoryFilter((workspace.workspace_id,), Viewer(workspace.workspace_id), now(), kinds=_SUGGESTING)
        mine = _words(wanted.subject)
        alike: list[tuple[float, MemoryRow]] = []
        for row in self._memories.select(plain, limit=_MOST_COMPARED):
            theirs = _words(row.subject)
            share = len(mine & theirs) / max(1, len(mine | theirs))
            if share >= _ALIKE and row.memory_id not in wanted.supersedes:
                alike.append((share, row))
        alike.sort(key=lambda pair: pair[0], reverse=True)
        return [
            SimilarMemory(memory_id=row.memory_id, kind=row.kind, subject=row.subject, created_at=row.created_at)
            for _, row in alike[:_MOST_SIMILAR]
        ]

    def delete(self, caller: Caller, memory_id: str, reason: str = "", *, binding: str | None = None) -> MemoryDeleted:
        """Hide a memory of the caller's workspace at once; what is left of it says why.

        Raises:
            NotFound: There is none of that id in it.
        """
        workspace = self._core.policy.writer(caller, binding)
        session = self._core.policy.registration(caller, binding)
        return self.remove(caller, workspace, memory_id, reason, session=session)

    def delete_by_hand(self, caller: Caller, workspace_id: str, memory_id: str, reason: str = "") -> MemoryDeleted:
        """`delete`, by a person who names the workspace, of a memory that the person may see.

        Raises:
            Forbidden: The token may not write it. NotFound: There is none of that id to be seen.
        """
        workspace = self._core.policy.person(caller, parse_workspace_id(workspace_id))
        self._find(caller, memory_id, workspace.workspace_id, None)
        return self.remove(caller, workspace, memory_id, reason)

    def remove(
        self, caller: Caller, workspace: Workspace, memory_id: str, reason: str = "", *, session: str = ""
    ) -> MemoryDeleted:
        """As `delete`, for a workspace that the policy has already granted."""
        if len(reason) > MAX_REASON or not reason.isprintable():
            raise InvalidArgument("reason is too long, or no plain line", hint=f"At most {MAX_REASON} characters")
        found = self._memories.rows.find(parse_memory_id(memory_id))
        rows = [row for row in found if row.workspace_id == workspace.workspace_id]
        if not rows:
            raise _missing(memory_id, f" in {workspace.workspace_id}")
        at = self._delete(caller, rows[0], reason, session)
        return MemoryDeleted(workspace_id=workspace.workspace_id, memory_id=memory_id, deleted_at=at)

    def delete_many(
        self, caller: Caller, *, workspace_id: str = "", project: str = "", machine: str = "", tool: str = "",
        before: str | None = None, since: str | None = None, reason: str = "", dry_run: bool = True,
    ) -> MemoriesDeleted:  # fmt: skip
        """All memories that match, for admins; at least one condition.

        Raises:
            Forbidden: The caller is no admin.
            InvalidArgument: No condition, or none that can be.
        """
        self._core.policy.ensure_role(caller, ("admin",))
        if not any((workspace_id, project, machine, tool, before, since)):
            raise InvalidArgument(
                "Nothing says which memories", hint="Pass a workspace, project, machine, tool or time"
            )
        chosen = self._core.policy.matching(caller, workspace_id, machine=machine, tool=tool)
        wanted = self._scopes.filter(
            caller, None, chosen, project=project, since=since, until=before, include_superseded=True
        )
        rows = self._memories.select(wanted)
        if not dry_run:
            for row in rows:
                self._delete(caller, row, reason)
        return MemoriesDeleted(
            count=len(rows), dry_run=dry_run, memory_ids=[row.memory_id for row in rows[:_MOST_NAMED]]
        )

    def _delete(self, caller: Caller, row: MemoryRow, reason: str, session: str = "") -> str:
        """Its room is told that it is gone, and no more: what it said is not to be read again."""
        at = self._memories.delete(row, reason, caller.actor)
        if row.room and not row.deleted_at:
            self._announce("memory_deleted", row.workspace_id, session, caller.grant.name, row.room, row.memory_id, "")
        return at

    # -- reading

    def get(
        self,
        caller: Caller,
        memory_id: str,
        *,
        workspace_id: str = "",
        binding: str | None = None,
        offset: int = 0,
        byte_offset: int = 0,
        max_bytes: int,
    ) -> MemoryText:
        """A whole memory, deleted and superseded ones included; its content by pages when it is long.

        Raises:
            NotFound: There is none that the caller may see.
        """
        stored = self._read(caller, memory_id, workspace_id, binding)
        result = self.text_of(stored)
        taken = json_bytes(result.model_dump_json()) + ENVELOPE_BYTES // 2
        page = page_text(
            stored.memory.content, offset=offset, byte_offset=byte_offset, limit=1_000_000,
            budget=max(max_bytes - taken, ENVELOPE_BYTES),
        )  # fmt: skip
        result.content = page.text
        result.truncated = bool(offset or byte_offset or page.next_offset is not None)
        result.next_offset, result.next_byte_offset = page.next_offset, page.next_byte_offset
        return result

    def content(self, caller: Caller, memory_id: str, workspace_id: str, binding: str | None) -> MemoryText:
        """All of it in one piece, for downloads."""
        stored = self._read(caller, memory_id, workspace_id, binding)
        result = self.text_of(stored)
        result.content = stored.memory.content
        return result

    def sees(self, caller: Caller, memory_id: str, workspace_id: str) -> bool:
        """Whether there is such a memory, and the caller may see it."""
        try:
            self._find(caller, memory_id, workspace_id, None)
        except NotFound:
            return False
        return True

    def _read(self, caller: Caller, memory_id: str, workspace_id: str, binding: str | None) -> Stored:
        return self._memories.read(self._find(caller, memory_id, workspace_id, binding))

    def _find(self, caller: Caller, memory_id: str, workspace_id: str, binding: str | None) -> MemoryRow:
        wanted = self._core.policy.reader(caller, parse_workspace_id(workspace_id)).workspace_id if workspace_id else ""
        memory_id = parse_memory_id(memory_id)
        viewer = self._scopes.viewer(caller, binding)
        for row in self._memories.rows.find(memory_id):
            is_asked = row.workspace_id == (wanted or row.workspace_id) and caller.grant.reads(row.workspace_id)
            if is_asked and self._memories.is_seen(row, viewer) and self._core.registry.find(row.workspace_id):
                return row
        raise _missing(memory_id)

    def text_of(self, stored: Stored) -> MemoryText:
        """All of it but the content."""
        row, memory = stored.row, stored.memory
        replaced = self._memories.rows.superseded(row.workspace_id, row.memory_id)
        is_expired = bool(row.expires_at) and row.expires_at <= now()
        state: Any = "deleted" if row.deleted_at else "superseded" if replaced else "expired" if is_expired else "live"
        return MemoryText(
            **_row(row, replaced).model_dump(),
            summary=memory.summary or None, content="", files=list(memory.files), references=list(memory.references),
            supersedes=list(memory.supersedes), user=memory.user, machine=memory.machine,
            session=memory.session or None, source=memory.source or None, etag=stored.etag,
            deleted_by=memory.deleted_by or None, reason=memory.reason or None, state=state,
        )  # fmt: skip

    def list(
        self,
        caller: Caller,
        *,
        workspace_id: str = "",
        project: str = "",
        machine: str = "",
        tool: str = "",
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
        limit: int,
        cursor: str | None,
        max_bytes: int,
    ) -> MemoryList:
        """Newest first. `as_of`: those that were live then."""
        chosen = self._core.policy.matching(caller, workspace_id, machine=machine, tool=tool)
        wanted = self._scopes.filter(
            caller, binding, chosen, project=project, agent=agent, memory_kind=memory_kind, tags=tags, room=room,
            since=since, until=until, as_of=as_of, include_superseded=include_superseded,
            include_hidden=include_hidden,
        )  # fmt: skip
        key = decode_cursor(cursor, "memories", str, str)
        found = self._memories.select(wanted, after=(str(key[0]), str(key[1])) if key else None, limit=limit + 1)
        rows, more = fit_rows(
            (_row(row, self._memories.rows.superseded(row.workspace_id, row.memory_id)) for row in found),
            limit, max_bytes,
        )  # fmt: skip
        last = found[len(rows) - 1] if more else None
        return MemoryList(
            memories=rows, total=self._memories.count(wanted),
            next_cursor=encode_cursor("memories", [last.created_at, last.memory_id]) if last else None,
        )  # fmt: skip


def memory_of(memory_id: str, wanted: CheckedDraft, created_at: str, *, project: str) -> Memory:
    return Memory(
        memory_id, wanted.content, kind=wanted.kind, subject=wanted.subject, summary=wanted.summary, project=project,
        importance=wanted.importance, tags=wanted.tags, files=wanted.files, references=wanted.references,
        supersedes=wanted.supersedes, created_at=created_at, expires_at=wanted.expires_at,
        visibility=wanted.visibility,
    )  # fmt: skip


def _row(row: MemoryRow, replaced: Sequence[str]) -> MemoryRowResult:
    return MemoryRowResult(
        workspace_id=row.workspace_id, memory_id=row.memory_id, kind=row.kind, subject=row.subject,
        project=row.project, importance=row.importance, agent=row.agent, created_at=row.created_at,
        tags=orjson.loads(row.tags) if row.tags else [],
        expires_at=row.expires_at or None, visibility=row.visibility, room=row.room or None,
        superseded_by=list(replaced) or None, deleted_at=row.deleted_at or None,
    )  # fmt: skip


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in fold(text).replace("-", " ").split() if len(word) > 2}


def _missing(memory_id: str, where: str = "") -> NotFound:
    return NotFound(f"No memory {shown(memory_id, 64)}{where}", hint="See list_memories or search_memory")
