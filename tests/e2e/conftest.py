"""Real server processes on free ports; each test says what it wants of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STARTED = "Connect an agent"


@dataclass
class RunningServer:
    """A `federated-memory serve` process. `log` grows while it runs."""

    process: subprocess.Popen[str]
    root: Path
    url: str
    env: dict[str, str]
    ai_token: str = "ai-token-of-the-tests"
    sync_token: str = "sync-token-of-the-tests"
    log: list[str] = field(default_factory=list)

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"

    @property
    def admin_token(self) -> str:
        return str(json.loads((self.root / "_meta" / "control.json").read_text())["token"])

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Signal the process and wait for its end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(timeout=30)


def start_server(root: Path, **options: str) -> RunningServer:
    """Start a server on a free port and wait until it has said that it listens."""
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
    process = subprocess.Popen(
        [sys.executable, "-m", "federated_memory", "serve"],
        env=env, cwd=root.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    server = RunningServer(process, root, "", env)
    assert process.stderr is not None
    threading.Thread(target=lambda: server.log.extend(process.stderr or ()), daemon=True).start()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(STARTED):
            break
    else:
        process.wait()
        pytest.fail("the server did not start:\n" + "".join(server.log))
    threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
    server.url = json.loads((root / "_meta" / "control.json").read_text())["url"]
    return server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers; `root` names a folder below the test's, other options are environment variables."""
    servers: list[RunningServer] = []

    def start(root: str = "memory", **options: str) -> RunningServer:
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
