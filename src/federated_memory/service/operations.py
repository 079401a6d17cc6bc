"""What operators do to a root as a whole, by name, as the command line asks for it (SPEC: OPS-1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.names import fold, parse_document_path, parse_session_id, parse_workspace_id
from federated_memory.service.core import Core
from federated_memory.store.changes import now
from federated_memory.store.collecting import Collecting
from federated_memory.store.document import OVERVIEW, Key
from federated_memory.store.importing import adopt
from federated_memory.store.merging import Merging
from federated_memory.store.moving import Moving
from federated_memory.store.purge import Purging
from federated_memory.store.registry import new_workspace
from federated_memory.store.snapshot import Snapshots

Answer = dict[str, Any]
_INDEX_SECONDS = 60.0
_MOST_NOTES = 50


class Arguments(BaseModel):
    """Base of what an action takes; anything else is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SnapshotArguments(Arguments):
    workspace_id: str = ""


class ReleaseArguments(Arguments):
    name: str


class PurgeArguments(Arguments):
    kind: Literal["session", "knowledge", "overview", "memory", "workspace"]
    workspace_id: str
    key: str = ""


class GcArguments(Arguments):
    keep_versions: int = Field(ge=1)
    keep_days: int = Field(ge=0)
    apply: bool = False


class RenameArguments(Arguments):
    workspace_id: str
    to: str


class MergeArguments(Arguments):
    workspace_id: str
    into: str
    apply: bool = False


class ArchiveArguments(Arguments):
    workspace_id: str
    undo: bool = False


class AdoptArguments(Arguments):
    name: str
    workspace_id: str
    machine: str
    tool: str
    project: str
    description: str = ""
    project_key: str = ""


class Operations:
    """Actions of admins. Blocking: call from a worker thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._snapshots = Snapshots(core.root, core.registry, core.journal, core.archives)
        self._snapshots.sweep()
        self._purging = Purging(core.root, core.registry, core.journal, core.archives, core.tombstones)
        self._moving = Moving(core.root, core.registry, core.journal, core.archives, core.tombstones)
        self._moving.finish()
        self._merging = Merging(core.root, core.registry, core.journal, core.archives, core.tombstones)
        self._merging.finish()
        self._collecting = Collecting(core.root, core.journal, core.archives)
        self.actions: dict[str, tuple[type[Arguments], Callable[[Caller, Any], Answer]]] = {
            "snapshot": (SnapshotArguments, self._snapshot),
            "release": (ReleaseArguments, self._release),
            "purge": (PurgeArguments, self._purge),
            "gc": (GcArguments, self._gc),
            "rename": (RenameArguments, self._rename),
            "merge": (MergeArguments, self._merge),
            "archive": (ArchiveArguments, self._archive),
            "adopt": (AdoptArguments, self._adopt),
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

    def _purge(self, caller: Caller, given: PurgeArguments) -> Answer:
        """Remove it, then everything that was derived from it: free pages, the log, the index, snapshots."""
        workspace_id = parse_workspace_id(given.workspace_id)
        if known := self._core.registry.find(workspace_id):
            workspace_id = known.workspace_id
        match given.kind:
            case "memory":
                done = self._purging.memory(workspace_id, given.key, caller.actor)
            case "session":
                done = self._purging.session(workspace_id, parse_session_id(given.key), caller.actor)
            case "workspace":
                if given.key:
                    raise InvalidArgument("A workspace is purged whole", hint="Leave the key out")
                done = self._purging.workspace(workspace_id, caller.actor)
            case "knowledge":
                key = Key(workspace_id, "knowledge", parse_document_path(given.key))
                done = self._purging.document(key, caller.actor)
            case "overview":
                done = self._purging.document(Key(workspace_id, "overview", OVERVIEW), caller.actor)
        self._snapshots.sweep()
        is_index_empty = self._core.index.throw_away(_INDEX_SECONDS)
        is_log_empty = self._core.root.database.scrub()
        notes = [
            f"The same transcript is also session {session} of {workspace}: purge it there too"
            for workspace, session in done.elsewhere
        ]
        if not is_index_empty:
            notes.append("The index is busy: it is thrown away as soon as it can be")
        if not is_log_empty:
            notes.append("A reader held the state database's log: purge again to empty it")
        return {"files": done.files, "notes": notes}

    def _gc(self, caller: Caller, given: GcArguments) -> Answer:
        before = (datetime.now(timezone.utc) - timedelta(days=given.keep_days)).isoformat()
        found = {"versions": 0, "revisions": 0, "memories": 0, "bytes": 0}
        self._core.journal.flush()
        for workspace in self._core.registry.all():
            done = self._collecting.run(workspace.workspace_id, given.keep_versions, before, is_dry=not given.apply)
            found["versions"] += done.versions
            found["revisions"] += done.revisions
            found["bytes"] += done.bytes
            found["memories"] += self._core.memories.collect(
                workspace.workspace_id, before, caller.actor, is_dry=not given.apply
            )
        return {**found, "applied": given.apply}

    def _rename(self, caller: Caller, given: RenameArguments) -> Answer:
        old, new = parse_workspace_id(given.workspace_id), parse_workspace_id(given.to)
        known = self._core.registry.get(old).workspace_id
        self._core.journal.flush()
        self._moving.rename(known, new, caller.actor)
        self._core.index.rebuild()
        return {"workspace_id": new, "was": known}

    def _merge(self, caller: Caller, given: MergeArguments) -> Answer:
        core = self._core
        source = core.registry.get(parse_workspace_id(given.workspace_id))
        target = core.registry.get(parse_workspace_id(given.into))
        for workspace in (source, target):
            core.scan.workspace(workspace.workspace_id)
            core.archives.recover_workspace(workspace.workspace_id)
        plan = self._merging.merge(source.workspace_id, target.workspace_id, caller.actor, is_dry=not given.apply)
        beside = plan.beside
        notes = list(plan.problems[:_MOST_NOTES])
        if fold(source.machine) != fold(target.machine):
            notes.append(
                f"Tokens that are limited to machine {source.machine} cannot write {target.workspace_id},"
                f" which is {target.machine}'s"
            )
        return {
            "workspace_id": target.workspace_id, "was": source.workspace_id, "applied": given.apply,
            "documents": sum(bool(move.to) for move in plan.documents),
            "sessions": sum(bool(move.to) for move in plan.sessions),
            "known": plan.known, "beside": len(beside), "renamed": beside[:_MOST_NOTES], "notes": notes,
        }  # fmt: skip

    def _archive(self, _: Caller, given: ArchiveArguments) -> Answer:
        known = self._core.registry.get(parse_workspace_id(given.workspace_id))
        self._core.registry.archive(known.workspace_id, "" if given.undo else known.archived_at or now())
        return {"workspace_id": known.workspace_id, "archived": not given.undo}

    def _adopt(self, caller: Caller, given: AdoptArguments) -> Answer:
        """Take over a folder that an import has laid down in `_meta/imports`."""
        core = self._core
        wanted = new_workspace(
            parse_workspace_id(given.workspace_id), given.machine, given.tool, given.project, given.description,
            given.project_key, caller.actor,
        )  # fmt: skip
        core.tombstones.ensure_none(wanted.workspace_id, "workspace")
        adopt(core.root, core.registry, given.name, wanted, caller.actor)
        found = core.archives.recover_workspace(wanted.workspace_id)
        documents = core.scan.workspace(wanted.workspace_id)
        return {
            "workspace_id": wanted.workspace_id, "documents": documents, "sessions": found.adopted,
            "problems": found.problems[:20],
        }  # fmt: skip
