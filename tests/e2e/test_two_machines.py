"""The figure that counts: a second machine in one command, and session two knows what session one knew.

Two hosts in network namespaces, each with a fresh home; the server behind nginx with a self-signed certificate; the
real Claude Code, installed by our installer, driven by the stand-in model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts import node_tools
from scripts.model_standin import Call, ModelStandin, Say, Seen
from tests.e2e.clients import Finished, clean_environment, run_program
from tests.e2e.conftest import RunningServer, wait_until
from tests.e2e.hosts import Network, free_port, tls_in_front, two_hosts

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

FIRST_PROMPT = "Find out why the KRILL-4711 import stalls."
FIRST_ANSWER = "The KRILL-4711 import stalls because the cursor is reset after each batch of 500 rows."
SECOND_ANSWER = "Fixed: the cursor now survives a batch."


@dataclass
class Host:
    """A machine of a person: a namespace, a home, one project."""

    network: Network
    number: int
    name: str
    folder: Path

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.project = self.folder / "krill"
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        claude = node_tools.ensure("claude")["claude"]
        quoted = " ".join(f"'{part}'" for part in claude)
        (programs / "claude").write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        (programs / "claude").chmod(0o755)
        (programs / "python3").symlink_to(sys.executable)
        self.env = clean_environment(
            self.home,
            PATH=f"{programs}:/usr/bin:/bin:/usr/sbin:/sbin",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
            ENABLE_TOOL_SEARCH="false",
            ANTHROPIC_API_KEY="dummy-key-for-the-stand-in",
        )
        self.project.mkdir(parents=True)
        (self.home / ".claude").mkdir()
        git = ["git", "-C", str(self.project)]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "remote", "add", "origin", "git@example.com:ocean/krill.git"], check=True)

    def run(self, *command: str, seconds: float = 120, **env: str) -> Finished:
        whole = [*self.network.enter(self.number), *command]
        return run_program(whole, env={**self.env, **env}, cwd=self.project, timeout_seconds=seconds)

    def sync(self, *arguments: str) -> Finished:
        return self.run("python3", "-I", "-S", str(self.home / ".memory-sync/bin/memory_sync.py"), *arguments)

    def session(self, prompt: str, steps: list[Call | Say], *, is_served: bool = True) -> ModelStandin:
        with ModelStandin(steps, address=self.network.address) as model:
            done = self.run(
                *("claude", "-p", prompt, "--output-format", "json", "--allowedTools", "mcp__memory"),
                ANTHROPIC_BASE_URL=model.url,
            )
        assert done.exit_code == 0, done.shown()
        if is_served:  # the model is offered the memory's tools
            model.check()
        return model

    def transcripts(self) -> list[Path]:
        return sorted((self.home / ".claude/projects").glob("*/*.jsonl"))


def test_a_second_machine_takes_one_line_and_knows_what_the_first_one_learned(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    with two_hosts() as network:
        port = free_port(network.address)
        origin = f"https://{network.address}:{port}"
        started: list[RunningServer] = []
        settings = {
            "PUBLIC_URL": origin,
            "MEMORY_TRUSTED_PROXIES": "127.0.0.1",
            "PORT": str(free_port("127.0.0.1")),
        }

        def start() -> RunningServer:
            started.append(serve(**settings))
            return started[-1]

        server = start()
        with tls_in_front(tmp_path / "nginx", network.address, port, server.url) as certificate:
            laptop = Host(network, 0, "laptop", tmp_path / "laptop")
            desktop = Host(network, 1, "desktop", tmp_path / "desktop")
            enrol(server, laptop, certificate)
            learn(server, laptop)
            go_on(server, laptop)
            enrol(server, desktop, certificate)
            find_elsewhere(desktop)
            lose_nothing_while_the_server_is_down(server, desktop, start)


def enrol(server: RunningServer, host: Host, certificate: Path) -> None:
    """The line that `invite` prints, run as it is on the other machine."""
    started = time.monotonic()
    invited = subprocess.run(
        [sys.executable, "-m", "federated_memory", "invite", host.name, "--json"],
        env={**server.env, "MEMORY_TLS_CERTIFICATE": str(certificate)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert invited.returncode == 0, invited.stderr
    done = host.run("sh", "-c", json.loads(invited.stdout)["commands"]["sh"] + " --yes --no-schedule")
    print(f"{host.name}: enrolled and connected in {time.monotonic() - started:.1f} s")
    assert done.exit_code == 0, done.shown()
    assert host.sync("test").exit_code == 0, host.sync("test").shown()
    config = host.home / ".memory-sync/config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(config.read_text())["machine"] == host.name


def learn(server: RunningServer, host: Host) -> None:
    """Session one; its end is what uploads it."""
    host.session(FIRST_PROMPT, [Say(FIRST_ANSWER)])
    ended = time.monotonic()
    (transcript,) = host.transcripts()
    wait_until(lambda: held(server, "laptop-claude-code-krill", transcript.stem) == transcript.read_bytes())
    print(f"uploaded {time.monotonic() - ended:.1f} s after the session's end")


def go_on(server: RunningServer, host: Host) -> None:
    """Session two starts informed, and finds what session one said."""

    def search(_: Seen) -> dict[str, str]:
        return {"query": "why does the import stall"}

    model = host.session("And now mend it.", [Call("search_sessions", search), Say(SECOND_ANSWER)])
    prompt = model.main_requests()[0].prompt()
    assert "cursor is reset after each batch" in prompt, "the brief was not in the model's prompt"
    hits = model.seen.json("search_sessions")["hits"]
    assert any("KRILL-4711" in json.dumps(hit) for hit in hits)
    for transcript in host.transcripts():
        wait_until(lambda path=transcript: held(server, "laptop-claude-code-krill", path.stem) == path.read_bytes())


def find_elsewhere(host: Host) -> None:
    """The other machine's first session knows the project's last one."""
    model = host.session("What was the KRILL-4711 stall?", [Say("As the laptop found: the cursor.")])
    assert SECOND_ANSWER in model.main_requests()[0].prompt()


def lose_nothing_while_the_server_is_down(
    server: RunningServer, host: Host, start: Callable[[], RunningServer]
) -> None:
    before = set(host.transcripts())
    server.process.kill()
    server.wait()
    host.session("Note: the nightly import runs at 03:15.", [Say("Noted.")], is_served=False)
    (transcript,) = set(host.transcripts()) - before
    again = start()
    again.wait_until_ready()
    assert host.sync("sync").exit_code == 0, host.sync("sync").shown()
    for path in (transcript, *before):
        assert held(again, "desktop-claude-code-krill", path.stem) == path.read_bytes()


def held(server: RunningServer, workspace_id: str, session_id: str) -> bytes:
    """The bytes that the server has of a session; empty while it has none."""
    with server.api() as api:
        answer = api.call("GET", f"/api/v1/workspaces/{workspace_id}/sessions/{session_id}")
    return answer.body if answer.status == 200 else b""
