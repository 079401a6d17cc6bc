"""`_meta/index.sqlite3`: opened, thrown away when it is not ours, and shared by one writer and many readers.

It is derived, so a commit need not be on the disk when it returns (`synchronous=NORMAL`): a power failure takes the
last transactions back, their cursor with them, and the follower repeats them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 11
_SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
_SUFFIXES = ("", "-wal", "-shm", "-journal")
_IDLE_READERS = 4
_WAIT_SECONDS = 5.0
_MOST_WAL_BYTES = 4 * 1024**2


class IndexUnusable(Exception):
    """The index cannot be read now: damaged, being made anew, or closed. What it would have told is in the files."""


class IndexFull(Exception):
    """The disk has no room for the index."""


class IndexFile:
    """The database of one index. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it anew when it is damaged, of another version, or no database at all."""
        self._path = path
        self._lock = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._readers = 0
        self._is_usable = False
        self._inode: int | None = None
        self._writer: sqlite3.Connection | None = None
        self._write_lock = threading.RLock()
        self.incarnation = 0
        """Rises when everything that was known of the content no longer holds."""
        self.is_damaged = False
        """Set when a read or write found it damaged; `renew` makes it anew."""
        self._open()

    def _open(self) -> None:
        try:
            self._writer = self._connect_writer()
        except sqlite3.Error as error:
            if _is_full(error):
                self.is_damaged = True
                return
            logger.warning("index is not usable and made anew", extra={"reason": type(error).__name__})
            self._remove()
            try:
                self._writer = self._connect_writer()
            except (sqlite3.Error, OSError):
                self.is_damaged = True
                return
        self._inode = _inode_of(self._path)
        self._is_usable = True
        self.is_damaged = False

    def look_at_place(self) -> None:
        """Notice when the file was removed, or another put in its place: that one is never read."""
        if self._is_usable and _inode_of(self._path) != self._inode and not self.is_damaged:
            logger.warning("index was removed or replaced and will be made anew")
            self.is_damaged = True

    def _connect_writer(self) -> sqlite3.Connection:
        connection = _connect(self._path)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA cache_size=-16384")
            connection.execute(f"PRAGMA journal_size_limit={_MOST_WAL_BYTES}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"schema {version}")
            if version == 0:
                connection.executescript(f"BEGIN;{_SCHEMA};PRAGMA user_version={SCHEMA_VERSION};COMMIT")
            connection.execute("SELECT * FROM meta").fetchall()
            connection.execute("SELECT id FROM sources LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def renew(self) -> None:
        """Throw everything away and begin anew; waits for readers.

        Raises:
            IndexFull: There is no room for a new one.
        """
        with self._write_lock:
            self._shut()
            self._remove()
            self.incarnation += 1
            with self._lock:
                self._open()
                if self.is_damaged:
                    raise IndexFull("no room for an index")

    def close(self) -> None:
        with self._write_lock:
            self._shut()

    def _shut(self) -> None:
        with self._lock:
            self._is_usable = False
            self._lock.wait_for(lambda: not self._readers)
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        if self._writer is not None:
            with suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None

    def _remove(self) -> None:
        for suffix in _SUFFIXES:
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one moment of the index.

        Raises:
            IndexUnusable: It cannot be read.
        """
        with self._lock:
            if not self._is_usable or self.is_damaged:
                raise IndexUnusable("the index is being made")
            self._readers += 1
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                self.look_at_place()
                if self.is_damaged:
                    raise IndexUnusable("the index is being made")
                connection = _connect(self._path)
                connection.execute("PRAGMA query_only=ON")
                connection.execute("PRAGMA cache_size=-4096")
            connection.execute("BEGIN")
            yield connection
        except sqlite3.DatabaseError as error:
            if connection is not None and not _is_interrupt(error):
                self._found(error)
            raise IndexUnusable(str(error)) from error
        finally:
            self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection | None) -> None:
        is_good = connection is not None
        if connection is not None:
            try:
                connection.set_progress_handler(None, 0)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error:
                is_good = False
        with self._lock:
            self._readers -= 1
            if connection is not None:
                if is_good and self._is_usable and len(self._idle) < _IDLE_READERS:
                    self._idle.append(connection)
                else:
                    connection.close()
            self._lock.notify_all()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of the one writer, undone whole when the block raises.

        Raises:
            IndexFull: The disk is full; nothing was changed.
            IndexUnusable: The index is damaged or closed.
        """
        with self._write_lock:
            connection = self._writer
            if connection is None:
                raise IndexUnusable("the index is closed")
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                _roll_back(connection)
                if _is_full(error):
                    raise IndexFull(str(error)) from error
                self._found(error)
                raise IndexUnusable(str(error)) from error
            except BaseException:
                _roll_back(connection)
                raise

    def shorten_log(self) -> None:
        """Let the log of the transactions be short again, unless somebody reads just now."""
        with self._write_lock:
            if self._writer is None or not self._has_long_log():
                return
            with suppress(sqlite3.Error):
                self._writer.execute("PRAGMA busy_timeout=0")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            with suppress(sqlite3.Error):
                self._writer.execute(f"PRAGMA busy_timeout={round(1000 * _WAIT_SECONDS)}")

    def _has_long_log(self) -> bool:
        try:
            return self._path.with_name(f"{self._path.name}-wal").stat().st_size > _MOST_WAL_BYTES
        except OSError:
            return False

    def verify(self) -> bool:
        """Whether the database is sound; reads all of it."""
        try:
            with self.reading() as connection:
                return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        except IndexUnusable:
            return False

    def _found(self, error: sqlite3.Error) -> None:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return
        if not self.is_damaged:
            logger.warning("index is damaged and will be made anew", extra={"reason": str(error)[:100]})
        self.is_damaged = True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_WAIT_SECONDS)
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def _inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_full(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and any(
        sign in str(error) for sign in ("full", "disk I/O", "unable to open", "readonly")
    )


def _is_interrupt(error: sqlite3.Error) -> bool:
    return "interrupt" in str(error)
