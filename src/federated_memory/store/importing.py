"""A workspace's folder from elsewhere becomes one of this root: its files are the truth here too (SPEC: EXPORT-2)."""

from __future__ import annotations

import re

from federated_memory.errors import Conflict, NotFound
from federated_memory.fs import NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.store.changes import Actor
from federated_memory.store.registry import Registry, Workspace
from federated_memory.store.root import Root

FOLDER = "imports"
_NAME = re.compile(r"[0-9a-f]{16}\Z")


def adopt(root: Root, registry: Registry, name: str, wanted: Workspace, actor: Actor) -> None:
    """Move `_meta/imports/<name>` to its place and register it; versions and sessions are taken in by the scan.

    Raises:
        NotFound: Nothing was laid down under that name.
        Conflict: The id is taken, or was.
    """
    target = wanted.workspace_id
    with root.locked(target), storage_errors():
        was_known = root.database.row("SELECT 1 FROM changes WHERE workspace_id = ? LIMIT 1", target) is not None
        if registry.find(target) is not None or root.workspaces.exists(target) or was_known:
            raise Conflict(f"Workspace {target} exists here already, or did", hint="Pass another id with --as")
        try:
            if not _NAME.match(name):
                raise FileNotFoundError
            with root.meta.folder(FOLDER) as imports:
                imports.folder(name).close()
                imports.rename(name, root.workspaces, target)
                root.workspaces.sync_names()
        except (FileNotFoundError, NotRegular):
            raise NotFound("There is no such import", hint="Use `federated-memory import`") from None
    registry.register(wanted, actor)
