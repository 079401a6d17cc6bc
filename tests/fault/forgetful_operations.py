"""The broken twin of the operations: a server that begins them as ours does, takes its time, and after a crash neither
finishes them nor looks for what they left."""

from __future__ import annotations

import time
from typing import Any

from federated_memory.cli.main import run
from federated_memory.store.merging import Merging
from federated_memory.store.moving import Moving
from federated_memory.store.snapshot import Snapshots

_move, _merge = Moving._finish, Merging._finish


def move_later(self: Moving, *what: Any) -> None:
    time.sleep(0.05)  # a disk that takes its time
    _move(self, *what)


def merge_later(self: Merging, *what: Any) -> None:
    time.sleep(0.05)
    _merge(self, *what)


def nothing(*_: object) -> None:
    return


Moving._finish, Merging._finish = move_later, merge_later  # type: ignore[method-assign]
Moving.finish = Merging.finish = Snapshots.sweep = nothing  # type: ignore[method-assign]

if __name__ == "__main__":
    run()
