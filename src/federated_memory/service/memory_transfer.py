"""Memories from elsewhere, and all of a workspace's at once (SPEC: MEM-15, EXPORT-3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from federated_memory.auth.caller import Caller
from federated_memory.errors import FederatedMemoryError, InvalidArgument, NotFound
from federated_memory.names import parse_memory_id, parse_workspace_id, shown
from federated_memory.service.core import Core
from federated_memory.service.memories import MemoryService, memory_of
from federated_memory.service.memory_draft import MemoryDraft, checked
from federated_memory.service.memory_results import ExportedMemory, Imported, MemoryExport
from federated_memory.service.memory_scope import MemoryScopes
from federated_memory.service.pages import decode_cursor, encode_cursor, fit_rows
from federated_memory.service.secrets import ensure_no_secret
from federated_memory.store.changes import now
from federated_memory.store.memories import imported_id
from federated_memory.store.memory_file import Memory, format_memory
from federated_memory.store.memory_rows import MemoryRow
from federated_memory.store.registry import Workspace
from federated_memory.transcripts.times import parse_time

_MOST_WARNINGS = 100
_MOST_OTHERS_BYTES = 48 * 1024
_DRAFT = frozenset(one.name for one in fields(MemoryDraft))


@dataclass(frozen=True, slots=True)
class ImportedDraft:
    """A draft from elsewhere. `source` names it there, the same at every import; times and names as they were there.

    With `memory_id` it is a memory of ours that comes back under its own id. `others` has no field of ours.
    """

    draft: MemoryDraft
    source: str
    created_at: str = ""
    user: str = ""
    agent: str = ""
    machine: str = ""
    session: str = ""
    memory_id: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)


def imported_draft(row: Mapping[str, Any]) -> ImportedDraft:
    """From the fields of both, side by side."""
    draft = {name: value for name, value in row.items() if name in _DRAFT}
    return ImportedDraft(MemoryDraft(**draft), **{name: value for name, value in row.items() if name not in _DRAFT})


class MemoryTransfer:
    def __init__(self, core: Core, memories: MemoryService, scopes: MemoryScopes) -> None:
        self._core = core
        self._memories = core.memories
        self._service = memories
        self._scopes = scopes

    def import_many(
        self, caller: Caller, workspace: Workspace, drafts: Iterable[ImportedDraft], *, dry_run: bool = False
    ) -> Imported:
        """Take in notes from elsewhere, for a workspace that the policy has already granted. What was taken in before
        is left as it is, and what was deleted here stays deleted.

        Raises:
            InvalidArgument: A draft is not one to keep; those before it are kept.
        """
        created = unchanged = deleted = 0
        warnings: list[str] = []
        for item in drafts:
            known = self._known(workspace, item)
            if known is not None:
                unchanged += not known.deleted_at
                deleted += bool(known.deleted_at)
                continue
            try:
                memory, told = self._imported(caller, workspace, item)
            except FederatedMemoryError as error:
                error.message = f"{shown(item.source or item.memory_id, 80)}: {error.message}"
                raise
            warnings += told
            if self._memories.was_removed(workspace.workspace_id, item.source, item.memory_id):
                deleted += 1
                continue
            created += 1
            if not dry_run:
                self._memories.add(workspace.workspace_id, memory, caller.actor, "import")
        return Imported(
            created=created, unchanged=unchanged, deleted=deleted, dry_run=dry_run, warnings=warnings[:_MOST_WARNINGS]
        )

    def _known(self, workspace: Workspace, item: ImportedDraft) -> MemoryRow | None:
        """What an earlier import made of it."""
        if not item.memory_id:
            return self._memories.rows.of_source(workspace.workspace_id, item.source)
        for row in self._memories.rows.find(parse_memory_id(item.memory_id)):
            if row.workspace_id == workspace.workspace_id:
                return row
        return None

    def _imported(self, caller: Caller, workspace: Workspace, item: ImportedDraft) -> tuple[Memory, list[str]]:
        wanted, warnings = self._service.without_secrets(checked(item.draft))
        if len(item.source) > 300 or not item.source.isprintable() or not (item.source or item.memory_id):
            raise InvalidArgument("source is blank or too long", hint="Name where it comes from, in a line")
        others = _plain_others(item.others)
        created_at = parse_time(item.created_at) or now()
        memory_id = item.memory_id or imported_id(workspace.workspace_id, item.source, created_at)
        memory = memory_of(memory_id, wanted, created_at, project=wanted.project or workspace.project)
        names = {"user": item.user or caller.grant.name, "agent": item.agent or workspace.tool,
                 "machine": item.machine or workspace.machine, "session": item.session}  # fmt: skip
        if item.memory_id:
            names = {"user": item.user, "agent": item.agent, "machine": item.machine, "session": item.session}
        named: dict[str, Any] = {name: _plain(text) for name, text in names.items()}
        memory = replace(memory, source=item.source, room=item.draft.room, others=others, **named)
        ensure_no_secret(self._core.settings, partial(format_memory, memory))
        return memory, [f"{item.source or memory_id}: {text}" for text in warnings]

    def export(
        self, caller: Caller, *, workspace_id: str, limit: int, cursor: str | None = None, max_bytes: int
    ) -> MemoryExport:
        """All that the caller may see of a workspace, newest first, superseded ones too: whole, as `import_many` takes
        them.

        Raises:
            InvalidArgument: No workspace is named.
        """
        if not workspace_id:
            raise InvalidArgument("workspace_id missing", hint="See list_workspaces for the ids")
        workspace = self._core.policy.reader(caller, parse_workspace_id(workspace_id))
        wanted = self._scopes.filter(caller, None, [workspace], include_superseded=True)
        key = decode_cursor(cursor, "export", str, str)
        found = self._memories.select(wanted, after=(str(key[0]), str(key[1])) if key else None, limit=limit + 1)
        rows, more = fit_rows(filter(None, map(self._exported, found)), limit, max_bytes)
        return MemoryExport(
            memories=rows,
            next_cursor=encode_cursor("export", [rows[-1].created_at, rows[-1].memory_id]) if more else None,
        )

    def _exported(self, row: MemoryRow) -> ExportedMemory | None:
        try:
            memory = self._memories.read(row).memory
        except NotFound:  # deleted meanwhile
            return None
        return ExportedMemory.model_validate({name: getattr(memory, name) for name in ExportedMemory.model_fields})


def _plain_others(others: Mapping[str, Any]) -> dict[str, Any]:
    """Without names of ours, which an import may not set that way. Raises: InvalidArgument: too much."""
    own = {one.name for one in fields(Memory)} | {"id"}
    found = {f"source_{name}" if name in own else name: value for name, value in others.items()}
    if len(repr(found)) > _MOST_OTHERS_BYTES:
        raise InvalidArgument("Its other fields are too long", hint="Write it as a document")
    return found


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:200]
