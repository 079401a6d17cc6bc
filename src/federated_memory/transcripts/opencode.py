"""opencode: sessions, messages and parts, as `opencode export` or its storage holds them, one record per line.

Taken as one record: a whole export (`{info, messages}`), a message with its parts (`{info, parts}`), a message in the
newer form (`{type, content, time}`), or a session, message or part by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federated_memory.transcripts.blocks import call_turn, result_text, result_turn, said, turn
from federated_memory.transcripts.generic import GENERIC
from federated_memory.transcripts.strings import strings_of
from federated_memory.transcripts.times import parse_time
from federated_memory.transcripts.turn import Agent, Facts, Role, Turn
from federated_memory.transcripts.values import list_in, mapping_in, text_in

_IDS = ("ses_", "msg_", "prt_")
_CLOCK_KEYS = ("created", "start", "completed", "end", "updated", "timestamp")
_MACHINE_TITLES = ("New session - ", "Child session - ")
_SAID: Mapping[str, Role] = {"user": "user", "synthetic": "system", "system": "system", "skill": "system"}
_NOISE = frozenset({
    "step-start", "step-finish", "snapshot", "patch", "agent", "retry", "compaction",
    "agent-switched", "model-switched", "location-switched", "idle",
})  # fmt: skip


class OpencodeReader:
    agent: Agent = "opencode"

    def recognises(self, record: Mapping[str, object]) -> bool:
        for source in (record, mapping_in(record.get("info")), mapping_in(record.get("part"))):
            if text_in(source.get("id")).startswith(_IDS):
                return isinstance(source.get("time"), dict) or "sessionID" in source
        return False

    def turns(self, record: Mapping[str, object], line: int) -> Iterator[Turn]:
        info = mapping_in(record.get("info", record))
        part = record.get("part")
        if isinstance(part, dict):  # an event of `opencode run --format json`
            yield from _part_turns(part, _guessed_role(part), line, parse_time(record.get("timestamp")))
        elif isinstance(messages := record.get("messages"), list):
            yield from turn(line, "system", _title(info), _created(info))
            for message in messages:
                yield from _message_turns(mapping_in(message), line)
        elif isinstance(record.get("parts"), list):
            yield from _message_turns(record, line)
        elif "messageID" in record:
            yield from _part_turns(record, _guessed_role(record), line, None)
        elif text_in(record.get("id")).startswith("msg_"):
            yield from _new_message_turns(record, line)
        elif text_in(info.get("id")).startswith("ses_"):
            yield from turn(line, "system", _title(info), _created(info))
        else:
            yield from GENERIC.turns(record, line)

    def facts(self, record: Mapping[str, object]) -> Facts:
        info = mapping_in(record.get("info", record))
        part = mapping_in(record.get("part"))
        is_session = text_in(info.get("id")).startswith("ses_")
        clocks = (mapping_in(info.get("time")), mapping_in(part.get("time")), record)
        times = (parse_time(clock.get(key)) for clock in clocks for key in _CLOCK_KEYS)
        return Facts(
            times=tuple(filter(None, times)),
            native_id=text_in(info.get("id") if is_session else info.get("sessionID", part.get("sessionID"))),
            title=_title(info) if is_session else "",
            cwd=text_in(info.get("directory")) or text_in(mapping_in(info.get("path")).get("cwd")),
        )


def _message_turns(message: Mapping[str, object], line: int) -> Iterator[Turn]:
    info = mapping_in(message.get("info", message))
    role: Role = "user" if info.get("role") == "user" else "assistant"
    for part in list_in(message.get("parts")):
        yield from _part_turns(mapping_in(part), role, line, _created(info))


def _new_message_turns(message: Mapping[str, object], line: int) -> Iterator[Turn]:
    kind = text_in(message.get("type"))
    at = _created(message)
    if kind in _SAID:
        yield from said(line, _SAID[kind], message.get("text"), at)
    elif kind == "shell":  # typed by a person after `!`
        yield from turn(line, "user", message.get("command"), at)
        yield from result_turn(line, "shell", message.get("output"), at)
    elif kind == "compaction":
        yield from turn(line, "system", message.get("summary"), at)
    for part in list_in(message.get("content")):
        yield from _part_turns(mapping_in(part), "assistant", line, at)


def _part_turns(part: Mapping[str, object], role: Role, line: int, at: str | None) -> Iterator[Turn]:
    kind = text_in(part.get("type"))
    at = _created(part) or at
    if kind == "text":
        yield from said(line, "system" if part.get("synthetic") is True else role, part.get("text"), at)
    elif kind == "reasoning":
        yield from turn(line, "assistant", part.get("text"), at)
    elif kind == "tool":
        yield from _tool_turns(part, line, at)
    elif kind == "file":
        is_image = text_in(part.get("mime")).startswith("image/")
        yield from turn(line, role, "[image]" if is_image else part.get("filename"), at)
    elif kind == "subtask":
        yield from turn(line, role, part.get("prompt"), at)
    elif kind not in _NOISE:
        yield from turn(line, role, "\n".join(strings_of(part)), at)


def _tool_turns(part: Mapping[str, object], line: int, at: str | None) -> Iterator[Turn]:
    name = part.get("tool", part.get("name"))
    state = mapping_in(part.get("state"))
    at = _created(state) or at
    yield from call_turn(line, name, state.get("input"), at)
    for key in ("output", "content", "error"):
        if text := result_text(state.get(key)):
            yield from turn(line, "tool", text, at, text_in(name))
            return


def _guessed_role(part: Mapping[str, object]) -> Role:
    """The role is in the message, not in its part; but only what the model streams is timed."""
    return "assistant" if "time" in part else "user"


def _created(source: Mapping[str, object]) -> str | None:
    time = mapping_in(source.get("time"))
    return parse_time(time.get("created")) or parse_time(time.get("start"))


def _title(info: Mapping[str, object]) -> str:
    title = text_in(info.get("title"))
    return "" if title.startswith(_MACHINE_TITLES) else title


OPENCODE = OpencodeReader()
