"""The brief's memories: the newest and most important of the project, grouped by kind (SPEC: BRIEF-9)."""

from __future__ import annotations

from dataclasses import replace

from federated_memory.auth.caller import Caller
from federated_memory.errors import FederatedMemoryError
from federated_memory.service.brief_layout import Section, rows
from federated_memory.service.brief_scope import Scope
from federated_memory.service.core import Core
from federated_memory.service.framing import visible_line
from federated_memory.service.memory_scope import MemoryScopes
from federated_memory.store.memory_query import MemoryFilter
from federated_memory.store.memory_rows import MemoryRow

_LOOKED_AT, _SHOWN = 300, 24
_SHARE = 0.2
_LINE_CHARACTERS = 300


def memories_section(
    core: Core, scopes: MemoryScopes, caller: Caller, binding: str | None, scope: Scope, mark: str
) -> Section | None:
    """None when there are none that the caller may see."""
    around = [*([scope.own] if scope.own else []), *(workspace for workspace, _ in scope.related)]
    names = {name for workspace in around for name in core.aliases.names_of(workspace.project)}
    wanted = scopes.filter(caller, binding, core.policy.readable(caller, core.registry.all()))
    found = core.memories.select(_of_projects(wanted, names), limit=_LOOKED_AT)
    if not found:
        return None
    best = sorted(found, key=lambda row: (row.importance, row.created_at), reverse=True)[:_SHOWN]
    # What is cut for want of room is the group that matters least.
    order = list(dict.fromkeys(row.kind for row in best))
    best.sort(key=lambda row: order.index(row.kind))
    lines = [_line(core, row) for row in best]
    heading = "## Memories, the most important and newest (get_memory)"
    more = "More: list_memories, search_memory"
    return Section(_SHARE, rows(heading, lines, mark, more=more, is_whole=len(found) <= _SHOWN))


def _of_projects(wanted: MemoryFilter, names: set[str]) -> MemoryFilter:
    return replace(wanted, projects=tuple(sorted(names)))


def _line(core: Core, row: MemoryRow) -> str:
    try:
        memory = core.memories.read(row).memory
    except FederatedMemoryError:  # gone, or damaged: its row is still worth a line
        said = row.subject
    else:
        text = memory.summary or memory.content
        said = (
            row.subject
            if text.startswith(row.subject) and len(text) < len(row.subject) + 8
            else f"{row.subject}: {text}"
        )
    stars = f", importance {row.importance}" if row.importance != 3 else ""
    return f"- {row.kind} {visible_line(said, _LINE_CHARACTERS)} ({row.memory_id}, {row.workspace_id}{stars})"
