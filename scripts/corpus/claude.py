"""Claude Code's transcript: one JSON line per content block, each naming its parent."""

from collections.abc import Iterator
from typing import Any

from scripts.corpus.actions import Action
from scripts.corpus.clock import Clock
from scripts.corpus.events import Event, Prompt, Reply, Thought
from scripts.corpus.voice import Voice

Record = dict[str, Any]


class ClaudeShape:
    agent = "claude-code"

    def __init__(self, voice: Voice, clock: Clock, session_id: str, cwd: str) -> None:
        self.voice = voice
        self.rng = voice.rng
        self.clock = clock
        self.message_id = ""
        self.common: Record = {
            "isSidechain": False,
            "userType": "external",
            "cwd": cwd,
            "sessionId": session_id,
            "version": f"2.1.{voice.rng.randrange(330)}",
            "gitBranch": voice.rng.choice(("main", "main", "feature/search", "fix/flaky-test")),
        }
        self.parent: str | None = None

    def opening(self) -> Iterator[Record]:
        """What stands before the first prompt."""
        session_id = self.common["sessionId"]
        yield {"type": "summary", "summary": self.voice.sentence()[:90], "leafUuid": self.voice.uuid()}
        yield {"type": "mode", "mode": "default", "sessionId": session_id}

    def render(self, event: Event) -> Iterator[Record]:
        match event:
            case Prompt(text):
                yield {"type": "queue-operation", "operation": "dequeue", "timestamp": self.clock.tick(),
                       "sessionId": self.common["sessionId"]}  # fmt: skip
                yield self.linked("user", message={"role": "user", "content": text})
            case Thought(text):
                signature = self.voice.noise(self.rng.randint(200, 900))
                yield self.spoken({"type": "thinking", "thinking": text, "signature": signature})
            case Reply(text, last):
                yield self.spoken({"type": "text", "text": text})
                if last:
                    yield self.linked("system", subtype="turn_duration", durationMs=self.rng.randrange(900_000))
            case Action():
                yield from self.acted(event)

    def acted(self, action: Action) -> Iterator[Record]:
        call = f"toolu_01{self.voice.identifier()}"
        yield self.spoken({"type": "tool_use", "id": call, "name": action.tool, "input": action.arguments})
        result = {"tool_use_id": call, "type": "tool_result", "content": action.output}
        yield self.linked("user", message={"role": "user", "content": [result]}, toolUseResult=stored_twice(action))
        self.message_id = ""

    def spoken(self, block: Record) -> Record:
        self.message_id = self.message_id or f"msg_01{self.voice.identifier()}"
        usage = {
            "input_tokens": self.rng.randrange(20),
            "cache_creation_input_tokens": self.rng.randrange(9_000),
            "cache_read_input_tokens": self.rng.randrange(150_000),
            "output_tokens": self.rng.randrange(2_000),
            "service_tier": "standard",
        }
        message = {"id": self.message_id, "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
                   "content": [block], "stop_reason": None, "stop_sequence": None, "usage": usage}  # fmt: skip
        return self.linked("assistant", requestId=f"req_011{self.voice.identifier()}", message=message)

    def linked(self, kind: str, **fields: Any) -> Record:
        """A record in the chain of parents."""
        parent, self.parent = self.parent, self.voice.uuid()
        stamps = {"uuid": self.parent, "timestamp": self.clock.tick()}
        return {"parentUuid": parent, **self.common, "type": kind, **fields, **stamps}


def stored_twice(action: Action) -> Record:
    """The same output once more, in the tool's own form, as Claude Code keeps it."""
    arguments = action.arguments
    match action.tool:
        case "Bash":
            return {"stdout": action.output, "stderr": "", "interrupted": False, "isImage": False}
        case "Edit":
            return {"filePath": arguments["file_path"], "oldString": arguments["old_string"],
                    "newString": arguments["new_string"]}  # fmt: skip
        case "Read":
            return {"type": "text", "file": {"filePath": arguments["file_path"], "content": action.plain}}
        case _:
            return {"mode": "content", "content": action.output}
