"""The client script as a module, and a home of its own for each test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "client" / "memory_sync.py"


@pytest.fixture(scope="session")
def sync() -> ModuleType:
    """`client/memory_sync.py`, loaded once."""
    spec = importlib.util.spec_from_file_location("memory_sync", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["memory_sync"] = module
    spec.loader.exec_module(module)
    return module


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
