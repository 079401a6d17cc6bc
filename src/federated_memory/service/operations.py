"""What operators do to a root as a whole, by name, as the command line asks for it (SPEC: OPS-1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.names import parse_workspace_id
from federated_memory.service.core import Core
from federated_memory.store.snapshot import Snapshots

Answer = dict[str, Any]


class Arguments(BaseModel):
    """Base of what an action takes; anything else is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SnapshotArguments(Arguments):
    workspace_id: str = ""


class ReleaseArguments(Arguments):
    name: str


class Operations:
    """Actions of admins. Blocking: call from a worker thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._snapshots = Snapshots(core.root, core.registry, core.journal, core.archives)
        self._snapshots.sweep()
        self.actions: dict[str, tuple[type[Arguments], Callable[[Caller, Any], Answer]]] = {
            "snapshot": (SnapshotArguments, self._snapshot),
            "release": (ReleaseArguments, self._release),
        }

    def run(self, caller: Caller, action: str, arguments: Mapping[str, Any]) -> Answer:
        """Do one action.

        Raises:
            Forbidden: The caller is no admin.
            NotFound: There is no such action, or what it names.
            InvalidArgument: It takes other arguments.
        """
        self._core.policy.ensure_role(caller, ("admin",))
        if action not in self.actions:
            raise NotFound("No such action", hint="It is one of " + ", ".join(sorted(self.actions)))
        kind, work = self.actions[action]
        try:
            given = kind.model_validate(dict(arguments))
        except ValidationError:
            raise InvalidArgument(
                f"Not the arguments of {action}", hint="It takes " + (", ".join(kind.model_fields) or "none")
            ) from None
        return work(caller, given)

    def _snapshot(self, _: Caller, given: SnapshotArguments) -> Answer:
        only = None
        if given.workspace_id:
            only = self._core.registry.get(parse_workspace_id(given.workspace_id)).workspace_id
        self._core.root.ensure_space()
        self._core.journal.flush()
        made = self._snapshots.make(only)
        return {"name": made.name, "path": str(made.path), "files": made.files, "paused_ms": made.paused_ms}

    def _release(self, _: Caller, given: ReleaseArguments) -> Answer:
        self._snapshots.remove(given.name)
        return {"name": given.name}
