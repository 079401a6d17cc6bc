"""Short work on the state database, for callers in the event loop.

Handing a small transaction to a thread and being woken by it takes longer than the transaction, where the disk is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from federated_memory.store.database import Database

T = TypeVar("T")


async def promptly(database: Database, function: Callable[..., T], *arguments: object) -> T:
    """What `function` gives: done at once while the disk is quick and nobody else writes, else in a thread.

    It reads a few rows and commits once or twice.
    """
    with database.quickly() as is_quick:
        if is_quick:
            return function(*arguments)
    return await anyio.to_thread.run_sync(function, *arguments)
