"""The parts a message is made of, which all agents share: words, thoughts, tool calls and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federated_memory.transcripts.injected import split_injected
from federated_memory.transcripts.strings import readable, strings_of
from federated_memory.transcripts.turn import Role, Turn
from federated_memory.transcripts.values import decoded, list_in, text_in

_TEXT = frozenset({"text", "input_text", "output_text", "summary_text", "reasoning_text"})
_IMAGE = frozenset({"image", "input_image", "image_url"})
_SEALED = frozenset({"redacted_thinking", "encrypted_content"})


def turn(line: int, role: Role, text: object, at: str | None, tool_name: str | None = None) -> Iterator[Turn]:
    """One turn, or none when `text` is no string or blank."""
    if isinstance(text, str) and text and not text.isspace():
        yield Turn(line, role, text, at, tool_name or None)


def said(line: int, role: Role, text: object, at: str | None) -> Iterator[Turn]:
    """Words in a message; under the user's name, what was injected becomes a `system` turn of its own."""
    if role == "user" and isinstance(text, str):
        injected, text = split_injected(text)
        yield from turn(line, "system", injected, at)
    yield from turn(line, role, text, at)


def content_turns(content: object, role: Role, line: int, at: str | None) -> Iterator[Turn]:
    """The turns of a message's `content`: a string, or a list of strings and typed blocks."""
    for block in content if isinstance(content, list) else (content,):
        if isinstance(block, dict):
            yield from block_turns(block, role, line, at)
        else:
            yield from said(line, role, block, at)


def block_turns(block: Mapping[str, object], role: Role, line: int, at: str | None) -> Iterator[Turn]:
    kind = text_in(block.get("type"))
    if kind in _TEXT:
        yield from said(line, role, block.get("text"), at)
    elif kind == "thinking":
        yield from turn(line, "assistant", block.get("thinking"), at)
    elif kind.endswith("tool_use"):
        yield from call_turn(line, block.get("name"), block.get("input"), at)
    elif kind.endswith("tool_result"):
        yield from result_turn(line, None, block.get("content"), at)
    elif kind in _IMAGE:
        yield from turn(line, role, "[image]", at)
    elif kind not in _SEALED:
        yield from turn(line, role, "\n".join(strings_of(block)), at)


def call_turn(line: int, name: object, arguments: object, at: str | None) -> Iterator[Turn]:
    tool_name = text_in(name)
    yield from turn(line, "assistant", _call_text(tool_name or "tool", arguments), at, tool_name)


def result_turn(line: int, name: object, result: object, at: str | None) -> Iterator[Turn]:
    yield from turn(line, "tool", result_text(result), at, text_in(name))


def result_text(result: object) -> str:
    """What a tool gave back: a string, or a list of blocks, one below the other."""
    if isinstance(result, str):
        return readable(result)
    if isinstance(result, list):
        return "\n".join(filter(None, map(_block_text, result)))
    return "\n".join(strings_of(result))


def _block_text(block: object) -> str:
    if isinstance(block, dict):
        if block.get("type") in ("image", "input_image"):
            return "[image]"
        if isinstance(text := block.get("text"), str):
            return readable(text)
    return "\n".join(strings_of(block))


def _call_text(name: str, arguments: object) -> str:
    """`Bash: cd x && pytest` where there is a command; the name and `key: value` lines for the rest."""
    if isinstance(arguments, str):
        arguments = decoded(arguments)
    if not isinstance(arguments, dict):
        return f"{name}: {text}" if (text := _value_text(arguments)) else name
    lines = [name]
    for key, value in arguments.items():
        if key in ("command", "cmd") and (command := _command_line(value)):
            lines[0] = f"{name}: {command}"
        elif text := _value_text(value):
            lines.append(f"{key}: {text}")
    return "\n".join(lines)


def _command_line(value: object) -> str:
    if isinstance(value, str):
        return value
    words = [text_in(word) for word in list_in(value)]
    if len(words) == 3 and words[1] in ("-lc", "-c"):  # ["bash", "-lc", script]
        return words[2]
    return " ".join(words)


def _value_text(value: object) -> str:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return "\n".join(strings_of(value))
