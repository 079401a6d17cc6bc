"""What agents share (rooms, messages, tasks, state): rows that lead nowhere, and states that cannot be.

(SPEC: CHECK-6, CHECK-9)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from federated_memory.operate.findings import MEND, Finding, Severity
from federated_memory.operate.state_file import NAME, StateFile
from federated_memory.store.changes import now

WHERE = f"_meta/{NAME}"
BACKUP = "Stop the server and restore the whole root from a backup; what agents wrote since is still in the files"
_LOOK = "Look at them with sqlite3, or leave them: nothing else is affected"
_MOST_NAMED = 5
_NO_ROOM = "room NOT IN (SELECT room FROM rooms)"
_WORKER_IS_IN = (
    "EXISTS (SELECT 1 FROM room_members m WHERE m.room = tasks.room AND m.workspace_id = tasks.worker)"
)  # fmt: skip
_NEWEST = "(SELECT max(n.number) FROM state_changes n WHERE n.key = {table}.key)"

Mend = Literal["", "remove", "reopen", "withhold", "rebuild"]
IsRegistered = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of `table` that meet `condition` should not be there. `key` names a row; `what` is said of several."""

    table: str
    key: str
    condition: str
    what: str
    mend: Mend = ""
    severity: Severity = "warning"

    @property
    def tables(self) -> set[str]:
        """Those that must be there for the rule to mean something."""
        words = set(self.condition.replace("(", " ").replace(")", " ").replace(".", " ").split())
        return {self.table} | (words & _TABLES)


_TABLES = {"rooms", "room_members", "room_tickets", "room_messages", "room_receipts", "tasks", "state_keys",
           "state_changes", "state_schemas"}  # fmt: skip
RULES: tuple[Rule, ...] = (
    Rule("room_members", "room", _NO_ROOM, "memberships of rooms that are not there", "remove"),
    Rule("room_members", "workspace_id", "NOT is_registered(workspace_id)",
         "memberships of workspaces that are not there", "remove"),
    Rule("room_tickets", "room", "room NOT IN (SELECT room FROM rooms WHERE closed)",
         "tickets of rooms that take none", "remove"),
    Rule("room_receipts", "number", "number NOT IN (SELECT number FROM room_messages)",
         "receipts of messages that are not there", "remove"),
    Rule("room_receipts", "number", f"number IN (SELECT number FROM room_messages WHERE {_NO_ROOM})",
         "receipts of messages in rooms that are not there", "remove"),
    Rule("room_messages", "number", _NO_ROOM, "messages of rooms that are not there", "remove"),
    Rule("room_messages", "number", "kind NOT IN ('notice', 'memory', 'memory_deleted', 'cancel')",
         "messages of a kind that there is not"),
    Rule("room_receipts", "number", "state NOT IN ('kept', 'pushed', 'read', 'withheld')",
         "receipts in a state that there is not"),
    Rule("room_receipts", "workspace_id", "state IN ('kept', 'pushed') AND EXISTS (SELECT 1 FROM room_messages g"
         " WHERE g.number = room_receipts.number AND g.kind = 'notice' AND NOT EXISTS (SELECT 1 FROM room_members m"
         " WHERE m.room = g.room AND m.workspace_id = room_receipts.workspace_id))",
         "messages that wait for somebody who is not in the room", "withhold"),
    Rule("tasks", "task_id", _NO_ROOM, "tasks of rooms that are not there", "remove"),
    Rule("tasks", "task_id", "state IN ('open', 'claimed') AND NOT is_registered(requester)",
         "unfinished tasks of workspaces that are not there", "remove"),
    Rule("tasks", "task_id", "state = 'claimed' AND (worker = '' OR worker_session = '' OR attempt < 1"
         " OR lease_seconds <= 0)", "claimed tasks that nobody holds", "reopen"),
    Rule("tasks", "task_id", f"state = 'claimed' AND worker != '' AND NOT {_WORKER_IS_IN}",
         "claimed tasks whose worker is not in the room", "reopen"),
    Rule("tasks", "task_id", "state NOT IN ('open', 'claimed', 'completed', 'failed', 'cancelled')",
         "tasks in a state that there is not"),
    Rule("tasks", "task_id", "state IN ('completed', 'failed') AND (worker = '' OR attempt < 1)",
         "tasks that are done and were claimed by nobody"),
    Rule("state_changes", "number", "operation NOT IN ('set', 'delete', 'expire') OR"
         " (operation = 'set') != (value IS NOT NULL)", "changes of the shared state that say two things at once",
         severity="error"),
    Rule("state_keys", "key", "NOT EXISTS (SELECT 1 FROM state_changes c WHERE c.number = state_keys.number AND"
         " c.key = state_keys.key AND c.value IS NOT NULL)", "keys of the shared state that lead to no value",
         "rebuild", "error"),
    Rule("state_keys", "key", f"number < {_NEWEST.format(table='state_keys')}",
         "keys of the shared state that do not show their newest value", "rebuild", "error"),
    Rule("state_keys", "key", "EXISTS (SELECT 1 FROM state_changes c WHERE c.number = state_keys.number AND"
         " c.expires_at IS NOT state_keys.expires_at)", "keys of the shared state that end at another time than set",
         "rebuild"),
    Rule("state_changes", "key", f"value IS NOT NULL AND number = {_NEWEST.format(table='state_changes')} AND"
         " key NOT IN (SELECT key FROM state_keys)", "values of the shared state that no key leads to", "rebuild",
         "error"),
    Rule("state_changes", "key", "value IS NOT NULL AND number IN (SELECT number FROM state_keys) AND NOT"
         " is_json(value)", "values of the shared state that are no JSON", severity="error"),
    Rule("state_changes", "number", "number > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE"
         " name = 'state_changes')", "versions of the shared state that would be given again", severity="error"),
    Rule("state_schemas", "pattern", "NOT is_json(text)", "schemas of the shared state that are no JSON",
         severity="error"),
)  # fmt: skip


def check_shared(state: StateFile, registered: Collection[str] | None) -> Iterator[Finding]:
    """`registered`: the workspaces; None: nobody knows them."""
    there = {name for (name,) in state.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    teach(state.connection, registered)
    for rule in RULES:
        if not rule.tables <= there:
            continue
        rows = state.rows(f"SELECT {rule.key} FROM {rule.table} WHERE {rule.condition} ORDER BY 1")
        if rows:
            named = ", ".join(str(name)[:100] for (name,) in rows[:_MOST_NAMED])
            more = ", …" if len(rows) > _MOST_NAMED else ""
            advice = MEND if rule.mend else BACKUP if rule.severity == "error" else _LOOK
            yield Finding(rule.severity, WHERE, f"has {len(rows):,} {rule.what}: {named}{more}", advice)


def teach(connection: sqlite3.Connection, registered: Collection[str] | None) -> None:
    """The words that the conditions are written in."""
    known = None if registered is None else frozenset(registered)
    connection.create_function("is_registered", 1, lambda name: known is None or name in known)
    connection.create_function("is_json", 1, _is_json)


def _is_json(value: object) -> bool:
    try:
        json.loads(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def mend_shared(path: Path, registered: Collection[str] | None, keep: Callable[[bytes], None]) -> list[str]:
    """Mend what can be mended without losing anything: `keep` gets every row, as a line of JSON, before it is changed.

    The caller holds the root's lock. Returns what was mended, in words; nothing was when it raises.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA synchronous=FULL")
        teach(connection, registered)
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.execute("BEGIN IMMEDIATE")
        rows: list[dict[str, object]] = []
        done = []
        for rule in RULES:
            if rule.mend and rule.tables <= there:
                found = connection.execute(f"SELECT * FROM {rule.table} WHERE {rule.condition}").fetchall()
                if found:
                    _mend(connection, rule, found)
                    rows += [{"table": rule.table, "why": rule.what, "row": _plain(row)} for row in found]
                    done.append(f"{len(found):,} {rule.what}")
        if rows:
            keep(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
        connection.execute("COMMIT")
    finally:
        connection.close()  # what is not committed by then is undone
    return done


def _mend(connection: sqlite3.Connection, rule: Rule, found: list[sqlite3.Row]) -> None:
    where = f"WHERE {rule.condition}"
    match rule.mend:
        case "remove":
            connection.execute(f"DELETE FROM {rule.table} {where}")
        case "reopen":
            connection.execute(f"UPDATE tasks SET state = 'open', updated_at = ? {where}", (now(),))
        case "withhold":
            connection.execute(
                f"UPDATE room_receipts SET state = 'withheld', why = 'left the room', at = ? {where}", (now(),)
            )
        case "rebuild":
            for key in {row["key"] for row in found}:
                connection.execute("DELETE FROM state_keys WHERE key = ?", (key,))
                connection.execute(
                    "INSERT INTO state_keys SELECT key, number, expires_at FROM state_changes WHERE value IS NOT NULL"
                    " AND number = (SELECT max(number) FROM state_changes WHERE key = ?)", (key,),
                )  # fmt: skip


def _plain(row: sqlite3.Row) -> dict[str, object]:
    return {
        name: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        for name, value in zip(row.keys(), row, strict=True)
    }
