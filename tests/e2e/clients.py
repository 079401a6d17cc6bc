"""Real MCP clients for the end-to-end tests: run as real processes, in a fresh home, with a clean environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scripts import node_tools

PROXY = node_tools.REPOSITORY / "scripts" / "conformance_proxy.mjs"
PROGRAM_SECONDS = 60.0


class Server(Protocol):
    """What the tests with real clients need of the fixture `server`: a running `federated-memory serve`."""

    @property
    def url(self) -> str: ...  # the origin
    @property
    def mcp_url(self) -> str: ...
    @property
    def ai_token(self) -> str: ...
    @property
    def sync_token(self) -> str: ...
    @property
    def root(self) -> Path: ...  # MEMORY_ROOT


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    exit_code: int
    output: str
    errors: str
    elapsed_seconds: float

    def shown(self) -> str:
        """For an assertion's message."""
        return f"exit code {self.exit_code}\n--- stdout\n{self.output}\n--- stderr\n{self.errors}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished turn of Claude Code."""

    finished: Finished
    transcript: Path  # as the CLI itself wrote it
    session_id: str  # the CLI's own id, which also names the transcript


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment with nothing of the developer's own: no tokens, no proxies, no settings, no home."""
    folders = {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local/share",
        "XDG_STATE_HOME": home / ".local/state",
        "XDG_CACHE_HOME": home / ".cache",
        "TMPDIR": home / "tmp",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    paths = {name: str(folder) for name, folder in folders.items()}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **paths, **more}


def run_program(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout_seconds: float = PROGRAM_SECONDS
) -> Finished:
    """Run `command` to its end, standard input closed. It and all that it started is dead when this returns.

    Raises:
        AssertionError: It did not end in time; the message has what it printed.
    """
    started = time.monotonic()
    with subprocess.Popen(
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            output, errors = process.communicate()
            raise AssertionError(
                f"{command[0]} did not end within {timeout_seconds} s\n--- stdout\n{output}\n--- stderr\n{errors}"
            ) from None
        finally:
            _kill_group(process)
    return Finished(process.returncode, output, errors, time.monotonic() - started)


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class ClaudeCode:
    """The Claude Code CLI on a machine of its own: a fresh home and one project folder, both below `folder`."""

    def __init__(self, folder: Path, project: str = "shop") -> None:
        self.home = folder / "home"
        self.project = folder / project
        self.project.mkdir(parents=True)
        self._program = node_tools.ensure("claude")["claude"]
        self._env = clean_environment(
            self.home,
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
            ENABLE_TOOL_SEARCH="false",  # else the model is shown only the names of MCP tools
            ANTHROPIC_API_KEY="dummy-key-for-the-stand-in",
            ANTHROPIC_BASE_URL="http://127.0.0.1:9",  # nothing listens there: no model outside a turn
        )

    def run(self, *arguments: str, **env: str) -> Finished:
        return run_program([*self._program, *arguments], env={**self._env, **env}, cwd=self.project)

    def connect(self, mcp_url: str, token: str, name: str = "memory") -> Finished:
        """Register the server as a user would, for all projects."""
        header = f"Authorization: Bearer {token}"
        return self.run("mcp", "add", "--scope", "user", "--transport", "http", name, mcp_url, "--header", header)

    def health(self, name: str = "memory") -> str:
        """What `claude mcp get` prints; it connects, but its exit code says nothing of how that went."""
        return self.run("mcp", "get", name).output

    def turn(self, prompt: str, model_url: str, *, server: str = "memory") -> Turn:
        """One whole turn, print mode, all tools of `server` allowed and nothing else.

        Raises:
            AssertionError: The CLI failed, or wrote no transcript of this turn.
        """
        before = set(self.transcripts())
        finished = self.run(
            *("-p", prompt, "--output-format", "json", "--allowedTools", f"mcp__{server}"),
            ANTHROPIC_BASE_URL=model_url,
        )
        assert finished.exit_code == 0, finished.shown()
        written = set(self.transcripts()) - before
        assert len(written) == 1, f"expected one new transcript, found {sorted(written)}\n{finished.shown()}"
        transcript = written.pop()
        return Turn(finished, transcript, transcript.stem)

    def transcripts(self) -> list[Path]:
        return sorted((self.home / ".claude" / "projects").glob("*/*.jsonl"))


def inspector(home: Path, mcp_url: str, token: str, *arguments: str) -> Finished:
    """The Inspector's command-line mode against a server over streamable HTTP."""
    command = node_tools.ensure("inspector")["inspector"]
    target = ["--cli", mcp_url, "--transport", "http", "--header", f"Authorization: Bearer {token}"]
    return run_program([*command, *target, *arguments], env=clean_environment(home), cwd=home)


@contextlib.contextmanager
def header_proxy(home: Path, origin: str, token: str) -> Iterator[str]:
    """A reverse proxy on a free loopback port that adds the bearer token to each request; yields its origin."""
    command = [*node_tools.ensure("node")["node"], str(PROXY), origin, token]
    with subprocess.Popen(
        command,
        env=clean_environment(home),
        cwd=home,
        stdin=subprocess.PIPE,  # the proxy ends when this closes, so it cannot outlive the tests
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            _kill_group(process)


def conformance(home: Path, mcp_url: str, *arguments: str) -> Finished:
    """The official conformance suite against a server; its `server` command with `arguments`."""
    command = node_tools.ensure("conformance")["conformance"]
    return run_program([*command, "server", "--url", mcp_url, *arguments], env=clean_environment(home), cwd=home)
