"""opencode's sessions, messages and parts, together and apart."""

from __future__ import annotations

import orjson
import pytest

from federated_memory.transcripts import Role, Turn, read_turns, reader_of

MS = 1_763_697_548_123
AT = "2025-11-21T03:59:08.123Z"
SESSION = {
    "id": "ses_3b14",
    "projectID": "16a6",
    "directory": "/home/dev",
    "title": "Heap bug",
    "time": {"created": MS},
}
TEXT = {"id": "prt_1", "sessionID": "ses_3b14", "messageID": "msg_1", "type": "text", "text": "Fix the overflow"}
TOOL = {
    "id": "prt_2",
    "sessionID": "ses_3b14",
    "messageID": "msg_2",
    "type": "tool",
    "callID": "call_1",
    "tool": "bash",
    "state": {
        "status": "completed",
        "input": {"command": "make"},
        "output": "ok",
        "title": "make",
        "time": {"start": MS},
    },
}


def read(record: object) -> list[Turn]:
    return read_turns(reader_of("opencode"), orjson.dumps(record), 0)


def message(role: str, *parts: object) -> dict[str, object]:
    info = {"id": "msg_1", "sessionID": "ses_3b14", "role": role, "time": {"created": MS}}
    return {"info": info, "parts": list(parts)}


def said(turns: list[Turn]) -> list[tuple[Role, str]]:
    return [(turn.role, turn.text) for turn in turns]


@pytest.mark.spec("READ-3")
def test_message_with_its_parts_is_read_in_order() -> None:
    reasoning = {"type": "reasoning", "text": "Look at the bounds", "time": {"start": MS}}

    turns = read(
        message("assistant", reasoning, TOOL, {**TEXT, "text": "Done"}, {"type": "step-finish", "reason": "stop"})
    )

    assert said(turns) == [
        ("assistant", "Look at the bounds"),
        ("assistant", "bash: make"),
        ("tool", "ok"),
        ("assistant", "Done"),
    ]
    assert {turn.at for turn in turns} == {AT}
    assert [turn.tool_name for turn in turns] == [None, "bash", "bash", None]


@pytest.mark.spec("READ-9")
def test_synthetic_part_of_a_user_message_is_system() -> None:
    synthetic = {**TEXT, "synthetic": True, "text": "Called the Read tool"}

    assert said(read(message("user", TEXT, synthetic))) == [
        ("user", "Fix the overflow"),
        ("system", "Called the Read tool"),
    ]


@pytest.mark.spec("READ-3")
def test_whole_export_on_one_line_is_read() -> None:
    turns = read({"info": SESSION, "messages": [message("user", TEXT), message("assistant", TOOL)]})

    assert said(turns) == [
        ("system", "Heap bug"),
        ("user", "Fix the overflow"),
        ("assistant", "bash: make"),
        ("tool", "ok"),
    ]


@pytest.mark.spec("READ-3")
def test_part_by_itself_is_the_models_when_it_was_streamed() -> None:
    streamed = {**TEXT, "text": "Done", "time": {"start": MS, "end": MS}}

    assert said(read(TEXT) + read(streamed)) == [("user", "Fix the overflow"), ("assistant", "Done")]


@pytest.mark.spec("READ-3")
def test_event_of_a_run_carries_its_part() -> None:
    turns = read({"type": "tool_use", "timestamp": MS, "sessionID": "ses_3b14", "part": TOOL})

    assert said(turns) == [("assistant", "bash: make"), ("tool", "ok")]


@pytest.mark.spec("READ-3")
def test_messages_of_the_newer_form_are_read() -> None:
    tool = {
        "type": "tool",
        "id": "c1",
        "name": "read",
        "state": {"input": {}, "content": [{"type": "text", "text": "ok"}]},
    }
    new = {"id": "msg_1", "time": {"created": MS}}

    turns = read({**new, "type": "user", "text": "Fix it"})
    turns += read({**new, "type": "assistant", "content": [{"type": "text", "text": "Done"}, tool]})
    turns += read({**new, "type": "shell", "command": "make", "output": "ok"})

    assert said(turns) == [
        ("user", "Fix it"),
        ("assistant", "Done"),
        ("assistant", "read"),
        ("tool", "ok"),
        ("user", "make"),
        ("tool", "ok"),
    ]


@pytest.mark.spec("READ-5")
def test_failed_call_gives_its_error() -> None:
    failed = {**TOOL, "state": {"status": "error", "input": {"command": "make"}, "error": "No rule"}}

    assert said(read(failed))[1] == ("tool", "No rule")


@pytest.mark.spec("READ-6")
def test_attached_image_leaves_a_word_and_attached_file_its_name() -> None:
    image = {**TEXT, "type": "file", "mime": "image/png", "url": "data:image/png;base64,iVBO"}
    file = {**TEXT, "type": "file", "mime": "text/plain", "filename": "src/a.c", "url": "file:///src/a.c"}

    assert said(read(message("user", image, file))) == [("user", "[image]"), ("user", "src/a.c")]


@pytest.mark.spec("READ-7")
def test_noise_gives_no_turns_and_unfamiliar_parts_their_strings() -> None:
    info_alone = {"id": "msg_1", "sessionID": "ses_3b14", "role": "user", "time": {"created": MS}}
    part = {**TEXT, "type": "poll", "text": None, "question": "Which branch?"}

    assert read(info_alone) == []
    assert read({**TEXT, "type": "snapshot", "snapshot": "dccfdca0"}) == []
    assert "Which branch?" in read(part)[0].text
