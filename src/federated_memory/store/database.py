"""`_meta/state.sqlite3`: the truth of what is not a file, and the journal of what is about to be one.

One connection writes, under a lock, in transactions that are durable when they end (WAL, `synchronous=FULL`).
Every thread reads through a connection of its own and never waits for the writer.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from federated_memory.errors import FederatedMemoryError, StorageFull, Unavailable, UnsupportedFormat
from federated_memory.names import fold

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
_STEPS = {
    # Memories had a row in this index that nothing asked for, and their subject stood in two tables.
    1: (
        "DROP INDEX documents_folded",
        "CREATE INDEX documents_folded ON documents (workspace_id, kind, folded) WHERE deleted = 0 AND folded <> ''",
        "UPDATE documents SET folded = '', title = '' WHERE kind IN ('memory', 'tombstone')",
    )
}
"""Schema → what makes the next one of it: in one transaction, nothing that is known only here is lost by it, and what
is asked of either works with both, so that a full disk only puts it off."""
_LOG_PAGES = 16_000
"""About 64 MB: `checkpoint` empties the log long before; this is for when it cannot run."""
_SCRUB_TRIES = 30
_QUICK_SECONDS = 0.002
_NEWEST_COUNTS = 0.2
_SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")


class Pinned:
    """What the database held at one moment, whatever is written since."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def copy_to(self, path: Path) -> None:
        """A database file of its own. Raises: StorageFull, Unavailable: it could not be written."""
        copy = sqlite3.connect(path, isolation_level=None)
        try:
            self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            raise _explained(error) from error
        finally:
            copy.close()


class Database:
    """The state database of one root; thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._listeners: list[Callable[[], None]] = []
        self._has_grown = True
        self._commit_seconds = _QUICK_SECONDS  # on the average, the newest most; nothing is known yet
        self._writer = self._connect()
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.execute("PRAGMA synchronous=FULL")
        self._writer.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
        self._migrate()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.create_function("fold", 1, fold, deterministic=True)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-4096")
        self._connections.append(connection)
        return connection

    def _migrate(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise UnsupportedFormat(
                f"state.sqlite3 has schema {version}, this version reads up to {SCHEMA_VERSION}",
                hint="Install the newer federated-memory again",
            )
        if version == 0:
            self._writer.executescript(f"BEGIN;{_SCHEMA};PRAGMA user_version={SCHEMA_VERSION};COMMIT")
            return
        for number in range(version, SCHEMA_VERSION):
            try:
                with self.transaction(tells=False) as transaction:
                    for statement in _STEPS[number]:
                        transaction.execute(statement)
                    transaction.execute(f"PRAGMA user_version={number + 1}")
            except (StorageFull, Unavailable) as error:
                logger.warning("state is not brought up to date yet", extra={"schema": number, "reason": str(error)})
                return

    def close(self) -> None:
        with self._write_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def checkpoint(self) -> None:
        """Move committed pages from the log into the database: in the background rather than in a write."""
        if not self._has_grown:
            return
        self._has_grown = False
        self._reader().execute("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def pinned(self) -> Iterator[Pinned]:
        """Hold on to what is committed now; the log grows meanwhile, and nobody waits."""
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM node").fetchone()
            yield Pinned(connection)
        finally:
            connection.close()

    def scrub(self) -> bool:
        """Write the database anew, without what was deleted, and empty its log; False: a reader kept the log from that.

        Raises:
            StorageFull, Unavailable: There is no room for a second copy, or the disk failed.
        """
        try:
            with self._write_lock:
                self._writer.execute("VACUUM")
                for _ in range(_SCRUB_TRIES):
                    (is_busy, *_) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    if not is_busy:
                        return True
                    time.sleep(0.1)
        except sqlite3.OperationalError as error:
            raise _explained(error) from error
        return False

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener`, which must be quick and must not raise, after each committed transaction."""
        self._listeners.append(listener)

    @contextmanager
    def transaction(self, *, tells: bool = True) -> Iterator[sqlite3.Connection]:
        """A write transaction: durable when the block ends, undone whole when it raises.

        `tells` False: it adds nothing to the change feed, so that nobody who follows it need look.

        Raises:
            StorageFull: The disk is full; nothing was changed.
            Unavailable: The disk failed; nothing was changed.
        """
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                started = time.perf_counter()
                self._writer.execute("COMMIT")
                self._commit_seconds += _NEWEST_COUNTS * (time.perf_counter() - started - self._commit_seconds)
                self._has_grown = True
            except BaseException as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise _explained(error) from error
                raise
        if tells:
            for listener in self._listeners:
                listener()

    @contextmanager
    def quickly(self) -> Iterator[bool]:
        """Whether a small transaction in this block takes less than handing it to another thread would.

        It does while the disk commits fast and nobody else writes; where it says so, nobody else can until it ends,
        and what this thread reads meanwhile is in the writer's memory: read before a transaction begins, not inside.
        """
        is_held = self._commit_seconds < _QUICK_SECONDS and self._write_lock.acquire(blocking=False)
        self._local.reads_as_writer = is_held
        try:
            yield is_held
        finally:
            self._local.reads_as_writer = False
            if is_held:
                self._write_lock.release()

    def ensure_tables(self, script: str) -> None:
        """Make the tables of a part that older roots do not have: `CREATE … IF NOT EXISTS` only, which older versions
        of this program pass over."""
        with self._write_lock:
            self._writer.executescript(f"BEGIN;{script};COMMIT")

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._reader().execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: object) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._reader().execute(sql, parameters).fetchone()
        return found

    def _reader(self) -> sqlite3.Connection:
        if getattr(self._local, "reads_as_writer", False):
            return self._writer
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
        return connection


def _explained(error: sqlite3.OperationalError) -> FederatedMemoryError:
    if "full" in str(error):
        return StorageFull("The server's disk is full", hint="Free space on the server, then retry")
    return Unavailable("The server's state database failed", hint="Retry; if it stays so, run `federated-memory check`")
