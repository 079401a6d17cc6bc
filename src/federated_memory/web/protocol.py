"""HTTP on the wire: uvicorn's protocol, with a limit on everything that is not a body (SPEC: HTTP-8)."""

from __future__ import annotations

from typing import Literal

TRANSPORT = "federated_memory.transport"
"""Key of the ASGI extensions under which the connection's transport is left."""

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # without httptools uvicorn takes h11, which has a limit of its own
    http_protocol: Literal["auto"] | type = "auto"
else:

    class LimitedProtocol(HttpToolsProtocol):
        """httptools collects a head, or trailers, without end and before any token is checked: this one answers 400.

        Complete fields are counted as they come; what has neither completed a head nor brought a part of a body is
        counted by its bytes, since the parser keeps an incomplete field to itself.
        """

        _MAX_HEAD_BYTES = 64 * 1024
        _field_bytes = 0
        _pending_bytes = 0
        _has_moved = False

        def data_received(self, data: bytes) -> None:
            self._has_moved = False
            super().data_received(data)
            self._pending_bytes = 0 if self._has_moved else self._pending_bytes + len(data)
            if self._pending_bytes > self._MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

        def on_message_begin(self) -> None:
            self._field_bytes = 0
            super().on_message_begin()
            self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._has_moved = True
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._has_moved = True
            super().on_body(body)

        def _count(self, more: int) -> None:
            self._field_bytes += more
            if self._field_bytes > self._MAX_HEAD_BYTES:
                raise ValueError("the head of the request is too large")  # uvicorn answers 400 and closes

    http_protocol = LimitedProtocol
