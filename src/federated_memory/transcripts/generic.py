"""JSONL of an agent we do not know: every string worth reading, and whatever the usual keys tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from federated_memory.transcripts.blocks import said
from federated_memory.transcripts.strings import strings_of
from federated_memory.transcripts.times import parse_time
from federated_memory.transcripts.turn import Agent, Facts, Role, Turn
from federated_memory.transcripts.values import mapping_in, text_in

_ROLES: Mapping[str, Role] = {
    "user": "user", "human": "user", "assistant": "assistant", "model": "assistant", "ai": "assistant",
    "agent": "assistant", "bot": "assistant", "gemini": "assistant", "tool": "tool", "function": "tool",
    "tool_result": "tool",
}  # fmt: skip
_ROLE_KEYS = ("role", "type", "author", "sender", "from")
_SPEAKER_KEYS = ("speaker", "speaker_name", "name", "author", "sender", "from", "role")
_NAME = re.compile(r"[^\W\d_][^\n:{}<>/@]{0,39}")
_TIME_KEYS = ("timestamp", "time", "ts", "created_at", "createdAt", "datetime", "date", "at")
_ID_KEYS = ("session_id", "sessionId", "sessionID", "conversation_id", "conversationId", "thread_id")


class GenericReader:
    agent: Agent = "unknown"

    def recognises(self, record: Mapping[str, object]) -> bool:  # noqa: ARG002
        return True

    def turns(self, record: Mapping[str, object], line: int) -> Iterator[Turn]:
        """At most two turns: the record's strings, one below the other, under the role it names; without one, under
        `user` if it names a speaker, else as `system`."""
        text = "\n".join(strings_of(record))
        speaker = _speaker(record)
        role = _role(record) or ("user" if speaker else "system")
        for turn in said(line, role, text, _time(record)):
            yield replace(turn, speaker=speaker) if speaker else turn

    def facts(self, record: Mapping[str, object]) -> Facts:
        at = _time(record)
        return Facts(
            times=(at,) if at else (),
            native_id=next(filter(None, (text_in(record.get(key)) for key in _ID_KEYS)), ""),
            title=text_in(record.get("title")),
            cwd=text_in(record.get("cwd")),
        )


def _role(record: Mapping[str, object]) -> Role | None:
    for source in (record, mapping_in(record.get("message"))):
        for key in _ROLE_KEYS:
            if role := _ROLES.get(text_in(source.get(key)).lower()):
                return role
    return None


def _speaker(record: Mapping[str, object]) -> str:
    """The name of who speaks, where a record tells one beside, or in place of, a role."""
    for key in _SPEAKER_KEYS:
        value = text_in(record.get(key)).strip()
        if value and value.lower() not in _ROLES and value.lower() != "system" and _NAME.fullmatch(value):
            return value
    return ""


def _time(record: Mapping[str, object]) -> str | None:
    return next(filter(None, (parse_time(record.get(key)) for key in _TIME_KEYS)), None)


GENERIC = GenericReader()
