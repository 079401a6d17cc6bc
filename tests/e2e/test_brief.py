"""What one machine's session left behind is in the brief of another machine's next one (SPEC: BRIEF-2, BRIEF-8)."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.clients import clean_environment
from tests.e2e.conftest import RunningServer

SCRIPT = Path(__file__).parents[2] / "client" / "memory_sync.py"
KEY = hashlib.sha256(b"example.com/team/shop").hexdigest()


def machine(place: Path, name: str) -> dict[str, str]:
    """A fresh home with a clone of the project; gives the environment of its programs."""
    home = place / name
    (home / "shop" / ".git").mkdir(parents=True)
    (home / "shop" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (home / "shop" / ".git" / "config").write_text('[remote "origin"]\n\turl = git@example.com:team/shop.git\n')
    (home / ".memory-sync").mkdir()
    (home / ".memory-sync" / "config.json").write_text(json.dumps({"machine": name}))
    return clean_environment(home, USERPROFILE=str(home), MEMORY_SYNC_HOME=str(home / ".memory-sync"))


def brief(env: dict[str, str], *arguments: str, **event: str) -> str:
    """What the real client prints when a session starts in the project."""
    home = Path(env["HOME"])
    told = {"session_id": "new", "hook_event_name": "SessionStart", "cwd": str(home / "shop"), **event}
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "brief", *arguments], env=env, cwd=home / "shop",
        input=json.dumps(told).encode(), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def context_of(printed: str) -> str:
    answer = json.loads(printed)["hookSpecificOutput"]
    assert answer["hookEventName"] == "SessionStart"
    return str(answer["additionalContext"])


@pytest.fixture
def laptop(server: RunningServer, tmp_path: Path) -> dict[str, str]:
    return machine(tmp_path, "laptop") | {"MCP_MEMORY_URL": server.mcp_url, "SYNC_TOKEN": server.sync_token}


@pytest.mark.spec("BRIEF-2", "BRIEF-8")
def test_a_second_machine_knows_how_the_session_on_the_first_one_ended(
    server: RunningServer, laptop: dict[str, str]
) -> None:
    said = [("user", "why is the till slow?"), ("assistant", "An index was missing.")]
    lines = [
        {"type": role, "sessionId": "s1", "uuid": role, "timestamp": f"2026-11-20T08:0{number}:00Z",
         "message": {"role": role, "content": text}}
        for number, (role, text) in enumerate(said)
    ]  # fmt: skip
    with server.api() as api:
        names = {"machine": "desk", "tool": "claude-code", "project": "shop", "project_key": KEY}
        desk = api.call("POST", "/api/v1/workspaces", json.dumps(names).encode()).json
        place = f"/api/v1/workspaces/{desk['workspace_id']}"
        proof = {"X_Write_Token": desk["write_token"]}
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        assert api.call("PUT", f"{place}/sessions/s1", body, **proof).status == 201
        assert api.call("PUT", f"{place}/overview", b"# The shop", **proof).status == 201

    before = context_of(brief(laptop, "--client", "claude", source="startup"))
    with server.api() as api:
        api.call("POST", "/api/v1/workspaces", json.dumps({**names, "machine": "laptop"}).encode())
    registered = context_of(brief(laptop, "--client", "codex", source="startup"))
    mine = context_of(brief(laptop, "--client", "claude", source="startup"))

    for text in (before, registered, mine):
        assert "[0] user: why is the till slow?" in text
        assert "[1] assistant: An index was missing." in text
        assert "# The shop" in text
        assert 'read_session(workspace_id="desk-claude-code-shop", session_id="s1"' in text
    assert 'register_workspace(machine="laptop", tool="claude-code", project="shop")' in before
    assert 'workspace_id="laptop-claude-code-shop")' in mine
    assert brief(laptop, "--client", "claude", source="compact") == ""
    assert brief(laptop, "--client", "text").startswith("# Memory brief\n")


@pytest.mark.spec("BRIEF-8")
def test_a_token_that_is_not_known_prints_nothing_and_says_so_in_the_log(laptop: dict[str, str]) -> None:
    assert brief(laptop | {"SYNC_TOKEN": "mistyped"}, "--client", "claude", source="startup") == ""

    log = (Path(laptop["MEMORY_SYNC_HOME"]) / "log").read_text()
    assert "brief: " in log
    assert "mistyped" not in log


@pytest.mark.spec("BRIEF-8")
def test_without_a_server_nothing_is_printed(laptop: dict[str, str]) -> None:
    assert brief(laptop | {"MCP_MEMORY_URL": "http://127.0.0.1:9/mcp"}, "--client", "claude", source="startup") == ""


@pytest.mark.spec("BRIEF-8")
def test_a_server_that_takes_the_call_and_never_answers_keeps_no_agent_waiting(laptop: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        printed = brief(laptop | {"MCP_MEMORY_URL": url}, "--client", "claude", source="startup")

    assert printed == ""
    assert "brief: " in (Path(laptop["MEMORY_SYNC_HOME"]) / "log").read_text()
