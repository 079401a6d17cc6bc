"""A raw keep-alive HTTP client that speaks MCP in both eras, with next to no cost of its own."""

import json
import socket
from typing import Any, Literal
from urllib.parse import urlsplit

from scripts.bench.harness import BenchError

Era = Literal["2025-11-25", "2026-07-28"]
ERAS: tuple[Era, ...] = ("2025-11-25", "2026-07-28")
CLIENT = {"name": "bench", "version": "1"}
META = "io.modelcontextprotocol"
READ_BYTES = 1 << 16


class Connection:
    """One blocking HTTP/1.1 connection that is kept open."""

    def __init__(self, origin: str, timeout_seconds: float = 120) -> None:
        parts = urlsplit(origin)
        self.host = parts.netloc
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.timeout_seconds = timeout_seconds
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(self.address, timeout=self.timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.socket.close()

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        """The bytes of a request, made once and sent many times."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        self.socket.sendall(request)
        received = self.socket.recv(READ_BYTES)
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self.more()
        head, body = received[:end], received[end + 4 :]
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            return head, self.unchunked(body)
        length = content_length(head)
        while len(body) < length:
            body += self.more()
        return head, body

    def unchunked(self, received: bytes) -> bytes:
        body = b""
        while True:
            while (end := received.find(b"\r\n")) < 0:
                received += self.more()
            size = int(received[:end].split(b";")[0], 16)
            while len(received) < end + 2 + size + 2:
                received += self.more()
            body += received[end + 2 : end + 2 + size]
            received = received[end + 4 + size :]
            if not size:
                return body

    def more(self) -> bytes:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise BenchError("the server closed the connection in the middle of an answer")
        return data


def content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


class McpClient:
    """Calls tools; a prepared call can be sent again and again."""

    def __init__(self, origin: str, token: str, era: Era) -> None:
        self.connection = Connection(origin)
        self.era = era
        self.headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        if era == "2025-11-25":
            self.shake_hands()
        self.headers["MCP-Protocol-Version"] = era

    def close(self) -> None:
        self.connection.close()

    def reopen(self) -> None:
        """Go on over a new connection: servers drop one that was idle for some seconds."""
        self.connection.close()
        self.connection.open()

    def shake_hands(self) -> None:
        offer = {"protocolVersion": self.era, "capabilities": {}, "clientInfo": CLIENT}
        head, _ = self.answer(self.post({"id": 0, "method": "initialize", "params": offer}))
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"mcp-session-id":
                self.headers["Mcp-Session-Id"] = value.strip().decode()
        self.answer(self.post({"method": "notifications/initialized"}, {"MCP-Protocol-Version": self.era}))

    def prepare(self, tool: str, /, **arguments: object) -> bytes:
        """The HTTP request that calls a tool in this era."""
        params: dict[str, object] = {"name": tool, "arguments": arguments}
        extra: dict[str, str] = {}
        if self.era == "2026-07-28":
            extra = {"Mcp-Method": "tools/call", "Mcp-Name": tool}
            params["_meta"] = {
                f"{META}/protocolVersion": self.era,
                f"{META}/clientInfo": CLIENT,
                f"{META}/clientCapabilities": {},
            }
        return self.post({"id": 1, "method": "tools/call", "params": params}, extra)

    def post(self, message: dict[str, object], extra: dict[str, str] | None = None) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":"), ensure_ascii=False).encode()
        return self.connection.request("POST", "/mcp", {**self.headers, **(extra or {})}, body)

    def answer(self, request: bytes) -> tuple[bytes, bytes]:
        head, body = self.connection.exchange(request)
        if not head.startswith(b"HTTP/1.1 2"):
            raise BenchError(f"{head.splitlines()[0].decode()}: {body[:300].decode(errors='replace')}")
        return head, body

    def send(self, request: bytes) -> bytes:
        """Send a prepared call; the answer is looked at just enough to know that it is no error."""
        _, body = self.answer(request)
        if b'"isError":false' not in body:
            raise BenchError(f"the call failed: {body[:300].decode(errors='replace')}")
        return body

    def call(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """Call a tool and return its structured result."""
        body = self.send(self.prepare(tool, **arguments))
        if body.startswith((b"event:", b"data:", b":")):
            body = next(line[5:] for line in body.splitlines() if line.startswith(b"data:") and b'"result"' in line)
        result: dict[str, Any] = json.loads(body)["result"].get("structuredContent")
        if not isinstance(result, dict):
            raise BenchError(f"{tool} gave no structured result")
        return result
