"""One HTTP connection to a server, as the command line needs it: JSON both ways, problems as our errors.

Only the standard library, so that a verb answers before a larger client would be imported.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from federated_memory.errors import FederatedMemoryError, Forbidden, NotFound, Unavailable
from federated_memory.settings import is_loopback

_TIMEOUT_SECONDS = 30.0
_KINDS = {kind.code: kind for kind in FederatedMemoryError.__subclasses__()}
_NOT_FACTS = frozenset({"type", "title", "status", "detail", "code", "message", "hint"})


class Unreachable(Unavailable):
    """Nobody listens there, or nobody who speaks HTTP."""


class NotAdmitted(Forbidden):
    """The server knows no such token (HTTP 401)."""


class Link:
    """Requests to one server, with one token. `url` is its origin, with what stands before `/mcp`, if anything."""

    def __init__(self, url: str, token: str, *, host: str = "") -> None:
        """`host` replaces the URL's own in the `Host` header."""
        self.url = url.rstrip("/").removesuffix("/mcp").rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "federated-memory"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        if host:
            self._headers["Host"] = host
        # A proxy from the environment is for the world outside, never for this machine.
        proxies: dict[str, str] | None = {} if is_loopback(urlsplit(self.url).hostname or "") else None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def call(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> Any:  # fmt: skip
        """The JSON of the answer.

        Raises:
            Unreachable: Nobody answers there.
            NotAdmitted: The token is not one of the server's.
            FederatedMemoryError: What the server answered.
        """
        status, _, data = self._exchange(method, path, body, headers or {}, timeout_seconds)
        found = _json(data)
        if 200 <= status < 300 and found is not None:
            return found
        raise _error_of(self.url + path, status, found)

    def fetch(self, path: str) -> tuple[Message, bytes]:
        """Headers and body of an answer that is no JSON. Raises: as `call`."""
        status, headers, data = self._exchange("GET", path, None, {}, _TIMEOUT_SECONDS)
        if 200 <= status < 300:
            return headers, data
        raise _error_of(self.url + path, status, _json(data))

    def send(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Any:
        """The JSON of the answer to a body that is none. Raises: as `call`."""
        status, _, answer = self._exchange(method, path, data, headers, _TIMEOUT_SECONDS)
        found = _json(answer)
        if 200 <= status < 300 and found is not None:
            return found
        raise _error_of(self.url + path, status, found)

    def exchange(self, method: str, path: str, *, is_anonymous: bool = False) -> tuple[int, bytes]:
        """Status and body, whatever they are; `is_anonymous`: without the token. Raises: Unreachable."""
        headers = {"Authorization": ""} if is_anonymous else {}
        status, _, data = self._exchange(method, path, None, headers, _TIMEOUT_SECONDS)
        return status, data

    def _exchange(
        self, method: str, path: str, body: object, more: Mapping[str, str], timeout_seconds: float
    ) -> tuple[int, Message, bytes]:
        """Bytes are sent as they are, anything else as JSON; a header that is empty is not sent."""
        headers = {**self._headers, **more}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None and data is not body:
            headers["Content-Type"] = "application/json"
        try:
            sent = {name: value for name, value in headers.items() if value}
            request = urllib.request.Request(self.url + path, data, sent, method=method)
            try:
                with self._opener.open(request, timeout=timeout_seconds) as answer:
                    return answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as answer:
                with answer:
                    return answer.code, answer.headers, answer.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Unreachable(f"No server answers at {self.url} ({_said(reason)})", hint="Is it running?") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the token to another host; the status alone says enough."""

    def redirect_request(self, *_: object) -> None:
        return None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _said(reason: object) -> str:
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__


def _error_of(url: str, status: int, found: Any) -> FederatedMemoryError:
    if isinstance(found, dict) and found.get("code") in _KINDS and "message" in found:
        kind = NotAdmitted if status == 401 else _KINDS[found["code"]]
        facts = {key: value for key, value in found.items() if key not in _NOT_FACTS}
        return kind(str(found["message"]), hint=str(found.get("hint", "")), **facts)
    kind = NotFound if status == 404 else Unavailable
    return kind(f"{url} answered with status {status}", hint="Is this the URL of a memory server?")
