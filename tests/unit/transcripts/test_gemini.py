"""Gemini CLI's chat records."""

from __future__ import annotations

import orjson
import pytest

from federated_memory.transcripts import Role, Turn, read_turns, reader_of

AT = "2026-11-21T03:59:08.123Z"


def read(record: object) -> list[Turn]:
    return read_turns(reader_of("gemini"), orjson.dumps(record), 2)


def message(kind: str, content: object, **fields: object) -> dict[str, object]:
    return {"id": "91ff4a35", "timestamp": AT, "type": kind, "content": content, **fields}


def said(turns: list[Turn]) -> list[tuple[Role, str]]:
    return [(turn.role, turn.text) for turn in turns]


@pytest.mark.spec("READ-3")
@pytest.mark.parametrize(("kind", "role"), [("user", "user"), ("gemini", "assistant"), ("info", "system")])
@pytest.mark.parametrize("content", ["List the files", [{"text": "List the files"}], {"text": "List the files"}])
def test_message_is_a_turn_in_every_form_of_content(kind: str, role: Role, content: object) -> None:
    assert read(message(kind, content)) == [Turn(2, role, "List the files", AT)]


@pytest.mark.spec("READ-5")
def test_thoughts_words_calls_and_results_come_in_order() -> None:
    response = {"functionResponse": {"id": "c1", "name": "run_shell_command", "response": {"output": "a.py"}}}
    call = {
        "id": "c1",
        "name": "run_shell_command",
        "args": {"command": "ls"},
        "result": [response],
        "status": "success",
    }
    thought = {"subject": "Listing", "description": "Look at the folder.", "timestamp": AT}

    turns = read(message("gemini", "Here they are", thoughts=[thought], toolCalls=[call]))

    assert said(turns) == [
        ("assistant", "Listing\nLook at the folder."),
        ("assistant", "Here they are"),
        ("assistant", "run_shell_command: ls"),
        ("tool", "a.py"),
    ]
    assert [turn.tool_name for turn in turns] == [None, None, "run_shell_command", "run_shell_command"]


@pytest.mark.spec("READ-5")
@pytest.mark.parametrize(
    "call",
    [
        {"result": None, "resultDisplay": "No such file"},
        {"result": [{"functionResponse": {"response": {"error": "No such file"}}}]},
        {"result": "No such file"},
    ],
)
def test_result_is_found_wherever_it_is_kept(call: dict[str, object]) -> None:
    turns = read(message("gemini", "", toolCalls=[{"name": "read_file", "args": {}, **call}]))

    assert said(turns) == [("assistant", "read_file"), ("tool", "No such file")]


@pytest.mark.spec("READ-6")
def test_inline_images_leave_a_word() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo" * 99}}

    turns = read(message("user", [image, {"functionResponse": {"name": "shot", "response": {"output": "ok"}}}]))

    assert said(turns) == [("user", "[image]"), ("tool", "ok")]


@pytest.mark.spec("READ-7")
@pytest.mark.parametrize(
    "record",
    [
        {"sessionId": "f86f5318", "projectHash": "79b6fa86", "startTime": AT, "kind": "main"},
        {"$set": {"lastUpdated": AT}},
        {"$rewindTo": "91ff4a35"},
    ],
)
def test_header_patch_and_rewind_give_no_turns(record: object) -> None:
    assert read(record) == []


@pytest.mark.spec("READ-3")
def test_patch_gives_the_messages_and_the_title_it_sets() -> None:
    turns = read({"$set": {"summary": "Files listed", "messages": [message("user", "List the files")]}})

    assert said(turns) == [("system", "Files listed"), ("user", "List the files")]


@pytest.mark.spec("READ-3")
def test_whole_conversation_on_one_line_is_read() -> None:
    conversation = {"sessionId": "f86f5318", "projectHash": "79b6fa86", "messages": [message("user", "List the files")]}

    assert said(read(conversation)) == [("user", "List the files")]


@pytest.mark.spec("READ-7")
def test_unfamiliar_record_gives_its_strings() -> None:
    assert said(read({"checkpoint": {"note": "Before the change"}})) == [("system", "Before the change")]
