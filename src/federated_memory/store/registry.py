"""The registry of workspaces: `_meta/workspaces.json` (SPEC: WS-1 to WS-3)."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from federated_memory.errors import Conflict, NotFound, UnsupportedFormat
from federated_memory.fs import Folder
from federated_memory.fs.folder import storage_errors
from federated_memory.names import WorkspaceId, fold
from federated_memory.store.changes import Actor, now
from federated_memory.store.root import Root


@dataclass(frozen=True, slots=True)
class Merged:
    """A workspace that became a part of another one: the names it had, and its write token, which stays good."""

    workspace_id: str
    machine: str
    tool: str
    project: str
    project_key: str
    merged_at: str
    write_token_sha256: str = ""

    def is_same(self, machine: str, tool: str, project: str) -> bool:
        return _are_same((self.machine, self.tool, self.project), (machine, tool, project))


@dataclass(frozen=True, slots=True)
class Workspace:
    """Who a workspace belongs to. `machine`, `tool` and `project` are as first given, never parsed from the id."""

    workspace_id: WorkspaceId
    machine: str
    tool: str
    project: str
    description: str
    project_key: str
    created_at: str
    created_by: str
    write_token_sha256: str = ""
    write_token_epoch: int = 0
    former_ids: tuple[str, ...] = ()
    """What it was called before; requests that name these mean it."""
    archived_at: str = ""
    """Set: it is read and searched, but neither listed nor written."""
    merged: tuple[Merged, ...] = ()
    """Workspaces that were merged into this one; their ids are among `former_ids`."""

    def is_same(self, machine: str, tool: str, project: str) -> bool:
        """By its names, or those of a workspace that was merged into it."""
        mine, theirs = (self.machine, self.tool, self.project), (machine, tool, project)
        return _are_same(mine, theirs) or any(part.is_same(*theirs) for part in self.merged)

    @property
    def project_keys(self) -> frozenset[str]:
        """Its own and those of what was merged into it, where they are known."""
        return frozenset({self.project_key, *(part.project_key for part in self.merged)} - {""})

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Workspace:
        """Raises: TypeError, KeyError: the row says something else."""
        merged = tuple(Merged(**part) for part in row.get("merged", ()))
        return cls(**{**row, "former_ids": tuple(row.get("former_ids", ())), "merged": merged})


def _are_same(mine: tuple[str, str, str], theirs: tuple[str, str, str]) -> bool:
    """Case never tells two workspaces apart, as in their ids."""
    return all(fold(a) == fold(b) for a, b in zip(mine, theirs, strict=True))


class Registry:
    """All workspaces of a root, in memory; every change is durable before it is visible."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._workspaces = self._load()
        self._former = self._former_ids()

    def _load(self) -> dict[str, Workspace]:
        try:
            rows = json.loads(self._root.meta.read("workspaces.json"))["workspaces"]
            return {row["workspace_id"]: Workspace.of_row(row) for row in rows}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            raise UnsupportedFormat(
                "_meta/workspaces.json is damaged", hint="Restore it from a backup; the workspaces' files are untouched"
            ) from None

    def _save(self, *workspaces: Workspace) -> None:
        self._replace(self._workspaces | {str(workspace.workspace_id): workspace for workspace in workspaces})

    def _replace(self, changed: dict[str, Workspace]) -> None:
        rows = [asdict(changed[key]) for key in sorted(changed)]
        with storage_errors():
            data = json.dumps({"workspaces": rows}, ensure_ascii=False, indent=1).encode() + b"\n"
            self._root.meta.replace("workspaces.json", data)
        self._workspaces = changed
        self._former = self._former_ids()

    def _former_ids(self) -> dict[str, str]:
        return {former: key for key, known in self._workspaces.items() for former in known.former_ids}

    def all(self) -> list[Workspace]:
        """Every workspace, by id."""
        known = self._workspaces
        return [known[key] for key in sorted(known)]

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """While held, no workspace comes, changes or goes. Take it before `Root.locked`."""
        with self._lock:
            yield

    def find(self, workspace_id: str) -> Workspace | None:
        """By its id, or one that it had before."""
        return self._workspaces.get(workspace_id) or self._workspaces.get(self._former.get(workspace_id, ""))

    def get(self, workspace_id: str) -> Workspace:
        """Raises: NotFound: no such workspace."""
        workspace = self.find(workspace_id)
        if workspace is None:
            raise NotFound(f"No workspace {workspace_id}", hint="See list_workspaces, or call register_workspace first")
        return workspace

    def register(self, wanted: Workspace, actor: Actor) -> tuple[Workspace, bool]:
        """The workspace with that id, and whether it was created now.

        Raises:
            Conflict: The id belongs to another machine, tool or project.
        """
        with self._lock:
            known = self.find(wanted.workspace_id)
            if known is not None:
                if not known.is_same(wanted.machine, wanted.tool, wanted.project):
                    raise Conflict(
                        f"Workspace {wanted.workspace_id} belongs to another machine, tool or project",
                        hint="Pass another workspace_id, or other names",
                    )
                return known, False
            self._root.ensure_space()
            self._create_folder(wanted)
            self._save(wanted)
        with self._root.database.transaction() as transaction:
            self._root.feed.append(
                transaction,
                wanted.workspace_id,
                "workspace",
                wanted.workspace_id,
                "create",
                actor,
                at=wanted.created_at,
            )
        return wanted, True

    def rename(self, old: WorkspaceId, new: WorkspaceId) -> None:
        """Within `unchanging`; a second time it changes nothing."""
        known = self._workspaces.get(old)
        if known is not None:
            changed = dict(self._workspaces)
            del changed[old]
            changed[new] = replace(known, workspace_id=new, former_ids=(*known.former_ids, str(old)))
            self._replace(changed)

    def merge(self, source: WorkspaceId, target: WorkspaceId, at: str) -> None:
        """Within `unchanging`; a second time it changes nothing."""
        gone, into = self._workspaces.get(source), self._workspaces.get(target)
        if gone is None or into is None:
            return
        part = Merged(source, gone.machine, gone.tool, gone.project, gone.project_key, at, gone.write_token_sha256)
        changed = dict(self._workspaces)
        del changed[source]
        changed[target] = replace(
            into,
            former_ids=(*into.former_ids, *gone.former_ids, str(source)),
            merged=(*into.merged, *gone.merged, part),
        )
        self._replace(changed)

    def archive(self, workspace_id: WorkspaceId, at: str) -> None:
        """`at` empty brings it back."""
        with self._lock:
            self._save(replace(self.get(workspace_id), archived_at=at))

    def remove(self, workspace_id: WorkspaceId) -> None:
        """Forget a workspace; its folder and rows are the caller's business. One that is not known is no error."""
        with self._lock:
            if workspace_id in self._workspaces:
                del (changed := dict(self._workspaces))[workspace_id]
                self._replace(changed)

    def _create_folder(self, workspace: Workspace) -> None:
        with storage_errors(), self._root.workspaces.folder(workspace.workspace_id, create=True) as folder:
            for name in ("knowledge", "sessions"):
                folder.folder(name, create=True).close()
            self.write_identity(workspace, folder)

    @staticmethod
    def write_identity(workspace: Workspace, folder: Folder) -> None:
        identity = {
            key: getattr(workspace, key)
            for key in ("workspace_id", "machine", "tool", "project", "description", "project_key", "created_at")
        }
        folder.replace("identity.json", json.dumps(identity, ensure_ascii=False, indent=1).encode() + b"\n")

    def give_write_token(self, workspace_id: WorkspaceId, *, again: bool = False) -> str | None:
        """A write token, once: None when one was given before, unless `again`, which ends the old one."""
        with self._lock:
            workspace = self.get(workspace_id)
            if workspace.write_token_sha256 and not again:
                return None
            token = "wt_" + secrets.token_urlsafe(32)
            self._save(
                replace(
                    workspace,
                    write_token_sha256=hashlib.sha256(token.encode()).hexdigest(),
                    write_token_epoch=workspace.write_token_epoch + 1,
                    merged=_without_tokens(workspace.merged) if again else workspace.merged,
                )
            )
        return token

    def end_write_tokens(self, machine: str) -> None:
        """End the write tokens of a machine's workspaces: the next sync caller that registers one gets a new one."""
        with self._lock:
            changed = [_without_tokens_of(item, machine) for item in self.all()]
            if changed != self.all():
                self._save(*changed)

    def is_write_token(self, workspace_id: WorkspaceId, token: str) -> bool:
        """Compared in constant time; a workspace that never gave one has none."""
        workspace = self.get(workspace_id)
        known = [workspace.write_token_sha256, *(part.write_token_sha256 for part in workspace.merged)]
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        return any(hmac.compare_digest(one, digest) for one in known if one)


def _without_tokens(parts: tuple[Merged, ...]) -> tuple[Merged, ...]:
    return tuple(replace(part, write_token_sha256="") for part in parts)


def _without_tokens_of(workspace: Workspace, machine: str) -> Workspace:
    """Without the write tokens that were given to that machine."""
    wanted = fold(machine)
    merged = tuple(
        replace(part, write_token_sha256="") if fold(part.machine) == wanted else part for part in workspace.merged
    )
    own = "" if fold(workspace.machine) == wanted else workspace.write_token_sha256
    return replace(workspace, write_token_sha256=own, merged=merged)


def new_workspace(
    workspace_id: WorkspaceId, machine: str, tool: str, project: str, description: str, project_key: str, actor: Actor
) -> Workspace:
    return Workspace(
        workspace_id=workspace_id,
        machine=machine,
        tool=tool,
        project=project,
        description=description,
        project_key=project_key,
        created_at=now(),
        created_by=actor.name,
    )
