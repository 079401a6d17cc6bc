"""Where a command is run: which project, on which machine; and the workspace that it writes from there."""

from __future__ import annotations

import importlib.util
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from federated_memory.errors import InvalidArgument

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend

TOOL = "cli"
"""What a workspace that the command line makes for itself is called by."""


@dataclass(frozen=True, slots=True)
class Place:
    project: str
    project_key: str


def place_here() -> Place:
    """The project around the current folder. Raises: as `place_of`."""
    return place_of(Path.cwd())


def place_of(folder: Path) -> Place:
    """The project around a folder, as the client that uploads sessions tells it.

    Raises:
        InvalidArgument: The folder belongs to none.
    """
    from federated_memory.operate.shipped import client_folder

    name = "federated_memory_client"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, client_folder() / "memory_sync.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found = sys.modules[name].project_of(str(folder.absolute()))
    if found is None:
        raise InvalidArgument(f"{folder} is no project", hint="Name one with --project or --workspace")
    return Place(found.name, found.key)


def host_name() -> str:
    """This machine's own short name."""
    return socket.gethostname().split(".")[0] or "machine"


def bound(backend: Backend, workspace_id: str, *, tool: str = TOOL) -> tuple[str, str]:
    """The workspace that is written, and the binding to it: the one named, else this machine's of the project here.

    Raises:
        NotFound: There is no workspace of that id.
    """
    from federated_memory.cli.calls import REGISTER

    if workspace_id:
        known = backend.workspace(workspace_id).workspace_id
        done = backend.ask(REGISTER, workspace_id=known)
    else:
        here = place_here()
        done = backend.ask(
            REGISTER, machine=host_name(), tool=tool, project=here.project, project_key=here.project_key
        )  # fmt: skip
    return done.workspace_id, done.binding or ""
