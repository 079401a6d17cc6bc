"""`_meta/state.sqlite3`, opened so that nothing is written and no running server has to wait."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from federated_memory.store.archives.rows import Archive
from federated_memory.store.document import Key
from federated_memory.store.members import Member
from federated_memory.store.versions import Version

NAME = "state.sqlite3"
_ARCHIVE = ", ".join(item.name for item in fields(Archive)).replace("is_current", "current")
_MEMBER = ", ".join(Member._fields)

History = dict[tuple[str, str], list[Version]]
"""(kind, path) → the versions that the change feed tells of, oldest first."""


@dataclass(frozen=True, slots=True)
class DocumentRow:
    version: int
    etag: str
    stamp: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """An acknowledged write whose file may not be there yet. `replaced_etag`: what was there before, None: nothing."""

    version: Version
    replaced_etag: str | None


class StateFile:
    """One connection that reads. Each method sees one moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> sqlite3.Connection:
        return self._connection

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: object) -> tuple[Any, ...]:
        """The one row of a query that always has one."""
        found: tuple[Any, ...] = self._connection.execute(sql, parameters).fetchone()
        return found

    def histories(self, workspace_id: str) -> History:
        found: History = defaultdict(list)
        for kind, path, *rest in self.rows(
            "SELECT kind, key, version, etag, at, actor, source, operation FROM changes"
            " WHERE workspace_id = ? AND kind IN ('knowledge', 'overview', 'workspace') ORDER BY sequence",
            workspace_id,
        ):
            if kind == "workspace":
                if rest[-1] == "purged":
                    found.clear()
                continue
            if rest[-1] == "purged":  # nothing before it is kept any more
                found.pop((kind, path), None)
                continue
            found[kind, path].append(Version(*rest))
        return found

    def document(self, key: Key) -> tuple[DocumentRow | None, list[Pending]]:
        """What is known of a document, and what the journal still holds for it."""
        with self._moment():
            rows = self.rows(
                "SELECT version, etag, stamp, deleted FROM documents WHERE workspace_id = ? AND kind = ? AND path = ?",
                key.workspace_id, key.kind, key.path,
            )  # fmt: skip
            pending = self.rows(
                "SELECT version, etag, at, actor, source, operation, replaced_etag FROM journal"
                " WHERE workspace_id = ? AND kind = ? AND path = ? ORDER BY number",
                key.workspace_id, key.kind, key.path,
            )  # fmt: skip
        known = [DocumentRow(version, etag, stamp, bool(deleted)) for version, etag, stamp, deleted in rows]
        return known[0] if known else None, [Pending(Version(*row[:6]), row[6]) for row in pending]

    def document_names(self, workspace_id: str) -> list[tuple[str, str]]:
        """(kind, path) of every document there ever was."""
        return [(row[0], row[1]) for row in self.rows(
            "SELECT kind, path FROM documents WHERE workspace_id = ?", workspace_id
        )]  # fmt: skip

    def session_sizes(self, workspace_id: str) -> dict[str, int]:
        """Session id → how many bytes its files should have."""
        return dict(self.rows(
            "SELECT session_id, sum(gzip_bytes) FROM archives WHERE workspace_id = ? GROUP BY session_id", workspace_id
        ))  # fmt: skip

    def archives(self, workspace_id: str, session_id: str) -> list[tuple[Archive, list[Member]]]:
        """A session's transcripts with their members, oldest first."""
        with self._moment():
            rows = self.rows(
                f"SELECT {_ARCHIVE} FROM archives WHERE workspace_id = ? AND session_id = ? ORDER BY revision",
                workspace_id, session_id,
            )  # fmt: skip
            return [(Archive(*row), self._members(row[0])) for row in rows]

    def _members(self, archive_id: int) -> list[Member]:
        rows = self.rows(f"SELECT {_MEMBER} FROM members WHERE archive_id = ? ORDER BY number", archive_id)
        return [Member(*row) for row in rows]

    @contextmanager
    def _moment(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")


@contextmanager
def open_state(root: Path) -> Iterator[StateFile]:
    """Read the state database of a root, whether a server writes to it or not.

    Raises:
        FileNotFoundError: There is none.
        sqlite3.Error: It is damaged.
    """
    path = root / "_meta" / NAME
    path.stat()
    # Without a write-ahead log nobody has it open, and as immutable not even a lock file is made beside it.
    mode = "mode=ro" if path.with_name(NAME + "-wal").exists() else "immutable=1"
    uri = f"file:{quote(str(path))}?{mode}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)) as connection:
        connection.execute("PRAGMA query_only=ON")
        yield StateFile(connection)
