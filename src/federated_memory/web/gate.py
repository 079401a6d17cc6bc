"""In front of every route: host, origin, bearer or (on pages) a visit's cookie, how many, and bodies that stall.

(SPEC: AUTH-1, AUTH-10, AUTH-11, ENROL-8, HTTP-6, RATE-1, SITE-1)
"""

from __future__ import annotations

import ipaddress
import time
from urllib.parse import unquote_to_bytes, urlsplit

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from federated_memory.auth.caller import CALLER, Caller, Grant
from federated_memory.auth.events import auth_deny, auth_fail
from federated_memory.auth.tokens import Tokens
from federated_memory.errors import Forbidden, InvalidArgument, InvalidName, Unavailable
from federated_memory.logs import request_id
from federated_memory.operate.shipped import CLIENT_FILES
from federated_memory.service.signing_in import SigningIn
from federated_memory.service.waiting import LONG_CALL
from federated_memory.settings import Network, Settings
from federated_memory.web.enroll import ENROL_PATH
from federated_memory.web.limits import Limits, limited
from federated_memory.web.problems import BodyStalled, problem
from federated_memory.web.streams import Streams
from federated_memory.web.visitors import VISIT, cookie_name, cookie_of, is_open_page, is_page, to_sign_in

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DECIDING = frozenset({b"host", b"origin", b"authorization", b"x-forwarded-for", b"x-memory-machine", b"x-memory-tool"})
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_WITHOUT_BEARER = frozenset({ENROL_PATH, *(f"/client/{name}" for name in CLIENT_FILES)})
"""What a machine needs that has no token yet; all the rest of the gate holds for them."""
ADDRESS = "federated_memory.address"
"""Key of the ASGI scope under which the client's address is left, also for requests that are refused."""
_NOBODY = Grant("nobody", "read", "", read=(), write=())


class Gate:
    """ASGI middleware; what passes has a `Caller` in its scope, under `tools.context.CALLER`."""

    def __init__(
        self, app: ASGIApp, settings: Settings, tokens: Tokens, streams: Streams, signing_in: SigningIn
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._streams = streams
        self._signing_in = signing_in
        self._cookie_name = cookie_name(settings)
        self._proxies = settings.trusted_proxies
        self._limits = Limits(settings)
        self._stall_seconds = settings.body_timeout_seconds
        public = urlsplit(settings.public_url)
        self._hosts = _LOOPBACK_HOSTS | ({_bracketed(public.hostname)} if public.hostname else set())
        self._public_origin = settings.public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        address = client_address(scope, headers, self._proxies)
        scope[ADDRESS] = address
        refusal = self._wrong_host(headers)
        if refusal is not None:
            auth_deny(address, "host", path)
            await problem(refusal, 421 if isinstance(refusal, InvalidArgument) else 403)(scope, receive, send)
            return
        if path in _WITHOUT_BEARER or is_open_page(path):
            grant: Grant | None = _NOBODY
        elif is_page(path):
            grant = self._visitor(scope, address)
        else:
            grant = self._grant(headers, address, path)
        too_many = self._limits.exceeded(None if grant is _NOBODY else grant, address)
        if too_many is not None:
            await limited(too_many, path)(scope, receive, send)
            return
        if grant is None:
            await (to_sign_in(scope) if is_page(path) else _unauthorised())(scope, receive, send)
            return
        if not _is_plain(scope):
            await problem(InvalidName("The path is not plain UTF-8 text", hint="Encode it anew"))(scope, receive, send)
            return
        scope[CALLER] = Caller(
            grant,
            address,
            where=path,
            machine=_text(headers, b"x-memory-machine"),
            tool=_text(headers, b"x-memory-tool"),
            request_id=request_id.get(),
        )
        scope["user"] = _sdk_user(grant)
        await self._serve(grant, scope, receive, send)

    async def _serve(self, grant: Grant, scope: Scope, receive: Receive, send: Send) -> None:
        started = ended = False

        async def watched_send(message: Message) -> None:
            nonlocal started, ended
            if message["type"] == "http.response.start":
                started = True
                request.is_event_stream = _is_event_stream(message)
                request.ends_itself = LONG_CALL in scope
            else:
                ended = not message.get("more_body", False)
            await send(message)

        deadline = None if grant.expires_at is None else anyio.current_time() + grant.expires_at - time.time()
        with self._streams.opened(grant.fingerprint, deadline) as request:
            try:
                await self._app(scope, _impatient(receive, self._stall_seconds), watched_send)
            except Exception:
                # Starlette raises again what its handler has logged and answered; only the rest is news.
                if not ended:
                    raise
        if request.scope.cancelled_caught and not started:
            stopping = Unavailable("The server is stopping", hint="Send it again")
            answer = problem(stopping, connection="close") if self._streams.is_stopping else _unauthorised()
            await answer(scope, receive, send)
        elif request.scope.cancelled_caught and request.is_event_stream and not ended:
            await send({"type": "http.response.body", "body": b""})

    def _wrong_host(self, headers: dict[bytes, bytes]) -> InvalidArgument | Forbidden | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host[: host.rfind(":")] if host.rfind(":") > host.rfind("]") else host
        if name not in self._hosts:
            return InvalidArgument(
                "This server does not answer to that host name", hint="Set PUBLIC_URL to the origin that clients use"
            )
        origin = headers.get(b"origin")
        if origin is None:
            return None
        found = origin.decode("latin-1").lower()
        if not (found and found == self._public_origin.lower()) and not _is_loopback_origin(found):
            return Forbidden("Requests from that web origin are not served", hint="Set PUBLIC_URL if it is yours")
        return None

    def _visitor(self, scope: Scope, address: str) -> Grant | None:
        """What the token of whoever is signed in gives now."""
        found = self._signing_in.find(cookie_of(scope, self._cookie_name))
        if found is None:
            auth_deny(address, "not_signed_in", scope["path"])
            return None
        scope[VISIT], grant = found
        return grant

    def _grant(self, headers: dict[bytes, bytes], address: str, path: str) -> Grant | None:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            auth_deny(address, "no_token", path)
            return None
        found = self._tokens.verify(token.strip())
        if isinstance(found, Grant):
            return found
        auth_fail(address, found, path)
        return None


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers that decide here; of one that stands there twice neither hides the other."""
    found: dict[bytes, list[bytes]] = {}
    for key, value in scope["headers"]:
        if key in _DECIDING:
            found.setdefault(key, []).append(value)
    return {key: b", ".join(values) for key, values in found.items()}


def client_address(scope: Scope, headers: dict[bytes, bytes], proxies: tuple[Network, ...]) -> str:
    """The address of the client: the peer's, or what a trusted proxy (or the unix socket's) says, nearest first."""
    peer: str = scope["client"][0] if scope.get("client") else ""
    if peer and not _is_trusted(_address(peer), proxies):
        return peer
    for hop in reversed(headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
        candidate = _address(hop.strip())
        if candidate is None:
            break
        if not _is_trusted(candidate, proxies):
            return str(candidate)
    return peer


def _address(text: str) -> Address | None:
    """An IPv4 address that a dual-stack socket shows as IPv6 is the IPv4 one; a scope is no part of an address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return None if found.scope_id else found.ipv4_mapped or found
    return found


def _is_trusted(address: Address | None, proxies: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in proxies)


def _is_plain(scope: Scope) -> bool:
    """Whether the path is what was sent: decoding has neither replaced bytes nor left control characters."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%" in raw:
        try:
            unquote_to_bytes(raw.split(b"?", 1)[0]).decode("utf-8")
        except UnicodeDecodeError:
            return False
    path: str = scope["path"]
    return path.isprintable() or all(ord(character) >= 32 and ord(character) != 127 for character in path)


def _unauthorised() -> Response:
    """The one answer to a missing, wrong, revoked or expired token."""
    refused = Forbidden("A valid bearer token is needed", hint="Check the token of this client")
    return problem(refused, 401, www_authenticate="Bearer", connection="close")


def _is_loopback_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and _bracketed(parts.hostname or "") in _LOOPBACK_HOSTS


def _impatient(receive: Receive, seconds: float) -> Receive:
    """The body's messages, or BodyStalled when the next one takes too long; what follows the body may take for ever."""
    more = True

    async def next_message() -> Message:
        nonlocal more
        if not more:
            return await receive()
        with anyio.move_on_after(seconds):
            message = await receive()
            more = message.get("more_body", False)
            return message
        raise BodyStalled

    return next_message


def _is_event_stream(message: Message) -> bool:
    return any(key == b"content-type" and value.startswith(b"text/event-stream") for key, value in message["headers"])


def _sdk_user(grant: Grant) -> AuthenticatedUser:
    """The principal in the SDK's form: its sessions belong to whoever opened them."""
    return AuthenticatedUser(
        AccessToken(token="", client_id=grant.name, subject=grant.fingerprint, scopes=[grant.role])
    )


def _text(headers: dict[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")[:200]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
