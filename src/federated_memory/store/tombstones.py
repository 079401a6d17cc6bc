"""What was purged, so that no later sync brings it back: ids and hashes, never text (SPEC: PURGE-2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from federated_memory.errors import Forbidden
from federated_memory.store.changes import Actor, now
from federated_memory.store.database import Database

_TABLE = """
CREATE TABLE IF NOT EXISTS tombstones (
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,            -- text | session | workspace
    key TEXT NOT NULL,             -- SHA-256 of a document's bytes, a session's id, or empty
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    PRIMARY KEY (workspace_id, kind, key)
) WITHOUT ROWID
"""
_HINT = "It was purged on the server; remove it here too, or store other text"


class Tombstones:
    """All of a root, in memory. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        try:
            rows = database.rows("SELECT workspace_id, kind, key FROM tombstones")
        except sqlite3.OperationalError:  # no such table: nothing was ever purged
            rows = []
        self._known: frozenset[tuple[str, str, str]] = frozenset(rows)

    def has(self, workspace_id: str, kind: str, key: str = "") -> bool:
        return (workspace_id, kind, key) in self._known

    def ensure_none(self, workspace_id: str, kind: str, key: str = "") -> None:
        """Raises: Forbidden: it was purged."""
        if self.has(workspace_id, kind, key):
            raise Forbidden(f"This {kind} was purged from {workspace_id}", hint=_HINT)

    def add(self, workspace_id: str, kind: str, keys: Iterable[str], actor: Actor) -> None:
        wanted = [(workspace_id, kind, key) for key in keys]
        with self._database.transaction() as transaction:
            transaction.execute(_TABLE)
            transaction.executemany(
                "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?, ?)",
                [(*row, now(), actor.name) for row in wanted],
            )
        self._known |= frozenset(wanted)

    def rename(self, transaction: sqlite3.Connection, old: str, new: str) -> None:
        """Part of the caller's transaction; `reload` when it has ended."""
        transaction.execute(_TABLE)
        transaction.execute("UPDATE OR IGNORE tombstones SET workspace_id = ? WHERE workspace_id = ?", (new, old))

    def copy(self, transaction: sqlite3.Connection, source: str, target: str) -> None:
        """What was purged from one workspace stays away from another one too; `reload` when it has ended."""
        transaction.execute(_TABLE)
        transaction.execute(
            "INSERT OR IGNORE INTO tombstones SELECT ?, kind, key, at, actor FROM tombstones"
            " WHERE workspace_id = ? AND kind <> 'workspace'",
            (target, source),
        )

    def reload(self) -> None:
        self._known = Tombstones(self._database)._known
