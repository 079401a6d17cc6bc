"""A stand-in for the Anthropic Messages API on loopback, driven by a script of steps.

A real coding agent is pointed at it (`ANTHROPIC_BASE_URL`) and goes through a whole turn: it
gets a tool call, really makes it, sends the result back, gets the next step. Nothing here
thinks; what the agent, its MCP client and the server do on the way is the real thing.

    steps = [
        Call("register_workspace", {"machine": "m1", "tool": "claude-code", "project": "shop"}),
        Call("write_overview", lambda seen: {"text": "…", "binding": seen.json("register_workspace")["binding"]}),
        Say("Done."),
    ]
    with ModelStandin(steps) as model:
        run_the_agent(ANTHROPIC_BASE_URL=model.url)
    model.check()

Only the main conversation takes steps: the requests that offer MCP tools. Side requests (a
title, a summary, token counting) get a harmless answer. Every request is kept in `requests`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

MCP_PREFIX = "mcp__"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What one scripted tool call gave back, as the agent handed it to the model."""

    name: str  # as in the script, without the agent's prefix
    input: Mapping[str, Any]
    text: str
    is_error: bool

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(slots=True)
class Seen:
    """The results so far, oldest first; later steps compute their input from them."""

    results: list[ToolResult] = field(default_factory=list)

    def last(self, name: str) -> ToolResult:
        """The newest result of the tool `name`.

        Raises:
            LookupError: There is none, or the tool failed.
        """
        for result in reversed(self.results):
            if result.name == name:
                if result.is_error:
                    raise LookupError(f"{name} failed: {result.text}")
                return result
        raise LookupError(f"no result of {name} yet")

    def json(self, name: str) -> Any:
        return self.last(name).json()


@dataclass(frozen=True, slots=True)
class Call:
    """The model calls a tool, named without the agent's prefix (`mcp__<server>__`)."""

    name: str
    input: Mapping[str, Any] | Callable[[Seen], Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Say:
    """The model answers with text, which ends the agent's turn."""

    text: str


Step = Call | Say | Sequence[Call]  # a sequence: several calls in one answer


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it came in."""

    method: str
    path: str  # without the query
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: Any  # parsed JSON, or None
    kind: str  # `step`, `side`, `count`, `other`

    def prompt(self) -> str:
        """Everything the model would have read (system text, messages, tools) as one JSON text."""
        return json.dumps(self.body, ensure_ascii=False)


class ModelStandin:
    """The stand-in as a context manager: serves on a free port of `address` until left.

    `on_event(kind, name, value)` is told of each scripted call (`call`), of its result (`result`,
    `error`) and of the final text (`say`), for a person who watches.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        tool_prefix: str = MCP_PREFIX,
        on_event: Callable[[str, str, Any], None] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.seen = Seen()
        self.reply_numbers = itertools.count(1)
        self._steps = list(steps)
        self._tool_prefix = tool_prefix
        self._on_event = on_event
        self._address = address
        self._calls: dict[str, Call] = {}  # by tool_use id
        self._answers: dict[str, list[dict[str, Any]]] = {}  # by conversation: a repeated request gets the same step
        self._next = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        assert self._server is not None, "the stand-in serves only inside its `with` block"
        return f"http://{self._address}:{self._server.server_address[1]}"

    def __enter__(self) -> ModelStandin:
        self._server = ThreadingHTTPServer((self._address, 0), _handler_of(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False  # an agent may leave its keep-alive connections open
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def check(self) -> None:
        """Raise AssertionError unless every step was taken, once, and nothing odd was asked."""
        problems = list(self.problems)
        if left := [_describe(step) for step in self._steps[self._next :]]:
            problems.append(f"{len(left)} of {len(self._steps)} steps were never asked for: {', '.join(left)}")
        if not self.main_requests():
            problems.append("no request offered MCP tools: is the agent connected to the server?")
        assert not problems, "model stand-in: " + "; ".join(problems)

    def main_requests(self) -> list[Request]:
        """The requests of the main conversation, in order."""
        return [request for request in self.requests if request.kind == "step"]

    def offered_tools(self) -> list[str]:
        """The MCP tools that the agent offered to the model in its first main request, with prefix."""
        tools = [tool["name"] for request in self.main_requests()[:1] for tool in request.body["tools"]]
        return [name for name in tools if name.startswith(self._tool_prefix)]

    def answer(self, request: Request) -> list[dict[str, Any]]:
        """The content blocks of the reply to a messages request."""
        if request.kind != "step":
            # A side request wants some short text or, with a schema, JSON; a title serves both.
            return [_text('{"title": "Stand-in session"}' if "json_schema" in request.prompt() else "Stand-in session")]
        with self._lock:
            conversation = hashlib.sha256(json.dumps(request.body["messages"]).encode()).hexdigest()
            if conversation not in self._answers:
                self._collect(request.body["messages"])
                self._answers[conversation] = self._take_step(request.body["tools"])
            return self._answers[conversation]

    def classify(self, method: str, path: str, body: Any) -> str:
        if method != "POST" or not path.startswith("/v1/messages") or not isinstance(body, dict):
            return "other"
        if path.endswith("/count_tokens"):
            return "count"
        names = [tool.get("name", "") for tool in body.get("tools") or []]
        return "step" if any(name.startswith(self._tool_prefix) for name in names) else "side"

    def _take_step(self, tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        number = self._next
        if number >= len(self._steps):
            return self._give_up("the agent asked on after the last step")
        step = self._steps[number]
        self._next += 1
        if isinstance(step, Say):
            self._tell("say", "", step.text)
            return [_text(step.text)]
        blocks = []
        for position, call in enumerate([step] if isinstance(step, Call) else step):
            offered = [tool["name"] for tool in tools if tool.get("name", "").endswith("__" + call.name)]
            if len(offered) != 1:
                return self._give_up(f"step {number + 1}: the agent offers {len(offered)} tools called {call.name}")
            try:
                value = dict(call.input(self.seen) if callable(call.input) else call.input)
            except Exception as error:  # whatever the script's function ran into ends the run, told by `check`
                return self._give_up(f"step {number + 1} ({call.name}): {type(error).__name__}: {error}")
            use_id = f"toolu_standin_{number + 1:03}_{position}"
            self._calls[use_id] = Call(call.name, value)
            self._tell("call", call.name, value)
            blocks.append({"type": "tool_use", "id": use_id, "name": offered[0], "input": value})
        return blocks

    def _collect(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Take results of scripted calls out of the conversation, each once."""
        for block in _blocks(messages):
            call = self._calls.pop(block.get("tool_use_id", ""), None)
            if block.get("type") != "tool_result" or call is None:
                continue
            assert not callable(call.input)
            result = ToolResult(call.name, call.input, _plain(block.get("content")), bool(block.get("is_error")))
            self.seen.results.append(result)
            self._tell("error" if result.is_error else "result", call.name, result.text)

    def _give_up(self, problem: str) -> list[dict[str, Any]]:
        self.problems.append(problem)
        self._tell("say", "", problem)
        return [_text(f"Stopped by the model stand-in: {problem}")]

    def _tell(self, kind: str, name: str, value: Any) -> None:
        if self._on_event is not None:
            self._on_event(kind, name, value)


def _describe(step: Step) -> str:
    match step:
        case Say():
            return "final text"
        case Call():
            return step.name
        case _:
            return "+".join(call.name for call in step)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _blocks(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (block for block in content if isinstance(block, dict))


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(block.get("text", "") for block in content if block.get("type") == "text")
    return content if isinstance(content, str) else ""


def _message(number: int, model: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole reply. `number` makes its id its own: Claude Code joins replies of one id into one."""
    calls_tools = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": f"msg_standin_{number:03}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": "tool_use" if calls_tools else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message as the API streams it: each block opened empty, filled by a delta, closed."""
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": message["usage"]}
    yield {"type": "message_stop"}


def _handler_of(standin: ModelStandin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            try:
                self.reply()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the agent was stopped or changed its mind

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

        def reply(self) -> None:
            raw = self.read_body()
            try:
                body = json.loads(raw) if raw else None
            except ValueError:
                body = None
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            kind = standin.classify(self.command, url.path, body)
            request = Request(self.command, url.path, url.query, headers, body, kind)
            standin.requests.append(request)
            if kind == "count":
                self.send(json.dumps({"input_tokens": 1}).encode())
            elif kind == "other":
                self.send(b'{"data": []}' if url.path == "/v1/models" else b"{}")
            else:
                asked: dict[str, Any] = body or {}
                message = _message(
                    next(standin.reply_numbers), str(asked.get("model", "standin")), standin.answer(request)
                )
                if asked.get("stream"):
                    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _events(message)]
                    self.send("".join(lines).encode(), "text/event-stream")
                else:
                    self.send(json.dumps(message).encode())

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def send(self, payload: bytes, content_type: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
