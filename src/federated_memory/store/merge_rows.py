"""The rows of a workspace become another one's, in the caller's transaction (SPEC: WS-6)."""

from __future__ import annotations

import sqlite3

from federated_memory.names import WorkspaceId, fold
from federated_memory.store.changes import Actor, ChangeFeed, Kind
from federated_memory.store.memory_rows import TABLES as MEMORY_TABLES
from federated_memory.store.merge_plan import Plan
from federated_memory.store.rooms import rename_in_rooms

_Item = tuple[str, str]


def move_rows(
    transaction: sqlite3.Connection,
    feed: ChangeFeed,
    source: WorkspaceId,
    target: WorkspaceId,
    plan: Plan,
    actor: Actor,
) -> None:
    """Documents, archives, counts and the feed.

    What the feed tells of the source's things it tells again of the target's, so that followers find them there and
    each log keeps its changes; what it told of the source stays, and ends with their departure.
    """
    places: dict[_Item, _Item] = {}
    for document in plan.documents:
        where = (source, document.kind, document.path)
        matching = "WHERE workspace_id = ? AND kind = ? AND path = ?"
        if document.to:
            places[document.kind, document.path] = (document.to_kind, document.to)
            # The target may know that path as one that was deleted and has no versions.
            transaction.execute(
                f"UPDATE OR REPLACE documents SET workspace_id = ?, kind = ?, path = ?, folded = ? {matching}",
                (target, document.to_kind, document.to, fold(document.to), *where),
            )
        else:
            transaction.execute(f"DELETE FROM documents {matching}", where)
    for session in plan.sessions:
        where_session = (source, session.session_id)
        if session.to:
            places["session", session.session_id] = ("session", session.to)
            for file, to in session.files:
                transaction.execute(
                    "UPDATE archives SET workspace_id = ?, session_id = ?, file = ?"
                    " WHERE workspace_id = ? AND session_id = ? AND file = ?",
                    (target, session.to, to, *where_session, file),
                )
        else:
            transaction.execute("DELETE FROM archives WHERE workspace_id = ? AND session_id = ?", where_session)
    tables = {row[0] for row in transaction.execute("SELECT name FROM sqlite_master")}
    for table in tables & set(MEMORY_TABLES):
        transaction.execute(f"UPDATE OR IGNORE {table} SET workspace_id = ? WHERE workspace_id = ?", (target, source))
        transaction.execute(f"DELETE FROM {table} WHERE workspace_id = ?", (source,))
    rename_in_rooms(transaction, tables, source, target)
    _copy_changes(transaction, feed.epoch, source, target, places)
    gone: list[tuple[Kind, str]] = [(document.kind, document.path) for document in plan.documents]
    gone += [("session", session.session_id) for session in plan.sessions]
    for kind, key in gone:
        feed.append(transaction, source, kind, key, "moved", actor)
    feed.append(transaction, source, "workspace", source, "merged", actor)
    feed.append(transaction, target, "workspace", target, "merged", actor)
    _count(transaction, source, target)


def _copy_changes(
    transaction: sqlite3.Connection, epoch: int, source: str, target: str, places: dict[_Item, _Item]
) -> None:
    (sequence,) = transaction.execute(
        "SELECT coalesce(max(sequence), 0) FROM changes WHERE workspace_id = ?", (target,)
    ).fetchone()
    rows = transaction.execute(
        "SELECT kind, key, operation, version, etag, at, actor, source FROM changes"
        " WHERE workspace_id = ? AND kind <> 'workspace' ORDER BY number",
        (source,),
    ).fetchall()
    for kind, key, *rest in rows:
        if (kind, key) in places:
            sequence += 1
            transaction.execute(
                "INSERT INTO changes"
                " (epoch, workspace_id, sequence, kind, key, operation, version, etag, at, actor, source)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (epoch, target, sequence, *places[kind, key], *rest),
            )


def _count(transaction: sqlite3.Connection, source: str, target: str) -> None:
    """Counted anew: the triggers keep the counts of changes within a workspace, not between two."""
    transaction.execute(
        "INSERT OR IGNORE INTO counts (workspace_id, last_activity) SELECT ?, last_activity FROM counts"
        " WHERE workspace_id = ?",
        (target, source),
    )
    transaction.execute(
        "UPDATE counts SET"
        " documents = (SELECT count(*) FROM documents WHERE workspace_id = ?1 AND kind = 'knowledge' AND deleted = 0),"
        " sessions = (SELECT count(*) FROM archives WHERE workspace_id = ?1 AND current = 1),"
        " bytes = (SELECT coalesce(sum(bytes), 0) FROM documents"
        "          WHERE workspace_id = ?1 AND kind = 'knowledge' AND deleted = 0)"
        "       + (SELECT coalesce(sum(raw_bytes), 0) FROM archives WHERE workspace_id = ?1 AND current = 1)"
        " WHERE workspace_id = ?1",
        (target,),
    )
    transaction.execute("DELETE FROM counts WHERE workspace_id = ?", (source,))
