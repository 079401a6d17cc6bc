"""Whether a server runs on a root, as its `_meta/control.json` tells."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from federated_memory.fs import Folder

_MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Control:
    """What the control file says of the server that wrote it. `token` is an admin's."""

    url: str
    pid: int
    token: str
    is_copied: bool = False
    """It came here with a copy of the root, and tells of the server that runs on the original."""

    @property
    def is_stale(self) -> bool:
        """Whether its process is gone, as after a crash, or serves another root."""
        if self.is_copied:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's process
            return False
        return False


def read_control(root: Path) -> Control | None:
    """The control file of a root; None without a readable one."""
    try:
        with Folder.open(root) as folder, folder.folder("_meta") as meta:
            found = json.loads(meta.read("control.json", _MAX_BYTES))
        control = Control(
            str(found["url"]), int(found["pid"]), str(found["token"]),
            is_copied="inode" in found and found["inode"] != inode_of(root),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return control if control.pid > 0 else None


def inode_of(root: Path) -> int:
    """What tells a root from a copy of it."""
    return os.stat(root / "_meta").st_ino


def read_generated_token(root: Path, name: str = "MCP_TOKEN") -> str:
    """MCP_TOKEN or SYNC_TOKEN, as made at first start; empty without a readable file."""
    try:
        with Folder.open(root) as folder, folder.folder("_meta") as meta:
            lines = meta.read("generated-tokens.env", _MAX_BYTES).decode("ascii", "replace").splitlines()
    except OSError:
        return ""
    return next((line.partition("=")[2].strip() for line in lines if line.startswith(f"{name}=")), "")


def is_served(root: Path) -> bool:
    control = read_control(root)
    return control is not None and not control.is_stale
