"""The client script as a module, and a home of its own for each test."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from scripts.client_module import load_client


@pytest.fixture(scope="session")
def sync() -> ModuleType:
    """`client/memory_sync.py`, loaded once."""
    return load_client()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home; the client's own is `.memory-sync` in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    for name in (
        "MEMORY_SYNC_HOME",
        "MCP_MEMORY_URL",
        "MCP_MEMORY_TOKEN",
        "SYNC_TOKEN",
        "CLAUDE_CONFIG_DIR",
        "CODEX_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    return folder
