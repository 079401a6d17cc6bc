"""Whatever a file holds, reading it does not raise and no turn is empty."""

from __future__ import annotations

from typing import get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_memory.transcripts import Agent, Role, Turn, detect, read_turns, reader_of, summarise

pytestmark = pytest.mark.thorough

# Words that steer the readers into every branch, where values of the wrong type wait.
KEYS = [
    "type", "role", "content", "text", "message", "payload", "timestamp", "summary", "aiTitle", "customTitle",
    "attachment", "prompt", "isMeta", "input", "name", "arguments", "output", "action", "command", "call_id", "item",
    "id", "info", "part", "parts", "messages", "state", "tool", "time", "created", "sessionID", "messageID",
    "directory", "title", "$set", "toolCalls", "thoughts", "args", "result", "functionCall", "functionResponse",
    "response", "inlineData", "mimeType", "projectHash", "directories", "path", "cwd", "git", "branch", "sessionId",
    "uuid", "thinking", "namespace", "synthetic", "resultDisplay",
]  # fmt: skip
WORDS = [
    "user", "assistant", "system", "tool", "text", "thinking", "tool_use", "tool_result", "image", "summary",
    "custom-title", "attachment", "queued_command", "response_item", "event_msg", "session_meta", "compacted",
    "message", "reasoning", "function_call", "function_call_output", "item_completed", "thread_name_updated",
    "web_search_call", "gemini", "info", "subtask", "file", "ses_1", "msg_1", "prt_1", "shell", "synthetic",
    "2026-11-21T03:59:08.123Z", "<system-reminder>", "<command-name>", "{}", "[]", "{",
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.sampled_from(WORDS) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=6),
    max_leaves=30,
)
RECORDS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=10)
AGENTS = st.sampled_from(get_args(Agent))
BYTES = st.binary(max_size=300) | st.text(alphabet='{}[]",:\\u d8\x00\n1e', max_size=60).map(str.encode)
QUICK = settings(max_examples=150, deadline=None, database=None)


def assert_sound(turns: list[Turn], line: int) -> None:
    for turn in turns:
        assert turn.line == line
        assert turn.role in get_args(Role)
        assert turn.text.strip()
        assert turn.text.encode("utf-8")  # no lone surrogates
        assert turn.at is None or len(turn.at) == 24


@pytest.mark.spec("READ-1")
@QUICK
@given(AGENTS, BYTES)
def test_arbitrary_bytes_give_sound_turns(agent: Agent, raw: bytes) -> None:
    assert_sound(read_turns(reader_of(agent), raw, 3), 3)


@pytest.mark.spec("READ-1")
@QUICK
@given(AGENTS, RECORDS)
def test_arbitrary_records_give_sound_turns(agent: Agent, record: dict[str, object]) -> None:
    raw = orjson.dumps(record)

    assert_sound(read_turns(reader_of(agent), raw, 0), 0)
    assert_sound(read_turns(detect([raw]), raw, 0), 0)


@pytest.mark.spec("READ-7")
@QUICK
@given(AGENTS, st.text(alphabet="abcdefgh ", min_size=1).filter(str.strip))
def test_sentence_in_an_unfamiliar_record_is_found(agent: Agent, sentence: str) -> None:
    raw = orjson.dumps({"type": "never-seen", "body": {"remarks": [sentence]}})

    assert sentence in "\n".join(turn.text for turn in read_turns(reader_of(agent), raw, 0))


@pytest.mark.spec("READ-1")
@QUICK
@given(st.lists(RECORDS.map(orjson.dumps) | BYTES, max_size=6), st.lists(RECORDS.map(orjson.dumps) | BYTES, max_size=3))
def test_summary_of_arbitrary_lines_is_sound(head: list[bytes], tail: list[bytes]) -> None:
    summary = summarise(head, tail)

    assert summary.title is None or (len(summary.title) <= 120 and summary.title == " ".join(summary.title.split()))
    assert (summary.started_at is None) == (summary.ended_at is None)
    assert "" not in (summary.native_id, summary.cwd, summary.git_branch)
