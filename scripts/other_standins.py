"""Stand-ins for the OpenAI Responses, Chat Completions and Gemini APIs on loopback: real agents go through a turn.

As `model_standin` does for Claude Code, but smaller: steps are (tool, input) pairs in order, then a closing text.
`results` are what the agent handed back for each call.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Input = Mapping[str, Any] | Callable[[Sequence[str]], Mapping[str, Any]]
"""A function computes it from the results so far."""


class OtherStandin:
    """Use it as a context manager; `url` is what the agent is pointed at."""

    def __init__(self, steps: Sequence[tuple[str, Input]], closing: str = "Done.") -> None:
        self.results: list[str] = []
        self.problems: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._steps = list(steps)
        self._closing = closing
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> OtherStandin:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_call(self, results: list[str], offered: Mapping[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """How the agent names the tool of the next step, and its input; None when the turn is over."""
        with self._lock:
            self.results = results
            number = len(results)
            if number >= len(self._steps):
                return None
            name, given = self._steps[number]
            if name not in offered:
                self.problems.append(f"{name} is not offered among {sorted(offered)[:50]}")
                return None
            return offered[name], dict(given(results) if callable(given) else given)

    # -- OpenAI Responses, as Codex speaks it

    def respond(self, body: dict[str, Any]) -> bytes:
        offered: dict[str, tuple[str, str]] = {}
        for tool in body.get("tools", []):
            if tool.get("type") == "namespace":
                offered |= {inner["name"]: (tool["name"], inner["name"]) for inner in tool.get("tools", [])}
            elif tool.get("type") == "function":
                offered[tool["name"].split("__")[-1]] = ("", tool["name"])
        outputs = [item for item in body.get("input", []) if item.get("type") == "function_call_output"]
        call = self.next_call([_text_of(item["output"]) for item in outputs], offered)
        number = len(outputs)
        if call is None:
            item: dict[str, Any] = {
                "type": "message", "id": f"msg_{number}", "role": "assistant",
                "content": [{"type": "output_text", "text": self._closing}],
            }  # fmt: skip
        else:
            (namespace, name), given = call
            item = {
                "type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name,
                "arguments": json.dumps(given), **({"namespace": namespace} if namespace else {}),
            }  # fmt: skip
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {"id": f"resp_{number}"}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {"id": f"resp_{number}", "usage": usage, "output": [item]}},
        ]
        return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()

    # -- OpenAI Chat Completions, as opencode speaks it to a provider of one's own

    def complete(self, body: dict[str, Any]) -> bytes:
        names = [tool["function"]["name"] for tool in body.get("tools", []) if tool.get("type") == "function"]
        offered = {name.removeprefix("memory_"): name for name in names if name.startswith("memory_")}
        results = [_text_of(item["content"]) for item in body.get("messages", []) if item.get("role") == "tool"]
        # Without tools it is a side request, such as for a title.
        call = self.next_call(results, offered) if offered else None
        delta: dict[str, Any] = {"role": "assistant"}
        if call is None:
            delta["content"] = self._closing
        else:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            delta["tool_calls"] = [{"index": 0, "id": f"call_{len(results)}", "type": "function", "function": function}]
        head = {"id": f"c_{len(results)}", "object": "chat.completion.chunk", "created": 1, "model": "standin"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reason = "tool_calls" if call else "stop"
        chunks: list[dict[str, Any]] = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage},
        ]
        return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"

    # -- Gemini

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        declared = [item["name"] for tool in body.get("tools", []) for item in tool.get("functionDeclarations", [])]
        offered = {name.removeprefix("mcp_memory_"): name for name in declared if name.startswith("mcp_memory_")}
        if not offered:  # a side request: a title, a route, who speaks next
            return _candidate({"text": '{"reasoning": "x", "next_speaker": "user", "model_choice": "flash"}'})
        results = [
            json.dumps(part["functionResponse"]["response"])
            for content in body.get("contents", [])
            for part in content.get("parts", [])
            if "functionResponse" in part
        ]
        call = self.next_call(results, offered)
        if call is None:
            return _candidate({"text": self._closing})
        return _candidate({"functionCall": {"name": call[0], "args": call[1]}})


def _candidate(part: dict[str, Any]) -> dict[str, Any]:
    content = {"role": "model", "parts": [part]}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}


def _text_of(output: Any) -> str:
    if isinstance(output, str):
        return output
    return "".join(part.get("text", "") for part in output) if isinstance(output, list) else json.dumps(output)


def _handler_of(standin: OtherStandin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(b'{"models": [], "data": []}', "application/json")

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(raw)
            except ValueError:
                body = {}
            standin.bodies.append(body)
            if "/responses" in self.path:
                self.send(standin.respond(body), "text/event-stream")
            elif "/chat/completions" in self.path:
                self.send(standin.complete(body), "text/event-stream")
            elif "streamGenerateContent" in self.path:
                self.send(b"data: " + json.dumps(standin.generate(body)).encode() + b"\n\n", "text/event-stream")
            elif "generateContent" in self.path:
                self.send(json.dumps(standin.generate(body)).encode(), "application/json")
            elif "countTokens" in self.path:
                self.send(b'{"totalTokens": 1}', "application/json")
            else:
                self.send(b"{}", "application/json")

        def send(self, payload: bytes, kind: str) -> None:
            try:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
