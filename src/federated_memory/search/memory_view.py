"""Which memories a search may show, worked out before it begins (SPEC: MEM-5 to MEM-7, MEM-13)."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_KINDS = frozenset({"memory", "tombstone"})
_MANY_HIDDEN = 200
Place = tuple[str, str, str]
"""Workspace, kind and path."""


@dataclass(frozen=True, slots=True)
class MemoryView:
    """`hidden` are left out; with `allowed`, only those count. `signature` tells one view from another.

    `workspace_ids` are those whose documents and sessions count, when they are fewer than those of the search.
    """

    signature: str = ""
    hidden: frozenset[Place] = frozenset()
    allowed: frozenset[Place] | None = None
    workspace_ids: frozenset[str] | None = None

    @property
    def leaves_out_many(self) -> bool:
        return self.allowed is not None or len(self.hidden) > _MANY_HIDDEN

    def shows(self, workspace_id: str, kind: str, key: str) -> bool:
        if kind not in MEMORY_KINDS:
            return self.workspace_ids is None or workspace_id in self.workspace_ids
        if self.allowed is not None:
            return (workspace_id, kind, key) in self.allowed
        return kind == "memory" and (workspace_id, kind, key) not in self.hidden


EVERYTHING = MemoryView()
