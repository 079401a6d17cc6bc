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

from federated_memory.errors import Conflict, NotFound, UnsupportedFormat
from federated_memory.fs.folder import storage_errors
from federated_memory.names import WorkspaceId, fold
from federated_memory.store.changes import Actor, now
from federated_memory.store.root import Root


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

    def is_same(self, machine: str, tool: str, project: str) -> bool:
        """Case never tells two workspaces apart, as in their ids."""
        mine, theirs = (self.machine, self.tool, self.project), (machine, tool, project)
        return all(fold(a) == fold(b) for a, b in zip(mine, theirs, strict=True))


class Registry:
    """All workspaces of a root, in memory; every change is durable before it is visible."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._workspaces = self._load()

    def _load(self) -> dict[str, Workspace]:
        try:
            rows = json.loads(self._root.meta.read("workspaces.json"))["workspaces"]
            return {row["workspace_id"]: Workspace(**row) for row in rows}
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
        return self._workspaces.get(workspace_id)

    def get(self, workspace_id: str) -> Workspace:
        """Raises: NotFound: no such workspace."""
        workspace = self._workspaces.get(workspace_id)
        if workspace is None:
            raise NotFound(f"No workspace {workspace_id}", hint="See list_workspaces, or call register_workspace first")
        return workspace

    def register(self, wanted: Workspace, actor: Actor) -> tuple[Workspace, bool]:
        """The workspace with that id, and whether it was created now.

        Raises:
            Conflict: The id belongs to another machine, tool or project.
        """
        with self._lock:
            known = self._workspaces.get(wanted.workspace_id)
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

    def remove(self, workspace_id: WorkspaceId) -> None:
        """Forget a workspace; its folder and rows are the caller's business. One that is not known is no error."""
        with self._lock:
            if workspace_id in self._workspaces:
                del (changed := dict(self._workspaces))[workspace_id]
                self._replace(changed)

    def _create_folder(self, workspace: Workspace) -> None:
        identity = {
            key: getattr(workspace, key)
            for key in ("workspace_id", "machine", "tool", "project", "description", "project_key", "created_at")
        }
        with storage_errors(), self._root.workspaces.folder(workspace.workspace_id, create=True) as folder:
            for name in ("knowledge", "sessions"):
                folder.folder(name, create=True).close()
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
                )
            )
        return token

    def end_write_tokens(self, machine: str) -> None:
        """End the write tokens of a machine's workspaces: the next sync caller that registers one gets a new one."""
        with self._lock:
            held = [item for item in self.all() if item.write_token_sha256 and fold(item.machine) == fold(machine)]
            if held:
                self._save(*(replace(workspace, write_token_sha256="") for workspace in held))

    def is_write_token(self, workspace_id: WorkspaceId, token: str) -> bool:
        """Compared in constant time; a workspace that never gave one has none."""
        known = self.get(workspace_id).write_token_sha256
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        return bool(known) and hmac.compare_digest(known, digest)


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
