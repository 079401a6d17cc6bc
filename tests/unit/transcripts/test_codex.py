"""Codex's rollout records."""

from __future__ import annotations

import json

import orjson
import pytest

from federated_memory.transcripts import Role, Turn, read_turns, reader_of


def read(payload: object, kind: str = "response_item") -> list[Turn]:
    record = {"timestamp": "2026-11-21T03:59:08.123Z", "ordinal": 4, "type": kind, "payload": payload}
    return read_turns(reader_of("codex"), orjson.dumps(record), 4)


def said(turns: list[Turn]) -> list[tuple[Role, str]]:
    return [(turn.role, turn.text) for turn in turns]


@pytest.mark.spec("READ-3")
@pytest.mark.parametrize(
    ("role", "kind", "expected"),
    [("user", "input_text", "user"), ("assistant", "output_text", "assistant"), ("developer", "input_text", "system")],
)
def test_message_is_a_turn_of_whoever_said_it(role: str, kind: str, expected: Role) -> None:
    turns = read({"type": "message", "role": role, "content": [{"type": kind, "text": "Use retries"}]})

    assert turns == [Turn(4, expected, "Use retries", "2026-11-21T03:59:08.123Z")]


@pytest.mark.spec("READ-3")
def test_reasoning_reads_as_its_summary_without_the_sealed_part() -> None:
    summary = [{"type": "summary_text", "text": "**Checking the lock**"}]

    turns = read({"type": "reasoning", "summary": summary, "content": None, "encrypted_content": "gAAAAABo" * 50})

    assert said(turns) == [("assistant", "**Checking the lock**")]


@pytest.mark.spec("READ-5")
def test_arguments_in_a_string_are_decoded_and_the_shell_unwrapped() -> None:
    arguments = json.dumps({"command": ["bash", "-lc", "cd shop && pytest"], "workdir": "/home/dev"})

    turns = read({"type": "function_call", "name": "shell", "arguments": arguments, "call_id": "call_1"})

    assert said(turns) == [("assistant", "shell: cd shop && pytest\nworkdir: /home/dev")]
    assert turns[0].tool_name == "shell"


@pytest.mark.spec("READ-5")
def test_tool_of_an_mcp_server_has_the_name_other_agents_give_it() -> None:
    call = {"type": "function_call", "namespace": "mcp__mem", "name": "remember", "arguments": '{"text":"tea"}'}

    turns = read({**call, "call_id": "call_1"})

    assert (turns[0].tool_name, turns[0].text) == ("mcp__mem__remember", "mcp__mem__remember\ntext: tea")


@pytest.mark.spec("READ-5")
@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin Patch"},
            "apply_patch: *** Begin Patch",
        ),
        ({"type": "local_shell_call", "action": {"type": "exec", "command": ["ls", "-l"]}}, "local_shell: ls -l"),
        ({"type": "web_search_call", "action": {"type": "search", "query": "RE2"}}, "web_search\nquery: RE2"),
        ({"type": "function_call", "name": "shell", "arguments": "{broken"}, "shell: {broken"),
        ({"type": "function_call", "name": "update_plan", "arguments": "{}"}, "update_plan"),
    ],
)
def test_every_kind_of_call_is_readable(payload: dict[str, object], text: str) -> None:
    assert said(read({**payload, "call_id": "call_1"})) == [("assistant", text)]


@pytest.mark.spec("READ-5")
@pytest.mark.parametrize(
    "output",
    [
        "3 failed",
        json.dumps({"output": "3 failed", "metadata": {"exit_code": 1, "duration_seconds": 0.2}}),
        {"content": "3 failed", "success": False},
        [{"type": "input_text", "text": "3 failed"}],
        json.dumps([{"type": "text", "text": "3 failed"}]),
    ],
)
def test_result_is_unwrapped_whatever_form_it_has(output: object) -> None:
    turns = read({"type": "function_call_output", "call_id": "call_1", "output": output})

    assert said(turns) == [("tool", "3 failed")]


@pytest.mark.spec("READ-5")
@pytest.mark.parametrize("output", ['{"rows": [1, 2]}', "[1, 2]", "{not json"])
def test_result_that_is_data_stays_as_the_tool_wrote_it(output: str) -> None:
    turns = read({"type": "function_call_output", "call_id": "call_1", "output": output})

    assert said(turns) == [("tool", output)]


@pytest.mark.spec("READ-6")
def test_images_leave_a_word() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo"}

    turns = read({"type": "message", "role": "user", "content": [image]})
    turns += read({"type": "function_call_output", "call_id": "call_1", "output": [image]})

    assert said(turns) == [("user", "[image]"), ("tool", "[image]")]


@pytest.mark.spec("READ-4")
@pytest.mark.parametrize(
    "event",
    [
        {"type": "user_message", "message": "Use retries"},
        {"type": "agent_message", "message": "Done"},
        {"type": "agent_reasoning", "text": "Checking the lock"},
        {"type": "exec_command_end", "stdout": "3 failed"},
        {"type": "task_complete", "last_agent_message": "Done"},
        {
            "type": "item_completed",
            "item": {"type": "UserMessage", "content": [{"type": "text", "text": "Use retries"}]},
        },
    ],
    ids=lambda event: str(event["type"]),
)
def test_events_that_echo_an_item_give_no_turns(event: dict[str, object]) -> None:
    assert read(event, kind="event_msg") == []


@pytest.mark.spec("READ-7")
@pytest.mark.parametrize("kind", ["session_meta", "turn_context", "world_state", "token_usage_record"])
def test_noise_gives_no_turns(kind: str) -> None:
    assert read({"id": "0af2", "cwd": "/home/dev", "instructions": "Be brief"}, kind=kind) == []


@pytest.mark.spec("READ-7")
@pytest.mark.parametrize("kind", ["event_msg", "response_item", "inter_agent_communication"])
def test_unfamiliar_record_gives_its_strings(kind: str) -> None:
    turns = read({"type": "thread_goal_updated", "goal": {"objective": "Ship the cache"}}, kind=kind)

    assert said(turns) == [("system", "Ship the cache")]


@pytest.mark.spec("READ-3")
def test_only_copy_of_a_plan_and_of_a_compaction_is_kept() -> None:
    turns = read({"type": "item_completed", "item": {"type": "Plan", "text": "1. Measure"}}, kind="event_msg")
    turns += read({"message": "So far: the cache is done", "replacement_history": [{"text": "x"}]}, kind="compacted")

    assert said(turns) == [("assistant", "1. Measure"), ("system", "So far: the cache is done")]


@pytest.mark.spec("READ-3")
def test_bare_items_of_old_rollouts_are_read() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Use retries"}]}

    assert said(read_turns(reader_of("codex"), orjson.dumps(item), 0)) == [("user", "Use retries")]
