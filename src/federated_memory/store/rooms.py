"""Rooms, their members, tickets and messages, in `_meta/state.sqlite3` (SPEC: ROOM-1 to ROOM-8).

Messages are numbered; numbers order them, never times. A message has a receipt for each workspace that it is for:
`kept` until it was handed over (`pushed`) or acknowledged (`read`), or `withheld`, with the reason.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from federated_memory.store.changes import now
from federated_memory.store.database import Database
from federated_memory.store.own_tables import OwnTables

MessageKind = Literal["notice", "memory", "memory_deleted", "cancel"]
_TABLES = (
    """CREATE TABLE IF NOT EXISTS rooms (
    room TEXT PRIMARY KEY,
    closed INTEGER NOT NULL,
    owner TEXT NOT NULL,           -- the workspace that created it
    created_at TEXT NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS room_tickets (
    sha256 TEXT PRIMARY KEY,
    room TEXT NOT NULL,
    expires_at REAL NOT NULL,      -- seconds since 1970
    created_at TEXT NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS room_members (
    room TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    user TEXT NOT NULL,            -- the name of the token
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    joined_at TEXT NOT NULL,
    seen_at REAL NOT NULL,         -- seconds since 1970; what is known since the start is in memory
    PRIMARY KEY (room, workspace_id)
) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS room_members_workspace ON room_members (workspace_id, room)",
    """CREATE TABLE IF NOT EXISTS room_messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL,
    kind TEXT NOT NULL,            -- notice | memory | memory_deleted | cancel
    sender TEXT NOT NULL,          -- workspace
    sender_session TEXT NOT NULL,
    addressee TEXT NOT NULL,       -- as it was given; empty: everybody
    about TEXT NOT NULL,           -- id of the task or memory that it tells of
    text TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    expires_at REAL NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS room_messages_room ON room_messages (room, number)",
    "CREATE INDEX IF NOT EXISTS room_messages_expiry ON room_messages (expires_at)",
    """CREATE TABLE IF NOT EXISTS room_receipts (
    number INTEGER NOT NULL REFERENCES room_messages (number) ON DELETE CASCADE,
    workspace_id TEXT NOT NULL,
    session TEXT NOT NULL,         -- empty: any of the workspace's
    state TEXT NOT NULL,           -- kept | pushed | read | withheld
    why TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (number, workspace_id)
) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS room_receipts_waiting ON room_receipts (workspace_id, number)"
    " WHERE state IN ('kept', 'pushed')",
)
_MESSAGE = "m.number, m.room, m.kind, m.sender, m.sender_session, m.addressee, m.about, m.text, m.sent_at, m.expires_at"


@dataclass(frozen=True, slots=True)
class Room:
    room: str
    closed: bool
    owner: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Member:
    room: str
    workspace_id: str
    user: str
    role: str
    status: str
    joined_at: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Message:
    number: int
    room: str
    kind: MessageKind
    sender: str
    sender_session: str
    addressee: str
    about: str
    text: str
    sent_at: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a message reached one workspace; `session` empty: any of its sessions may read it."""

    workspace_id: str
    session: str
    state: str
    why: str
    at: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is about to be sent."""

    room: str
    kind: MessageKind
    sender: str
    sender_session: str
    addressee: str
    text: str
    expires_at: float
    about: str = ""


class Rooms:
    """Blocking; thread-safe. Every change takes the transaction of its caller, so that steps can be one commit."""

    def __init__(self, database: Database) -> None:
        self._tables = OwnTables(database, *_TABLES)
        self.transaction = self._tables.transaction

    # -- rooms and members

    def find(self, room: str) -> Room | None:
        row = self._tables.row("SELECT room, closed, owner, created_at FROM rooms WHERE room = ?", room)
        return Room(row[0], bool(row[1]), row[2], row[3]) if row else None

    def create(self, transaction: sqlite3.Connection, room: str, *, closed: bool, owner: str) -> None:
        transaction.execute("INSERT INTO rooms VALUES (?, ?, ?, ?)", (room, int(closed), owner, now()))

    def members(self, room: str) -> list[Member]:
        """In the order of their ids."""
        return [Member(*row) for row in self._tables.rows(
            "SELECT room, workspace_id, user, role, status, joined_at, seen_at FROM room_members WHERE room = ?"
            " ORDER BY workspace_id", room,
        )]  # fmt: skip

    def member(self, room: str, workspace_id: str) -> Member | None:
        row = self._tables.row(
            "SELECT room, workspace_id, user, role, status, joined_at, seen_at FROM room_members"
            " WHERE room = ? AND workspace_id = ?", room, workspace_id,
        )  # fmt: skip
        return Member(*row) if row else None

    def rooms_of(self, workspace_id: str) -> list[Room]:
        return [Room(row[0], bool(row[1]), row[2], row[3]) for row in self._tables.rows(
            "SELECT r.room, r.closed, r.owner, r.created_at FROM room_members m JOIN rooms r USING (room)"
            " WHERE m.workspace_id = ? ORDER BY room", workspace_id,
        )]  # fmt: skip

    def put_member(self, transaction: sqlite3.Connection, member: Member) -> None:
        transaction.execute(
            "INSERT INTO room_members VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (room, workspace_id) DO UPDATE SET"
            " user = excluded.user, role = excluded.role, status = excluded.status, seen_at = excluded.seen_at",
            (member.room, member.workspace_id, member.user, member.role, member.status, member.joined_at,
             member.seen_at),
        )  # fmt: skip

    def remove_member(self, transaction: sqlite3.Connection, room: str, workspace_id: str) -> bool:
        """What was not read yet is withheld from now on. False: it was no member."""
        done = transaction.execute("DELETE FROM room_members WHERE room = ? AND workspace_id = ?", (room, workspace_id))
        transaction.execute(
            "UPDATE room_receipts SET state = 'withheld', why = 'left the room', at = ? WHERE workspace_id = ?"
            " AND state IN ('kept', 'pushed') AND number IN (SELECT number FROM room_messages WHERE room = ?)",
            (now(), workspace_id, room),
        )
        return bool(done.rowcount)

    def save_seen(self, seen: Iterable[tuple[float, str]]) -> None:
        """(seconds since 1970, workspace) of those that were heard of."""
        with self.transaction() as transaction:
            transaction.executemany(
                "UPDATE room_members SET seen_at = max(seen_at, ?) WHERE workspace_id = ?", list(seen)
            )

    # -- tickets

    def add_ticket(self, transaction: sqlite3.Connection, sha256: str, room: str, expires_at: float) -> None:
        transaction.execute("DELETE FROM room_tickets WHERE room = ? AND expires_at <= ?", (room, time.time()))
        transaction.execute("INSERT INTO room_tickets VALUES (?, ?, ?, ?)", (sha256, room, expires_at, now()))

    def has_ticket(self, room: str, sha256: str) -> bool:
        return self._tables.row(
            "SELECT 1 FROM room_tickets WHERE sha256 = ? AND room = ? AND expires_at > ?", sha256, room, time.time()
        ) is not None  # fmt: skip

    def count_tickets(self, room: str) -> int:
        row = self._tables.row("SELECT count(*) FROM room_tickets WHERE room = ? AND expires_at > ?", room, time.time())
        return int(row[0]) if row else 0

    def remove_tickets(self, transaction: sqlite3.Connection, room: str, sha256: str = "") -> int:
        """One of a room, or all; returns how many."""
        if sha256:
            done = transaction.execute("DELETE FROM room_tickets WHERE room = ? AND sha256 = ?", (room, sha256))
        else:
            done = transaction.execute("DELETE FROM room_tickets WHERE room = ?", (room,))
        return done.rowcount

    # -- messages

    def send(self, transaction: sqlite3.Connection, draft: Draft, receipts: Sequence[Receipt]) -> int:
        """Returns the message's number."""
        cursor = transaction.execute(
            "INSERT INTO room_messages (room, kind, sender, sender_session, addressee, about, text, sent_at,"
            " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (draft.room, draft.kind, draft.sender, draft.sender_session, draft.addressee, draft.about, draft.text,
             now(), draft.expires_at),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        transaction.executemany(
            "INSERT INTO room_receipts VALUES (?, ?, ?, ?, ?, ?)",
            [(cursor.lastrowid, r.workspace_id, r.session, r.state, r.why, r.at) for r in receipts],
        )
        return cursor.lastrowid

    def remove_expired(self, transaction: sqlite3.Connection) -> None:
        transaction.execute("DELETE FROM room_messages WHERE expires_at <= ?", (time.time(),))

    def count_waiting(self, room: str) -> dict[str, int]:
        """Workspace → how many messages of a room it has not read."""
        return dict(self._tables.rows(
            "SELECT workspace_id, count(*) FROM room_receipts WHERE state IN ('kept', 'pushed') AND number IN"
            " (SELECT number FROM room_messages WHERE room = ? AND expires_at > ?) GROUP BY workspace_id",
            room, time.time(),
        ))  # fmt: skip

    def unread(self, workspace_id: str, session: str, *, room: str = "", only_new: bool = False) -> list[Message]:
        """What one session has not read, oldest first; `only_new`: what was handed to nobody yet."""
        state = "r.state = 'kept'" if only_new else "r.state IN ('kept', 'pushed')"
        where, parameters = (" AND m.room = ?", (room,)) if room else ("", ())
        return [Message(*row) for row in self._tables.rows(
            f"SELECT {_MESSAGE} FROM room_receipts r JOIN room_messages m USING (number) WHERE r.workspace_id = ?"
            f" AND {state} AND r.session IN ('', ?) AND m.expires_at > ?{where} ORDER BY m.number LIMIT 50",
            workspace_id, session, time.time(), *parameters,
        )]  # fmt: skip

    def mark(
        self, transaction: sqlite3.Connection, numbers: Iterable[int], workspace_id: str, session: str, state: str
    ) -> int:
        """Set the receipts of what this session may read to `pushed` or `read`; returns how many changed."""
        before = "('kept')" if state == "pushed" else "('kept', 'pushed')"
        changed = 0
        for number in numbers:
            changed += transaction.execute(
                f"UPDATE room_receipts SET state = ?, at = ? WHERE number = ? AND workspace_id = ?"
                f" AND session IN ('', ?) AND state IN {before}",
                (state, now(), number, workspace_id, session),
            ).rowcount
        return changed

    def history(self, room: str, workspace_id: str, after: int, limit: int) -> list[Message]:
        """What one member may see of a room, oldest first: messages to all, and its own."""
        return [Message(*row) for row in self._tables.rows(
            f"SELECT {_MESSAGE} FROM room_messages m WHERE m.room = ? AND m.number > ? AND m.expires_at > ? AND"
            " (m.addressee = '' OR m.sender = ? OR EXISTS (SELECT 1 FROM room_receipts r WHERE r.number = m.number"
            " AND r.workspace_id = ?)) ORDER BY m.number LIMIT ?",
            room, after, time.time(), workspace_id, workspace_id, limit,
        )]  # fmt: skip

    def last_number(self) -> int:
        row = self._tables.row("SELECT seq FROM sqlite_sequence WHERE name = 'room_messages'")
        return int(row[0]) if row else 0

    def message(self, room: str, number: int) -> Message | None:
        row = self._tables.row(
            f"SELECT {_MESSAGE} FROM room_messages m WHERE m.room = ? AND m.number = ?", room, number
        )
        return Message(*row) if row else None

    def receipts(self, number: int) -> list[Receipt]:
        return [Receipt(*row) for row in self._tables.rows(
            "SELECT workspace_id, session, state, why, at FROM room_receipts WHERE number = ? ORDER BY workspace_id",
            number,
        )]  # fmt: skip


def rfc3339(seconds: float) -> str:
    """A time for show, of seconds since 1970."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rename_in_rooms(transaction: sqlite3.Connection, tables: set[str], old: str, new: str) -> None:
    """A workspace has another id from now on, or is another one's part; in the caller's transaction.

    Where both were members of a room one membership stays: since the earlier day, with the role that either had. What
    was kept for one and withheld from the other is kept.
    """
    if "room_members" in tables:
        both = "room_members AS o WHERE o.room = room_members.room AND o.workspace_id = ?1"
        transaction.execute(
            "UPDATE room_members SET"
            f" role = CASE role WHEN '' THEN (SELECT o.role FROM {both}) ELSE role END,"
            f" joined_at = min(joined_at, (SELECT o.joined_at FROM {both})),"
            f" seen_at = max(seen_at, (SELECT o.seen_at FROM {both}))"
            f" WHERE workspace_id = ?2 AND EXISTS (SELECT 1 FROM {both})",
            (old, new),
        )
        transaction.execute(
            "DELETE FROM room_receipts WHERE workspace_id = ?2 AND state = 'withheld' AND number IN"
            " (SELECT number FROM room_receipts WHERE workspace_id = ?1 AND state <> 'withheld')",
            (old, new),
        )
        # An agent may have been named with its session: `workspace/session`.
        transaction.execute(
            "UPDATE room_messages SET addressee = ?2 || substr(addressee, length(?1) + 1)"
            " WHERE addressee = ?1 OR substr(addressee, 1, length(?1) + 1) = ?1 || '/'",
            (old, new),
        )
    for table, column, more in (
        ("rooms", "owner", ""), ("room_members", "workspace_id", ""), ("room_messages", "sender", ""),
        ("room_receipts", "workspace_id", ""), ("tasks", "requester", ""), ("tasks", "worker", ""),
        ("tasks", "addressee", " AND addressee_kind IN ('agent', 'session')"),  # a role may have the workspace's name
    ):  # fmt: skip
        if table in tables:
            transaction.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} = ?{more}", (new, old))
    for table in tables & {"room_members", "room_receipts"}:
        transaction.execute(f"DELETE FROM {table} WHERE workspace_id = ?", (old,))


def purge_from_rooms(transaction: sqlite3.Connection, tables: set[str], workspace_id: str) -> None:
    """Nothing that a workspace said, asked or answered stays; part of the caller's transaction."""
    for table, condition in (
        ("room_messages", "sender = ?1"), ("room_receipts", "workspace_id = ?1"), ("room_members", "workspace_id = ?1"),
        ("tasks", "requester = ?1 OR worker = ?1"),
    ):  # fmt: skip
        if table in tables:
            transaction.execute(f"DELETE FROM {table} WHERE {condition}", (workspace_id,))
