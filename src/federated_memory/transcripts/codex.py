"""Codex: `~/.codex/sessions/YYYY/MM/DD/rollout-*.jsonl`, records `{timestamp, type, payload}`.

What is said is in `response_item` records; most `event_msg` records show the same again to the terminal. Rollouts of
early 2025 hold the items bare, without the envelope.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federated_memory.transcripts.blocks import call_turn, content_turns, result_text, result_turn, turn
from federated_memory.transcripts.generic import GENERIC
from federated_memory.transcripts.times import parse_time
from federated_memory.transcripts.turn import Agent, Facts, Role, Turn
from federated_memory.transcripts.values import decoded, mapping_in, text_in

_ENVELOPES = frozenset({
    "session_meta", "turn_context", "world_state", "event_msg", "response_item", "compacted", "token_usage_record",
})  # fmt: skip
_CALLS = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "tool_search_call": "arguments",
    "local_shell_call": "action",
    "web_search_call": "action",
}
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output", "mcp_tool_call_output"})
_ITEMS = _RESULTS | _CALLS.keys() | {"message", "reasoning", "agent_message"}
_ITEM_KEYS = frozenset({"content", "call_id", "summary", "arguments", "output", "action"})
_NOISE = frozenset({
    "session_meta", "turn_context", "world_state", "token_usage_record", "state",
    # items
    "additional_tools", "compaction", "compaction_summary", "context_compaction", "ghost_snapshot",
    "tool_search_output",
    # events
    "user_message", "agent_reasoning", "agent_reasoning_raw_content", "agent_reasoning_section_break", "token_count",
    "task_started", "task_complete", "turn_started", "turn_complete", "turn_aborted", "turn_diff", "item_started",
    "exec_command_begin", "exec_command_end", "exec_command_output_delta", "patch_apply_begin", "patch_apply_end",
    "mcp_tool_call_begin", "mcp_tool_call_end", "web_search_begin", "web_search_end", "view_image_tool_call",
    "image_generation_end", "context_compacted", "thread_rolled_back", "thread_settings_applied",
    "session_configured", "sub_agent_activity",
})  # fmt: skip


class CodexReader:
    agent: Agent = "codex"

    def recognises(self, record: Mapping[str, object]) -> bool:
        kind = text_in(record.get("type"))
        if "payload" in record:
            return kind in _ENVELOPES
        bare_item = kind in _ITEMS and "message" not in record and not record.keys().isdisjoint(_ITEM_KEYS)
        return bare_item or {"id", "timestamp", "instructions"} <= record.keys()

    def turns(self, record: Mapping[str, object], line: int) -> Iterator[Turn]:
        envelope = text_in(record.get("type"))
        payload = mapping_in(record.get("payload", record))
        at = parse_time(record.get("timestamp"))
        if envelope == "event_msg":
            yield from _event_turns(record, payload, line, at)
        elif envelope == "compacted":
            yield from turn(line, "system", payload.get("message"), at)
        elif text_in(payload.get("type")) in _ITEMS:
            yield from _item_turns(payload, line, at)
        elif not _is_noise(envelope, payload):
            yield from GENERIC.turns(record, line)

    def facts(self, record: Mapping[str, object]) -> Facts:
        payload = mapping_in(record.get("payload", record))
        at = parse_time(record.get("timestamp"))
        is_start = record.get("type") == "session_meta" or "instructions" in record
        renamed = payload.get("type") == "thread_name_updated"
        return Facts(
            times=(at,) if at else (),
            native_id=text_in(payload.get("id")) if is_start else "",
            title=text_in(payload.get("thread_name")) if renamed else "",
            cwd=text_in(payload.get("cwd")),
            git_branch=text_in(mapping_in(payload.get("git")).get("branch")),
        )


def _item_turns(item: Mapping[str, object], line: int, at: str | None) -> Iterator[Turn]:
    kind = text_in(item.get("type"))
    if kind == "message":
        yield from content_turns(item.get("content"), _role(item.get("role")), line, at)
    elif kind in _CALLS:
        yield from call_turn(line, _tool_name(item, kind), _arguments(item.get(_CALLS[kind])), at)
    elif kind in _RESULTS:
        yield from result_turn(line, item.get("name"), _output(item.get("output", item.get("result"))), at)
    else:  # reasoning, whose full form is sealed, and messages between agents
        yield from content_turns(item.get("summary"), "assistant", line, at)
        yield from content_turns(item.get("content"), "assistant", line, at)


def _event_turns(
    record: Mapping[str, object], event: Mapping[str, object], line: int, at: str | None
) -> Iterator[Turn]:
    kind = text_in(event.get("type"))
    item = mapping_in(event.get("item"))
    if kind == "item_completed":
        if text_in(item.get("type")).lower() == "plan":  # the only kind that no response_item repeats
            yield from turn(line, "assistant", item.get("text"), at)
    elif kind == "thread_name_updated":
        yield from turn(line, "system", event.get("thread_name"), at)
    elif kind not in _NOISE and kind != "agent_message":
        yield from GENERIC.turns(record, line)


def _is_noise(envelope: str, payload: Mapping[str, object]) -> bool:
    is_old_start = "instructions" in payload and "id" in payload
    return envelope in _NOISE or text_in(payload.get("type")) in _NOISE or is_old_start or "record_type" in payload


def _role(role: object) -> Role:
    if role == "user":
        return "user"
    return "assistant" if role == "assistant" else "system"


def _tool_name(item: Mapping[str, object], kind: str) -> str:
    """The name Claude Code would give it: `mcp__server__tool` for the tools of an MCP server."""
    name = text_in(item.get("name")) or kind.removesuffix("_call")
    namespace = text_in(item.get("namespace")).rstrip("_")
    return f"{namespace}__{name}" if namespace else name


def _arguments(arguments: object) -> object:
    if isinstance(arguments, dict):
        return {key: value for key, value in arguments.items() if key != "type"}
    return arguments


def _output(output: object) -> object:
    """The text of a result, which may be wrapped in JSON in a string: `{"output": …, "metadata": …}`."""
    value = decoded(output) if isinstance(output, str) else output
    if isinstance(value, dict):
        for key in ("output", "content"):
            if isinstance(value.get(key), (str, list)):
                return value[key]
    if isinstance(value, list) and isinstance(output, str):
        return result_text(value) if all(isinstance(block, dict) and "text" in block for block in value) else output
    return output


CODEX = CodexReader()
