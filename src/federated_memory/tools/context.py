"""Who calls a tool, from what the gate left on the request."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from itertools import count
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from federated_memory.auth.caller import CALLER, Caller
from federated_memory.service.waiting import LONG_CALL, Waiter

STDIO_CALLER: ContextVar[Caller | None] = ContextVar("stdio_caller", default=None)
"""Who speaks on standard input; set before a server is run there, since no request says it."""
_STDIO_SESSION = "stdio"


def caller_of(ctx: Context[Any], tool: str) -> Caller:
    return caller_of_request(ctx.request_context, tool)


def caller_of_request(ctx: ServerRequestContext[Any, Any], where: str) -> Caller:
    """The caller, with the MCP session only in protocol versions that have sessions: elsewhere the header is forged."""
    has_session = ctx.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS
    request = ctx.request
    if request is None:
        local = STDIO_CALLER.get()
        if local is None:
            raise RuntimeError("nobody said who speaks on standard input")
        return replace(local, where=where, session=_STDIO_SESSION if has_session else None)
    caller: Caller = request.scope[CALLER]
    return replace(caller, where=where, session=request.headers.get("mcp-session-id") if has_session else None)


def waiter_of(ctx: Context[Any]) -> Waiter:
    """Whoever waits for the answer: told on the stream that the answer has become, else as the SDK tells."""
    request = ctx.request_context.request
    found = request.scope.get(LONG_CALL) if request is not None else None
    if isinstance(found, Waiter):
        return found
    counted = count(1)

    async def tell(message: str) -> None:
        await ctx.report_progress(next(counted), None, message)

    return Waiter(tell)
