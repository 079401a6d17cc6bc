"""Who may open a root: owners and modes of what must stay private (SPEC: CHECK-7)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PRIVATE_FOLDERS = (".", "_meta")
SECRETS = ("secret.key", "generated-tokens.env", "control.json", "tokens.json", "workspaces.json")
"""Files of `_meta` that nobody else may read. The databases, which SQLite makes, rely on the folder."""


class Open(NamedTuple):
    """Something that others than its owner can open; `path` is below the root."""

    path: str
    mode: int
    wanted: int


def open_to_others(root: Path) -> Iterator[Open]:
    """Folders that should be 0700 and secrets that should be 0600, and are not."""
    wanted = [(name, 0o700) for name in PRIVATE_FOLDERS] + [(f"_meta/{name}", 0o600) for name in SECRETS]
    for name, mode in wanted:
        try:
            found = os.lstat(root / name)
        except OSError:
            continue
        if not stat.S_ISLNK(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
            yield Open(name, stat.S_IMODE(found.st_mode), mode)


def owners(root: Path) -> dict[int, list[str]]:
    """User id → what it owns of the root, of `_meta` and of `workspaces`, by path."""
    found: dict[int, list[str]] = {}
    for path in (root, root / "_meta", root / "workspaces", *_children(root / "_meta")):
        try:
            found.setdefault(os.lstat(path).st_uid, []).append(str(path.relative_to(root)))
        except OSError:
            continue
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
