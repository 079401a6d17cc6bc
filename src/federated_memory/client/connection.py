"""Where the server is, who asks, and over which connections."""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from federated_memory.client.calls import Call
from federated_memory.errors import InvalidArgument

DEFAULT_TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class Endpoint:
    """The server and the caller; `binding` proves which workspace an AI caller writes."""

    origin: str
    token: str
    binding: str = ""
    machine: str = ""
    tool: str = ""

    def headers(self, call: Call[Any]) -> dict[str, str]:
        mine = {
            "authorization": f"Bearer {self.token}", "x-memory-binding": self.binding,
            "x-memory-machine": self.machine, "x-memory-tool": self.tool,
        }  # fmt: skip
        found = {name: value for name, value in mine.items() if value} | dict(call.headers)
        if call.content is not None and "content-type" not in found:
            found["content-type"] = "application/octet-stream"
        return found


def endpoint(url: str, token: str, binding: str, *, allow_http: bool) -> Endpoint:
    """From the arguments, else `MCP_MEMORY_URL` and `MCP_MEMORY_TOKEN`.

    Raises:
        InvalidArgument: One is missing, or the token would travel in the clear.
    """
    url = url or os.environ.get("MCP_MEMORY_URL", "")
    token = token or os.environ.get("MCP_MEMORY_TOKEN", "")
    if not url or not token:
        raise InvalidArgument(
            "No server or no token", hint="Pass url and token, or set MCP_MEMORY_URL and MCP_MEMORY_TOKEN"
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument("The server's address is no URL", hint="Such as https://memory.example.org")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise InvalidArgument("The token would travel unencrypted", hint="Use https, or pass allow_http=True")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument("The token has characters that none has", hint="Pass it as the server gave it")
    return Endpoint(f"{parts.scheme}://{parts.netloc}", token, binding)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def http_options(origin: str, ca: str, timeout_seconds: float) -> dict[str, Any]:
    """What both kinds of HTTP client are made with. No redirect is followed, and no proxy stands before loopback."""
    import httpx2

    options: dict[str, Any] = {
        "base_url": origin, "trust_env": not is_loopback(urlsplit(origin).hostname or ""), "follow_redirects": False,
        "timeout": httpx2.Timeout(timeout_seconds),
    }  # fmt: skip
    if ca:
        options["verify"] = ssl.create_default_context(cafile=ca)
    return options
