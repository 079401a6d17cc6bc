"""Finding the reader, and lines that no reader knows."""

from __future__ import annotations

import orjson
import pytest

from federated_memory.transcripts import Agent, Turn, detect, read_turns, reader_of

HEADS: dict[Agent, list[dict[str, object]]] = {
    "claude-code": [
        {"type": "summary", "summary": "Checkout speed", "leafUuid": "f9b3"},
        {"type": "user", "uuid": "71c2", "sessionId": "c1ae", "message": {"role": "user", "content": "Hi"}},
    ],
    "codex": [
        {"timestamp": "2026-11-21T03:59:08.123Z", "type": "session_meta", "payload": {"id": "0af2", "cwd": "/"}},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"id": "0af2", "timestamp": "2025-05-01T10:00:00.000Z", "instructions": None},
    ],
    "gemini": [
        {"sessionId": "f86f", "projectHash": "79b6", "startTime": "2026-11-21T03:59:08.123Z", "kind": "main"},
        {"id": "91ff", "timestamp": "2026-11-21T03:59:08.123Z", "type": "user", "content": [{"text": "Hi"}]},
    ],
    "opencode": [
        {"id": "ses_3b14", "directory": "/", "title": "Hi", "time": {"created": 1_763_697_548_123}},
        {"info": {"id": "msg_1", "sessionID": "ses_3b14", "role": "user"}, "parts": []},
        {"id": "prt_1", "sessionID": "ses_3b14", "messageID": "msg_1", "type": "text", "text": "Hi"},
    ],
    "unknown": [
        {"role": "user", "content": "Hi"},
        {"type": "message", "id": "1", "message": {"role": "user", "content": "Hi"}},
    ],
}


@pytest.mark.spec("READ-10")
@pytest.mark.parametrize(("agent", "record"), [(agent, record) for agent, head in HEADS.items() for record in head])
def test_reader_is_found_by_any_record_of_its_agent(agent: Agent, record: dict[str, object]) -> None:
    head = [b"\n", b"not json\n", b'{"note": "from a wrapper"}\n', orjson.dumps(record)]

    assert detect(head) is reader_of(agent)
    assert detect(head).agent == agent


@pytest.mark.spec("READ-10")
@pytest.mark.parametrize("head", [[], [b""], [b"[1, 2]"], [b"\xff\x00"]])
def test_unknown_lines_get_the_generic_reader(head: list[bytes]) -> None:
    assert detect(head).agent == "unknown"


@pytest.mark.spec("READ-2")
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Traceback (most recent call last):\r\n", "Traceback (most recent call last):"),
        (b'{"type":"user","message":{"content":"torn', '{"type":"user","message":{"content":"torn'),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
        (b'["a", "b"]\n', '["a", "b"]'),
    ],
)
def test_line_that_is_no_object_is_one_system_turn(raw: bytes, text: str) -> None:
    assert read_turns(reader_of("claude-code"), raw, 3) == [Turn(3, "system", text, None)]


@pytest.mark.spec("READ-2")
def test_blank_line_gives_no_turns() -> None:
    assert read_turns(reader_of("claude-code"), b" \r\n", 3) == []


@pytest.mark.spec("READ-11")
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"role":"user","text":"cut \\ud83d here"}', "cut \N{REPLACEMENT CHARACTER} here"),
        (b'{"role":"user","text":"whole \\ud83d\\ude00"}', "whole \N{GRINNING FACE}"),
        (b'{"role":"user","text":"tab\there"}', "tab\there"),
        (b'{"role":"user","text":"caf\xe9"}', "caf\N{REPLACEMENT CHARACTER}"),
        (b'\xef\xbb\xbf{"role":"user","text":"marked"}', "marked"),
        (b'{"role":"user","text":"huge","n":' + b"9" * 5000 + b',"m":1e999,"k":NaN}', "huge"),
    ],
)
def test_record_that_strict_parsers_refuse_is_still_read(raw: bytes, text: str) -> None:
    assert read_turns(reader_of("unknown"), raw, 0) == [Turn(0, "user", text, None)]


@pytest.mark.spec("READ-1")
@pytest.mark.parametrize("depth", [900, 1_100, 200_000])
def test_deep_nesting_is_read_or_kept_as_text(depth: int) -> None:
    raw = b'{"a":' * depth + b'"deep down"' + b"}" * depth

    [turn] = read_turns(reader_of("unknown"), raw, 0)

    assert "deep down" in turn.text


@pytest.mark.spec("READ-7")
def test_unknown_agent_gives_every_string_worth_reading_under_its_role() -> None:
    record = {
        "id": "7f9c2ba4-e88f-827d-6160-45507605853e",
        "role": "assistant",
        "timestamp": 1_763_697_548_123,
        "content": [{"type": "text", "text": "The lock is held"}, {"nested": {"deeper": ["by the writer", 3, None]}}],
        "status": "a sentence under a framing key",
    }

    turns = read_turns(reader_of("unknown"), orjson.dumps(record), 5)

    text = "The lock is held\nby the writer\na sentence under a framing key"
    assert turns == [Turn(5, "assistant", text, "2025-11-21T03:59:08.123Z")]


@pytest.mark.spec("READ-6")
def test_encoded_bytes_are_left_out_and_long_words_are_not() -> None:
    cjk = "記憶サーバー" * 99
    record = {"a": "iVBORw0KGgo" * 99, "b": "data:image/png;base64,iVBO", "c": "data:font/woff;base64,d09G", "d": cjk}

    [turn] = read_turns(reader_of("unknown"), orjson.dumps(record), 0)

    assert turn.text == f"[image]\n{cjk}"
