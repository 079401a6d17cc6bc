"""Connecting agents: what is written, what is left alone, and what uninstall leaves behind."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

AI_TOKEN = "ai-token-of-the-tests-0123456789"
SYNC_TOKEN = "sync-token-of-the-tests-012345"
ALL = ["claude-code", "codex", "gemini-cli", "opencode", "cursor", "vscode"]

CLAUDE_JSON = '{\n  "numStartups": 7,\n  "mcpServers": {\n    "other": { "command": "x" }\n  },\n  "tipsHistory": {}\n}'
SETTINGS = """{
    // how I like it
    "model": "opus",
    "hooks": {
        "SessionEnd": [
            {"hooks": [{"type": "command", "command": "say goodbye"}]}, // mine
        ]
    }
}
"""
CODEX_TOML = 'model = "gpt"\r\n\r\n[mcp_servers.other]\r\nurl = "http://x"\r\n'


@pytest.fixture(autouse=True)
def _plain_system(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """No agent's command of this machine, and none of its folders."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "SHELL", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    empty = home.parent / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


@pytest.fixture
def config(sync: ModuleType, home: Path) -> Any:
    assert home.exists()
    return sync.Config(url="https://memory.example:7443", machine="laptop", ai_token=AI_TOKEN, sync_token=SYNC_TOKEN)


@pytest.fixture
def lived_in(home: Path) -> dict[Path, bytes]:
    """A home in which every agent has been used; what its files hold."""
    texts = {
        ".claude.json": CLAUDE_JSON,
        ".claude/settings.json": SETTINGS,
        ".claude/CLAUDE.md": "# Mine\n\nBe brief.\n",
        ".codex/config.toml": CODEX_TOML,
        ".gemini/settings.json": "\ufeff" + '{"theme":"x"}',
        ".config/opencode/opencode.jsonc": '{\n\t"$schema": "https://opencode.ai/config.json",\n}\n',
        ".cursor/mcp.json": "",
        ".config/Code/User/mcp.json": '{"servers": {}, "inputs": []}',
        ".profile": "export A=1",
        ".bashrc": "# bash\n",
    }
    for name, text in texts.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(0o600 if name != ".gemini/settings.json" else 0o644)
    return snapshot(home)


def snapshot(home: Path) -> dict[Path, bytes]:
    """Every file of the home but our own, with its mode, and every folder."""

    def shown(path: Path) -> bytes:
        if path.is_symlink() or path.is_dir():
            return b"folder" if path.is_dir() else b"link"
        return f"{path.stat().st_mode:o} ".encode() + path.read_bytes()

    return {path: shown(path) for path in sorted(home.rglob("*")) if ".memory-sync" not in path.parts}


def install(sync: ModuleType, config: Any, clients: list[str] = ALL, *, instructions: bool = False) -> list[Any]:
    changes: list[Any] = sync.plan_install(config, clients, argparse.Namespace(instructions=instructions))
    sync.apply_changes(changes)
    return changes


def uninstall(sync: ModuleType) -> list[Any]:
    changes: list[Any] = sync.plan_uninstall()
    sync.undo_changes(changes)
    return changes


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


@pytest.mark.spec("INST-1")
def test_each_agent_gets_its_entry_in_its_own_form(sync: ModuleType, config: Any, home: Path) -> None:
    install(sync, config)

    def headers(tool: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {AI_TOKEN}", "X-Memory-Machine": "laptop", "X-Memory-Tool": tool}

    url = "https://memory.example:7443/mcp"
    assert read(home / ".claude.json") == {
        "mcpServers": {"memory": {"type": "http", "url": url, "headers": headers("claude-code")}}
    }
    assert read(home / ".gemini/settings.json")["mcpServers"] == {
        "memory": {"httpUrl": url, "headers": headers("gemini-cli")}
    }
    assert read(home / ".config/opencode/opencode.json") == {
        "mcp": {
            "memory": {"type": "remote", "url": url, "enabled": True, "oauth": False, "headers": headers("opencode")}
        }
    }
    assert read(home / ".cursor/mcp.json") == {"mcpServers": {"memory": {"url": url, "headers": headers("cursor")}}}
    assert read(home / ".config/Code/User/mcp.json") == {
        "servers": {"memory": {"type": "http", "url": url, "headers": headers("vscode")}}
    }
    tomllib = pytest.importorskip("tomllib")
    assert tomllib.loads((home / ".codex/config.toml").read_text()) == {
        "mcp_servers": {"memory": {"url": url, "http_headers": headers("codex")}}
    }


@pytest.mark.spec("INST-6")
def test_new_files_with_tokens_are_the_owners_alone(sync: ModuleType, config: Any, home: Path) -> None:
    install(sync, config)

    for path in home.rglob("*"):
        if path.is_file() and AI_TOKEN.encode() in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.spec("INST-1", "INST-8")
def test_the_hooks_stand_beside_those_of_others(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    assert lived_in
    install(sync, config)

    text = (home / ".claude/settings.json").read_text()
    assert text.startswith(SETTINGS.split('"SessionEnd"')[0])
    hooks = sync.parse_json(text).plain()["hooks"]
    assert set(hooks) == {"SessionStart", "Stop", "PreCompact", "SessionEnd"}
    assert hooks["SessionEnd"][0] == {"hooks": [{"type": "command", "command": "say goodbye"}]}
    assert hooks["SessionEnd"][1]["hooks"][0]["command"].endswith("memory_sync.py claude-hook")
    assert hooks["SessionStart"][0]["hooks"][0]["command"].endswith("memory_sync.py brief --client claude")
    assert hooks["SessionStart"][0]["hooks"][0]["timeout"] == 5
    codex = read(home / ".codex/hooks.json")["hooks"]
    assert set(codex) == {"SessionStart", "Stop", "SessionEnd"}
    gemini = sync.parse_json((home / ".gemini/settings.json").read_text()).plain
    assert gemini
    events = read(home / ".gemini/settings.json")["hooks"]
    assert {event: groups[0]["hooks"][0]["timeout"] for event, groups in events.items()} == {
        "SessionStart": 5000,
        "AfterAgent": 5000,
        "SessionEnd": 5000,
    }


@pytest.mark.spec("INST-2")
def test_modes_and_every_foreign_byte_stay(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    install(sync, config)

    codex = (home / ".codex/config.toml").read_bytes()
    assert codex.startswith(CODEX_TOML.encode())
    assert b"\n" not in codex.replace(b"\r\n", b"")
    assert (home / ".gemini/settings.json").read_bytes().startswith(b"\xef\xbb\xbf{")
    after = snapshot(home)
    for path, before in lived_in.items():
        if path.is_file():
            assert after[path].split()[0] == before.split()[0], path
    claude = (home / ".claude.json").read_text()
    added = claude.index('"other": { "command": "x" }') + len('"other": { "command": "x" }')
    assert CLAUDE_JSON.startswith(claude[:added])
    assert claude.endswith('\n  },\n  "tipsHistory": {}\n}')


@pytest.mark.spec("INST-3")
def test_a_second_install_changes_nothing(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    assert lived_in
    assert install(sync, config, instructions=True)
    once = snapshot(home)

    assert install(sync, config, instructions=True) == []
    assert snapshot(home) == once


@pytest.mark.spec("INST-4")
@pytest.mark.parametrize("times", [1, 2])
def test_uninstall_leaves_byte_for_byte_what_was_there(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes], times: int
) -> None:
    for number in range(times):
        config.ai_token = AI_TOKEN + str(number)
        assert install(sync, config, instructions=True)
    assert snapshot(home) != lived_in

    assert uninstall(sync)

    assert snapshot(home) == lived_in
    assert sync.plan_uninstall() == []


@pytest.mark.spec("INST-4")
def test_uninstall_leaves_no_file_in_a_home_that_had_none(sync: ModuleType, config: Any, home: Path) -> None:
    install(sync, config, instructions=True)

    uninstall(sync)

    assert snapshot(home) == {}


@pytest.mark.spec("INST-4")
def test_uninstall_takes_out_only_our_keys_when_others_have_written_since(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    install(sync, config, instructions=True)
    edited = {
        ".claude.json": ('"numStartups": 7', '"numStartups": 8'),
        ".claude/settings.json": ('"model": "opus"', '"model": "haiku"'),
        ".claude/CLAUDE.md": ("Be brief.", "Be long."),
        ".codex/config.toml": ('model = "gpt"', 'model = "other"'),
        ".gemini/settings.json": ('"theme":"x"', '"theme":"y"'),
        ".bashrc": ("# bash", "# Bash"),
    }
    for name, (old, new) in edited.items():
        path = home / name
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    install(sync, config, instructions=True)  # and once more on top

    uninstall(sync)

    expected = dict(lived_in)
    for name, (old, new) in edited.items():
        expected[home / name] = expected[home / name].replace(old.encode(), new.encode())
    assert snapshot(home) == expected


@pytest.mark.spec("INST-4")
def test_an_entry_that_was_ours_by_hand_is_taken_over_and_comes_back(sync: ModuleType, config: Any, home: Path) -> None:
    by_hand = {"mcpServers": {"memory": {"type": "http", "url": config.url + "/mcp", "headers": {"A": "b"}}}}
    (home / ".claude.json").write_text(json.dumps(by_hand, indent=1))
    (home / ".claude.json").chmod(0o600)
    install(sync, config, ["claude-code"])
    (home / ".claude.json").write_text((home / ".claude.json").read_text() + "\n")

    uninstall(sync)

    assert read(home / ".claude.json") == by_hand


@pytest.mark.spec("INST-2")
def test_what_the_user_added_to_our_entry_survives_an_update(sync: ModuleType, config: Any, home: Path) -> None:
    install(sync, config, ["claude-code", "codex"])
    path = home / ".claude.json"
    path.write_text(sync.json_set(path.read_text(), ["mcpServers", "memory", "alwaysLoad"], True))
    toml = home / ".codex/config.toml"
    toml.write_text(sync.toml_set(toml.read_text(), ["mcp_servers", "memory"], {"tool_timeout_sec": 9}))
    config.ai_token = "another-token"

    install(sync, config, ["claude-code", "codex"])

    entry = read(path)["mcpServers"]["memory"]
    assert entry["alwaysLoad"] is True
    assert entry["headers"]["Authorization"] == "Bearer another-token"
    assert "tool_timeout_sec = 9" in toml.read_text()
    assert "another-token" in toml.read_text()


@pytest.mark.spec("INST-6")
def test_a_file_that_others_can_read_refers_to_the_environment(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    for path, found in lived_in.items():
        if found != b"folder":
            path.chmod(0o644)
    (home / ".config/fish").mkdir()
    (home / ".config/fish/config.fish").touch()

    install(sync, config)

    assert '"Bearer ${MCP_MEMORY_TOKEN}"' in (home / ".claude.json").read_text()
    assert 'bearer_token_env_var = "MCP_MEMORY_TOKEN"' in (home / ".codex/config.toml").read_text()
    assert '"Bearer $MCP_MEMORY_TOKEN"' in (home / ".gemini/settings.json").read_text()
    assert '"Bearer {env:MCP_MEMORY_TOKEN}"' in (home / ".config/opencode/opencode.jsonc").read_text()
    assert "${env:MCP_MEMORY_TOKEN}" in (home / ".cursor/mcp.json").read_text()
    vscode = read(home / ".config/Code/User/mcp.json")
    assert vscode["servers"]["memory"]["headers"]["Authorization"] == "Bearer ${input:memory-token}"
    assert vscode["inputs"][0]["password"] is True
    holders = [path for path in home.rglob("*") if path.is_file() and AI_TOKEN.encode() in path.read_bytes()]
    assert {path.name for path in holders} == {"env", "env.fish"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holders)
    for name in (".profile", ".bashrc", ".config/fish/config.fish"):
        assert (home / name).read_text().count("# memory-sync") == 1


@pytest.mark.spec("INST-6")
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_the_profile_line_brings_the_token_into_a_shell(
    sync: ModuleType, config: Any, home: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("MEMORY_SYNC_HOME", str(home / "it's my & home"))
    (home / ".claude.json").write_text("{}")
    (home / ".claude.json").chmod(0o644)
    (home / ".profile").write_text("A=1")
    config.ai_token = "it's a $token"

    install(sync, config, ["claude-code"])

    shown = subprocess.run(
        [shell, "-ec", '. "$HOME/.profile"; printf %s "$MCP_MEMORY_TOKEN"'],
        env={"HOME": str(home)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == "it's a $token"
    uninstall(sync)
    assert (home / ".profile").read_text() == "A=1"


@pytest.mark.spec("INST-7")
def test_a_server_of_somebody_else_keeps_its_name(sync: ModuleType, config: Any, home: Path) -> None:
    foreign = {"command": "npx", "args": ["server-memory"]}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": {"memory": foreign}}))
    (home / ".claude.json").chmod(0o600)
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text('[mcp_servers.memory]\ncommand = "npx"\n')

    planner = sync.make_plan(config, ["claude-code", "codex"])
    sync.apply_changes(planner.changes())

    servers = read(home / ".claude.json")["mcpServers"]
    assert servers["memory"] == foreign
    assert servers["federated-memory"]["url"] == "https://memory.example:7443/mcp"
    assert "[mcp_servers.federated-memory]" in (home / ".codex/config.toml").read_text()
    assert sum("another MCP server called `memory`" in note for note in planner.notes) == 2
    assert install(sync, config, ["claude-code", "codex"]) == []


def broken_json(path: Path) -> None:
    path.write_text('{"mcpServers": {')


def duplicate_keys(path: Path) -> None:
    path.write_text('{"mcpServers": {}, "mcpServers": {}}')


def not_utf8(path: Path) -> None:
    path.write_bytes('{"a": "ü"}'.encode("latin-1"))


def read_only(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0o400)


def link_out_of_the_home(path: Path) -> None:
    other = path.parents[1] / "elsewhere.json"
    other.write_text("{}")
    path.symlink_to(other)


def dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nothing.json")


def folder(path: Path) -> None:
    path.mkdir()


def another_type(path: Path) -> None:
    path.write_text('{"mcpServers": []}')


def both_names_taken(path: Path) -> None:
    path.write_text('{"mcpServers": {"memory": {"command": "a"}, "federated-memory": {"command": "b"}}}')


@pytest.mark.spec("INST-5")
@pytest.mark.parametrize(
    "spoil",
    [
        broken_json,
        duplicate_keys,
        not_utf8,
        read_only,
        link_out_of_the_home,
        dangling_link,
        folder,
        another_type,
        both_names_taken,
    ],
)
def test_a_file_that_cannot_be_edited_is_left_and_the_others_go_on(
    sync: ModuleType, config: Any, home: Path, spoil: Callable[[Path], None]
) -> None:
    path = home / ".claude.json"
    spoil(path)
    before = snapshot(home)

    changes = install(sync, config, ["claude-code", "cursor"])

    assert {name: text for name, text in snapshot(home).items() if name in before} == before
    problems = [change for change in changes if change.problem]
    assert [change.path for change in problems] == [path]
    assert '"memory": {' in problems[0].snippet
    shown = sync.show_change(problems[0], [AI_TOKEN])
    assert "Paste this by hand" in shown
    assert AI_TOKEN not in shown
    assert (home / ".cursor/mcp.json").exists()
    assert (home / ".claude/settings.json").exists()


@pytest.mark.spec("INST-2", "INST-6")
def test_a_link_within_the_home_stays_a_link_and_gets_no_token(sync: ModuleType, config: Any, home: Path) -> None:
    dotfiles = home / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "claude.json").write_text("{}")
    (dotfiles / "claude.json").chmod(0o600)
    (home / ".claude.json").symlink_to("dotfiles/claude.json")

    install(sync, config, ["claude-code"])

    assert os.readlink(home / ".claude.json") == "dotfiles/claude.json"
    assert "${MCP_MEMORY_TOKEN}" in (dotfiles / "claude.json").read_text()
    assert AI_TOKEN not in (dotfiles / "claude.json").read_text()
    uninstall(sync)
    assert (home / ".claude.json").is_symlink()
    assert (dotfiles / "claude.json").read_text() == "{}"


@pytest.mark.spec("INST-5")
def test_a_file_that_changes_after_the_plan_is_not_overwritten(sync: ModuleType, config: Any, home: Path) -> None:
    (home / ".claude.json").write_text("{}")
    changes = sync.plan_install(config, ["claude-code"])
    (home / ".claude.json").write_text('{"new": 1}')

    with pytest.raises(sync.Busy, match="has changed"):
        sync.apply_changes(changes)

    assert (home / ".claude.json").read_text() == '{"new": 1}'
    uninstall(sync)
    assert (home / ".claude.json").read_text() == '{"new": 1}'


@pytest.mark.spec("INST-5")
def test_a_half_finished_install_is_taken_back(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = sync.write_private, []

    def full_disk(path: Path, data: bytes, mode: int = 0o600) -> None:
        if ".memory-sync" not in path.parts:
            if len(written) == 3:
                raise OSError(28, "No space left on device")
            written.append(path)
        real(path, data, mode)

    with monkeypatch.context() as patched:
        patched.setattr(sync, "write_private", full_disk)
        with pytest.raises(sync.SyncError, match="No space left"):
            install(sync, config)
    assert snapshot(home) != lived_in

    uninstall(sync)

    assert snapshot(home) == lived_in


@pytest.mark.spec("INST-3")
def test_the_shown_changes_hold_no_token_and_nobody_elses_secret(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    assert lived_in
    (home / ".cursor/mcp.json").write_text(
        '{\n  "mcpServers": {\n    "x": {\n      "env": {"API_KEY": "sk-very-secret"},\n'
        '      "headers": {"Authorization": "Bearer foreign-secret"}\n    }\n  }\n}\n'
    )

    shown = "".join(sync.show_change(change, [AI_TOKEN, SYNC_TOKEN]) for change in sync.plan_install(config, ALL))

    assert snapshot(home).keys() == lived_in.keys()
    for secret in (AI_TOKEN, SYNC_TOKEN, "sk-very-secret", "foreign-secret"):
        assert secret not in shown
    assert '+      "url": "https://memory.example:7443/mcp"' in shown
    assert "--- /dev/null" in shown
    assert "Bearer ****" in shown


@pytest.mark.spec("INST-9")
def test_a_pinned_certificate_reaches_each_agent(sync: ModuleType, config: Any, home: Path) -> None:
    config.ca_file = str(home / ".memory-sync/ca.pem")

    planner = sync.make_plan(config, ALL)
    sync.apply_changes(planner.changes())

    assert read(home / ".claude/settings.json")["env"] == {"NODE_EXTRA_CA_CERTS": config.ca_file}
    env = (home / ".memory-sync/env").read_text()
    assert f'[ -n "${{NODE_EXTRA_CA_CERTS:-}}" ] || export NODE_EXTRA_CA_CERTS={config.ca_file}\n' in env
    assert "CODEX_CA_CERTIFICATE" in env
    assert AI_TOKEN not in env
    assert any("restart it" in note for note in planner.notes)
    assert any(note.startswith("VS Code trusts the system's certificates only") for note in planner.notes)


@pytest.mark.spec("INST-9")
def test_a_certificate_that_the_user_has_set_is_not_replaced(sync: ModuleType, config: Any, home: Path) -> None:
    config.ca_file = str(home / "ca.pem")
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text('{"env": {"NODE_EXTRA_CA_CERTS": "/corp.pem"}}')

    changes = install(sync, config, ["claude-code"])

    assert read(home / ".claude/settings.json")["env"] == {"NODE_EXTRA_CA_CERTS": "/corp.pem"}
    assert read(home / ".claude/settings.json")["hooks"]
    assert ["append the certificate" in change.problem for change in changes if change.problem] == [True]


@pytest.mark.spec("INST-1")
def test_further_profiles_of_claude_code_are_connected_too(
    sync: ModuleType, config: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".claude").mkdir()
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "work"))
    config.profiles = [str(home / "client"), str(home / "work")]

    install(sync, config, ["claude-code"])

    for path in (".claude.json", "work/.claude.json", "client/.claude.json"):
        assert "memory" in read(home / path)["mcpServers"]
    for path in (".claude", "work", "client"):
        assert read(home / path / "settings.json")["hooks"]


@pytest.mark.spec("INST-1")
def test_agents_are_found_by_their_folders_and_commands(sync: ModuleType, home: Path) -> None:
    assert sync.detect_clients() == []
    (home / ".gemini/tmp").mkdir(parents=True)
    (home / ".claude.json").touch()
    command = Path(os.environ["PATH"]) / "codex"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)

    assert sync.detect_clients() == ["claude-code", "codex", "gemini-cli"]


def test_an_unknown_agent_is_refused(sync: ModuleType, config: Any) -> None:
    with pytest.raises(sync.UsageError, match="no agent called emacs"):
        sync.plan_install(config, ["emacs"])


@pytest.mark.spec("INST-1")
def test_claude_desktop_is_only_connected_when_the_command_can_do_it(sync: ModuleType, config: Any, home: Path) -> None:
    (home / ".config/Claude").mkdir(parents=True)
    planner = sync.make_plan(config, ["claude-desktop"])
    assert planner.changes() == []
    assert "federated-memory" in planner.notes[0]
    assert [finding.level for finding in sync.check_client(config, "claude-desktop")] == ["warning"]
    command = Path(os.environ["PATH"]) / "federated-memory"
    command.write_text('#!/bin/sh\n[ "$1 $2 $3" = "mcp stdio --help" ]\n')
    command.chmod(0o755)

    install(sync, config, ["claude-desktop"])

    entry = read(home / ".config/Claude/claude_desktop_config.json")["mcpServers"]["memory"]
    assert entry["command"] == str(command)
    assert entry["args"] == ["mcp", "stdio", "--machine", "laptop", "--tool", "claude-desktop"]
    assert entry["env"] == {"MCP_MEMORY_URL": config.url + "/mcp", "MCP_MEMORY_TOKEN": AI_TOKEN}
    uninstall(sync)
    assert not (home / ".config/Claude/claude_desktop_config.json").exists()


@pytest.mark.spec("INST-14")
def test_the_instructions_are_short_and_only_written_when_wanted(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    block = f"{sync.BLOCK_BEGIN}\n{sync.INSTRUCTIONS}{sync.BLOCK_END}"
    assert len(block.encode()) < 900
    install(sync, config)
    assert snapshot(home)[home / ".claude/CLAUDE.md"] == lived_in[home / ".claude/CLAUDE.md"]

    install(sync, config, instructions=True)

    assert (home / ".claude/CLAUDE.md").read_text() == f"# Mine\n\nBe brief.\n\n{block}\n"
    for path in (".codex/AGENTS.md", ".gemini/GEMINI.md", ".config/opencode/AGENTS.md"):
        assert (home / path).read_text() == f"{block}\n"


@pytest.mark.spec("INST-15")
def test_the_check_sees_what_install_would_change(sync: ModuleType, config: Any) -> None:
    assert [f.level for f in sync.check_client(config, "claude-code")][:1] == ["error"]
    install(sync, config, ALL)
    sync.install_self()
    for name in ("claude-code", "gemini-cli", "opencode", "cursor", "vscode"):
        assert [(f.level, f.text) for f in sync.check_client(config, name)] == [("ok", f"{name} is connected")]
    untrusted = sync.check_client(config, "codex")
    assert [f.level for f in untrusted] == ["warning"]
    assert "/hooks" in untrusted[0].hint

    config.ai_token = "renewed"
    stale = sync.check_client(config, "claude-code")

    assert [f.level for f in stale] == ["error"]
    assert "MCP server missing or out of date" in stale[0].text
    assert stale[0].hint == "Run: memory_sync.py install --client claude-code"


NASTY = [
    "plain",
    "with space",
    "it's",
    'say "hi"',
    "50%off",
    "a&b;c",
    "$HOME `x`",
    "ümlaut",
    "back\\slash",
    "-dash",
    "",
]


@pytest.mark.spec("INST-8")
@pytest.mark.parametrize("name", NASTY)
def test_a_hook_command_arrives_whole_through_the_shell(sync: ModuleType, tmp_path: Path, name: str) -> None:
    script = tmp_path / f"x{name}.py"
    script.write_text("import sys, os; print(sys.argv[1:], os.environ['A'])")

    line = sync.command_line([sys.executable, "-I", "-S", str(script), name], "sh", {"A": name})

    shown = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert shown.stdout == f"{[name]} {name}\n"


@pytest.mark.spec("INST-8")
def test_hook_commands_are_quoted_for_the_shells_of_windows(sync: ModuleType) -> None:
    arguments = [r"C:\Program Files\Python\python.exe", "-I", r"C:\Users\50% & me's\memory_sync.py", "codex-hook"]

    assert sync.command_line(arguments, "cmd") == (
        r'"C:\Program Files\Python\python.exe" -I "C:\Users\50"^%" & me' + "'" + r's\memory_sync.py" codex-hook'
    )
    assert sync.command_line(arguments, "powershell", {"MEMORY_SYNC_HOME": r"D:\it’s"}) == (
        r"$env:MEMORY_SYNC_HOME = 'D:\it’’s'; & 'C:\Program Files\Python\python.exe' '-I' "
        r"'C:\Users\50% & me''s\memory_sync.py' codex-hook"
    )
    assert sync.command_line(["a"], "cmd", {"H": r"D:\a b"}) == r'set "H=D:\a b"&& a'
    with pytest.raises(sync.UsageError):
        sync.command_line(['a"b'], "cmd")


@pytest.mark.spec("INST-8")
def test_hooks_run_the_base_interpreter_and_know_a_home_that_was_moved(
    sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = sync.interpreter()
    assert os.path.isabs(python)
    assert ".venv" not in python
    shown = subprocess.run([python, "-I", "-S", "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=True)  # fmt: skip # noqa: E501
    assert shown.stdout == f"{sys.version_info[:2]}\n"
    assert "MEMORY_SYNC_HOME" not in sync.hook_command("claude-code", "claude-hook")
    monkeypatch.setenv("MEMORY_SYNC_HOME", str(home / "other place"))

    command = sync.hook_command("claude-code", "claude-hook")

    assert command.startswith(f"MEMORY_SYNC_HOME='{home}/other place' ")
    assert command.endswith(f"'{home}/other place/bin/memory_sync.py' claude-hook")
    assert sync.is_our_hook({"hooks": [{"type": "command", "command": command}]})
    assert not sync.is_our_hook({"hooks": [{"command": "cat memory_sync.py"}, {"command": command}]})


def test_a_backup_is_private_and_holds_the_bytes_from_before(
    sync: ModuleType, config: Any, home: Path, lived_in: dict[Path, bytes]
) -> None:
    assert lived_in
    install(sync, config)

    backups = {path.name.partition("-")[2]: path for path in (home / ".memory-sync/backups").iterdir()}
    assert backups[".claude.json"].read_text() == CLAUDE_JSON
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in backups.values())
    record = read(home / ".memory-sync/install.json")["files"][str(home / ".claude.json")]
    assert record["after"] == hashlib.sha256((home / ".claude.json").read_bytes()).hexdigest()
