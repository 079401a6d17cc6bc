"""Which memories a question is about, as a condition over their rows (SPEC: MEM-4 to MEM-7)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from federated_memory.names import fold

SPECIAL = "(m.expires_at <> '' OR m.visibility <> 'all' OR m.room <> '' OR m.deleted_at <> '')"
"""What the index of special rows is of: mostly few."""
_REPLACED = (
    # What names it first (CROSS JOIN), and then that one by its id: no other order is fast.
    "EXISTS (SELECT 1 FROM memory_supersedes s CROSS JOIN memories n"
    " ON n.memory_id = s.new_id AND n.workspace_id = s.workspace_id"
    " WHERE s.workspace_id = m.workspace_id AND s.old_id = m.memory_id"
    " AND (n.deleted_at = '' OR n.deleted_at > ?) AND +n.created_at <= ?)"
)
_FEW = 3
_LATEST = "~"
"""Sorts after every time."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: `workspace_id` is the one that the caller is bound to, empty for none.

    `team` are the workspaces that count as one team with it, `rooms` those it is a member of. `sees_all`: an admin.
    """

    workspace_id: str = ""
    team: frozenset[str] = frozenset()
    rooms: frozenset[str] = frozenset()
    sees_all: bool = False


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """Empty means any. `projects`, `tags` and `agent` are compared folded; `now` is the time of the question."""

    workspace_ids: Collection[str]
    viewer: Viewer
    now: str
    kinds: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    agent: str = ""
    room: str = ""
    since: str | None = None
    until: str | None = None
    as_of: str = ""
    include_superseded: bool = False
    include_hidden: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether everything counts that is not hidden."""
        return not (self.kinds or self.projects or self.tags or self.agent or self.room or self.as_of
                    or self.include_hidden)  # fmt: skip


def condition(wanted: MemoryFilter) -> tuple[str, list[object]]:
    """The rows that the filter lets through, as SQL over `m` and its parameters."""
    # Of few workspaces their own rows are looked at, of many the newest of all: the `+` keeps SQLite from the others.
    few = "" if len(wanted.workspace_ids) <= _FEW else "+"
    parts = [f"{few}m.workspace_id IN ({_marks(wanted.workspace_ids)})"]
    values: list[object] = [*wanted.workspace_ids]
    for sql, told in (
        (f"m.kind IN ({_marks(wanted.kinds)})", wanted.kinds),
        (_of_projects(len(wanted.projects)), tuple(map(fold, wanted.projects))),
        ("fold(m.agent) = ?", (fold(wanted.agent),) if wanted.agent else ()),
        ("m.room = ?", (wanted.room,) if wanted.room else ()),
        ("m.created_at >= ?", (wanted.since,) if wanted.since else ()),
        ("m.created_at < ?", (wanted.until,) if wanted.until else ()),
    ):
        if told:
            parts.append(sql)
            values += told
    for tag in wanted.tags:
        parts.append("m.tags <> '' AND EXISTS (SELECT 1 FROM json_each(m.tags) WHERE fold(value) = ?)")
        values.append(fold(tag))
    for sql, more in (seen_condition(wanted.viewer), _current(wanted)):
        parts.append(sql)
        values += more
    return " AND ".join(parts), values


def _of_projects(count: int) -> str:
    """Each name that there is is folded once, and the rows are found by it: a project may have few of a million."""
    return (
        "m.project IN (WITH RECURSIVE names (name) AS (SELECT min(project) FROM memories UNION ALL"
        " SELECT (SELECT min(project) FROM memories WHERE project > name) FROM names WHERE name IS NOT NULL)"
        f" SELECT name FROM names WHERE name IS NOT NULL AND fold(coalesce(name, '')) IN ({', '.join('?' * count)}))"
    )


def hidden_condition(wanted: MemoryFilter) -> tuple[str, list[object]]:
    """What a plain filter leaves out, as SQL; only rows that an index of special ones holds are looked at."""
    seen, values = seen_condition(wanted.viewer)
    return (
        f"{SPECIAL} AND (m.deleted_at <> '' OR (m.expires_at <> '' AND m.expires_at <= ?) OR NOT {seen})",
        [wanted.now, *values],
    )


def replaced_condition() -> tuple[str, list[object]]:
    """The rows that a live memory replaces now, as SQL over `m`; only those that something names are looked at."""
    return f"m.memory_id IN (SELECT old_id FROM memory_supersedes) AND {_REPLACED}", [_LATEST, _LATEST]


def seen_condition(viewer: Viewer) -> tuple[str, list[object]]:
    """What the viewer may see, as SQL over `m`."""
    if viewer.sees_all:
        return "1", []
    parts = ["(m.visibility = 'all' AND m.room = '')"]
    values: list[object] = []
    if viewer.workspace_id:
        parts += ["m.workspace_id = ?", f"(m.visibility = 'team' AND m.room = '' AND m.workspace_id IN"
                  f" ({_marks(viewer.team)}))"]  # fmt: skip
        values += [viewer.workspace_id, *viewer.team]
        parts.append(f"(m.visibility <> 'workspace' AND m.room IN ({_marks(viewer.rooms)}))")
        values += viewer.rooms
    return f"({' OR '.join(parts)})", values


def _current(wanted: MemoryFilter) -> tuple[str, list[object]]:
    """Not deleted, not expired, not superseded: now, or at the time that is asked about."""
    as_of, parts, values = wanted.as_of, ["1"], list[object]()
    if as_of:
        parts.append("m.created_at <= ?")
        values.append(as_of)
    if not wanted.include_hidden:
        parts.append("(m.deleted_at = '' OR m.deleted_at > ?) AND (m.expires_at = '' OR m.expires_at > ?)")
        values += [as_of or _LATEST, as_of or wanted.now]
    if not wanted.include_superseded:
        parts.append(f"NOT {_REPLACED}")
        values += [as_of or _LATEST, as_of or _LATEST]
    return " AND ".join(parts), values


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
