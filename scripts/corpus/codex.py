"""Codex's rollout: an envelope of time, order and type around every payload."""

import json
from collections.abc import Iterator
from typing import Any

from scripts.corpus.actions import Action
from scripts.corpus.clock import Clock
from scripts.corpus.events import Event, Prompt, Reply, Thought
from scripts.corpus.voice import Voice

Record = dict[str, Any]


class CodexShape:
    agent = "codex"

    def __init__(self, voice: Voice, clock: Clock, session_id: str, cwd: str) -> None:
        self.voice = voice
        self.rng = voice.rng
        self.clock = clock
        self.session_id = session_id
        self.cwd = cwd
        self.ordinal = 0

    def opening(self) -> Iterator[Record]:
        """What stands before the first prompt."""
        git = {"branch": "main", "commit_hash": f"{self.rng.getrandbits(160):040x}"}
        yield self.enveloped("session_meta", id=self.session_id, timestamp=self.clock.stamp(), cwd=self.cwd,
                             originator="codex_cli_rs", cli_version="0.169.0", git=git)  # fmt: skip
        rules = f"<permissions instructions>\n{self.voice.say(2)}\n</permissions instructions>"
        yield self.message("developer", "input_text", rules)

    def render(self, event: Event) -> Iterator[Record]:
        match event:
            case Prompt(text):
                yield self.enveloped("turn_context", cwd=self.cwd, approval_policy="on-request", model="gpt-5.2-codex")
                yield self.message("user", "input_text", text)
                yield self.enveloped("event_msg", type="user_message", message=text)
            case Thought(text):
                sealed = f"gAAAA{self.voice.noise(self.rng.randint(600, 2500))}"
                summary = [{"type": "summary_text", "text": text}]
                yield self.enveloped("response_item", type="reasoning", summary=summary, encrypted_content=sealed)
            case Reply(text):
                yield self.enveloped("event_msg", type="agent_message", message=text)
                yield self.message("assistant", "output_text", text)
            case Action():
                yield from self.acted(event)

    def acted(self, action: Action) -> Iterator[Record]:
        call = f"call_{self.voice.identifier()}"
        command = action.arguments.get("command") or f"sed -n '1,200p' {action.arguments.get('file_path', '.')}"
        texts = {key: value for key, value in action.arguments.items() if key.endswith("_string")}
        arguments = compact({"command": ["bash", "-lc", command], "workdir": self.cwd, **texts})
        yield self.enveloped("response_item", type="function_call", name="shell", arguments=arguments, call_id=call)
        metadata = {"exit_code": 0, "duration_seconds": round(self.rng.random() * 9, 1)}
        output = compact({"output": action.output, "metadata": metadata})
        yield self.enveloped("response_item", type="function_call_output", call_id=call, output=output)
        usage = {
            "input_tokens": self.rng.randrange(200_000),
            "cached_input_tokens": self.rng.randrange(90_000),
            "output_tokens": self.rng.randrange(9_000),
        }
        yield self.enveloped("event_msg", type="token_count", info={"total_token_usage": usage})

    def message(self, role: str, kind: str, text: str) -> Record:
        content = [{"type": kind, "text": text}]
        return self.enveloped("response_item", type="message", role=role, content=content)

    def enveloped(self, record_type: str, /, **payload: Any) -> Record:
        self.ordinal += 1
        return {"timestamp": self.clock.tick(), "ordinal": self.ordinal - 1, "type": record_type, "payload": payload}


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
