"""Who sees which memories: the one place that turns a caller into what the store lets through (SPEC: MEM-13)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument
from federated_memory.names import fold
from federated_memory.service.core import Core
from federated_memory.service.times import parse_since, parse_until
from federated_memory.store.changes import now
from federated_memory.store.memory_file import KINDS
from federated_memory.store.memory_query import MemoryFilter, Viewer
from federated_memory.store.registry import Workspace

RoomsOf = Callable[[str], Collection[str]]


class MemoryScopes:
    def __init__(self, core: Core, rooms_of: RoomsOf) -> None:
        self._core = core
        self.rooms_of = rooms_of

    def viewer(self, caller: Caller, binding: str | None) -> Viewer:
        """As whom the caller looks: as its workspace, if a binding, its session or its token says which.

        Raises:
            NotBound: `binding` is given, and is none.
        """
        if caller.role == "admin":
            return Viewer(sees_all=True)
        if caller.role != "ai":
            return Viewer()  # such a token is never bound
        workspace_id = self._core.policy.viewing(caller, binding)
        workspace = self._core.registry.find(workspace_id) if workspace_id else None
        if workspace is None or not caller.grant.reads(workspace.workspace_id):
            return Viewer()
        team = frozenset(other.workspace_id for other in self._team_of(workspace))
        rooms = frozenset(filter(caller.grant.reads_room, self.rooms_of(workspace.workspace_id)))
        return Viewer(workspace.workspace_id, team, rooms)

    def _team_of(self, one: Workspace) -> Iterator[Workspace]:
        """Those that work on the same project, itself included."""
        names = self._core.aliases.names_of(one.project)
        for other in self._core.registry.all():
            has_key = bool(one.project_key) and one.project_key == other.project_key
            if has_key or fold(other.project) in names:
                yield other

    def filter(
        self,
        caller: Caller,
        binding: str | None,
        workspaces: Iterable[Workspace],
        *,
        project: str = "",
        agent: str = "",
        memory_kind: str = "",
        tags: Sequence[str] = (),
        room: str = "",
        since: str | None = None,
        until: str | None = None,
        as_of: str | None = None,
        include_superseded: bool = False,
        include_hidden: bool = False,
    ) -> MemoryFilter:
        """Raises: InvalidArgument: a kind or a time that there is not."""
        kinds = tuple(kind.strip() for kind in memory_kind.split(",") if kind.strip())
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise InvalidArgument("memory_kind is not known", hint="It is one of " + ", ".join(KINDS))
        return MemoryFilter(
            tuple(workspace.workspace_id for workspace in workspaces),
            self.viewer(caller, binding),
            now(),
            kinds=kinds,
            projects=self._core.aliases.names_of(project) if project else (),
            tags=tuple(tag.strip().removeprefix("#") for tag in tags if tag.strip()),
            agent=agent,
            room=room,
            since=parse_since(since),
            until=parse_until(until),
            as_of=parse_until(as_of) or "",
            include_superseded=include_superseded,
            include_hidden=include_hidden,
        )
