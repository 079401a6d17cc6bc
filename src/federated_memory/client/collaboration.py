"""Rooms, tasks and shared state: each function says what is sent and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from federated_memory.client.calls import Answer, Call, Method, given, json_body, path_of, result, segment
from federated_memory.client.groups import V1
from federated_memory.service.room_results import (
    Notice,
    Notified,
    PendingTasks,
    RoomJoined,
    RoomLeft,
    RoomList,
    RoomStatus,
    TaskChanged,
    TaskOutcome,
    TaskRow,
    TicketsRevoked,
)
from federated_memory.service.state_results import (
    StateBatch,
    StateHistory,
    StateList,
    StateSchemas,
    StateSchemaWritten,
    StateValue,
    StateWritten,
)


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a batch."""

    key: str
    value: Any = None
    delete: bool = False
    if_version: int | None = None
    ttl_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"key": self.key} | ({"delete": True} if self.delete else {"value": self.value})
        return {**found, **given(ttl_seconds=self.ttl_seconds),
                **({} if self.if_version is None else {"if_version": self.if_version})}  # fmt: skip


# -- rooms and tasks


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages of a room after a number, oldest first."""

    messages: list[Notice]
    next_after: int


def _room(room: str, rest: str = "") -> str:
    return f"{V1}/rooms/{segment(room)}{rest}"


def _rooms(*, limit: int | None = None, cursor: str | None = None) -> Call[RoomList]:
    """The rooms that the client's workspace is in."""
    return Call("GET", f"{V1}/rooms", result(RoomList), given(limit=limit, cursor=cursor))


def _join(
    room: str, *, ticket: str = "", closed: bool = False, ticket_expires_at: str = "", status: str = "", role: str = ""
) -> Call[RoomJoined]:
    """Join a room, or make it; a closed one takes its ticket."""
    body: dict[str, Any] = given(
        room=room, ticket=ticket, ticket_expires_at=ticket_expires_at, status=status, role=role
    ) | ({"closed": True} if closed else {})
    return Call("POST", f"{V1}/rooms", result(RoomJoined), content=json_body(body))


def _leave(room: str) -> Call[RoomLeft]:
    """Leave a room; tasks that were claimed in it are open again."""
    return Call("POST", _room(room, "/leave"), result(RoomLeft))


def _room_status(room: str, *, message_id: int | None = None) -> Call[RoomStatus]:
    """Members, what is not acknowledged yet, open tasks; `message_id`: how a message of one's own reached everybody."""
    return Call("GET", _room(room), result(RoomStatus), given(message_id=message_id))


def _notify(room: str, message: str, *, to: str = "", ttl_seconds: int | None = None) -> Call[Notified]:
    """Tell everybody in a room, or one; kept for those who are away."""
    body = json_body(given(message=message, to=to, ttl_seconds=ttl_seconds))
    return Call("POST", _room(room, "/messages"), result(Notified), content=body)


def _messages(room: str, *, after: int = 0, limit: int | None = None) -> Call[Messages]:
    """What was said in a room after a message."""

    def read(answer: Answer) -> Messages:
        found = answer.json
        return Messages([Notice.model_validate(row) for row in found["messages"]], int(found["next_after"]))

    return Call("GET", _room(room, "/messages"), read, given(after=after or None, limit=limit))


def _acknowledge(room: str, read: Sequence[int]) -> Call[RoomStatus]:
    """Say that messages were read, by their numbers."""
    return Call("POST", _room(room, "/read"), result(RoomStatus), content=json_body({"read": [*read]}))


def _revoke(room: str, *, ticket: str = "") -> Call[TicketsRevoked]:
    """End one ticket of a closed room, or all."""
    return Call("POST", _room(room, "/revoke"), result(TicketsRevoked), content=json_body(given(ticket=ticket)))


class Rooms:
    list = Method(_rooms)
    join = Method(_join)
    leave = Method(_leave)
    status = Method(_room_status)
    notify = Method(_notify)
    messages = Method(_messages)
    acknowledge = Method(_acknowledge)
    revoke_ticket = Method(_revoke)


def _delegate(room: str, task: str, *, to: str = "", timeout_seconds: float = 0) -> Call[TaskOutcome]:
    """Hand work over; with `timeout_seconds` wait for its result. After a timeout the `task_id` stays good."""
    body = json_body({**given(room=room, task=task, to=to), "timeout_seconds": float(timeout_seconds)})
    return Call("POST", f"{V1}/tasks", result(TaskOutcome), content=body, wait_seconds=timeout_seconds)


def _poll(
    *, room: str = "", wait_seconds: float = 0, limit: int | None = None, lease_seconds: float | None = None
) -> Call[PendingTasks]:
    """Claim tasks; with `wait_seconds` wait until there is one. A lease gives it back if it is not kept."""
    body = given(room=room, limit=limit, lease_seconds=lease_seconds) | {"wait_seconds": float(wait_seconds)}
    return Call("POST", f"{V1}/tasks/poll", result(PendingTasks), content=json_body(body), wait_seconds=wait_seconds)


def _task(task_id: str, *, wait_seconds: int = 0) -> Call[TaskRow]:
    """A task and, once it is there, its result; keeps the claim of whoever works on it."""
    asked = given(wait_seconds=wait_seconds or None)
    return Call("GET", f"{V1}/tasks/{segment(task_id)}", result(TaskRow), asked, wait_seconds=wait_seconds)


def _submit(task_id: str, output: str, *, success: bool = True, attempt: int | None = None) -> Call[TaskChanged]:
    """Hand in the result of a claimed task. Raises: Conflict: it is somebody else's now."""
    body = {"success": success, "output": output, **({} if attempt is None else {"attempt": attempt})}
    return Call("POST", f"{V1}/tasks/{segment(task_id)}/result", result(TaskChanged), content=json_body(body))


def _cancel(task_id: str, *, reason: str = "") -> Call[TaskChanged]:
    """End a task that one has delegated; its worker is told."""
    body = json_body(given(reason=reason))
    return Call("POST", f"{V1}/tasks/{segment(task_id)}/cancel", result(TaskChanged), content=body)


class Tasks:
    delegate = Method(_delegate)
    poll = Method(_poll)
    get = Method(_task)
    submit = Method(_submit)
    cancel = Method(_cancel)


# -- shared state


def _key(key: str) -> str:
    return f"{V1}/state/keys/{path_of(key)}"


def _versioned(if_version: int | None, ttl_seconds: float | None = None) -> dict[str, Any]:
    found = given(ttl_seconds=ttl_seconds)
    return found if if_version is None else {**found, "if_version": if_version}


def _get(key: str) -> Call[StateValue]:
    """The value of a key; `exists` tells an absent key from a null."""
    return Call("GET", _key(key), result(StateValue))


def _set(
    key: str, value: Any, *, if_version: int | None = None, ttl_seconds: float | None = None
) -> Call[StateWritten]:
    """Set a value. `if_version`: only if the key is at that version (0: absent), else Conflict."""
    asked = _versioned(if_version, ttl_seconds)
    return Call("PUT", _key(key), result(StateWritten), asked, content=json_body(value))


def _delete(key: str, *, if_version: int | None = None) -> Call[StateWritten]:
    """Remove a key; its history stays."""
    return Call("DELETE", _key(key), result(StateWritten), _versioned(if_version))


def _list(prefix: str = "", *, limit: int | None = None, cursor: str | None = None) -> Call[StateList]:
    """The keys under a prefix, with their values."""
    asked = given(prefix=prefix, limit=limit, cursor=cursor)
    return Call("GET", f"{V1}/state/keys", result(StateList), asked)


def _history(key: str, *, limit: int | None = None, cursor: str | None = None) -> Call[StateHistory]:
    """What the key held before, newest first."""
    asked = given(limit=limit, cursor=cursor)
    return Call("GET", f"{V1}/state/history/{path_of(key)}", result(StateHistory), asked)


def _batch(writes: Sequence[Write]) -> Call[StateBatch]:
    """Several writes, all or none."""
    body = json_body({"operations": [write.as_dict() for write in writes]})
    return Call("POST", f"{V1}/state/batch", result(StateBatch), content=body)


def _set_schema(
    key: str, schema: dict[str, Any] | bool, *, on_violation: Literal["refuse", "report"] = "refuse"
) -> Call[StateSchemaWritten]:
    """Hold a key, or the keys of a glob, to a JSON Schema."""
    path = f"{V1}/state/schemas/{path_of(key)}"
    return Call("PUT", path, result(StateSchemaWritten), {"on_violation": on_violation}, content=json_body(schema))


def _remove_schema(key: str) -> Call[StateSchemaWritten]:
    """Take the schema of a key or glob away."""
    return Call("DELETE", f"{V1}/state/schemas/{path_of(key)}", result(StateSchemaWritten))


def _schemas(key: str = "", *, limit: int | None = None, cursor: str | None = None) -> Call[StateSchemas]:
    """The schemas that hold for a key, or (empty) all."""
    return Call("GET", f"{V1}/state/schemas", result(StateSchemas), given(key=key, limit=limit, cursor=cursor))


class State:
    get = Method(_get)
    set = Method(_set)
    delete = Method(_delete)
    list = Method(_list)
    history = Method(_history)
    batch = Method(_batch)
    set_schema = Method(_set_schema)
    remove_schema = Method(_remove_schema)
    schemas = Method(_schemas)
