"""Claude Code's records, as version 2.1 writes them."""

from __future__ import annotations

import orjson
import pytest

from federated_memory.transcripts import Role, Turn, read_turns, reader_of

ENVELOPE = {
    "parentUuid": None,
    "isSidechain": False,
    "userType": "external",
    "cwd": "/home/dev/shop",
    "sessionId": "c1ae9e9e-ad5b-4ccc-371d-4f0edc4d262f",
    "version": "2.1.329",
    "gitBranch": "main",
    "uuid": "71c2997a-7d5b-4d19-ff12-2b1061ed1cef",
    "timestamp": "2026-11-21T03:59:08.123Z",
}


def read(kind: str, **fields: object) -> list[Turn]:
    return read_turns(reader_of("claude-code"), orjson.dumps({**ENVELOPE, "type": kind, **fields}), 7)


def said(turns: list[Turn]) -> list[tuple[Role, str]]:
    return [(turn.role, turn.text) for turn in turns]


def assistant(*blocks: object) -> list[Turn]:
    return read("assistant", message={"role": "assistant", "model": "claude-sonnet-4-5", "content": list(blocks)})


@pytest.mark.spec("READ-3")
def test_prompt_is_a_user_turn_with_its_line_and_time() -> None:
    turns = read("user", message={"role": "user", "content": "Why is checkout slow?"})

    assert turns == [Turn(7, "user", "Why is checkout slow?", "2026-11-21T03:59:08.123Z")]


@pytest.mark.spec("READ-3")
def test_one_line_gives_thought_words_and_call_in_order() -> None:
    turns = assistant(
        {"type": "thinking", "thinking": "Probably the N+1 query.", "signature": "EqQBCgIYAh"},
        {"type": "text", "text": "I will run the tests."},
        {"type": "tool_use", "id": "toolu_01", "name": "Bash", "input": {"command": "cd shop && pytest"}},
    )

    assert said(turns) == [
        ("assistant", "Probably the N+1 query."),
        ("assistant", "I will run the tests."),
        ("assistant", "Bash: cd shop && pytest"),
    ]
    assert [turn.tool_name for turn in turns] == [None, None, "Bash"]


@pytest.mark.spec("READ-5")
def test_call_without_a_command_reads_as_lines_of_key_and_value() -> None:
    edit = {"file_path": "/a.py", "old_string": "x = 1\ny = 2", "replace_all": False, "limit": 3, "note": None}

    turns = assistant({"type": "tool_use", "id": "toolu_01", "name": "Edit", "input": edit})

    assert turns[0].text == "Edit\nfile_path: /a.py\nold_string: x = 1\ny = 2\nreplace_all: false\nlimit: 3"


@pytest.mark.spec("READ-5")
def test_nested_input_reads_as_its_strings() -> None:
    todos = [{"content": "Fix query", "status": "pending"}, {"content": "Add index", "status": "pending"}]

    turns = assistant({"type": "tool_use", "id": "toolu_01", "name": "TodoWrite", "input": {"todos": todos}})

    assert turns[0].text == "TodoWrite\ntodos: Fix query\nAdd index"


@pytest.mark.spec("READ-4")
def test_tool_result_stored_twice_is_read_once() -> None:
    turns = read(
        "user",
        message={
            "role": "user",
            "content": [{"tool_use_id": "toolu_01", "type": "tool_result", "content": "3 failed"}],
        },
        toolUseResult={"stdout": "3 failed", "stderr": "", "interrupted": False},
    )

    assert said(turns) == [("tool", "3 failed")]


@pytest.mark.spec("READ-6")
def test_images_leave_a_word_in_prompts_and_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" * 99}}
    result = {"type": "tool_result", "tool_use_id": "toolu_01", "content": [{"type": "text", "text": "shot"}, image]}

    turns = read("user", message={"role": "user", "content": [{"type": "text", "text": "See"}, image, result]})

    assert said(turns) == [("user", "See"), ("user", "[image]"), ("tool", "shot\n[image]")]


@pytest.mark.spec("READ-3")
def test_sidechain_lines_are_turns_like_any_other() -> None:
    turns = read("user", isSidechain=True, message={"role": "user", "content": "Search for retries"})

    assert said(turns) == [("user", "Search for retries")]


@pytest.mark.spec("READ-9")
@pytest.mark.parametrize("flag", ["isMeta", "isCompactSummary"])
def test_what_claude_code_writes_as_the_user_is_system(flag: str) -> None:
    turns = read("user", message={"role": "user", "content": "Continue from where you left off."}, **{flag: True})

    assert said(turns) == [("system", "Continue from where you left off.")]


@pytest.mark.spec("READ-3")
@pytest.mark.parametrize(("mode", "role"), [("prompt", "user"), ("task-notification", "system")])
def test_prompt_typed_while_the_model_was_busy_is_found(mode: str, role: Role) -> None:
    queued = {"type": "queued_command", "commandMode": mode, "prompt": "also check the logs"}

    turns = read("attachment", attachment=queued)

    assert said(turns) == [(role, "also check the logs")]


@pytest.mark.spec("READ-7")
@pytest.mark.parametrize(
    "record",
    [
        {"type": "file-history-snapshot", "snapshot": {"trackedFileBackups": {"a.py": {"version": 1}}}},
        {"type": "queue-operation", "operation": "enqueue", "content": "also check the logs"},
        {"type": "last-prompt", "lastPrompt": "also check the logs"},
        {"type": "api-request-blob", "body": {"system": "You are Claude Code"}},
        {"type": "attachment", "attachment": {"type": "file", "content": "import os"}},
        {"type": "system", "subtype": "turn_duration", "durationMs": 5120},
    ],
    ids=lambda record: str(record["type"]),
)
def test_noise_gives_no_turns(record: dict[str, object]) -> None:
    assert read_turns(reader_of("claude-code"), orjson.dumps({**ENVELOPE, **record}), 7) == []


@pytest.mark.spec("READ-7")
def test_unfamiliar_record_gives_its_strings() -> None:
    turns = read("pr-link", prNumber=12, prUrl="https://example.org/pull/12", note="The retry change")

    assert [turn.role for turn in turns] == ["system"]
    assert "https://example.org/pull/12\nThe retry change" in turns[0].text


@pytest.mark.spec("READ-7")
def test_unfamiliar_block_gives_its_strings_under_the_message_role() -> None:
    turns = assistant({"type": "citation_list", "entries": [{"cited": "RFC 9457, section 3"}]})

    assert said(turns) == [("assistant", "RFC 9457, section 3")]


@pytest.mark.spec("READ-3")
def test_titles_and_notices_are_system_turns() -> None:
    titles = read("summary", summary="Checkout speed") + read("custom-title", customTitle="Faster checkout")
    notice = read("system", subtype="away_summary", content="You were away for 2 hours.")

    assert said(titles + notice) == [
        ("system", "Checkout speed"),
        ("system", "Faster checkout"),
        ("system", "You were away for 2 hours."),
    ]
