"""Delegated tasks, in `_meta/state.sqlite3` (SPEC: TASK-1 to TASK-9).

`open` → `claimed` → `completed`, `failed` or `cancelled`; a lease that ends leads from `claimed` back to `open`. Every
claim raises `attempt`, so that whoever held an earlier one is refused. The row holds no time that anything is decided
by: leases are kept in memory, and begin anew when the server starts.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass, replace
from typing import Literal

from federated_memory.store.changes import now
from federated_memory.store.database import Database
from federated_memory.store.own_tables import OwnTables

State = Literal["open", "claimed", "completed", "failed", "cancelled"]
AddresseeKind = Literal["any", "agent", "session", "role"]
FINISHED = ("completed", "failed", "cancelled")
_TABLES = (
    """CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE,
    room TEXT NOT NULL,
    task TEXT NOT NULL,
    requester TEXT NOT NULL,       -- workspace
    requester_session TEXT NOT NULL,
    addressee_kind TEXT NOT NULL,  -- any | agent | session | role
    addressee TEXT NOT NULL,
    addressee_session TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,      -- how often it was claimed
    worker TEXT NOT NULL,
    worker_session TEXT NOT NULL,
    lease_seconds REAL NOT NULL,
    output TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS tasks_unfinished ON tasks (room, number) WHERE state IN ('open', 'claimed')",
    "CREATE INDEX IF NOT EXISTS tasks_finished ON tasks (updated_at) WHERE state NOT IN ('open', 'claimed')",
)
_COLUMNS = (
    "number, task_id, room, task, requester, requester_session, addressee_kind, addressee, addressee_session, state,"
    " attempt, worker, worker_session, lease_seconds, output, created_at, updated_at"
)
_CLAIMABLE = (
    f"SELECT {', '.join('t.' + name.strip() for name in _COLUMNS.split(','))} FROM room_members m"
    " JOIN tasks t ON t.room = m.room WHERE m.workspace_id = ?1 AND t.state = 'open' AND t.requester_session != ?2"
    " AND (t.addressee_kind = 'any' OR (t.addressee_kind = 'agent' AND t.addressee = ?1)"
    " OR (t.addressee_kind = 'session' AND t.addressee = ?1 AND t.addressee_session = ?2)"
    " OR (t.addressee_kind = 'role' AND t.addressee = m.role)) AND (?3 = '' OR t.room = ?3)"
    " ORDER BY t.number LIMIT ?4"
)


@dataclass(frozen=True, slots=True)
class Task:
    number: int
    task_id: str
    room: str
    task: str
    requester: str
    requester_session: str
    addressee_kind: AddresseeKind
    addressee: str
    addressee_session: str
    state: State
    attempt: int
    worker: str
    worker_session: str
    lease_seconds: float
    output: str
    created_at: str
    updated_at: str

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


class Tasks:
    """Blocking; thread-safe. A method that changes something is one durable commit, and checks inside of it."""

    def __init__(self, database: Database) -> None:
        self._tables = OwnTables(database, *_TABLES)

    def add(
        self, room: str, task: str, *, requester: tuple[str, str], addressee: tuple[AddresseeKind, str, str]
    ) -> Task:
        """`requester` is workspace and session, `addressee` kind, workspace or role, and session."""
        task_id = f"task-{secrets.token_hex(8)}"
        at = now()
        with self._tables.transaction() as transaction:
            cursor = transaction.execute(
                f"INSERT INTO tasks ({_COLUMNS.removeprefix('number, ')})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open', 0, '', '', 0, '', ?, ?)",
                (task_id, room, task, *requester, *addressee, at, at),
            )
        return Task(
            cursor.lastrowid or 0,
            task_id,
            room,
            task,
            *requester,
            addressee[0],
            *addressee[1:],
            "open",
            0,
            "",
            "",
            0,
            "",
            at,
            at,
        )

    def find(self, task_id: str) -> Task | None:
        row = self._tables.row(f"SELECT {_COLUMNS} FROM tasks WHERE task_id = ?", task_id)
        return Task(*row) if row else None

    def count_unfinished(self, room: str) -> int:
        row = self._tables.row("SELECT count(*) FROM tasks WHERE room = ? AND state IN ('open', 'claimed')", room)
        return int(row[0]) if row else 0

    def unfinished(self, room: str, limit: int) -> list[Task]:
        """Oldest first."""
        return [Task(*row) for row in self._tables.rows(
            f"SELECT {_COLUMNS} FROM tasks WHERE room = ? AND state IN ('open', 'claimed') ORDER BY number LIMIT ?",
            room, limit,
        )]  # fmt: skip

    def claimed(self) -> list[Task]:
        return [Task(*row) for row in self._tables.rows(f"SELECT {_COLUMNS} FROM tasks WHERE state = 'claimed'")]

    def claim(self, worker: str, session: str, *, room: str, limit: int, lease_seconds: float) -> list[Task]:
        """The oldest open tasks that are for this session, as they are once it has them; nobody else gets them.

        Where there are none nothing is written.
        """
        found: list[Task] = []
        while not found and (open_ones := self._tables.rows(_CLAIMABLE, worker, session, room, limit)):
            with self._tables.transaction() as transaction:
                for row in open_ones:
                    before = Task(*row)
                    task = replace(
                        before, state="claimed", attempt=before.attempt + 1, worker=worker, worker_session=session,
                        lease_seconds=lease_seconds, updated_at=now(),
                    )  # fmt: skip
                    taken = transaction.execute(  # unless somebody else was faster, or the worker has left the room
                        "UPDATE tasks SET state = 'claimed', attempt = ?, worker = ?, worker_session = ?,"
                        " lease_seconds = ?, updated_at = ? WHERE number = ? AND state = 'open' AND attempt = ?"
                        " AND EXISTS (SELECT 1 FROM room_members m WHERE m.room = tasks.room AND m.workspace_id = ?)",
                        (task.attempt, worker, session, lease_seconds, task.updated_at, task.number, before.attempt,
                         worker),
                    ).rowcount  # fmt: skip
                    if taken:
                        found.append(task)
        return found

    def give_back(self, task_id: str, attempt: int) -> bool:
        """Its claim has ended without a result: it is open again. False: it is not claimed in this attempt."""
        return self._change(
            "UPDATE tasks SET state = 'open', updated_at = ? WHERE task_id = ? AND attempt = ? AND state = 'claimed'",
            now(), task_id, attempt,
        )  # fmt: skip

    def finish(self, task_id: str, *, session: str, attempt: int, state: State, output: str) -> bool:
        """The result of an attempt. False: another session, another attempt, or finished already.

        A lease that has ended does not refuse it, as long as nobody else has claimed the task since.
        """
        return self._change(
            "UPDATE tasks SET state = ?, output = ?, updated_at = ? WHERE task_id = ? AND worker_session = ?"
            " AND attempt = ? AND state IN ('claimed', 'open')",
            state, output, now(), task_id, session, attempt,
        )  # fmt: skip

    def cancel(self, task_id: str, reason: str) -> bool:
        """False: it has finished."""
        return self._change(
            "UPDATE tasks SET state = 'cancelled', output = ?, updated_at = ? WHERE task_id = ?"
            " AND state IN ('open', 'claimed')",
            reason, now(), task_id,
        )  # fmt: skip

    def remove_finished(self, before: str) -> None:
        """Results that nobody wants any more, by the time (RFC 3339) they were given."""
        if self._tables.row("SELECT 1 FROM tasks WHERE state NOT IN ('open', 'claimed') AND updated_at < ?", before):
            self._change("DELETE FROM tasks WHERE state NOT IN ('open', 'claimed') AND updated_at < ?", before)

    def _change(self, sql: str, *parameters: object) -> bool:
        with self._tables.transaction() as transaction:
            return bool(_changes(transaction, sql, parameters))


def _changes(transaction: sqlite3.Connection, sql: str, parameters: tuple[object, ...]) -> int:
    return transaction.execute(sql, parameters).rowcount
