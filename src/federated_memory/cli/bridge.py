"""MCP on standard input and output, carried to a running server's `/mcp` (SPEC: CLI-15).

The SDK does both transports. What is ours: the headers that say to which protocol version a message belongs, and
that neither a server that restarts nor one that refuses ends the conversation.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from federated_memory.errors import Forbidden, Unavailable
from federated_memory.settings import is_loopback

if TYPE_CHECKING:
    from mcp.shared._context_streams import ContextReceiveStream, ContextSendStream

    Incoming = ContextReceiveStream[SessionMessage | Exception]
    Outgoing = ContextSendStream[SessionMessage]

logger = logging.getLogger(__name__)

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_INITIALIZED = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'
_TIMEOUT_SECONDS = 30.0


class Target:
    """A server and how to speak to it: origin, token, trust, and the headers that say who asks."""

    def __init__(self, origin: str, token: str, *, machine: str, tool: str, ca_file: str = "") -> None:
        """Raises: Unavailable: `ca_file` cannot be used."""
        self.origin = origin.rstrip("/").removesuffix("/mcp").rstrip("/")
        self.headers = {b"Authorization": f"Bearer {token}".encode()}
        for name, value in ((b"X-Memory-Machine", machine), (b"X-Memory-Tool", tool)):
            if value:
                self.headers[name] = value.encode()
        try:
            self.trust = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise Unavailable(f"{ca_file} cannot be used ({error})", hint="Name a PEM file of certificates") from error

    @property
    def proxy(self) -> str | None:
        """Of the environment; never for this machine."""
        parts = urlsplit(self.origin)
        host = parts.hostname or ""
        if is_loopback(host) or urllib.request.proxy_bypass(host):
            return None
        return urllib.request.getproxies().get(parts.scheme)

    def ensure_admitted(self) -> None:
        """Find out before anything is bridged: the client could only show that it failed, not why.

        Raises:
            Unavailable: Nobody answers there, or it is no memory server.
            Forbidden: The server does not know the token.
        """
        try:
            with httpx2.Client(
                transport=httpx2.HTTPTransport(verify=self.trust, proxy=self.proxy), timeout=_TIMEOUT_SECONDS
            ) as client:
                alive = client.get(f"{self.origin}/healthz")
                if alive.status_code != 200 or alive.content != b'{"status":"ok"}':
                    raise Unavailable(f"{self.origin} is no memory server", hint="Check MCP_MEMORY_URL")
                asked = client.get(f"{self.origin}/api/v1/workspaces?limit=1", headers=self.headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"No server answers at {self.origin} ({reason})", hint="Is it running?") from error
        if asked.status_code == 401:
            raise Forbidden(f"{self.origin} does not know this token", hint="Set MCP_MEMORY_TOKEN to a valid AI token")
        if asked.status_code != 200:
            raise Unavailable(f"{self.origin} answered {asked.status_code}", hint="Its log says why")


async def run_bridge(target: Target) -> None:
    """Carry messages both ways until standard input ends."""
    async with stdio_server() as (from_client, to_client), from_client, to_client:
        try:
            await _carry(target, from_client, to_client)
        except Exception as error:
            # A thread waits for standard input and cannot be woken: the client would wait for us for ever.
            logger.error("the bridge failed", exc_info=error)
            os._exit(1)


async def _carry(target: Target, from_client: Incoming, to_client: Outgoing) -> None:
    steady = SteadyTransport(httpx2.AsyncHTTPTransport(verify=target.trust, proxy=target.proxy), target.origin)
    timeout = httpx2.Timeout(
        _TIMEOUT_SECONDS, read=None
    )  # streams are silent for hours; clients time out by themselves
    async with (
        httpx2.AsyncClient(transport=steady, headers=target.headers, timeout=timeout) as http,
        streamable_http_client(f"{target.origin}/mcp", http_client=http) as (from_server, to_server),
        anyio.create_task_group() as tasks,
    ):
        stamps = Stamps()

        async def carry_answers() -> None:
            async for item in from_server:
                if isinstance(item, SessionMessage):
                    stamps.answered(item.message)
                    await to_client.send(item)

        tasks.start_soon(carry_answers)
        async for item in from_client:
            if isinstance(item, Exception):
                broken = ErrorData(code=PARSE_ERROR, message="Not a JSON-RPC message")
                await to_client.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=broken)))
            else:
                await stamps.agreed.wait()
                await to_server.send(SessionMessage(item.message, stamps.stamp(item.message)))
        tasks.cancel_scope.cancel()


class Stamps:
    """The HTTP headers of each message: its own protocol version, or the one that was agreed on at the start."""

    def __init__(self) -> None:
        self._handshake: object = None
        self._version = ""
        self.agreed = anyio.Event()
        """Set unless the handshake is under way: what follows belongs to the session that it opens."""
        self.agreed.set()

    def stamp(self, message: JSONRPCMessage) -> ClientMessageMetadata | None:
        if not isinstance(message, JSONRPCRequest | JSONRPCNotification):
            return None
        params = message.params or {}
        meta = params.get("_meta")
        version = meta.get(_VERSION_KEY) if isinstance(meta, dict) else None
        if isinstance(version, str):
            headers = {MCP_PROTOCOL_VERSION_HEADER: version, MCP_METHOD_HEADER: message.method}
            name = params.get(NAME_BEARING_METHODS.get(message.method, ""))
            if isinstance(name, str):
                headers[MCP_NAME_HEADER] = encode_header_value(name)
            return ClientMessageMetadata(headers=headers)
        if message.method == "initialize" and isinstance(message, JSONRPCRequest):
            self._handshake = message.id
            self.agreed = anyio.Event()
            return None
        return ClientMessageMetadata(headers={MCP_PROTOCOL_VERSION_HEADER: self._version}) if self._version else None

    def answered(self, message: JSONRPCMessage) -> None:
        if not isinstance(message, JSONRPCResponse | JSONRPCError) or self._handshake is None:
            return
        if message.id == self._handshake:
            if isinstance(message, JSONRPCResponse):
                self._version = str(message.result.get("protocolVersion", ""))
            self._handshake = None
            self.agreed.set()


class SteadyTransport(httpx2.AsyncBaseTransport):
    """HTTP on which nothing raises: what goes wrong is an answer that the client understands.

    A server that was restarted knows no sessions: the handshake is made again, as the client made it.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, origin: str) -> None:
        self._inner = inner
        self._origin = origin
        self._handshake: httpx2.Request | None = None
        self._session = ""
        self._renewing = anyio.Lock()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" and _method_of(request) == "initialize":
            self._handshake, self._session = request, ""
        asked = self._session or request.headers.get(MCP_SESSION_ID, "")
        try:
            response = await self._send(request, asked)
            if response.status_code == 404 and asked and self._handshake is not None and request.method == "POST":
                await response.aclose()
                response = await self._send(request, await self._renewed(asked))
            if response.status_code >= 400 and "problem+json" in response.headers.get("content-type", ""):
                return _error(response.status_code, _detail(await response.aread()))
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            return _error(503, f"The memory server at {self._origin} does not answer ({reason}); try again later")
        return response

    async def _send(self, request: httpx2.Request, session: str) -> httpx2.Response:
        if session and MCP_SESSION_ID in request.headers:
            request.headers[MCP_SESSION_ID] = session
        return await self._inner.handle_async_request(request)

    async def _renewed(self, ended: str) -> str:
        """A session in place of the one that has ended; the same for all that miss it at once."""
        assert self._handshake is not None
        async with self._renewing:
            if self._session not in ("", ended):
                return self._session
            first = self._handshake
            answer = await self._inner.handle_async_request(first)
            await answer.aread()
            session = answer.headers.get(MCP_SESSION_ID, "")
            if not session:
                return ended
            headers = {**first.headers, MCP_SESSION_ID: session}
            headers.pop("content-length", None)
            said = httpx2.Request("POST", first.url, headers=headers, content=_INITIALIZED, extensions=first.extensions)
            await (await self._inner.handle_async_request(said)).aread()
            self._session = session
            return session

    async def aclose(self) -> None:
        await self._inner.aclose()


def _method_of(request: httpx2.Request) -> object:
    found = _parsed(request.content)
    return found.get("method")


def _detail(body: bytes) -> str:
    return str(_parsed(body).get("detail") or "The memory server refused")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(status: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": INTERNAL_ERROR, "message": message}}
    return httpx2.Response(status, json=body)
