"""The command, run in this process, on a root of the test's own."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from federated_memory.cli.main import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where the root is, once there is one."""
    return tmp_path / "memory"


@pytest.fixture
def cli(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Run the command with these arguments; options are environment variables."""
    for name in ("MCP_TOKEN", "SYNC_TOKEN", "HOST", "PORT", "PUBLIC_URL", "MCP_MEMORY_URL", "MCP_MEMORY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEMORY_ROOT", str(memory))
    monkeypatch.chdir(tmp_path)
    root_logger = logging.getLogger()
    before, umask = (root_logger.handlers[:], root_logger.level), os.umask(0o022)

    def run(*arguments: str, **environment: str) -> Ran:
        with pytest.MonkeyPatch.context() as more:
            for name, value in environment.items():
                more.setenv(name, value)
            try:
                code = main(arguments)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    yield run
    root_logger.handlers[:], root_logger.level = before
    os.umask(umask)


@pytest.fixture
def made(cli: Cli, memory: Path) -> Path:
    """A root that `init` has just made."""
    assert cli("init").code == 0
    return memory
