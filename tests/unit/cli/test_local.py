"""Verbs on a root that no server holds."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.auth.tokens import Tokens
from federated_memory.names import WorkspaceId
from federated_memory.settings import Settings
from federated_memory.store.registry import Registry
from federated_memory.store.root import Root
from tests.unit.cli.conftest import Cli

ADMIN = Caller(Grant("tester", "admin", "0" * 32))


def add_workspace(memory: Path, **names: str) -> str:
    services = open_services(Settings(root=memory))
    try:
        return services.workspaces.register(ADMIN, **names).workspace_id
    finally:
        close_services(services)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- init


@pytest.mark.spec("CLI-10")
def test_init_makes_a_whole_root_and_says_what_comes_next(cli: Cli, memory: Path) -> None:
    ran = cli("init")

    assert ran.code == 0
    assert f"{memory} (made now)" in ran.out
    assert "federated-memory serve" in ran.out
    made = contents(memory)
    assert {"README.md", "INDEX.md", "_meta/secret.key", "_meta/generated-tokens.env"} <= made.keys()
    for name in ("_meta/secret.key", "_meta/generated-tokens.env"):
        assert stat.S_IMODE((memory / name).stat().st_mode) == 0o600
    tokens = made["_meta/generated-tokens.env"].decode()
    assert not any(line.split("=")[-1] in ran.out + ran.err for line in tokens.splitlines() if "=" in line)


@pytest.mark.spec("CLI-10")
def test_init_again_overwrites_nothing(cli: Cli, made: Path) -> None:
    (made / "README.md").write_text("mine")
    before = contents(made)

    ran = cli("init", "--json")

    assert ran.json == {
        "root": str(made), "created": False, "running": False,
        "tokens_file": str(made / "_meta/generated-tokens.env"),
    }  # fmt: skip
    after = contents(made)
    assert {name: after[name] for name in before if "sqlite3" not in name} == {
        name: data for name, data in before.items() if "sqlite3" not in name
    }


@pytest.mark.spec("CLI-10")
def test_init_makes_no_tokens_where_the_settings_have_some(cli: Cli, memory: Path) -> None:
    ran = cli("init", "--json", MCP_TOKEN="a-token-of-mine")

    assert ran.json["tokens_file"] is None
    assert not (memory / "_meta/generated-tokens.env").exists()


# -- a stopped server


@pytest.mark.spec("CLI-4")
@pytest.mark.parametrize("verb", [("status",), ("token", "list"), ("workspace", "list"), ("token", "revoke", "x")])
def test_a_root_that_is_missing_is_not_made_by_looking(cli: Cli, memory: Path, verb: tuple[str, ...]) -> None:
    ran = cli(*verb)

    assert ran.code == 4
    assert "federated-memory init" in ran.err
    assert ran.out == ""
    assert not memory.exists()


@pytest.mark.spec("CLI-9")
def test_status_says_that_a_server_is_stopped(cli: Cli, made: Path) -> None:
    ran = cli("status")
    assert ran.code == 1
    assert ran.out.startswith("Server       stopped\nReady        no\n")

    told = cli("status", "--json")
    assert told.code == 1
    assert {name: told.json[name] for name in ("running", "url", "pid", "ready", "root", "workspaces")} == {
        "running": False, "url": "", "pid": 0, "ready": False, "root": str(made), "workspaces": 0,
    }  # fmt: skip


@pytest.mark.spec("CLI-5")
def test_a_control_file_of_a_server_that_died_is_passed_over(cli: Cli, made: Path) -> None:
    dead = {"url": "http://127.0.0.1:1", "pid": 2**22 + 1, "token": "x"}
    for left in (json.dumps(dead), json.dumps({**dead, "pid": os.getpid()}), "{torn", "[]", ""):
        (made / "_meta/control.json").write_text(left)
        assert cli("token", "list", "--json").json == []


@pytest.mark.spec("CLI-6")
def test_a_root_that_is_held_by_a_silent_process_is_locked(
    cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federated_memory.cli.backend._LOCK_PAUSE_SECONDS", 0)
    holder = Root(made)
    try:
        ran = cli("token", "list")
    finally:
        holder.close()

    assert ran.code == 14
    assert "cannot be reached" in ran.err


@pytest.mark.spec("CLI-4")
def test_root_does_not_touch_what_belongs_to_the_servers_user(
    cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("federated_memory.cli.backend._owner_of", lambda _: 4711)

    ran = cli("token", "create", "laptop", "--role", "ai")

    assert ran.code == 7
    assert "user 4711" in ran.err
    assert not (made / "_meta/tokens.json").exists()


# -- tokens


@pytest.mark.spec("CLI-7")
def test_a_token_is_shown_once_and_listed_without_its_secret(cli: Cli, made: Path) -> None:
    created = cli(
        "token", "create", "laptop", "--role", "ai", "--read", "box-*", "--read", "shared", "--write", "box-*",
        "--machine", "box", "--expires", "90d", "--json",
    )  # fmt: skip

    assert created.code == 0
    secret = created.json["token"]
    assert created.json | {"token": "", "created_at": "", "expires_at": ""} == {
        "name": "laptop", "role": "ai", "read": ["box-*", "shared"], "write": ["box-*"], "machine": "box",
        "read_keys": [], "write_keys": [], "read_rooms": [], "write_rooms": [],
        "state": "active", "token": "", "created_at": "", "expires_at": "",
    }  # fmt: skip
    for listed in (cli("token", "list"), cli("token", "list", "--json")):
        assert secret not in listed.out
        assert "laptop" in listed.out
    assert secret.encode() not in b"".join(contents(made).values())
    root = Root(made)
    try:
        assert getattr(Tokens(root, ai=None, sync=None).verify(secret), "name", "") == "laptop"
    finally:
        root.close()


@pytest.mark.spec("CLI-7")
def test_a_revoked_token_opens_nothing(cli: Cli, made: Path) -> None:
    secret = cli("token", "create", "laptop", "--role", "read", "--json").json["token"]

    assert cli("token", "revoke", "laptop").out == "Token laptop is revoked.\n"

    assert cli("token", "list", "--json").json[0]["state"] == "revoked"
    root = Root(made)
    try:
        assert Tokens(root, ai=None, sync=None).verify(secret) == "revoked_token"
    finally:
        root.close()


@pytest.mark.spec("CLI-7")
def test_for_people_the_secret_stands_in_a_line_of_its_own(cli: Cli, made: Path) -> None:
    assert made
    ran = cli("token", "create", "laptop", "--role", "sync")

    assert ran.code == 0
    secret = next(line.split()[1] for line in ran.out.splitlines() if line.startswith("Secret"))
    assert secret.startswith("fm_sync_")
    assert ran.out.endswith("Keep the secret now: it is not shown again.\n")


@pytest.mark.spec("CLI-1")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("token", "create", "laptop"), 2),
        (("token", "create", "laptop", "--role", "king"), 2),
        (("token",), 2),
        (("nothing",), 2),
        ((), 2),
        (("token", "create", "Not a name", "--role", "ai"), 9),
        (("token", "create", "ai", "--role", "ai"), 9),
        (("token", "create", "laptop", "--role", "ai", "--expires", "soon"), 9),
        (("token", "revoke", "nobody"), 4),
        (("token", "revoke", "a/b"), 4),
        (("workspace", "show", "nowhere"), 4),
        (("workspace", "show", "../etc"), 8),
        (("workspace", "reissue", "Über"), 8),
        (("workspace", "reissue", "nowhere"), 4),
    ],
)
def test_errors_have_their_exit_codes(cli: Cli, made: Path, arguments: tuple[str, ...], code: int) -> None:
    assert made
    ran = cli(*arguments)

    assert ran.code == code
    assert ran.out == ""
    assert ran.err
    assert "Traceback" not in ran.err


@pytest.mark.spec("CLI-1")
def test_a_name_in_use_is_a_conflict(cli: Cli, made: Path) -> None:
    assert made
    assert cli("token", "create", "laptop", "--role", "ai").code == 0
    assert cli("token", "create", "laptop", "--role", "ai").code == 5


@pytest.mark.spec("CLI-1")
def test_settings_that_are_wrong_are_named_and_their_values_are_not(cli: Cli, made: Path) -> None:
    assert made
    ran = cli("status", PORT="canary-31")

    assert ran.code == 9
    assert "PORT" in ran.err
    assert "canary-31" not in ran.err


# -- workspaces


@pytest.mark.spec("CLI-8")
def test_workspaces_are_listed_shown_and_filtered(cli: Cli, made: Path) -> None:
    first = add_workspace(made, machine="box", tool="claude", project="shop")
    add_workspace(made, machine="Laptop", tool="codex", project="shop")

    assert [row["workspace_id"] for row in cli("workspace", "list", "--json").json] == [
        "box-claude-shop",
        "laptop-codex-shop",
    ]
    assert [row["workspace_id"] for row in cli("workspace", "list", "--machine", "LAPTOP", "--json").json] == [
        "laptop-codex-shop"
    ]
    assert cli("workspace", "list", "--tool", "none").out.startswith("No workspaces.")
    assert cli("workspace", "show", first, "--json").json["machine"] == "box"
    assert cli("workspace", "show", first).out.startswith("Workspace    box-claude-shop\nMachine      box\n")
    assert cli("workspace", "list").out.splitlines()[0].startswith("WORKSPACE")


@pytest.mark.spec("CLI-8", "WS-3")
def test_reissue_gives_a_new_write_token_and_ends_the_old_one(cli: Cli, made: Path) -> None:
    workspace_id = add_workspace(made, machine="box", tool="claude", project="shop")
    first, second = (cli("workspace", "reissue", workspace_id, "--json").json["write_token"] for _ in range(2))

    root = Root(made)
    try:
        registry, wanted = Registry(root), WorkspaceId(workspace_id)
        assert [registry.is_write_token(wanted, token) for token in (first, second)] == [False, True]
    finally:
        root.close()
    assert cli("workspace", "reissue", workspace_id).out.endswith("The old one has ended.\n")


# -- check


@pytest.mark.spec("CHECK-8")
def test_check_ends_with_1_when_there_is_something_to_act_on(
    cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federated_memory.operate.check.PAUSE_SECONDS", 0)
    well = cli("check")
    assert (well.code, well.err) == (0, "")
    assert well.out.endswith("Nothing is wrong.\n")
    assert cli("check", "--read-data", "--json").json["ok"] is True

    (made / "workspaces" / "stranger").mkdir()
    found = cli("check")
    told = cli("check", "--json")

    assert (found.code, told.code) == (1, 1)
    assert found.out.startswith("warning: workspaces/stranger: not in the registry")
    assert "Found 0 errors and 1 warning.\n" in found.out
    assert told.json["ok"] is False
    assert [finding["severity"] for finding in told.json["findings"]] == ["warning"]


@pytest.mark.spec("CHECK-8")
def test_check_needs_a_root_and_makes_none(cli: Cli, memory: Path) -> None:
    assert cli("check").code == 4
    assert not memory.exists()
