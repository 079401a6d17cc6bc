"""What is known of memories without reading their files: rows beside those of documents (SPEC: MEM-3 to MEM-6).

A row is written in the transaction that records the file it tells of, so a list is never behind a write. A memory whose
tombstone exists is deleted, whatever else is there: a file that a sync puts back stays hidden.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson

from federated_memory.errors import FederatedMemoryError
from federated_memory.names import DocumentPath, WorkspaceId
from federated_memory.store.database import Database
from federated_memory.store.document import Document, Key
from federated_memory.store.memory_file import Memory, memory_id_of, parse_memory, path_of, tombstone_id_of

_TABLES = (
    """
    CREATE TABLE memories (
        memory_id TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        path TEXT NOT NULL,            -- below memories/; empty: where its id says
        is_there INTEGER NOT NULL,     -- 0: only its tombstone is
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        project TEXT NOT NULL,
        importance INTEGER NOT NULL,
        tags TEXT NOT NULL,            -- JSON; empty: none
        agent TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        visibility TEXT NOT NULL,
        room TEXT NOT NULL,
        source TEXT NOT NULL,          -- what an import took it from
        deleted_at TEXT NOT NULL,
        PRIMARY KEY (memory_id, workspace_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX memories_newest ON memories (created_at, memory_id)",
    "CREATE INDEX memories_special ON memories (workspace_id)"
    " WHERE expires_at <> '' OR visibility <> 'all' OR room <> '' OR deleted_at <> ''",
    "CREATE INDEX memories_source ON memories (workspace_id, source) WHERE source <> ''",
    """
    CREATE TABLE memory_supersedes (
        workspace_id TEXT NOT NULL,
        old_id TEXT NOT NULL,
        new_id TEXT NOT NULL,
        PRIMARY KEY (workspace_id, old_id, new_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX memory_supersedes_new ON memory_supersedes (workspace_id, new_id)",
)
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS memories_project ON memories (project, created_at)",
    "CREATE INDEX IF NOT EXISTS memories_workspace ON memories (workspace_id, created_at)",
)
"""What roots of before get when they are opened."""
TABLES = ("memories", "memory_supersedes")
COLUMNS = (
    "m.memory_id, m.workspace_id, m.path, m.kind, m.subject, m.project, m.importance, m.tags, m.agent, m.created_at,"
    " m.expires_at, m.visibility, m.room, m.source, m.deleted_at"
)


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """`tags` is JSON, or empty; `deleted_at` is set when only a tombstone is left."""

    memory_id: str
    workspace_id: WorkspaceId
    path: str
    kind: str
    subject: str
    project: str
    importance: int
    tags: str
    agent: str
    created_at: str
    expires_at: str
    visibility: str
    room: str
    source: str
    deleted_at: str

    @property
    def marks(self) -> list[str]:
        """What is noted of it when it goes for good: its id, and where an import took it from."""
        return [self.memory_id, *([mark_of_source(self.source)] if self.source else [])]

    @property
    def file_key(self) -> Key:
        return Key(self.workspace_id, "memory", DocumentPath(self.file))

    @property
    def tombstone_key(self) -> Key:
        return Key(self.workspace_id, "tombstone", DocumentPath(f"{self.memory_id}.md"))

    @property
    def file(self) -> str:
        return self.path or path_of(self.memory_id)


class MemoryRows:
    """Keeps the rows in step with the files; called in the transactions of `Documents`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        names = {name for (name,) in database.rows("SELECT name FROM sqlite_master WHERE name LIKE 'memories%'")}
        if "memories" not in names:
            with database.transaction() as transaction:
                for statement in (*_TABLES, *_INDEXES):
                    transaction.execute(statement)
        elif not {"memories_project", "memories_workspace"} <= names:
            with suppress(FederatedMemoryError), database.transaction() as transaction:  # a full disk can wait
                for statement in _INDEXES:
                    transaction.execute(statement)

    def note(self, transaction: sqlite3.Connection, document: Document, text: bytes | None) -> None:
        """What a memory's or a tombstone's file holds from now on; `text` None: there is none any more."""
        key = document.key
        memory_id = _memory_id(key)
        if memory_id is None:
            return
        known = transaction.execute(
            "SELECT is_there, deleted_at FROM memories WHERE memory_id = ? AND workspace_id = ?",
            (memory_id, key.workspace_id),
        ).fetchone() or (0, "")
        if text is None:
            self._forget(transaction, key, memory_id, known)
            return
        memory = parse_memory(memory_id, text)
        if key.kind == "memory":
            is_there, deleted_at = 1, known[1]
        else:
            is_there, deleted_at = known[0], memory.deleted_at or document.updated_at
        self._put(transaction, key, memory, document.updated_at, is_there, deleted_at)

    @staticmethod
    def _forget(transaction: sqlite3.Connection, key: Key, memory_id: str, known: tuple[int, str]) -> None:
        is_there, deleted_at = (0, known[1]) if key.kind == "memory" else (known[0], "")
        where = (memory_id, key.workspace_id)
        if is_there or deleted_at:
            transaction.execute(
                "UPDATE memories SET is_there = ?, deleted_at = ? WHERE memory_id = ? AND workspace_id = ?",
                (is_there, deleted_at, *where),
            )
        else:
            transaction.execute("DELETE FROM memories WHERE memory_id = ? AND workspace_id = ?", where)
            transaction.execute("DELETE FROM memory_supersedes WHERE new_id = ? AND workspace_id = ?", where)

    @staticmethod
    def _put(
        transaction: sqlite3.Connection, key: Key, memory: Memory, at: str, is_there: int, deleted_at: str
    ) -> None:
        memory_id, workspace_id = memory.memory_id, key.workspace_id
        path = "" if key.kind == "tombstone" or key.path == path_of(memory_id) else key.path
        tags = orjson.dumps(memory.tags).decode() if memory.tags else ""
        transaction.execute(
            "INSERT OR REPLACE INTO memories VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                memory_id, workspace_id, path, is_there, memory.kind, memory.subject, memory.project,
                memory.importance, tags, memory.agent, at, memory.expires_at,
                memory.visibility, memory.room, memory.source, deleted_at,
            ),
        )  # fmt: skip
        transaction.execute(
            "DELETE FROM memory_supersedes WHERE workspace_id = ? AND new_id = ?", (workspace_id, memory_id)
        )
        transaction.executemany(
            "INSERT OR IGNORE INTO memory_supersedes VALUES (?, ?, ?)",
            [(workspace_id, old, memory_id) for old in memory.supersedes if old != memory_id],
        )

    # -- asking

    def find(self, memory_id: str) -> list[MemoryRow]:
        """All of that name, deleted ones included: one, unless somebody copied files from workspace to workspace."""
        rows = self._database.rows(f"SELECT {COLUMNS} FROM memories m WHERE m.memory_id = ?", memory_id)
        return [MemoryRow(*row) for row in rows]

    def subjects(self, workspace_id: str, memory_id: str = "") -> dict[str, str]:
        """Of all memories of a workspace, or of the one that is named, by their ids."""
        named = " AND memory_id = ?" if memory_id else ""
        rows = self._database.rows(
            f"SELECT memory_id, subject FROM memories WHERE workspace_id = ?{named}",
            workspace_id, *([memory_id] if memory_id else []),
        )  # fmt: skip
        return dict(rows)

    def of_source(self, workspace_id: WorkspaceId, source: str) -> MemoryRow | None:
        """What an earlier import made of that source, be it deleted since."""
        row = self._database.row(
            f"SELECT {COLUMNS} FROM memories m WHERE m.workspace_id = ? AND m.source = ?", workspace_id, source
        )
        return None if row is None else MemoryRow(*row)

    def select(self, where: str, parameters: Sequence[object]) -> list[MemoryRow]:
        """Rows by a condition over `m`; what comes from outside goes into `parameters` only."""
        return [
            MemoryRow(*row)
            for row in self._database.rows(f"SELECT {COLUMNS} FROM memories m WHERE {where}", *parameters)
        ]

    def count(self, where: str, parameters: Sequence[object], most: int = -1) -> int:
        """How many there are; `most`: counts no further."""
        row = self._database.row(
            f"SELECT count(*) FROM (SELECT 1 FROM memories m WHERE {where} LIMIT ?)", *parameters, most
        )
        return int(row[0]) if row else 0

    def superseded(self, workspace_id: WorkspaceId, memory_id: str) -> list[str]:
        """The live memories that replace this one."""
        rows = self._database.rows(
            "SELECT s.new_id FROM memory_supersedes s CROSS JOIN memories n"
            " ON n.memory_id = s.new_id AND n.workspace_id = s.workspace_id"
            " WHERE s.workspace_id = ? AND s.old_id = ? AND n.deleted_at = ''",
            workspace_id, memory_id,
        )  # fmt: skip
        return [row[0] for row in rows]


def mark_of_source(source: str) -> str:
    return "source:" + hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()


def _memory_id(key: Key) -> str | None:
    return memory_id_of(key.path) if key.kind == "memory" else tombstone_id_of(key.path)
