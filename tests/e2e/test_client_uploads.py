"""Hooks, their workers and a real server: what an agent wrote arrives, once, redacted, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scripts.client_module import load_client
from tests.e2e.conftest import Answer, RunningServer, wait_until

CLIENT = Path(__file__).parents[2] / "client"
SECRET = "ghp_" + "q7Zt1VbN4xKe9RwL2mYs8HcJ5uPd0GfA3TiB"


@dataclass
class Laptop:
    """A fresh home with the client installed in it, and a Claude Code project."""

    home: Path
    server: RunningServer
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = {"HOME": str(self.home), "PATH": os.defpath, **self.env}
        self.own = self.home / ".memory-sync"
        self.shop = self.home / "jürgen" / "shop"
        self.shop.mkdir(parents=True)
        self.project = self.home / ".claude" / "projects" / "-shop"
        self.project.mkdir(parents=True)
        (self.own / "bin").mkdir(parents=True)
        shutil.copy(CLIENT / "redaction_rules.json", self.own / "bin")
        load_client().write_client(self.own / "bin", (CLIENT / "memory_sync.py").read_bytes())
        self.configure()

    def configure(self, **more: Any) -> None:
        config = {"url": self.server.url, "machine": "laptop", "sync_token": self.server.sync_token, **more}
        (self.own / "config.json").write_text(json.dumps(config))

    def run(
        self, *arguments: str, data: bytes = b"", seconds: float = 60, **more: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(self.own / "bin" / "memory_sync.py"), *arguments]
        return subprocess.run(
            command,
            input=data.decode(),
            env={**self.env, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def hook(self, session: str = "S1", event: str = "SessionEnd", **more: str) -> None:
        told = {"session_id": session, "transcript_path": str(self.project / f"{session}.jsonl"), "cwd": str(self.shop),
                "hook_event_name": event}  # fmt: skip
        done = self.run("claude-hook", data=json.dumps(told).encode(), **more)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def say(self, text: str, session: str = "S1", place: Path | None = None) -> Path:
        """Claude Code writes down one more line."""
        path = (place or self.project) / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "type": "user",
            "sessionId": session,
            "cwd": str(self.shop),
            "message": {"role": "user", "content": text},
        }
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return path

    def held(self, session: str = "S1") -> Answer:
        """What the server holds of a session."""
        with self.server.api() as api:
            return api.call("GET", f"/api/v1/workspaces/laptop-claude-code-shop/sessions/{session}")

    def holds(self, path: Path, session: str = "S1") -> bool:
        return self.held(session).body == path.read_bytes()

    @property
    def waiting(self) -> list[str]:
        return sorted(path.name for path in (self.own / "spool").iterdir())

    @property
    def log(self) -> str:
        path = self.own / "log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def laptop(tmp_path: Path, serve: Callable[..., RunningServer]) -> Laptop:
    """With a server of its own."""
    return Laptop(tmp_path / "home", serve())


@pytest.mark.spec("SEND-11", "SEND-13")
def test_a_hook_brings_session_sub_agents_and_later_lines(laptop: Laptop) -> None:
    path = laptop.say("hello")
    below = laptop.say("from below", "agent-1", laptop.project / "S1" / "subagents")
    laptop.hook()
    wait_until(lambda: laptop.holds(path) and laptop.holds(below, "agent-1") and not laptop.waiting)
    laptop.say("and more")
    laptop.hook()
    wait_until(lambda: laptop.holds(path) and not laptop.waiting)
    assert laptop.held().headers["x-revision"] == "1"
    assert laptop.log == ""


@pytest.mark.spec("SEND-1", "SEND-2")
def test_secrets_stay_here_and_a_rewritten_file_becomes_a_revision(laptop: Laptop) -> None:
    path = laptop.say(f"the token is {SECRET}")
    laptop.say("fine")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    first = laptop.held().body
    assert SECRET.encode() not in first
    assert b"[REDACTED:" in first
    laptop.say(f"again {SECRET}")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    second = laptop.held()
    assert second.body.startswith(first)
    assert (second.body.count(b"[REDACTED:"), second.headers["x-revision"]) == (2, "1")
    path.write_text("")
    laptop.say("rewritten")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    assert laptop.holds(path)
    assert laptop.held().headers["x-revision"] == "2"
    assert laptop.held("S1?revision=1").body == second.body


@pytest.mark.spec("SEND-3")
def test_a_lost_state_is_learnt_again_from_the_server(laptop: Laptop) -> None:
    path = laptop.say("one")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    for name in laptop.own.glob("state.sqlite3*"):
        name.unlink()
    laptop.say("two")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    assert laptop.holds(path)
    assert laptop.held().headers["x-revision"] == "1"


@pytest.mark.spec("SEND-12")
def test_what_a_killed_server_missed_arrives_when_it_is_back(
    laptop: Laptop, serve: Callable[..., RunningServer]
) -> None:
    path = laptop.say("one")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    laptop.server.stop(signal.SIGKILL)
    laptop.say("two")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    assert len(laptop.waiting) == 1
    assert "Cannot reach" in laptop.log
    laptop.server = serve(PORT=str(laptop.server.address[1]))
    laptop.server.wait_until_ready()
    done = laptop.run("drain")
    assert (done.returncode, done.stdout) == (0, "Done: 1; waiting: 0\n"), done.stderr
    assert laptop.holds(path)


@pytest.mark.spec("SEND-14")
def test_many_hooks_at_once_send_everything_once(laptop: Laptop) -> None:
    paths = {f"S{number}": laptop.say("hello", f"S{number}") for number in range(6)}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(laptop.hook, [*paths, *paths]))
    wait_until(lambda: not laptop.waiting and all(laptop.holds(path, name) for name, path in paths.items()))
    assert {laptop.held(name).headers["x-revision"] for name in paths} == {"1"}
    wait_until(lambda: "Traceback" not in laptop.log and not laptop.waiting)
    assert laptop.log == ""


@pytest.mark.spec("SEND-9")
def test_a_changed_token_stops_everything_until_the_new_one_is_here(laptop: Laptop) -> None:
    path = laptop.say("one")
    laptop.configure(sync_token="out-of-date")
    for _ in range(3):
        laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    assert laptop.log.count("401:") == 1
    assert len(laptop.waiting) == 1
    assert sum("AUTH_FAIL" in line for line in laptop.server.log) == 1
    assert laptop.run("drain").returncode == 4
    assert "refused" in laptop.run("status").stdout + laptop.run("status").stderr
    laptop.configure()
    assert laptop.run("drain").returncode == 0
    assert laptop.holds(path)


@pytest.mark.spec("SEND-14")
def test_a_write_token_that_is_lost_is_named_and_can_be_given_back(laptop: Laptop) -> None:
    path = laptop.say("one")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    (laptop.own / "write-tokens.json").unlink()
    laptop.say("two")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    assert "memory_sync.py write-token laptop-claude-code-shop" in laptop.log
    with laptop.server.api(laptop.server.admin_token) as api:
        token = api.call("POST", "/api/v1/workspaces/laptop-claude-code-shop/reissue").json["write_token"]
    assert laptop.run("write-token", "laptop-claude-code-shop", data=token.encode()).returncode == 0
    assert laptop.run("drain").returncode == 0
    assert laptop.holds(path)


@pytest.mark.spec("SEND-6")
@pytest.mark.parametrize("compresses", [True, False])
def test_long_transcripts_stream_in_either_coding(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, compresses: bool
) -> None:
    """Some of it shrinks by far more than the server takes for honest."""
    sync = load_client()
    for name in ("MEMORY_SYNC_HOME", "SYNC_TOKEN", "MCP_MEMORY_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(laptop.home))
    path = laptop.say("x" * 8_000_000)
    laptop.say(json.dumps([number * 7919 for number in range(200_000)]))
    config = sync.load_config()
    config.redaction = "off"
    with sync.Server(config) as server, closing(sync.open_state()) as state:
        server.compresses = compresses
        project = sync.Project("shop", "", "", "")
        workspace = sync.register(server, config, project, "claude-code")
        transcript = sync.transcript_at("claude-code", path)
        first = sync.send_session(server, state, config, transcript, workspace)
        laptop.say("more")
        second = sync.send_session(server, state, config, sync.transcript_at("claude-code", path), workspace)
    assert (first.status, second.status) == ("created", "appended")
    assert second.sent_bytes < 1000
    assert laptop.holds(path)


def test_the_server_keeps_where_a_session_is_from(laptop: Laptop) -> None:
    laptop.say("one")
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")
    (provenance,) = laptop.server.root.glob("workspaces/laptop-claude-code-shop/sessions/*/*/s1.json")
    found = json.loads(provenance.read_text())
    assert found["cwd"] == found["source"]["cwd"]
    assert found["native_id"] == "S1"
    assert (found["agent"], found["source"]["machine"]) == ("claude-code", "laptop")
