"""A server behind a proxy under test: it shows what reached it."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS = 50


class Upstream(ThreadingHTTPServer):
    """A server that shows what reached it, and an event stream that goes on when its reader has read."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []
        self.sent_at: list[float] = []
        self.may_go_on = threading.Semaphore(0)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.path == "/events":
            self._events()
            return
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_response(200)
        for key, value in (("Mcp-Session-Id", "s"), ("ETag", '"e"'), ("Upload-Offset", "7"), ("X-Path", self.path)):
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            event = f"id: {number}\ndata: x\n\n".encode()
            self.server.sent_at.append(time.monotonic())
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            if not self.server.may_go_on.acquire(timeout=1):
                break  # the reader has seen nothing of it
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass
