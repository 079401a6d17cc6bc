"""Gemini CLI: `~/.gemini/tmp/<project>/chats/session-*.jsonl`.

A header, then messages; a message that grows is written again under its id, and `{"$set": …}` patches the header. Each
line is read by itself, so a message that was written twice is read twice. A whole conversation in one record (the
older `.json` files, put on one line) is read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federated_memory.transcripts.blocks import call_turn, result_text, result_turn, said, turn
from federated_memory.transcripts.generic import GENERIC
from federated_memory.transcripts.strings import strings_of
from federated_memory.transcripts.times import parse_time
from federated_memory.transcripts.turn import Agent, Facts, Role, Turn
from federated_memory.transcripts.values import list_in, mapping_in, text_in

_ROLES: Mapping[str, Role] = {
    "user": "user",
    "gemini": "assistant",
    "info": "system",
    "warning": "system",
    "error": "system",
}


class GeminiReader:
    agent: Agent = "gemini"

    def recognises(self, record: Mapping[str, object]) -> bool:
        if record.get("type") in ("user", "gemini") and "message" not in record:
            return {"id", "timestamp", "content"} <= record.keys()
        return "projectHash" in record or isinstance(record.get("$set"), dict) or "$rewindTo" in record

    def turns(self, record: Mapping[str, object], line: int) -> Iterator[Turn]:
        if text_in(record.get("type")) in _ROLES and "content" in record:
            yield from _message_turns(record, line)
        elif "$rewindTo" not in record:
            conversation = mapping_in(record.get("$set", record))
            if not (record.keys() & {"$set", "projectHash", "messages"}):
                yield from GENERIC.turns(record, line)
                return
            yield from turn(line, "system", conversation.get("summary"), None)
            for message in list_in(conversation.get("messages")):
                yield from _message_turns(mapping_in(message), line)

    def facts(self, record: Mapping[str, object]) -> Facts:
        source = mapping_in(record.get("$set", record))
        times = map(parse_time, (source.get(key) for key in ("startTime", "timestamp", "lastUpdated")))
        directories = list_in(source.get("directories"))
        return Facts(
            times=tuple(filter(None, times)),
            native_id=text_in(source.get("sessionId")),
            title=text_in(source.get("summary")),
            cwd=text_in(directories[0]) if directories else "",
        )


def _message_turns(message: Mapping[str, object], line: int) -> Iterator[Turn]:
    role = _ROLES.get(text_in(message.get("type")), "system")
    at = parse_time(message.get("timestamp"))
    for thought in map(mapping_in, list_in(message.get("thoughts"))):
        lines = (text_in(thought.get("subject")), text_in(thought.get("description")))
        yield from turn(line, "assistant", "\n".join(filter(None, lines)), at)
    content = message.get("content")
    for part in content if isinstance(content, list) else (content,):
        yield from _part_turns(part, role, line, at)
    for call in map(mapping_in, list_in(message.get("toolCalls"))):
        yield from call_turn(line, call.get("name"), call.get("args"), at)
        result = _response_text(call.get("result")) or result_text(call.get("resultDisplay"))
        yield from result_turn(line, call.get("name"), result, at)


def _part_turns(part: object, role: Role, line: int, at: str | None) -> Iterator[Turn]:
    if not isinstance(part, dict):
        yield from said(line, role, part, at)
    elif isinstance(part.get("text"), str):
        yield from said(line, role, part["text"], at)
    elif isinstance(call := part.get("functionCall"), dict):
        yield from call_turn(line, call.get("name"), call.get("args"), at)
    elif isinstance(response := part.get("functionResponse"), dict):
        yield from result_turn(line, response.get("name"), _response_text([part]), at)
    elif "inlineData" in part or "fileData" in part:
        yield from turn(line, role, _media_text(part), at)
    else:
        yield from turn(line, role, "\n".join(strings_of(part)), at)


def _response_text(result: object) -> str:
    """The text in a list of `functionResponse` parts, without the names and ids around it."""
    if not isinstance(result, list):
        return result_text(result)
    texts = []
    for part in result:
        response = mapping_in(mapping_in(part).get("functionResponse")).get("response")
        if response is None and isinstance(part, dict) and ("inlineData" in part or "fileData" in part):
            texts.append(_media_text(part))
        else:
            output = mapping_in(response).get("output", response)
            texts.append(result_text(part if output is None else output))
    return "\n".join(filter(None, texts))


def _media_text(part: Mapping[str, object]) -> str:
    media = mapping_in(part.get("inlineData", part.get("fileData")))
    return "[image]" if text_in(media.get("mimeType")).startswith("image/") else text_in(media.get("fileUri"))


GEMINI = GeminiReader()
