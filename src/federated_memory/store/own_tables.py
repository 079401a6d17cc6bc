"""Tables that a root gets with the first row: opening one on a full disk needs no write, an older root no migration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from federated_memory.store.database import Database


class OwnTables:
    """Some tables of the state database, as one part of the store uses them. Thread-safe."""

    def __init__(self, database: Database, *statements: str) -> None:
        self._database = database
        self._statements = statements
        self._is_made = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As `Database.transaction`, with the tables there; changes of the feed do not belong in it."""
        with self._database.transaction(tells=False) as transaction:
            if not self._is_made:
                for statement in self._statements:
                    transaction.execute(statement)
            yield transaction
        self._is_made = True

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What is committed; nothing while the tables are not there."""
        was_made = self._is_made  # the first row may be committed while this looks
        try:
            return self._database.rows(sql, *parameters)
        except sqlite3.OperationalError as error:
            if was_made or "no such table" not in str(error):
                raise
            return []

    def row(self, sql: str, *parameters: object) -> tuple[Any, ...] | None:
        return next(iter(self.rows(sql, *parameters)), None)
