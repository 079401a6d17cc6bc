"""Working together: shared state, events, rooms, tasks."""

from __future__ import annotations

from typing import get_args

from federated_memory.service import room_results, state_results
from federated_memory.service.state import OnViolation
from federated_memory.web.openapi import shapes
from federated_memory.web.openapi.parts import (
    ANY_JSON,
    BINDING,
    EVENTS,
    PAGING,
    WRITING,
    Operation,
    Parameter,
    header,
    number,
    several,
    text,
)
from federated_memory.web.rooms import Acknowledging, Joining, Notifying, Revoking
from federated_memory.web.state import Batch
from federated_memory.web.tasks import Cancelling, Delegating, Polling, Submitting

_KEY = "/api/v1/state/keys/{key:path}"
_SCHEMA = "/api/v1/state/schemas/{key:path}"
_ROOM = "/api/v1/rooms/{room}"
_TASK = "/api/v1/tasks/{task_id}"
_IF_VERSION = number("if_version", "Only if the key has this version; 0: only if it is absent.")
_RESUME = header("Last-Event-ID", "Where to go on.")

OPERATIONS = (
    Operation("list_state", "GET", "/api/v1/state/keys", "Keys and values.", state_results.StateList,
              (text("prefix", "Keys that begin so."), *PAGING)),
    Operation("get_state", "GET", _KEY, "One value.", state_results.StateValue),
    Operation("set_state", "PUT", _KEY, "Set a value: the JSON itself.", state_results.StateWritten,
              (BINDING, _IF_VERSION, Parameter("ttl_seconds", "How long it lasts.", {"type": "number"})), ANY_JSON,
              errors=WRITING),
    Operation("delete_state", "DELETE", _KEY, "Delete a key.", state_results.StateWritten, (BINDING, _IF_VERSION),
              errors=WRITING),
    Operation("batch_state", "POST", "/api/v1/state/batch", "Several writes, all or none.",
              state_results.StateBatch, (BINDING,), Batch, errors=WRITING),
    Operation("state_history", "GET", "/api/v1/state/history/{key:path}", "A key's values, newest first.",
              state_results.StateHistory, PAGING),
    Operation("list_schemas", "GET", "/api/v1/state/schemas", "JSON Schemas of keys and globs.",
              state_results.StateSchemas, (text("key", "Those that are for this key."), *PAGING)),
    Operation("set_schema", "PUT", _SCHEMA, "Hold a key, or a glob, to a JSON Schema.",
              state_results.StateSchemaWritten,
              (BINDING, text("on_violation", "Of values that are there.", enum=list(get_args(OnViolation)))), ANY_JSON,
              errors=WRITING),
    Operation("remove_schema", "DELETE", _SCHEMA, "Hold it to none.", state_results.StateSchemaWritten, (BINDING,),
              errors=WRITING),
    Operation("events", "GET", "/api/v1/events", "What changes, as it happens: keys, or the change feed.", EVENTS,
              (several("keys", "Globs of keys, at most 64; none: the change feed."), _RESUME)),
    Operation("list_rooms", "GET", "/api/v1/rooms", "The rooms that you are in.", room_results.RoomList,
              (BINDING, *PAGING)),
    Operation("join_room", "POST", "/api/v1/rooms", "Create a room, or join it.", room_results.RoomJoined, (BINDING,),
              Joining, statuses=(200, 201), errors=WRITING),
    Operation("room_status", "GET", _ROOM, "Members, messages, tasks.", room_results.RoomStatus,
              (number("message_id", "A message of yours: whom it reached."), BINDING)),
    Operation("leave_room", "POST", _ROOM + "/leave", "Leave it.", room_results.RoomLeft, (BINDING,), errors=WRITING),
    Operation("revoke_ticket", "POST", _ROOM + "/revoke", "End a ticket, or all.", room_results.TicketsRevoked,
              (BINDING,), Revoking, errors=WRITING),
    Operation("room_messages", "GET", _ROOM + "/messages", "What was said, oldest first.", shapes.RoomMessages,
              (number("after", "A message's number.", 0, 2**62), number("limit", "How many.", 1, 500), BINDING)),
    Operation("notify_peers", "POST", _ROOM + "/messages", "Tell a room, or a member.", room_results.Notified,
              (BINDING,), Notifying, statuses=(201,), errors=WRITING),
    Operation("acknowledge", "POST", _ROOM + "/read", "Messages that you have read.", room_results.RoomStatus,
              (BINDING,), Acknowledging, errors=WRITING),
    Operation("room_events", "GET", _ROOM + "/events", "Messages as they come.", EVENTS, (BINDING, _RESUME)),
    Operation("delegate_task", "POST", "/api/v1/tasks", "Give a task, and wait for its result if you like.",
              room_results.TaskOutcome, (BINDING,), Delegating, statuses=(201,), errors=WRITING),
    Operation("poll_tasks", "POST", "/api/v1/tasks/poll", "Take tasks; wait for one if you like.",
              room_results.PendingTasks, (BINDING,), Polling, errors=WRITING),
    Operation("get_task", "GET", _TASK, "A task; wait for its end if you like.", room_results.TaskRow,
              (number("wait_seconds", "How long."), BINDING)),
    Operation("submit_result", "POST", _TASK + "/result", "End a task that you hold.", room_results.TaskChanged,
              (BINDING,), Submitting, errors=WRITING),
    Operation("cancel_task", "POST", _TASK + "/cancel", "Cancel a task that you gave.", room_results.TaskChanged,
              (BINDING,), Cancelling, errors=WRITING),
)  # fmt: skip
