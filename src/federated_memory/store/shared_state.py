"""Shared state: one key space of JSON values for all who work together (SPEC: STATE-1 to STATE-5).

The version of a value is the number of its change; one counter numbers the changes of all keys, so that versions order
everything and none comes twice. Clocks only end what was given a time to live.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from federated_memory.errors import Conflict, NotFound, TooLarge
from federated_memory.names import glob_matches
from federated_memory.store.changes import Actor, ChangeFeed, now
from federated_memory.store.database import Database
from federated_memory.store.group_commit import GroupCommit

_TABLES = (Path(__file__).parent / "shared_state.sql").read_text(encoding="utf-8")
_EPOCH_BITS = 21
"""A restored root, whose epoch is the second of its restoring, counts on from a number that the root it replaces has
not given: nobody writes two million times a second. Numbers stay below 2^53, where JSON in other languages ends."""
_COLUMNS = "c.number, c.key, c.operation, c.value, c.at, c.actor, c.workspace_id, c.expires_at"
_PAGE = 500
_SWEEP = 5_000
_MOST_DUE = 500
_FLOOR = "state_floor"
_BASE = "state_base"
_SCHEMAS = "state_schemas"

Operation = Literal["set", "delete", "expire"]


@dataclass(frozen=True, slots=True)
class StateChange:
    """A key as of one version; `value` is JSON, None when the key is gone."""

    number: int
    key: str
    operation: Operation
    value: bytes | None
    at: str
    actor: str
    workspace_id: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """What shall become of a key. `value` None: it is deleted. `if_version` 0: only if it is absent."""

    key: str
    value: bytes | None
    if_version: int | None = None
    ttl_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Author:
    actor: Actor
    workspace_id: str


@dataclass(frozen=True, slots=True)
class Written:
    """`answers`: a change for each write, None where there was nothing to delete. `changes`: all that were made."""

    answers: list[StateChange | None]
    changes: list[StateChange]
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class KeySchema:
    pattern: str
    version: int
    text: bytes
    at: str
    actor: str


_SERVER = Author(Actor("server"), "")


class SchemasChanged(Conflict):
    """The schemas are not those that the values were looked at with; look again. Never reaches a caller."""


class SharedState:
    """Thread-safe. Reads are plain queries; writes that come together are committed at once."""

    def __init__(
        self, database: Database, feed: ChangeFeed, *, max_keys: int, history: int, log: int,
        clock: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`history`: versions kept of a key; `log`: newest changes kept of all, for those who resume."""
        self._database = database
        self._max_keys = max_keys
        self._history = history
        self._log = log
        self._elapsed = elapsed
        # A clock that is set while the server runs changes nothing (SPEC: STATE-5).
        self._wall_offset = clock() - elapsed()
        self._listeners: list[Callable[[list[StateChange]], None]] = []
        database.ensure_tables(_TABLES)
        self._base = self._ensure_base(feed.epoch)
        self._floor = self._kept_number(_FLOOR)
        self.schemas_version = self._kept_number(_SCHEMAS)
        self.schemas = self._load_schemas()
        self._keys = self._count()
        self._commits = GroupCommit(database, self._committed, self._undone)

    def close(self) -> None:
        self._commits.close()

    def on_change(self, listener: Callable[[list[StateChange]], None]) -> None:
        """Call `listener`, which must be quick, with what each commit changed, in order; in the thread that commits."""
        self._listeners.append(listener)

    def now(self) -> float:
        """The time that ends what was given a time to live: it never jumps while the server runs."""
        return self._wall_offset + self._elapsed()

    # -- reading

    def get(self, key: str) -> StateChange | None:
        """The value that the key has; None: it is absent."""
        row = self._database.row(
            f"SELECT {_COLUMNS} FROM state_keys k JOIN state_changes c ON c.number = k.number WHERE k.key = ?", key
        )
        found = StateChange(*row) if row else None
        return found if found is not None and not self._is_over(found) else None

    def values(self, prefix: str = "", after: str = "", page: int = _PAGE) -> Iterator[StateChange]:
        """What is there under the prefix, by key, from the one after `after` on. Not as of one moment."""
        while True:
            rows = self._database.rows(
                f"SELECT {_COLUMNS} FROM state_keys k JOIN state_changes c ON c.number = k.number"
                " WHERE k.key >= ? AND k.key > ? AND k.key < ? ORDER BY k.key LIMIT ?",
                prefix, after, prefix + "\x7f", page,
            )  # fmt: skip
            for row in rows:
                found = StateChange(*row)
                if not self._is_over(found):
                    yield found
            if len(rows) < page:
                return
            after = rows[-1][1]

    def history(self, key: str, before: int | None, limit: int) -> list[StateChange]:
        """The versions of a key that are kept, newest first, from the one before `before` on."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM state_changes c WHERE c.key = ? AND c.number < ? ORDER BY c.number DESC LIMIT ?",
            key, before if before is not None else 1 << 62, limit,
        )  # fmt: skip
        return [StateChange(*row) for row in rows]

    def after(self, number: int, limit: int = _PAGE) -> list[StateChange]:
        """At most `limit` changes that follow `number`, oldest first."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM state_changes c WHERE c.number > ? ORDER BY c.number LIMIT ?", number, limit
        )
        return [StateChange(*row) for row in rows]

    def head(self) -> int:
        """The number of the newest change that was ever made, or where this epoch begins."""
        row = self._database.row("SELECT max(number) FROM state_changes")
        return max((row[0] if row else None) or 0, self._base)

    def holds_all_after(self, number: int) -> bool:
        """Whether every change that followed `number` is still kept: whether somebody can resume there."""
        return max(self._floor, self._base) <= number <= self.head()

    # -- writing

    def write(
        self, writes: Sequence[Write], author: Author, schemas_version: int, *, alone: bool = False
    ) -> Future[Written]:
        """All of it or nothing; durable when the answer is there. `alone`: nobody else is known to write now.

        The values have been found to hold the schemas of `schemas_version`.

        Raises (through the answer):
            Conflict: A key is not at its `if_version`; the facts say at which it is. SchemasChanged: look again.
            TooLarge: There are too many keys.
        """
        return self._commits.submit(
            lambda transaction: self._write(transaction, writes, author, schemas_version), alone=alone
        )

    def expire(self) -> int:
        """End what is due, at most some hundreds; returns how many. Those who watch are told."""
        (due,) = self._database.row("SELECT count(*) FROM state_keys WHERE expires_at <= ?", self.now()) or (0,)
        if not due:
            return 0
        return len(self._commits.submit(self._expire).result().changes)

    def sweep(self) -> int:
        """Forget changes beyond what is kept; returns how many went."""
        target = self.head() - self._log
        if target <= self._floor + self._log // 10:
            return 0
        gone = 0
        while self._floor < target:
            gone += self._commits.submit(lambda transaction: self._sweep(transaction, target)).result().forgotten
        return gone

    def _write(
        self, transaction: sqlite3.Connection, writes: Sequence[Write], author: Author, schemas_version: int
    ) -> Written:
        if schemas_version != self.schemas_version:
            raise SchemasChanged("The schemas changed meanwhile", hint="Retry")
        held = [self._held(transaction, write) for write in writes]
        added = sum(
            (write.value is not None) - (row is not None) for write, row in zip(writes, held, strict=True)
        )  # fmt: skip
        if added > 0 and self._keys + added > self._max_keys:
            raise TooLarge(f"There are {self._max_keys:,} keys already", hint="Delete some, or give them a ttl_seconds")
        at, moment = now(), self.now()
        answers: list[StateChange | None] = []
        changes: list[StateChange] = []
        for write, row in zip(writes, held, strict=True):
            if row is not None and row[1] is not None and row[1] <= moment:
                changes.append(self._apply(transaction, write.key, "expire", None, at, _SERVER, None))
                row = None
            if write.value is None and row is None:
                answers.append(None)
                continue
            ends = None if write.ttl_seconds is None else moment + write.ttl_seconds
            operation: Operation = "delete" if write.value is None else "set"
            changes.append(self._apply(transaction, write.key, operation, write.value, at, author, ends))
            answers.append(changes[-1])
        self._keys += added
        return Written(answers, changes)

    def _held(self, transaction: sqlite3.Connection, write: Write) -> tuple[int, float | None] | None:
        """Number and end of what the key has. Raises: Conflict: it is not what the writer assumes."""
        row: tuple[int, float | None] | None = transaction.execute(
            "SELECT number, expires_at FROM state_keys WHERE key = ?", (write.key,)
        ).fetchone()
        version = 0 if row is None or (row[1] is not None and row[1] <= self.now()) else row[0]
        if write.if_version is not None and write.if_version != version:
            there = f"is at version {version}" if version else "is absent"
            raise Conflict(f"{write.key} {there}", hint="Read it again, then retry with that version",
                           key=write.key, version=version)  # fmt: skip
        return row

    def _apply(
        self, transaction: sqlite3.Connection, key: str, operation: Operation, value: bytes | None, at: str,
        author: Author, expires_at: float | None,
    ) -> StateChange:  # fmt: skip
        number = transaction.execute(
            "INSERT INTO state_changes (key, operation, value, at, actor, source, workspace_id, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (key, operation, value, at, author.actor.name, author.actor.source, author.workspace_id, expires_at),
        ).lastrowid  # fmt: skip
        assert number is not None
        if value is None:
            transaction.execute("DELETE FROM state_keys WHERE key = ?", (key,))
        else:
            transaction.execute("INSERT OR REPLACE INTO state_keys VALUES (?, ?, ?)", (key, number, expires_at))
            if self._floor:  # what this write pushes out of the key's history, if nobody may resume there any more
                transaction.execute(
                    "DELETE FROM state_changes WHERE number <= ? AND number ="
                    " (SELECT number FROM state_changes WHERE key = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                    (self._floor, key, self._history),
                )
        return StateChange(number, key, operation, value, at, author.actor.name, author.workspace_id, expires_at)

    def _expire(self, transaction: sqlite3.Connection) -> Written:
        at = now()
        due = transaction.execute(
            "SELECT key FROM state_keys WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (self.now(), _MOST_DUE)
        ).fetchall()
        self._keys -= len(due)
        return Written([], [self._apply(transaction, key, "expire", None, at, _SERVER, None) for (key,) in due])

    def _sweep(self, transaction: sqlite3.Connection, target: int) -> Written:
        row = transaction.execute(
            "SELECT number FROM state_changes WHERE number > ? AND number <= ? ORDER BY number LIMIT 1 OFFSET ?",
            (self._floor, target, _SWEEP),
        ).fetchone()
        floor = row[0] if row else target
        of_keys = transaction.execute(  # newer versions than these are kept as many as a history has
            "DELETE FROM state_changes WHERE number > ? AND number <= ? AND (SELECT count(*) FROM (SELECT 1 FROM"
            " state_changes n WHERE n.key = state_changes.key AND n.number > state_changes.number LIMIT ?)) >= ?",
            (self._floor, floor, self._history, self._history),
        ).rowcount
        gone = transaction.execute(
            "DELETE FROM state_changes WHERE number <= ? AND key IN (SELECT key FROM state_changes"
            " WHERE number > ? AND number <= ? AND value IS NULL) AND key NOT IN (SELECT key FROM state_keys)",
            (floor, self._floor, floor),
        ).rowcount
        transaction.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (_FLOOR, str(floor)))
        self._floor = floor  # before the commit: if that fails, less can be resumed than could be, which is harmless
        return Written([], [], of_keys + gone)

    # -- schemas

    def set_schema(
        self, pattern: str, text: bytes | None, author: Author,
        since: int, check: Callable[[Iterable[StateChange]], None], most: int,
    ) -> Future[KeySchema | None]:  # fmt: skip
        """Add, replace or (None) remove the schema of a key or glob.

        `check` gets the values that changed after `since` and match; what it raises refuses the schema.

        Raises (through the answer): NotFound: none to remove. TooLarge: `most` are there already.
        """
        return self._commits.submit(
            lambda transaction: self._set_schema(transaction, pattern, text, author, since, check, most)
        )

    def _set_schema(
        self, transaction: sqlite3.Connection, pattern: str, text: bytes | None, author: Author,
        since: int, check: Callable[[Iterable[StateChange]], None], most: int,
    ) -> KeySchema | None:  # fmt: skip
        if text is None and pattern not in self.schemas:
            raise NotFound(f"{pattern} has no schema", hint="See get_state_schema")
        if text is not None and pattern not in self.schemas and len(self.schemas) >= most:
            raise TooLarge(f"There are {most:,} schemas already", hint="Remove some, or use a glob")
        if text is not None:
            changed = transaction.execute(
                f"SELECT {_COLUMNS} FROM state_changes c JOIN state_keys k ON k.number = c.number WHERE c.number > ?",
                (since,),
            )
            check(found for found in (StateChange(*row) for row in changed) if glob_matches(pattern, found.key))
        version = self.schemas_version + 1
        transaction.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (_SCHEMAS, str(version)))
        schema = None if text is None else KeySchema(pattern, version, text, now(), author.actor.name)
        if schema is None:
            transaction.execute("DELETE FROM state_schemas WHERE pattern = ?", (pattern,))
        else:
            transaction.execute(
                "INSERT OR REPLACE INTO state_schemas VALUES (?, ?, ?, ?, ?, ?)",
                (pattern, version, text, schema.at, schema.actor, author.workspace_id),
            )
        # Those behind it in this transaction are held to it already; `_undone` takes it back if the commit fails.
        self.schemas_version = version
        kept = {name: known for name, known in self.schemas.items() if name != pattern}
        self.schemas = kept if schema is None else {**kept, pattern: schema}
        return schema

    # -- in the thread that commits

    def _committed(self, results: list[Written | KeySchema | None]) -> None:
        changes = [change for result in results if isinstance(result, Written) for change in result.changes]
        if changes:
            for listener in self._listeners:
                listener(changes)

    def _undone(self) -> None:
        """A commit failed: what was counted on it is read again."""
        self._keys = self._count()
        self.schemas_version = self._kept_number(_SCHEMAS)
        self.schemas = self._load_schemas()

    def _is_over(self, found: StateChange) -> bool:
        return found.expires_at is not None and found.expires_at <= self.now()

    def _count(self) -> int:
        return int((self._database.row("SELECT count(*) FROM state_keys") or (0,))[0])

    def _kept_number(self, name: str) -> int:
        row = self._database.row("SELECT value FROM node WHERE key = ?", name)
        return int(row[0]) if row else 0

    def _load_schemas(self) -> dict[str, KeySchema]:
        rows = self._database.rows("SELECT pattern, version, text, at, actor FROM state_schemas")
        return {row[0]: KeySchema(*row) for row in rows}

    def _ensure_base(self, epoch: int) -> int:
        """The number after which this epoch counts."""
        kept = self._database.row("SELECT value FROM node WHERE key = ?", _BASE)
        known, _, base = str(kept[0]).partition(":") if kept else ("", "", "0")
        if known == str(epoch):
            return int(base)
        row = self._database.row("SELECT seq FROM sqlite_sequence WHERE name = 'state_changes'")
        given = int(row[0]) if row else 0
        begins = max((epoch - 1) << _EPOCH_BITS, given + (1 << _EPOCH_BITS) if given else 0)
        with self._database.transaction(tells=False) as transaction:
            transaction.execute("DELETE FROM sqlite_sequence WHERE name = 'state_changes'")
            transaction.execute("INSERT INTO sqlite_sequence VALUES ('state_changes', ?)", (begins,))
            transaction.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (_BASE, f"{epoch}:{begins}"))
        return begins
