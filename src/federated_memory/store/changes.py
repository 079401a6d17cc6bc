"""The change feed: every acknowledged change, numbered (SPEC: FEED-1).

Followers (the index, notifications, federation) keep a cursor each: the number of the last change they have seen.
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from federated_memory.store.database import Database

Kind = Literal["workspace", "knowledge", "overview", "session", "memory", "tombstone"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made a change: the name of a token or of a part of this server, and the address it came from."""

    name: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """`number` orders the changes of this node, `sequence` those of one workspace; both count from 1 without gaps."""

    number: int
    epoch: int
    workspace_id: str
    sequence: int
    kind: Kind
    key: str
    operation: str
    version: int | None
    etag: str | None
    at: str
    actor: str


class ChangeFeed:
    def __init__(self, database: Database) -> None:
        self._database = database
        known = dict(database.rows("SELECT key, value FROM node"))
        if "origin" not in known:
            known = {"origin": uuid.uuid4().hex, "epoch": "1"}
            with database.transaction() as transaction:
                transaction.executemany("INSERT INTO node VALUES (?, ?)", known.items())
        self.origin: str = known["origin"]
        self.epoch = int(known["epoch"])

    def append(
        self,
        transaction: sqlite3.Connection,
        workspace_id: str,
        kind: Kind,
        key: str,
        operation: str,
        actor: Actor,
        *,
        version: int | None = None,
        etag: str | None = None,
        at: str | None = None,
    ) -> int:
        """Add a change to the caller's transaction; returns its number."""
        cursor = transaction.execute(
            "INSERT INTO changes"
            " (epoch, workspace_id, sequence, kind, key, operation, version, etag, at, actor, source)"
            " VALUES (?, ?, 1 + (SELECT coalesce(max(sequence), 0) FROM changes WHERE workspace_id = ?),"
            " ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.epoch, workspace_id, workspace_id, kind, key, operation, version, etag,
                at or now(), actor.name, actor.source,
            ),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def after(self, number: int, limit: int = 1000) -> list[Change]:
        """At most `limit` changes that follow `number`, oldest first."""
        return [
            Change(*row)
            for row in self._database.rows(
                "SELECT number, epoch, workspace_id, sequence, kind, key, operation, version, etag, at, actor"
                " FROM changes WHERE number > ? ORDER BY number LIMIT ?",
                number,
                limit,
            )
        ]

    def head(self) -> int:
        """The number of the newest change; 0 before the first."""
        row = self._database.row("SELECT max(number) FROM changes")
        return (row[0] if row else None) or 0


def now() -> str:
    """The time for show, RFC 3339 UTC with milliseconds; order is always by number."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
