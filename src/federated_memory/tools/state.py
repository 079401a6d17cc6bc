"""Tools of the shared state (toolset `state`): small JSON values that agents read, compare and set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from federated_memory.errors import InvalidArgument
from federated_memory.service.framing import fenced, one_line
from federated_memory.service.pages import MOST_MAX_BYTES
from federated_memory.service.state import batch_of
from federated_memory.service.state_results import (
    StateBatch,
    StateHistory,
    StateList,
    StateSchemas,
    StateSchemaWritten,
    StateValue,
    StateVersion,
    StateWritten,
)
from federated_memory.store.shared_state import Write
from federated_memory.tools import parameters as p
from federated_memory.tools.render import as_json, more, render
from federated_memory.tools.toolkit import Call, ToolSpec, spec

Key = Annotated[str, Field(max_length=400, description="Such as `build/main/status`.")]
KeyOrGlob = Annotated[str, Field(max_length=400, description="A key, or a glob such as `build/*`.")]
IfVersion = Annotated[int | None, Field(description="`version` of your last read; 0: only create.")]
Seconds = Annotated[float | None, Field(description="Then it ends by itself.")]


class Item(BaseModel):
    """One write of a batch."""

    model_config = ConfigDict(extra="forbid")

    key: str
    value: Any = None
    delete: bool = False
    if_version: int | None = None
    ttl_seconds: float | None = None


def set_state(
    call: Call,
    key: Annotated[str, Field(max_length=400, description="Such as `build/main/status`. Empty with items.")] = "",
    value: Annotated[Any, Field(description="Any JSON; left out: null.")] = None,
    if_version: IfVersion = None,
    ttl_seconds: Seconds = None,
    items: Annotated[
        list[Item] | None, Field(description="Instead: several writes at once, all or none; `delete` removes.")
    ] = None,
    binding: p.Binding = None,
) -> StateBatch:
    """Set a small JSON value that every agent sees at once: who does what, flags, counters, results to hand over.

    To change a value without losing another's change, pass the `version` you read as if_version; on `conflict` read
    again and retry. Longer texts belong in write_knowledge.
    """
    state = call.services.state
    if bool(key) == bool(items):
        raise InvalidArgument("set_state takes either key or items", hint="Pass one of them")
    if items:
        writes = [_write(call, item) for item in items]
    else:
        writes = [state.parse_write(key, state.parse_value(value), if_version, ttl_seconds)]
    return batch_of(state.write(call.caller, writes, binding))


def _write(call: Call, item: Item) -> Write:
    state = call.services.state
    value = None if item.delete else state.parse_value(item.value)
    return state.parse_write(item.key, value, item.if_version, item.ttl_seconds)


def get_state(call: Call, key: Key, max_bytes: p.MaxBytes = p.BYTES) -> StateValue:
    """The shared value of a key, its version, and who set it when. `exists` tells an absent key from a null."""
    return call.services.state.get(call.caller, key, max_bytes)


def list_state(
    call: Call,
    prefix: Annotated[str, Field(max_length=400, description="Such as `build/`; empty: all.")] = "",
    limit: p.Limit = 100,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> StateList:
    """The keys of the shared state under a prefix, with their values (long ones left out: get_state)."""
    return call.services.state.values(call.caller, prefix, limit=limit, cursor=cursor, max_bytes=max_bytes)


def delete_state(call: Call, key: Key, if_version: IfVersion = None, binding: p.Binding = None) -> StateWritten:
    """Remove a key from the shared state. Its history is kept."""
    writes = [call.services.state.parse_write(key, None, if_version)]
    return call.services.state.write(call.caller, writes, binding)[0]


def state_history(
    call: Call, key: Key, limit: p.Limit = 20, cursor: p.Cursor = None, max_bytes: p.MaxBytes = p.BYTES
) -> StateHistory:
    """What a key held before, newest first: value, who and when; also that it was deleted or has ended."""
    return call.services.state.history(call.caller, key, limit=limit, cursor=cursor, max_bytes=max_bytes)


def set_state_schema(
    call: Call,
    key: KeyOrGlob,
    schema: Annotated[
        dict[str, Any] | None, Field(description="JSON Schema, Draft 2020-12, local $ref, RE2 patterns.")
    ] = None,
    remove: bool = False,
    on_violation: Annotated[
        Literal["refuse", "report"], Field(description="When values do not hold it already.")
    ] = "refuse",
    binding: p.Binding = None,
) -> StateSchemaWritten:
    """Hold a key, or all keys of a glob, to a JSON Schema: other values are refused from then on."""
    state = call.services.state
    if remove == (schema is not None):
        raise InvalidArgument("set_state_schema takes either schema or remove", hint="Pass one of them")
    if schema is None:
        return state.remove_schema(call.caller, key, binding=binding)
    return state.set_schema(call.caller, key, schema, on_violation=on_violation, binding=binding)


def get_state_schema(
    call: Call,
    key: Annotated[
        str, Field(max_length=400, description="A key: what holds for it; a glob: its own; empty: all.")
    ] = "",
    limit: p.Limit = 100,
    cursor: p.Cursor = None,
    max_bytes: p.MaxBytes = p.BYTES,
) -> StateSchemas:
    """The JSON Schemas that shared values are held to."""
    return call.services.state.schemas_of(call.caller, key, limit=limit, cursor=cursor, max_bytes=max_bytes)


TOOLS: tuple[ToolSpec, ...] = (
    spec(set_state, "Set a shared value", "ai", "admin", writes=True, idempotent=False),
    spec(get_state, "Read a shared value", "ai", "read", "admin"),
    spec(list_state, "List shared values", "ai", "read", "admin"),
    spec(delete_state, "Delete a shared value", "ai", "admin", writes=True, destroys=True),
    spec(state_history, "History of a shared value", "ai", "read", "admin"),
    spec(set_state_schema, "Set a schema of shared values", "ai", "admin", writes=True),
    spec(get_state_schema, "Schemas of shared values", "ai", "read", "admin"),
)


# -- text forms


@render.register
def _(found: StateValue) -> str:
    if not found.exists:
        return f"{found.key} is absent"
    head = f"{found.key} version {found.version}, {found.updated_at}, by {found.updated_by} ({found.workspace_id})"
    if found.expires_at:
        head += f", ends {found.expires_at}"
    if found.truncated:
        return f"{head}. {found.bytes} bytes: pass max_bytes, up to {MOST_MAX_BYTES}"
    return f"{head}. Data:\n{fenced(as_json(found.value))}"


@render.register
def _(found: StateList) -> str:
    lines = [
        f"- {row.key} v{row.version}: " + (f"{row.bytes} bytes" if row.truncated else one_line(as_json(row.value)))
        for row in found.values
    ]
    return f"{len(lines)} keys. Data:\n" + fenced("\n".join(lines)) + more(found.next_cursor)


@render.register
def _(done: StateWritten) -> str:
    if done.operation == "none":
        return f"{done.key} was absent"
    return f"{'Set' if done.operation == 'set' else 'Deleted'}: {done.key}, version {done.version}"


@render.register
def _(done: StateBatch) -> str:
    return "\n".join(render(row) for row in done.results)


@render.register
def _(found: StateHistory) -> str:
    lines = [f"- v{row.version} {row.at[:19]} {row.operation} by {row.by}: {_was(row)}" for row in found.versions]
    return f"{found.key}, newest first. Data:\n" + fenced("\n".join(lines)) + more(found.next_cursor)


def _was(row: StateVersion) -> str:
    if not row.has_value:
        return f"{row.bytes} bytes" if row.truncated else "gone"
    return one_line(as_json(row.value))


@render.register
def _(found: StateSchemas) -> str:
    lines = [f"- {row.key}: {one_line(as_json(row.state_schema))}" for row in found.schemas]
    return f"{len(lines)} schemas. Data:\n" + fenced("\n".join(lines)) + more(found.next_cursor)


@render.register
def _(done: StateSchemaWritten) -> str:
    lines = [f"- {row.key} {one_line(row.path) or '/'}: {one_line(row.reason)}" for row in done.violations]
    head = f"{done.key} has no schema any more" if done.version is None else f"{done.key} is held to it"
    return "\n".join([head, *(["These values do not hold it:"] if lines else []), *lines])
