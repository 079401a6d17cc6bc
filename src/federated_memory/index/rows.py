"""From turns to rows: who spoke, as far as ranking cares (SPEC: INDEX-4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from federated_memory.transcripts import Role, Turn


class Speaker(IntEnum):
    """Whose words a row holds. At most 8: three bits."""

    USER = 0
    ASSISTANT = 1
    CALL = 2
    TOOL = 3
    SYSTEM = 4
    ECHOED_CALL = 5
    ECHO = 6
    """What this memory itself gave back: it repeats other rows."""
    AUTHOR = 7
    """Of a document."""


ROLES: dict[int, Role] = {
    Speaker.USER: "user", Speaker.ASSISTANT: "assistant", Speaker.CALL: "assistant", Speaker.TOOL: "tool",
    Speaker.SYSTEM: "system", Speaker.ECHOED_CALL: "assistant", Speaker.ECHO: "tool",
}  # fmt: skip
_OWN_TOOL = re.compile(r"memory", re.IGNORECASE)
_OWN_CALLS = re.compile(
    r"(?:^|[^a-z])(?:search_memory|search_knowledge|search_sessions|read_session|read_knowledge|get_brief|get_overview"
    r"|list_sessions|list_knowledge|list_memories|get_memory)$"
)
_OWN_ANSWER = re.compile(r"(?:Data|\(data\)):\n<<<[0-9a-f]{8}\n")
_OWN_MARK = ":\n<<<"  # looked for first: nearly no answer holds it
_ANSWER_HEAD = 600
_PEOPLE = frozenset({Speaker.USER, Speaker.ASSISTANT, Speaker.SYSTEM})
_NAMED = re.compile(
    r"[\s*\[]*([^\W\d_][\w'’-]*(?:\.? [^\W\d_][\w'’-]*){0,2})\.?[*\]]{0,3} ?(?:\([^()\n]{1,30}\) ?)?:[*\s]"
)
_NAME_CHARACTERS = 100


class Row(NamedTuple):
    line: int
    speaker: Speaker
    text: str
    at: str | None
    names: tuple[str, ...] = ()
    """Of the people whose words these are, as far as the record or the text says so."""


def rows_of(turns: Iterable[Turn]) -> list[Row]:
    """The rows of one line: one for each speaker."""
    found: dict[Speaker, Row] = {}
    for turn in turns:
        speaker = _speaker(turn)
        text = as_searched(turn.text)
        names = _names(turn, speaker)
        if known := found.get(speaker):
            text, names = f"{known.text}\n{text}", known.names + names
        found[speaker] = Row(turn.line, speaker, text, turn.at, names)
    return list(found.values())


def _names(turn: Turn, speaker: Speaker) -> tuple[str, ...]:
    """The speaker that the record names, or whose name and a colon the text begins with."""
    if turn.speaker:
        return (as_searched(turn.speaker),)
    if speaker not in _PEOPLE:
        return ()
    named = _NAMED.match(turn.text, 0, _NAME_CHARACTERS)
    return (as_searched(named[1]),) if named else ()


def as_searched(text: str) -> str:
    """Text as exact queries see it, free of what SQLite's tokenizers would stop at."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:  # half an emoji
        return text.encode("utf-8", "replace").decode()
    return text


def _speaker(turn: Turn) -> Speaker:
    if turn.role == "user":
        return Speaker.USER
    if turn.role == "system":
        return Speaker.SYSTEM
    if turn.role == "assistant":
        if turn.tool_name is None:
            return Speaker.ASSISTANT
        return Speaker.ECHOED_CALL if _is_own(turn.tool_name) else Speaker.CALL
    is_echo = turn.text.find(_OWN_MARK, 0, _ANSWER_HEAD) >= 0 and _OWN_ANSWER.search(turn.text, 0, _ANSWER_HEAD)
    return Speaker.ECHO if is_echo or (turn.tool_name and _is_own(turn.tool_name)) else Speaker.TOOL


def _is_own(tool_name: str) -> bool:
    return bool(_OWN_CALLS.search(tool_name)) and (
        bool(_OWN_TOOL.search(tool_name)) or tool_name in ("search_knowledge", "search_sessions", "search_memory")
    )
