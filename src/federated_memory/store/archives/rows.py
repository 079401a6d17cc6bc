"""The rows of archives and of their members in the state database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import orjson

from federated_memory.names import ETag, SessionId, WorkspaceId
from federated_memory.store.database import Database
from federated_memory.store.members import Member

_MEMBER = "number, first_line, raw_offset, raw_bytes, gzip_offset, gzip_bytes, sha256_so_far"


@dataclass(frozen=True, slots=True)
class Archive:
    """One stored transcript, as of when it was found.

    `file` is below the workspace's `sessions/`. Lines count from 0, and an unterminated last line counts. A replaced
    transcript (`is_current` false) keeps its `revision`, which counts from 1. Unknown texts are empty; an unknown
    `started_at` is the time of the upload.
    """

    id: int
    workspace_id: WorkspaceId
    session_id: SessionId
    revision: int
    is_current: bool
    file: str
    sha256: ETag
    raw_bytes: int
    gzip_bytes: int
    lines: int
    has_open_line: bool
    agent: str
    native_id: str
    title: str
    cwd: str
    started_at: str
    ended_at: str
    updated_at: str
    modified_ns: int
    inode: int


_NAMES = tuple(item.name for item in fields(Archive))
_COLUMNS = ", ".join(_NAMES).replace("is_current", "current")
_VALUES = ", ".join("?" for _ in _NAMES)
_CURRENT, _OPEN = _NAMES.index("is_current"), _NAMES.index("has_open_line")
_values_but_id = attrgetter(*_NAMES[1:])


class ArchiveRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    # -- reading

    def current(self, workspace_id: WorkspaceId, session_id: SessionId) -> Archive | None:
        # The plus keeps SQLite from the index of current rows, in which it would walk through a whole workspace.
        return self._one("workspace_id = ? AND session_id = ? AND +current = 1", workspace_id, session_id)

    def all_current(self, keys: Sequence[tuple[str, str]]) -> list[Archive]:
        """Of these workspaces and sessions, those that are there, in the same order."""
        rows = self._database.rows(
            "WITH wanted (workspace, session) AS"
            " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
            f" SELECT {_COLUMNS} FROM wanted CROSS JOIN archives"
            " WHERE workspace_id = workspace AND session_id = session AND +current = 1",
            orjson.dumps(keys).decode(),
        )
        return [_archive(row) for row in rows]

    def revision(self, workspace_id: WorkspaceId, session_id: SessionId, revision: int) -> Archive | None:
        return self._one("workspace_id = ? AND session_id = ? AND revision = ?", workspace_id, session_id, revision)

    def by_id(self, archive_id: int) -> Archive | None:
        return self._one("id = ?", archive_id)

    def twins(self, sha256: str, raw_bytes: int) -> list[Archive]:
        """Every archive, replaced ones too, with the same raw bytes."""
        return self._all("sha256 = ? AND raw_bytes = ? ORDER BY id", sha256, raw_bytes)

    def revisions(self, workspace_id: WorkspaceId, session_id: SessionId) -> list[Archive]:
        """Newest, that is the current one, first."""
        return self._all("workspace_id = ? AND session_id = ? ORDER BY revision DESC", workspace_id, session_id)

    def of_workspace(self, workspace_id: WorkspaceId) -> list[Archive]:
        return self._all("workspace_id = ? ORDER BY session_id, revision", workspace_id)

    def newest(
        self,
        workspace_id: WorkspaceId,
        *,
        agent: str | None,
        since: str | None,
        until: str | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[Archive]:
        where = ["workspace_id = ?", "current = 1"]
        values: list[str] = [workspace_id]
        for condition, value in (("agent = ?", agent), ("started_at >= ?", since), ("started_at < ?", until)):
            if value:
                where.append(condition)
                values.append(value)
        if after:
            where.append("(started_at, session_id) < (?, ?)")
            values += after
        return self._all(f"{' AND '.join(where)} ORDER BY started_at DESC, session_id DESC LIMIT ?", *values, limit)

    def workspace_ids(self) -> list[str]:
        return [row[0] for row in self._database.rows("SELECT DISTINCT workspace_id FROM archives")]

    def _one(self, where: str, *values: object) -> Archive | None:
        row = self._database.row(f"SELECT {_COLUMNS} FROM archives WHERE {where}", *values)
        return None if row is None else _archive(row)

    def _all(self, where: str, *values: object) -> list[Archive]:
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM archives WHERE {where}", *values)
        return [_archive(row) for row in rows]

    def members(self, archive_id: int) -> list[Member]:
        rows = self._database.rows(f"SELECT {_MEMBER} FROM members WHERE archive_id = ? ORDER BY number", archive_id)
        return [Member(*row) for row in rows]

    def members_from(self, archive_id: int, line: int) -> Iterator[Member]:
        """The members from the first that holds a part of `line`, read a few at a time."""
        rows = self._database.rows(
            f"SELECT {_MEMBER} FROM members WHERE archive_id = ?1 AND number >="
            " (SELECT min(number) FROM members WHERE archive_id = ?1 AND first_line ="
            "  (SELECT max(first_line) FROM members WHERE archive_id = ?1 AND first_line <= ?2))"
            " ORDER BY number LIMIT 2",
            archive_id, line,
        )  # fmt: skip
        while rows:
            yield from (Member(*row) for row in rows)
            rows = self._database.rows(
                f"SELECT {_MEMBER} FROM members WHERE archive_id = ? AND number > ? ORDER BY number LIMIT 8",
                archive_id, rows[-1][0],
            )  # fmt: skip

    # -- writing

    @staticmethod
    def insert(transaction: sqlite3.Connection, archive: Archive) -> int:
        """The id that the archive got; its own is not looked at."""
        cursor = transaction.execute(
            f"INSERT INTO archives ({_COLUMNS}) VALUES ({_VALUES})", (None, *_values_but_id(archive))
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    @staticmethod
    def update(transaction: sqlite3.Connection, archive: Archive) -> None:
        transaction.execute(
            f"UPDATE archives SET ({_COLUMNS}) = ({_VALUES}) WHERE id = ?",
            (archive.id, *_values_but_id(archive), archive.id),
        )

    def update_inodes(self, moved: Sequence[tuple[Archive, int]]) -> None:
        """Note the files that now hold these archives, unless an upload did meanwhile."""
        if moved:
            with self._database.transaction() as transaction:
                transaction.executemany(
                    "UPDATE archives SET inode = ? WHERE id = ? AND inode = ? AND sha256 = ?",
                    [(inode, archive.id, archive.inode, archive.sha256) for archive, inode in moved],
                )

    @staticmethod
    def delete(transaction: sqlite3.Connection, archive_id: int) -> None:
        transaction.execute("DELETE FROM archives WHERE id = ?", (archive_id,))

    @staticmethod
    def replace_members(transaction: sqlite3.Connection, archive_id: int, kept: int, members: Sequence[Member]) -> None:
        """Keep the first `kept` members and put these after them."""
        transaction.execute("DELETE FROM members WHERE archive_id = ? AND number >= ?", (archive_id, kept))
        transaction.executemany(
            f"INSERT INTO members (archive_id, {_MEMBER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((archive_id, *member) for member in members),
        )

    @staticmethod
    def copy_members(transaction: sqlite3.Connection, source_id: int, archive_id: int, count: int) -> None:
        """Give an archive the first `count` members of another one."""
        transaction.execute(
            f"INSERT INTO members (archive_id, {_MEMBER}) SELECT ?, {_MEMBER} FROM members"
            " WHERE archive_id = ? AND number < ?",
            (archive_id, source_id, count),
        )


def _archive(row: tuple[Any, ...]) -> Archive:
    values = list(row)
    values[_CURRENT], values[_OPEN] = bool(row[_CURRENT]), bool(row[_OPEN])
    return Archive(*values)
