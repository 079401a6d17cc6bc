"""What the first and the last lines tell about a session."""

from __future__ import annotations

import orjson
import pytest

from federated_memory.transcripts import Summary, summarise


def claude(kind: str, at: str = "", text: object = "", **fields: object) -> bytes:
    message = {"message": {"role": kind, "content": text}} if kind in ("user", "assistant") else {}
    record = {"type": kind, "uuid": "71c2", "sessionId": "c1ae9e9e", "timestamp": at, **message, **fields}
    return orjson.dumps(record) + b"\n"


def codex(kind: str, second: int, **payload: object) -> bytes:
    return orjson.dumps({"timestamp": f"2026-11-21T03:59:{second:02}.000Z", "type": kind, "payload": payload})


def prompt(text: str, second: int = 1) -> bytes:
    return codex("response_item", second, type="message", role="user", content=[{"type": "input_text", "text": text}])


@pytest.mark.spec("READ-13")
def test_claude_session_tells_who_what_when_and_where() -> None:
    place = {"cwd": "/home/dev/shop", "gitBranch": "main"}
    head = [
        claude("file-history-snapshot"),
        claude("user", "2026-11-21T03:59:08.123Z", "Why is checkout slow?", **place),
        claude("assistant", "2026-11-21T03:59:01.000Z", [{"type": "text", "text": "The query."}], **place),
    ]
    tail = [claude("assistant", "2026-11-21T05:00:00.000Z", "Done"), claude("last-prompt")]

    assert summarise(head, tail) == Summary(
        agent="claude-code",
        native_id="c1ae9e9e",
        title="Why is checkout slow?",
        started_at="2026-11-21T03:59:01.000Z",
        ended_at="2026-11-21T05:00:00.000Z",
        cwd="/home/dev/shop",
        git_branch="main",
    )


@pytest.mark.spec("READ-13")
def test_codex_session_tells_who_what_when_and_where() -> None:
    head = [
        codex("session_meta", 0, id="0af20bb1", cwd="/home/dev/shop", git={"branch": "main"}),
        codex("turn_context", 1, cwd="/elsewhere"),
        prompt("<environment_context><cwd>/home/dev/shop</cwd></environment_context>"),
        prompt("# AGENTS.md instructions for /home/dev/shop\n<INSTRUCTIONS>Be brief</INSTRUCTIONS>"),
        prompt("Add a cache", second=9),
    ]

    assert summarise(head, []) == Summary(
        agent="codex",
        native_id="0af20bb1",
        title="Add a cache",
        started_at="2026-11-21T03:59:00.000Z",
        ended_at="2026-11-21T03:59:09.000Z",
        cwd="/home/dev/shop",
        git_branch="main",
    )


@pytest.mark.spec("READ-13")
def test_gemini_and_opencode_sessions_tell_the_same() -> None:
    gemini = summarise(
        [
            b'{"sessionId":"f86f","projectHash":"79b6","startTime":"2026-11-21T03:59:08.123Z","directories":["/shop"]}',
            b'{"id":"1","timestamp":"2026-11-21T04:00:00.000Z","type":"user","content":[{"text":"List the files"}]}',
        ],
        [b'{"$set":{"lastUpdated":"2026-11-21T05:00:00.000Z","summary":"Files listed"}}'],
    )
    opencode = summarise(
        [
            b'{"id":"ses_3b14","directory":"/shop","title":"New session - 1","time":{"created":1795233548123}}',
            b'{"info":{"id":"msg_1","sessionID":"ses_3b14","role":"user","time":{"created":1795233600000}},'
            b'"parts":[{"type":"text","text":"Fix the overflow"}]}',
        ],
        [],
    )

    assert (gemini.agent, gemini.native_id, gemini.title, gemini.cwd) == ("gemini", "f86f", "Files listed", "/shop")
    assert (gemini.started_at, gemini.ended_at) == ("2026-11-21T03:59:08.123Z", "2026-11-21T05:00:00.000Z")
    assert (opencode.native_id, opencode.title, opencode.cwd) == ("ses_3b14", "Fix the overflow", "/shop")
    assert (opencode.started_at, opencode.ended_at) == ("2026-11-21T03:59:08.123Z", "2026-11-21T04:00:00.000Z")


@pytest.mark.spec("READ-12")
def test_newest_title_of_the_agents_own_wins_over_the_prompt() -> None:
    head = [claude("summary", summary="Old title"), claude("user", text="Why is checkout slow?")]
    tail = [claude("ai-title", aiTitle="Second title"), claude("ai-title", aiTitle="Newest title"), claude("mode")]

    assert summarise(head, tail).title == "Newest title"
    assert summarise(head, []).title == "Old title"


@pytest.mark.spec("READ-12")
def test_title_a_person_gave_wins_over_newer_ones_of_the_agent() -> None:
    head = [claude("custom-title", customTitle="My title"), claude("ai-title", aiTitle="Its title")]

    assert summarise(head, [claude("ai-title", aiTitle="Its title")]).title == "My title"


@pytest.mark.spec("READ-12")
def test_title_is_the_first_prompt_a_person_wrote() -> None:
    head = [
        claude("user", text="<command-name>/clear</command-name><command-args></command-args>"),
        claude("user", text="<local-command-stdout>(no content)</local-command-stdout>"),
        claude("user", text="Base directory for this skill: /home/dev", isMeta=True),
        claude("user", text=[{"type": "image", "source": {}}]),
        claude("user", text="<system-reminder>Be brief</system-reminder>\n  Why is\tcheckout\x1b \n slow?"),
        claude("user", text="Second prompt"),
    ]

    assert summarise(head, []).title == "Why is checkout slow?"


@pytest.mark.spec("READ-12")
def test_long_title_is_cut_between_code_points() -> None:
    title = summarise([claude("user", text="\N{GRINNING FACE}" * 500)], []).title

    assert title == "\N{GRINNING FACE}" * 120


@pytest.mark.spec("READ-12")
@pytest.mark.parametrize("head", [[], [b"plain text"], [claude("user", text="<system-reminder>x</system-reminder>")]])
def test_session_without_a_prompt_has_no_title(head: list[bytes]) -> None:
    assert summarise(head, []).title is None


@pytest.mark.spec("READ-13")
def test_lines_that_are_in_head_and_tail_count_once() -> None:
    lines = [prompt("Add a cache", second=second) for second in (5, 7, 9)]

    assert summarise(lines, lines[1:]) == summarise(lines, [])
