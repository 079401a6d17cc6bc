"""Real server processes on free ports; each test says what it wants of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

STARTED = "Connect an agent"
PATIENCE_SECONDS = 30.0


@dataclass
class RunningServer:
    """A `federated-memory serve` process. `log` and `printed`, its two outputs line by line, grow while it runs."""

    process: subprocess.Popen[str]
    root: Path
    url: str
    env: dict[str, str]
    ai_token: str = "ai-token-of-the-tests"
    sync_token: str = "sync-token-of-the-tests"
    log: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"

    @property
    def admin_token(self) -> str:
        return str(json.loads((self.root / "_meta" / "control.json").read_text())["token"])

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def api(self, token: str | None = None, **headers: str) -> Api:
        """A client over one connection; the sync token unless told otherwise. Close it."""
        return Api(self.address, self.sync_token if token is None else token, headers)

    def wait_until_ready(self) -> None:
        """Until recovery has finished and the first scan is done."""
        with self.api("") as api:
            wait_until(lambda: self.process.poll() is not None or api.call("GET", "/readyz").status == 200)
        assert self.process.poll() is None, self.shown()

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Signal the process and wait for its end; returns its exit code. `log` is whole then."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        for reader in self.readers:
            reader.join(PATIENCE_SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return code

    def problems(self) -> list[str]:
        """Log lines of a promise that broke, and every traceback."""
        return [line for line in self.log if re.search(r"Traceback| (ERROR|CRITICAL) |\"level\": \"ERROR\"", line)]

    def shown(self) -> str:
        """For an assertion's message."""
        return "".join(self.log[-60:])


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def code(self) -> str:
        """The error code of a problem; empty when it is none."""
        is_problem = self.headers.get("content-type") == "application/problem+json"
        return str(self.json["code"]) if is_problem else ""


class Api:
    """A well-behaved HTTP client over one connection, kept alive, opened again when the server has closed it."""

    def __init__(self, address: tuple[str, int], token: str, headers: Mapping[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECONDS)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._headers |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; header names with `_` for `-`. Raises: OSError, HTTPException: no answer came."""
        found = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        try:
            self._connection.request(method, path, body, found)
            response = self._connection.getresponse()
            data = response.read()
        except BaseException:
            self._connection.close()
            raise
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, data)

    def register(self, project: str = "shop", machine: str = "box", tool: str = "claude") -> Workspace:
        """A workspace of one's own: with the first sync token, its write token; with an AI token, a binding."""
        names = {"machine": machine, "tool": tool, "project": project}
        answer = self.call("POST", "/api/v1/workspaces", json.dumps(names).encode())
        assert answer.status in (200, 201), answer
        found = answer.json
        return Workspace(self, found["workspace_id"], found.get("write_token") or "", found.get("binding") or "")


@dataclass(frozen=True)
class Workspace:
    """One workspace as its owner reaches it over HTTP."""

    api: Api
    workspace_id: str
    write_token: str = ""
    binding: str = ""

    @property
    def url(self) -> str:
        return f"/api/v1/workspaces/{self.workspace_id}"

    def call(self, method: str, place: str, body: bytes | None = None, **headers: str) -> Answer:
        """`place` is `overview`, `knowledge/PATH`, `sessions/ID`, …"""
        rights = {"X_Write_Token": self.write_token} if self.write_token else {"X_Memory_Binding": self.binding}
        path, _, query = place.partition("?")
        return self.api.call(method, f"{self.url}/{quote(path)}" + (f"?{query}" if query else ""), body,
                             **rights, **headers)  # fmt: skip

    def by(self, api: Api) -> Workspace:
        """The same workspace over another connection."""
        return Workspace(api, self.workspace_id, self.write_token, self.binding)


def wait_until(happened: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Ask again and again until it has happened; fails the test when it never does."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.005)


def command(root: Path, **options: str | None) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a server; an option that is None is not set at all.

    `module`: what to run instead of the package, such as one that adds fixtures to it.
    """
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(root.parent),
        "MEMORY_ROOT": str(root),
        "PORT": "0",
        "MCP_TOKEN": RunningServer.ai_token,
        "SYNC_TOKEN": RunningServer.sync_token,
        "MEMORY_MIN_FREE_BYTES": "0",
        **options,
    }
    return (
        [sys.executable, "-m", options.get("module") or "federated_memory", "serve"],
        {name: value for name, value in env.items() if value is not None and name != "module"},
    )


def start_server(root: Path, **options: str | None) -> RunningServer:
    """Start a server on a free port and wait until it has said that it listens."""
    arguments, env = command(root, **options)
    process = subprocess.Popen(
        arguments, env=env, cwd=root.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    server = RunningServer(process, root, "", env)
    started = threading.Event()

    def read_output() -> None:
        for line in process.stdout or ():
            server.printed.append(line)
            if line.lstrip().startswith("Gemini"):  # the last line of the greeting
                started.set()
        started.set()

    def read_log() -> None:
        server.log.extend(process.stderr or ())

    for work in (read_output, read_log):
        server.readers.append(threading.Thread(target=work, daemon=True))
        server.readers[-1].start()
    started.wait(PATIENCE_SECONDS)
    if not any(line.startswith(STARTED) for line in server.printed):
        server.stop(signal.SIGKILL)
        pytest.fail("the server did not start:\n" + server.shown())
    server.url = json.loads((root / "_meta" / "control.json").read_text())["url"]
    return server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers; `root` names a folder below the test's, other options are environment variables."""
    servers: list[RunningServer] = []

    def start(root: str = "memory", **options: str | None) -> RunningServer:
        server = start_server(tmp_path / root, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of a module."""
    running = start_server(tmp_path_factory.mktemp("server") / "memory")
    yield running
    running.stop()
