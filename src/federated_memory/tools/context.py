"""Who calls a tool, from what the gate left on the request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from federated_memory.auth.caller import CALLER, Caller


def caller_of(ctx: Context[Any], tool: str) -> Caller:
    return caller_of_request(ctx.request_context, tool)


def caller_of_request(ctx: ServerRequestContext[Any, Any], where: str) -> Caller:
    """The caller, with the MCP session only in protocol versions that have sessions: elsewhere the header is forged."""
    request = ctx.request
    if request is None:
        raise RuntimeError("this server is only served over HTTP")
    caller: Caller = request.scope[CALLER]
    session = request.headers.get("mcp-session-id") if ctx.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS else None
    return replace(caller, where=where, session=session)
