"""What a root knows of its backups: `_meta/backups.json`, for `doctor`, `/metrics` and `purge` (SPEC: BACKUP-7)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from federated_memory.fs import Folder
from federated_memory.operate.backup import Done

NAME = "backups.json"
_MOST_FOLDERS = 20


@dataclass(frozen=True, slots=True)
class Noted:
    """The newest backup that went to one folder."""

    folder: str
    name: str
    created_at: str
    verified_at: str
    bytes: int


def note_backup(root: Path, done: Done) -> None:
    """Remember a backup that was just verified."""
    manifest = done.manifest
    noted = Noted(str(done.path.parent), done.path.name, manifest.created_at, manifest.verified_at, manifest.size)
    others = [known for known in noted_backups(root) if known.folder != noted.folder]
    rows = [asdict(row) for row in [noted, *others][:_MOST_FOLDERS]]
    with Folder.open(root) as folder, folder.folder("_meta") as meta:
        meta.replace(NAME, json.dumps({"backups": rows}, indent=1).encode() + b"\n")


def noted_backups(root: Path) -> list[Noted]:
    """The newest of each folder, newest first; none when nothing readable is there."""
    try:
        with Folder.open(root) as folder, folder.folder("_meta") as meta:
            rows = json.loads(meta.read(NAME, 1 << 20))["backups"]
        found = [Noted(**row) for row in rows]
        return sorted(found, key=lambda noted: noted.created_at, reverse=True)
    except (OSError, ValueError, KeyError, TypeError):
        return []
