"""The broken twin of durability: a server that asks the disk for nothing. Killing it loses nothing, power loss does."""

from __future__ import annotations

import os
from typing import Any

from federated_memory.cli.main import run
from federated_memory.fs.folder import Folder
from federated_memory.store.database import Database

_open = Database.__init__


def open_carelessly(self: Database, *what: Any, **more: Any) -> None:
    _open(self, *what, **more)
    self._writer.execute("PRAGMA synchronous=OFF")


Database.__init__ = open_carelessly  # type: ignore[method-assign]
Folder.sync_file_system = lambda _: True  # type: ignore[method-assign]
os.fsync = lambda _: None  # type: ignore[assignment]

if __name__ == "__main__":
    run()
