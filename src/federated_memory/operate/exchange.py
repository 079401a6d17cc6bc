"""A workspace as a folder that git and Obsidian open, and back (SPEC: EXPORT-1, EXPORT-2)."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from federated_memory.errors import Conflict, InvalidArgument, NotFound
from federated_memory.fs.folder import storage_errors
from federated_memory.store.importing import FOLDER

_OURS = ("overview.md", ".versions", "knowledge", "sessions", "memories")
_NAMES = ("workspace_id", "machine", "tool", "project", "description", "project_key")


@dataclass(frozen=True, slots=True)
class Identity:
    """What `identity.json` of an exported folder says."""

    workspace_id: str
    machine: str
    tool: str
    project: str
    description: str
    project_key: str


def export_to(workspace: Path, to: Path) -> int:
    """Copy a snapshot's workspace into a new or empty folder; returns how many files.

    Raises:
        Conflict: The folder is not empty.
        StorageFull, Unavailable: Nothing is left of it.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise Conflict(f"{to} is not an empty folder", hint="Name a new one")
    staged = to.absolute().with_name(f".{to.name}.exporting-{secrets.token_hex(4)}")
    try:
        with storage_errors():
            files = _copy(workspace, staged)
            if to.exists():
                to.rmdir()
            staged.rename(to)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return files


def read_identity(folder: Path) -> Identity:
    """Raises: NotFound: no such folder. InvalidArgument: nothing that was exported."""
    try:
        found = json.loads((folder / "identity.json").read_bytes())
        return Identity(**{name: str(found.get(name, "")) for name in _NAMES})
    except FileNotFoundError:
        raise NotFound(f"There is no identity.json in {folder}", hint="Name a folder that `export` made") from None
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"{folder}/identity.json is damaged", hint="Export the workspace anew") from error


def lay_down(folder: Path, root: Path) -> str:
    """Copy what is ours of an exported folder to where the root's owner takes it over; returns its name there.

    Links, devices and names that no workspace has (`.git`, `.obsidian`) are left out.
    """
    name = secrets.token_hex(8)
    target = root / "_meta" / FOLDER / name
    try:
        with storage_errors():
            target.mkdir(parents=True, mode=0o700)
            for part in _OURS:
                source = folder / part
                if source.is_symlink():
                    continue
                if source.is_dir():
                    _copy(source, target / part)
                elif source.is_file():
                    shutil.copy2(source, target / part)
            os.sync()
    except BaseException:
        take_up(root, name)
        raise
    return name


def take_up(root: Path, name: str) -> None:
    """Remove what `lay_down` made, if it is still there."""
    shutil.rmtree(root / "_meta" / FOLDER / name, ignore_errors=True)


def _copy(source: Path, target: Path) -> int:
    files = 0
    for top, folders, names in os.walk(source):
        here = target / Path(top).relative_to(source)
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
        folders[:] = [name for name in folders if not (Path(top) / name).is_symlink()]
        for name in names:
            path = Path(top) / name
            if path.is_file() and not path.is_symlink():
                shutil.copy2(path, here / name)
                files += 1
    return files
