"""Whether a stream gets through: `subscriptions/listen`, as an agent opens it (SPEC: CLI-21)."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

_META = "io.modelcontextprotocol"
_TIMEOUT_SECONDS = 10.0


def first_event_seconds(origin: str, token: str, *, ca: Path | None = None, host: str = "") -> float:
    """How long the first event of a stream takes; the server sends it at once, so a proxy that buffers shows.

    Raises:
        OSError, http.client.HTTPException, ValueError: No stream came; the message says why.
    """
    parts = urlsplit(origin)
    address = (parts.hostname or "", parts.port)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if ca:
            context.load_verify_locations(ca)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            *address, timeout=_TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_SECONDS)
    meta = {
        f"{_META}/protocolVersion": "2026-07-28", f"{_META}/clientCapabilities": {},
        f"{_META}/clientInfo": {"name": "doctor", "version": "1"},
    }  # fmt: skip
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params})
    headers = {
        "Authorization": f"Bearer {token}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "subscriptions/listen",
    }  # fmt: skip
    if host:
        headers["Host"] = host
    started = time.monotonic()
    try:
        connection.request("POST", f"{parts.path}/mcp", body, headers)
        answer = connection.getresponse()
        kind = answer.getheader("content-type", "")
        if answer.status != 200 or not kind.startswith("text/event-stream"):
            raise ValueError(f"status {answer.status}, {kind or 'no content'}")
        while line := answer.readline():
            if line.startswith(b"data:"):
                return time.monotonic() - started
        raise ValueError("the stream ended before its first event")
    finally:
        connection.close()
