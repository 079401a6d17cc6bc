"""What the MCP endpoint says to a message that is none (SPEC: ERR-2).

The SDK tells why its models refused a message, with what stood in it and where to read about the models. What stood in
it may be a secret, and the rest is of no use to a client: the code stays, the text says what to send.
"""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOLD = {
    "Parse error:": "Parse error: the body is no JSON",
    "Validation error:": "Invalid Request: the body is no JSON-RPC 2.0 request, notification or response",
}
"""What the SDK's text begins with, and what is said instead."""


class PlainRefusals:
    """ASGI middleware of the MCP endpoint."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        head: Message = {}
        body = bytearray()

        async def plain(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] == 400:
                head = message
            elif not head:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    told = _plainly(bytes(body))
                    await send({**head, "headers": _with_length(head["headers"], len(told))})
                    await send({"type": "http.response.body", "body": told})

        await self._app(scope, receive, plain)


def _plainly(body: bytes) -> bytes:
    try:
        match json.loads(body):
            case {"error": {"message": str(message)} as error, **rest}:
                for beginning, told in _TOLD.items():
                    if message.startswith(beginning):
                        return json.dumps({**rest, "error": {**error, "message": told}}).encode()
    except (ValueError, RecursionError):
        pass
    return body


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    return [(key, b"%d" % length if key == b"content-length" else value) for key, value in headers]
