"""`up`: which port, which tokens, which words (SPEC: CLI-18 to CLI-20)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from federated_memory.cli import up
from federated_memory.cli.client_script import install_arguments
from federated_memory.errors import Unavailable
from federated_memory.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("PORT", "HOST", "MCP_TOKEN", "SYNC_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return load_settings(_env_file=None, root=tmp_path)


def taken(first: int, count: int) -> list[socket.socket]:
    return [socket.create_server(("127.0.0.1", port)) for port in range(first, first + count)]


def free_run(count: int) -> int:
    """The first of so many ports in a row that nobody uses; below those that the system gives to others by itself."""
    for first in range(20_000 + os.getpid() % 100 * count, 32_000, count):
        try:
            for listener in taken(first, count):
                listener.close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@pytest.mark.spec("CLI-18")
def test_without_a_port_set_the_first_free_one_is_taken(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_run(up._PORTS_TRIED)
    monkeypatch.setattr(Settings.model_fields["port"], "default", first)
    plain = settings.model_copy(update={"port": first})
    plain.model_fields_set.discard("port")
    listeners = taken(first, 2)
    try:
        assert up._free_port(plain) == first + 2
        listeners += taken(first + 2, up._PORTS_TRIED - 2)
        with pytest.raises(Unavailable, match="all in use"):
            up._free_port(plain)
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.spec("CLI-18")
def test_a_port_that_was_set_is_kept_but_not_any_free_one(tmp_path: Path) -> None:
    assert up._free_port(load_settings(_env_file=None, root=tmp_path, port=9_123)) == 9_123
    assert up._free_port(load_settings(_env_file=None, root=tmp_path, port=0)) != 0


@pytest.mark.spec("CLI-18")
def test_the_tokens_are_those_that_the_server_has(settings: Settings, tmp_path: Path) -> None:
    assert up._token(settings, "MCP_TOKEN") == ""
    (tmp_path / "_meta").mkdir()
    (tmp_path / "_meta" / "generated-tokens.env").write_text("# x\nMCP_TOKEN=made-ai\nSYNC_TOKEN=made-sync\n")
    assert [up._token(settings, name) for name in ("MCP_TOKEN", "SYNC_TOKEN")] == ["made-ai", "made-sync"]

    alone = load_settings(_env_file=None, root=tmp_path, mcp_token="mine")
    both = load_settings(_env_file=None, root=tmp_path, mcp_token="mine", sync_token="also")

    assert [up._token(alone, name) for name in ("MCP_TOKEN", "SYNC_TOKEN")] == ["mine", ""]
    assert [up._token(both, name) for name in ("MCP_TOKEN", "SYNC_TOKEN")] == ["mine", "also"]


@pytest.mark.spec("CLI-17", "CLI-18")
def test_the_clients_arguments_hold_no_token() -> None:
    assert install_arguments("http://127.0.0.1:8000", "box") == [
        "install", "--url", "http://127.0.0.1:8000", "--machine", "box",
    ]  # fmt: skip
    assert install_arguments(
        "https://m", "box", clients=["cursor", "codex"], mcp_only=True, yes=True, dry_run=True
    ) == [
        "install", "--url", "https://m", "--machine", "box", "--client", "cursor", "--client", "codex",
        "--mcp-only", "--yes", "--dry-run",
    ]  # fmt: skip
