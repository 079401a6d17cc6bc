"""The main job, with the real Claude Code: what one session learned is kept, and the next session finds it.

Only the model is a stand-in (`scripts/model_standin.py`); the CLI, its MCP client, the server and the transcript are
real. `make clients` runs this and prints each step.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from scripts.model_standin import Call, ModelStandin, Say, Seen
from tests.e2e.clients import ClaudeCode, Server, Turn

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first run installs Claude Code

REGISTRATION = {"machine": "laptop", "tool": "claude-code", "project": "shop"}
WORKSPACE = "laptop-claude-code-shop"
PROMPT = "Remember how the shop retries payments, ticket KRILL-4711."
ANSWER = "Stored: the shop retries a payment three times."
OVERVIEW = "# Shop\n\nThe web shop. Payments are retried, see the knowledge about them.\n"
DOCUMENT_PATH = "payments/Retry policy.md"
DOCUMENT = (
    "# Retry policy\n\nA failed payment is retried three times, 30 s apart (KRILL-4711).\n\nNever retry a 402 – café.\n"
)


def test_second_session_knows_what_the_first_one_knew(server: Server, tmp_path: Path) -> None:
    claude = ClaudeCode(tmp_path / "laptop")
    print()
    say(f"connect Claude Code to the server: claude mcp add --transport http memory {server.mcp_url}")
    added = claude.connect(server.mcp_url, server.ai_token)
    assert added.exit_code == 0, added.shown()

    first = first_session(claude)
    assert_files_hold_what_was_written(server)
    upload_transcript(server, first)
    second_session(claude, first)


def first_session(claude: ClaudeCode) -> Turn:
    """Register, write an overview and a document, find and read the document again."""

    def binding(seen: Seen) -> str:
        return str(seen.json("register_workspace")["binding"])

    def found(seen: Seen) -> dict[str, Any]:
        hits = {hit.get("path"): hit for hit in seen.json("search_knowledge")["hits"]}
        return {"workspace_id": hits[DOCUMENT_PATH]["workspace_id"], "path": DOCUMENT_PATH}

    steps: list[Call | Say] = [
        Call("register_workspace", REGISTRATION),
        Call("write_overview", lambda seen: {"text": OVERVIEW, "binding": binding(seen)}),
        Call("write_knowledge", lambda seen: {"path": DOCUMENT_PATH, "text": DOCUMENT, "binding": binding(seen)}),
        Call("search_knowledge", {"query": "how often is a failed payment retried"}),
        Call("read_knowledge", found),
        Say(ANSWER),
    ]
    turn, model = run_session(claude, "first session", PROMPT, steps)

    seen = model.seen
    registered = seen.json("register_workspace")
    assert registered["workspace_id"] == WORKSPACE
    assert registered["created"] is True
    assert found(seen)["workspace_id"] == WORKSPACE
    read, written = seen.json("read_knowledge"), seen.json("write_knowledge")
    assert read["text"] == DOCUMENT
    assert read["etag"] == written["etag"] == hashlib.sha256(DOCUMENT.encode()).hexdigest()
    assert (written["version"], written["created"]) == (1, True)
    return turn


def assert_files_hold_what_was_written(server: Server) -> None:
    folder = server.root / "workspaces" / WORKSPACE
    assert (folder / "overview.md").read_text(encoding="utf-8") == OVERVIEW
    assert (folder / "knowledge" / DOCUMENT_PATH).read_text(encoding="utf-8") == DOCUMENT
    say(f"on disk: {folder}/overview.md and knowledge/{DOCUMENT_PATH}, as plain files")


def upload_transcript(server: Server, turn: Turn) -> None:
    """What the sync client does: register, upload the CLI's own transcript; read it back and find it in the archive."""
    transcript = turn.transcript.read_bytes()
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.sync_token}"}) as http:
        registered = http.post("/api/v1/workspaces", json=REGISTRATION)
        assert registered.is_success, registered.text
        assert registered.json()["workspace_id"] == WORKSPACE
        say(f"sync registers the same workspace: {registered.status_code}, and gets the write token")

        route = f"/api/v1/workspaces/{WORKSPACE}/sessions/{turn.session_id}"
        write_token = {"X-Write-Token": registered.json()["write_token"]}
        refused = http.put(route, content=b"{}\n", headers={"X-Write-Token": "wrong"})
        assert refused.status_code in (401, 403), refused.text
        say(f"upload with a wrong write token: {refused.status_code}")
        uploaded = http.put(route, content=transcript, headers=write_token)
        assert uploaded.is_success, uploaded.text
        status = f"{uploaded.status_code} {uploaded.text[:200]}"
        say(f"upload of the CLI's own transcript, {len(transcript):,} bytes: {status}")

        held = http.get(route)
        assert held.content == transcript
        assert held.headers["ETag"].strip('"') == hashlib.sha256(transcript).hexdigest()
        say("read back: the same bytes, and the ETag is their SHA-256")

    archives = list(server.root.glob(f"workspaces/{WORKSPACE}/sessions/*/*/{turn.session_id}.jsonl.gz"))
    assert len(archives) == 1, archives
    unpacked = subprocess.run(["zcat", str(archives[0])], capture_output=True, check=True, timeout=30).stdout
    assert unpacked == transcript
    say(f"zcat {archives[0].relative_to(server.root)} ({archives[0].stat().st_size:,} bytes) prints the same bytes")


def second_session(claude: ClaudeCode, first: Turn) -> None:
    """A new session of the CLI finds the first one in the list and by search, and reads it as messages."""
    page = {"workspace_id": WORKSPACE, "session_id": first.session_id, "format": "messages"}
    steps: list[Call | Say] = [
        Call("list_sessions", {"workspace_id": WORKSPACE}),
        Call("search_sessions", {"query": "KRILL-4711"}),
        Call("read_session", {**page, "offset": 0, "limit": 20}),
        Call("read_session", {**page, "offset": -8, "limit": 8}),
        Say("The shop retries a payment three times."),
    ]
    _, model = run_session(claude, "second session", "How does the shop retry payments?", steps)

    seen = model.seen
    rows = {row["session_id"]: row for row in seen.json("list_sessions")["sessions"]}
    say(f"the first session's title: {rows[first.session_id]['title']!r}")
    assert rows[first.session_id]["title"]
    assert rows[first.session_id]["lines"] == first.transcript.read_bytes().count(b"\n")
    assert rows[first.session_id]["bytes"] == first.transcript.stat().st_size
    assert first.session_id in {hit["session_id"] for hit in seen.json("search_sessions")["hits"]}
    beginning, end = (result.text for result in seen.results if result.name == "read_session")
    assert PROMPT in beginning
    assert ANSWER in end
    assert '"parentUuid"' not in beginning + end  # messages, not the transcript's raw lines


def run_session(claude: ClaudeCode, title: str, prompt: str, steps: list[Call | Say]) -> tuple[Turn, ModelStandin]:
    say(f'{title}: claude -p "{prompt}"')
    with ModelStandin(steps, on_event=show_event) as model:
        turn = claude.turn(prompt, model.url)
    model.check()
    assert not [result for result in model.seen.results if result.is_error]
    final = next(step.text for step in steps if isinstance(step, Say))
    assert json.loads(turn.finished.output)["result"] == final
    say(f"{title} over after {turn.finished.elapsed_seconds:.1f} s; the CLI wrote {turn.transcript.name}")
    return turn, model


def test_claude_code_says_whether_it_is_connected(server: Server, tmp_path: Path) -> None:
    claude = ClaudeCode(tmp_path)
    claude.connect(server.mcp_url, server.ai_token, "right")
    claude.connect(server.mcp_url, "wrong-token", "wrong")

    right, wrong = claude.health("right"), claude.health("wrong")

    print()
    say(f"right token: {status_line(right)}")
    say(f"wrong token: {status_line(wrong)}")
    assert "Connected" in status_line(right)
    assert "Failed to connect" in status_line(wrong)
    assert "401" in wrong


def status_line(health: str) -> str:
    return next((line.strip() for line in health.splitlines() if "Status:" in line), health)


def say(line: str) -> None:
    print(f"• {line}", flush=True)


def show_event(kind: str, name: str, value: Any) -> None:
    """One step of the conversation, short enough to read along."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= 240 else f"{text[:240]}… ({len(text):,} characters)"
    arrow = {
        "call": f"  model → {name} ",
        "result": "          ← ",
        "error": f"  ERROR   ← {name}: ",
        "say": "  model: ",
    }
    print(f"{arrow[kind]}{text}", flush=True)
