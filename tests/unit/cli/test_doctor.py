"""`doctor`: 0 fine, 1 warnings, 2 failures."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from federated_memory.store.root import Root
from tests.unit.cli.conftest import Cli, Ran


def states(ran: Ran) -> dict[str, str]:
    """Name of each check that is not ok → its state."""
    return {row["name"]: row["state"] for row in ran.json["checks"] if row["state"] != "ok"}


@pytest.mark.spec("CLI-11")
def test_right_after_init_only_the_stopped_server_is_warned_of(cli: Cli, made: Path) -> None:
    assert made
    ran = cli("doctor", "--json")

    assert (ran.code, states(ran)) == (1, {"server": "warn"})
    assert {row["name"] for row in ran.json["checks"]} >= {
        "settings", "root", "modes", "disk", "inodes", "clock", "tokens", "address", "ripgrep", "isal", "re2", "server",
    }  # fmt: skip


@pytest.mark.spec("CLI-11")
def test_every_hint_says_what_to_do(cli: Cli, memory: Path) -> None:
    ran = cli("doctor")

    assert ran.code == 2
    assert f"FAIL  root      there is none at {memory}\n" in ran.out
    assert "Run `federated-memory init`, or set MEMORY_ROOT.\n" in ran.out
    assert not memory.exists()


@pytest.mark.spec("CLI-11")
@pytest.mark.parametrize(
    ("environment", "name", "state"),
    [
        ({"HOST": "0.0.0.0"}, "address", "warn"),
        ({"HOST": "0.0.0.0", "PUBLIC_URL": "http://memory.example.org"}, "address", "warn"),
        ({"HOST": "0.0.0.0", "MCP_TOKEN": "dev-token"}, "tokens", "fail"),
        ({"PUBLIC_URL": "https://memory.example.org", "SYNC_TOKEN": "dev-sync-token"}, "tokens", "fail"),
        ({"PUBLIC_URL": "https://memory.example.org", "MCP_TOKEN": "brief-71"}, "tokens", "warn"),
        ({"MCP_TOKEN": "one-and-the-same-token", "SYNC_TOKEN": "one-and-the-same-token"}, "tokens", "fail"),
        ({"MEMORY_MIN_FREE_BYTES": str(10**18)}, "disk", "fail"),
        ({"PORT": "many"}, "settings", "fail"),
    ],
)
def test_settings_that_will_not_do_are_found(
    cli: Cli, made: Path, environment: dict[str, str], name: str, state: str
) -> None:
    assert made
    ran = cli("doctor", "--json", **environment)

    assert states(ran)[name] == state
    assert ran.code == (2 if "fail" in states(ran).values() else 1)
    secrets = [value for key, value in environment.items() if key.endswith("TOKEN")]
    assert not any(secret in ran.out + ran.err for secret in secrets)


@pytest.mark.spec("CLI-11")
@pytest.mark.parametrize(
    "environment",
    [
        {"MCP_TOKEN": "dev-token", "SYNC_TOKEN": "dev-sync-token"},
        {"MCP_TOKEN": "a-token-that-is-long-enough", "HOST": "0.0.0.0", "PUBLIC_URL": "https://memory.example.org"},
    ],
)
def test_settings_that_will_do_are_well(cli: Cli, made: Path, environment: dict[str, str]) -> None:
    assert made
    assert states(cli("doctor", "--json", **environment)) == {"server": "warn"}


@pytest.mark.spec("CLI-11")
def test_modes_and_clock_are_looked_at(cli: Cli, made: Path) -> None:
    (made / "_meta/generated-tokens.env").chmod(0o644)
    connection = sqlite3.connect(made / "_meta/state.sqlite3")
    with connection:
        connection.execute(
            "INSERT INTO changes (epoch, workspace_id, sequence, kind, key, operation, at, actor, source)"
            " VALUES (1, 'w', 1, 'workspace', 'w', 'create', '2999-01-01T00:00:00Z', '', '')"
        )
    connection.close()

    assert states(cli("doctor", "--json")) == {"modes": "warn", "clock": "warn", "server": "warn"}


@pytest.mark.spec("CLI-11")
def test_a_damaged_state_database_is_a_failure(cli: Cli, made: Path) -> None:
    (made / "_meta/state.sqlite3").write_bytes(b"no database at all" * 100)

    assert states(cli("doctor", "--json"))["state"] == "fail"


@pytest.mark.spec("CLI-12")
def test_a_server_that_died_and_one_that_is_silent_are_told_apart(cli: Cli, made: Path) -> None:
    left = {"url": "http://127.0.0.1:1", "pid": os.getpid(), "token": "x"}
    (made / "_meta/control.json").write_text(json.dumps(left))
    (made / "_meta/control.json").chmod(0o600)

    died = cli("doctor", "--json")
    holder = Root(made)
    try:
        silent = cli("doctor", "--json")
    finally:
        holder.close()

    assert states(died) == {"server": "warn"}
    assert "not by itself" in died.out
    assert (silent.code, states(silent)) == (2, {"server": "fail"})
