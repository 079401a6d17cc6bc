"""From a plain function to a tool: schema, thread, caller, result and error (SPEC: TOOL-1 to TOOL-6)."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import CallToolResult, TextContent, ToolAnnotations

from federated_memory import boundary
from federated_memory.auth.caller import Caller, Role
from federated_memory.errors import FederatedMemoryError
from federated_memory.logs import request_id
from federated_memory.service.observer import Observer
from federated_memory.service.results import Result
from federated_memory.service.services import Services
from federated_memory.service.waiting import Waiter
from federated_memory.tools.context import caller_of, waiter_of
from federated_memory.tools.render import render

WAITS = "waits"
"""The lane of tools that wait for others; see `ToolFunction`."""
INLINE = "inline"
"""The lane of tools that never wait for a disk, or are coroutines that see to it themselves: they need no thread."""

ToolFunction = Callable[..., Result | Awaitable[Result]]
"""One that waits is a coroutine: it runs in the event loop, and works in threads of its own."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool: who asks, of what, and whether anybody still waits for the answer."""

    caller: Caller
    services: Services
    cancelled: threading.Event = field(default_factory=threading.Event)
    waiter: Waiter = field(default_factory=Waiter)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool before it is registered. `lane` names the pool of threads that runs it."""

    function: ToolFunction
    title: str
    roles: frozenset[Role]
    annotations: ToolAnnotations
    lane: str = "store"

    @property
    def name(self) -> str:
        return self.function.__name__


def spec(
    function: ToolFunction,
    title: str,
    *roles: Role,
    writes: bool = False,
    destroys: bool = False,
    idempotent: bool = True,
    lane: str = "store",
) -> ToolSpec:
    """`roles` none: every role. The hints are hints for clients; the policy decides."""
    hints = ToolAnnotations(
        read_only_hint=not writes, destructive_hint=destroys, idempotent_hint=idempotent, open_world_hint=False
    )
    return ToolSpec(function, title, frozenset(roles or ("ai", "sync", "read", "admin")), hints, lane)


def as_handler(
    tool: ToolSpec, services: Services, limiter: anyio.CapacityLimiter, observer: Observer
) -> Callable[..., Awaitable[Any]]:
    """The function that the SDK registers: same parameters, the call replaced by the SDK's context."""
    signature = inspect.signature(tool.function, eval_str=True)
    (_, *parameters) = signature.parameters.values()

    async def handler(ctx: Context[Any], **arguments: Any) -> CallToolResult:
        call = Call(caller_of(ctx, tool.name), services, waiter=waiter_of(ctx))
        told = partial(_tell, observer, call.caller, tool, time.perf_counter(), arguments)
        if call.caller.request_id:  # a 2025-era session runs in the context of the request that opened it
            request_id.set(call.caller.request_id)
        try:
            if call.caller.role not in tool.roles:
                services.core.policy.ensure_role(call.caller, sorted(tool.roles))
            work = partial(tool.function, call, **arguments)
            result = await _result(work, tool.lane, limiter)
        except Exception as error:
            refused = boundary.understood(error)
            told(refused.code, {})
            return error_result(refused)
        except BaseException:
            call.cancelled.set()
            told("cancelled", {})
            raise
        changes = not tool.annotations.read_only_hint and result.is_change
        told("ok", result.model_dump(exclude_none=True) if changes else {}, changes=changes)
        return CallToolResult(
            content=[TextContent(type="text", text=render(result))], structured_content=result.as_dict()
        )

    returned = Annotated[CallToolResult, signature.return_annotation]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context[Any])
    handler.__name__ = tool.name
    handler.__doc__ = tool.function.__doc__
    handler.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[context, *parameters], return_annotation=returned
    )
    handler.__annotations__ = {"ctx": Context[Any], **{p.name: p.annotation for p in parameters}, "return": returned}
    return handler


async def _result(work: Callable[[], Result | Awaitable[Result]], lane: str, limiter: anyio.CapacityLimiter) -> Result:
    found = work() if lane in (INLINE, WAITS) else await anyio.to_thread.run_sync(
        work, limiter=limiter, abandon_on_cancel=True
    )  # fmt: skip
    return found if isinstance(found, Result) else await found


def _tell(
    observer: Observer, caller: Caller, tool: ToolSpec, started: float, arguments: dict[str, Any], outcome: str,
    found: dict[str, Any], *, changes: bool = True,
) -> None:  # fmt: skip
    given = {name: value for name, value in arguments.items() if name != "status"}  # a room's is text, not an outcome
    observer.tool_called(
        caller, tool.name, writes=changes and not tool.annotations.read_only_hint, outcome=outcome,
        seconds=time.perf_counter() - started, about={**given, **found},
    )  # fmt: skip


class VerbatimText(FuncMetadata):
    """Arguments as the SDK reads them, except that text stays text also when it looks like JSON."""

    texts: frozenset[str] = frozenset()
    """The parameters that take text."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        others = {name: value for name, value in data.items() if name not in self.texts}
        return {**data, **super().pre_parse_json(others)}


def with_verbatim_text(tool: Tool) -> Tool:
    """The registered tool with compact schemas and arguments that are taken as they were sent."""
    tool.parameters = compact_schema(tool.parameters, drops=_UNTOLD)
    known = tool.fn_metadata
    tool.fn_metadata = VerbatimText(
        arg_model=known.arg_model,
        output_schema=compact_schema(known.output_schema, keep_null=True),
        output_model=known.output_model,
        wrap_output=known.wrap_output,
        texts=frozenset(name for name, schema in tool.parameters.get("properties", {}).items() if _takes_text(schema)),
    )
    return tool


def _takes_text(schema: dict[str, Any]) -> bool:
    """Whether a text is meant as it is: where the schema says so, and where any JSON value may stand."""
    return schema.get("type") == "string" or not schema.keys() - {"description", "default"}


def error_result(error: FederatedMemoryError) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=boundary.as_text(error))],
        structured_content={"error": boundary.as_dict(error)},
        is_error=True,
    )


_UNTOLD = ("maxLength", "maxItems")
"""Limits that hold, and that an error tells, but that no caller chooses by: every byte of a list of tools is read by
every model that is connected."""


def compact_schema(schema: Any, *, keep_null: bool = False, drops: tuple[str, ...] = ()) -> Any:
    """A JSON schema that says the same in fewer bytes: no titles, no null, empty or zero defaults, and (since null
    equals absent in arguments) no null unions. Results say null where a list ends: there `keep_null`. Keywords of
    `drops` are left out."""
    if isinstance(schema, list):
        return [compact_schema(item, keep_null=keep_null, drops=drops) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    options = found.get("anyOf")
    if isinstance(options, list) and not keep_null:
        real = [option for option in options if option != {"type": "null"}]
        if len(real) == 1:
            del found["anyOf"]
            found = {**real[0], **found}
            found.pop("title", None)
    if "default" in found and found["default"] in (None, "", 0, False):
        del found["default"]
    found = {key: value for key, value in found.items() if not (key in drops and isinstance(value, int))}
    return {
        key: {name: compact_schema(inner, keep_null=keep_null, drops=drops) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else compact_schema(value, keep_null=keep_null, drops=drops)
        for key, value in found.items()
    }
