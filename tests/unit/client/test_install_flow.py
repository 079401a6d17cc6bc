"""`install` and `uninstall` as commands: the client script in a process of its own, in a fresh home."""

from __future__ import annotations

import json
import os
import pty
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CLIENT = Path(__file__).parents[3] / "client"
AI_TOKEN = "ai-token-of-the-tests-0123456789"
URL = "http://127.0.0.1:9"  # nobody is there: without a sync token nothing is sent
GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@pytest.fixture
def machine(home: Path) -> Path:
    """A home with Claude Code in it, two projects and three sessions; the client is on it, apart from its home."""
    shutil.copytree(CLIENT, home.parent / "client", ignore=shutil.ignore_patterns("__pycache__"))
    for project, count in (("shop", 2), ("diary", 1)):
        folder = home / "src" / project
        (folder / ".git").mkdir(parents=True)
        (folder / ".git" / "config").write_text(f'[remote "origin"]\n\turl = https://example.com/me/{project}.git\n')
        sessions = home / ".claude" / "projects" / str(folder).replace("/", "-")
        sessions.mkdir(parents=True)
        for number in range(count):
            line = {"type": "user", "cwd": str(folder), "sessionId": f"{project}-{number}"}
            text = {**line, "message": {"role": "user", "content": f"push with {GITHUB}"}}
            (sessions / f"{project}-{number}.jsonl").write_text(json.dumps(text) + "\n")
    return home


def command(machine: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(machine.parent / "client" / "memory_sync.py"), *arguments]


def environment(machine: Path, **more: str) -> dict[str, str]:
    (machine.parent / "bin").mkdir(exist_ok=True)
    return {"HOME": str(machine), "PATH": str(machine.parent / "bin"), "LC_ALL": "C.UTF-8", **more}


def run(machine: Path, *arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The command without a terminal."""
    return subprocess.run(
        command(machine, *arguments), input=given, capture_output=True, text=True, check=False, timeout=60,
        env=environment(machine, **env), cwd=machine, start_new_session=True,
    )  # fmt: skip


def run_with_answers(machine: Path, answers: str, *arguments: str) -> tuple[int, str]:
    """The command on a terminal, with somebody who types `answers`; exit code and all that was shown."""
    ours, theirs = pty.openpty()
    os.write(ours, answers.encode())
    try:
        done = subprocess.run(
            command(machine, *arguments), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=60, cwd=machine, start_new_session=True,
            env=environment(machine, MCP_MEMORY_TOKEN=AI_TOKEN),
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout


def everything(machine: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(machine.rglob("*")) if path.is_file()}


def config(machine: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((machine / ".memory-sync" / "config.json").read_text())
    return found


INSTALL = ["install", "--url", URL, "--machine", "box", "--no-schedule"]


@pytest.mark.spec("INST-11")
def test_without_a_person_to_ask_nothing_is_changed(machine: Path) -> None:
    before = everything(machine)

    done = run(machine, *INSTALL, MCP_MEMORY_TOKEN=AI_TOKEN)

    assert done.returncode == 2
    assert "Run it with --yes" in done.stderr
    after = everything(machine)
    assert {path: data for path, data in after.items() if ".memory-sync" not in path} == before
    assert [path for path in after if ".memory-sync" in path and not path.endswith(".lock")] == []


@pytest.mark.spec("INST-3")
def test_a_dry_run_prints_every_change_and_writes_nothing_at_all(machine: Path) -> None:
    before = everything(machine)

    done = run(machine, *INSTALL, "--dry-run", "--instructions", MCP_MEMORY_TOKEN=AI_TOKEN)

    assert done.returncode == 0, done.stderr
    assert everything(machine) == before
    assert AI_TOKEN not in done.stdout + done.stderr
    for file in (".claude.json", ".claude/settings.json", ".claude/CLAUDE.md"):
        assert f"+++ {machine}/{file}" in done.stdout
    assert '+        "Authorization": "Bearer ****",' in done.stdout


@pytest.mark.spec("INST-3")
def test_a_dry_run_does_not_use_up_an_invitation(machine: Path) -> None:
    done = run(machine, "install", "--invite", f"{URL}/#abcdefghijklmnopqrstuvwxyz", "--dry-run", "--no-schedule")

    assert done.returncode == 0, done.stderr
    assert f'"url": "{URL}/mcp"' in done.stdout
    assert not (machine / ".memory-sync").exists()


@pytest.mark.spec("INST-4", "INST-12")
def test_install_with_yes_connects_and_uninstall_leaves_what_was_there(machine: Path) -> None:
    before = everything(machine)

    done = run(machine, *INSTALL, "--yes", "--json", MCP_MEMORY_TOKEN=AI_TOKEN)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["clients"] == ["claude-code"]
    assert result["changed"] == [str(machine / ".claude.json"), str(machine / ".claude/settings.json")]
    sizes = sum((path.stat().st_size) for path in machine.rglob("*.jsonl"))
    assert result["found"] == {"sessions": 3, "bytes": sizes, "projects": 2, "secrets": 3, "complete": True}
    assert result["sync"].startswith("off: no sync token")
    assert config(machine)["clients"] == ["claude-code"]
    assert (machine / ".memory-sync" / "bin" / "memory_sync.py").stat().st_mode & 0o777 == 0o700
    assert (machine / ".memory-sync" / "bin").stat().st_mode & 0o777 == 0o700
    assert AI_TOKEN not in done.stdout + done.stderr

    gone = run(machine, "uninstall", "--yes")

    assert gone.returncode == 0, gone.stderr
    assert everything(machine) == before
    assert not (machine / ".memory-sync").exists()


@pytest.mark.spec("INST-3")
def test_the_installed_copy_installs_again_and_changes_nothing(machine: Path) -> None:
    run(machine, *INSTALL, "--yes", MCP_MEMORY_TOKEN=AI_TOKEN)
    installed = machine / ".memory-sync" / "bin" / "memory_sync.py"

    again = subprocess.run(
        [sys.executable, "-I", "-S", str(installed), "install", "--yes", "--no-schedule", "--json"],
        capture_output=True, text=True, check=False, timeout=60, env=environment(machine), stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["changed"] == []


@pytest.mark.spec("INST-11")
@pytest.mark.parametrize("answer", ["n\n", "\x04"])
def test_a_person_who_says_no_keeps_everything(machine: Path, answer: str) -> None:
    before = everything(machine)

    code, shown = run_with_answers(machine, answer, *INSTALL)

    assert code in (1, 2), shown
    assert {path: data for path, data in everything(machine).items() if ".memory-sync" not in path} == before


@pytest.mark.spec("INST-12")
def test_a_person_is_shown_what_is_here_and_may_choose(machine: Path) -> None:
    code, shown = run_with_answers(machine, "y\nc\n2\n", *INSTALL)

    assert code == 0, shown
    assert "Found on this machine: 3 sessions, " in shown
    assert "2 projects, 3 secrets would be redacted." in shown
    assert "   1  shop  2 sessions\n" in shown
    assert "   2  diary  1 session\n" in shown
    assert config(machine)["exclude_projects"] == ["diary"]
    assert config(machine)["history"] == "all"


@pytest.mark.spec("INST-12")
@pytest.mark.parametrize(("answer", "history"), [("n", "none"), ("", "all"), ("a", "all"), ("3", "20")])
def test_a_person_may_send_all_or_nothing_or_the_last_month(machine: Path, answer: str, history: str) -> None:
    code, shown = run_with_answers(machine, f"\n{answer}\n", *INSTALL)

    assert code == 0, shown
    assert config(machine)["history"].startswith(history)


@pytest.mark.spec("INST-12")
def test_excluded_projects_are_not_counted(machine: Path) -> None:
    arguments = [*INSTALL, "--yes", "--json", "--exclude-project", "shop", "--history", "2026-01-02"]

    done = run(machine, *arguments, MCP_MEMORY_TOKEN=AI_TOKEN)

    assert json.loads(done.stdout)["found"]["sessions"] == 1
    assert config(machine)["exclude_projects"] == ["shop"]
    assert config(machine)["history"] == "2026-01-02T00:00:00Z"


@pytest.mark.spec("INST-12")
def test_secrets_are_about_right_when_there_is_no_time_to_look_at_all(
    sync: ModuleType, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.exists()
    rules = sync.parse_rules((CLIENT / "redaction_rules.json").read_bytes())
    monkeypatch.setattr(sync, "load_rules", lambda *_: rules)
    config_of_it = sync.Config()

    whole = sync.survey(config_of_it)
    hurried = sync.survey(config_of_it, budget_seconds=0)

    assert (whole.complete, whole.secrets) == (True, 3)
    assert (hurried.complete, hurried.secrets, hurried.sessions) == (False, 3, 3)  # one line each, all alike
    assert str(whole).endswith("2 projects, 3 secrets would be redacted")
    assert "about 3 secrets" in str(hurried)


@pytest.mark.spec("INST-5")
def test_trouble_with_one_agent_is_an_exit_code_and_a_snippet(machine: Path) -> None:
    (machine / ".claude.json").write_text("{half")
    (machine / ".cursor").mkdir()

    done = run(machine, *INSTALL, "--yes", MCP_MEMORY_TOKEN=AI_TOKEN)

    assert done.returncode == 1
    assert f"{machine}/.claude.json: not changed, it is not valid JSON" in done.stdout
    assert '"Authorization": "Bearer ${MCP_MEMORY_TOKEN}"' in done.stdout
    assert (machine / ".cursor" / "mcp.json").exists()
    assert (machine / ".claude.json").read_text() == "{half"


@pytest.mark.spec("INST-1")
def test_only_the_entry_and_nothing_else_when_only_that_is_wanted(machine: Path) -> None:
    before = everything(machine)

    done = run(machine, *INSTALL, "--yes", "--mcp-only", "--json", MCP_MEMORY_TOKEN=AI_TOKEN)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changed"] == [str(machine / ".claude.json")]
    assert not (machine / ".memory-sync" / "bin").exists()
    assert run(machine, "uninstall", "--yes").returncode == 0
    assert everything(machine) == before


@pytest.mark.spec("INST-4")
def test_write_tokens_stay_until_they_are_not_wanted(machine: Path) -> None:
    run(machine, *INSTALL, "--yes", MCP_MEMORY_TOKEN=AI_TOKEN)
    tokens = machine / ".memory-sync" / "write-tokens.json"
    tokens.write_text('{"box-claude-code-shop": "given only once"}')

    kept = run(machine, "uninstall", "--yes")

    assert "the server gives write tokens only once" in kept.stdout.lower()
    assert tokens.exists()
    assert AI_TOKEN.encode() not in b"".join(everything(machine).values())
    run(machine, "uninstall", "--yes", "--purge")
    assert not (machine / ".memory-sync").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["install"], "Give --url"),
        (["install", "--url", URL], "Set MCP_MEMORY_TOKEN"),
        (["install", "tok en", "--url", URL], "white space"),
        (["install", "-", "--url", URL], "Standard input had no token"),
        (["install", "t", "--url", "http://93.184.216.34", "--yes"], "https"),
        (["install", "t", "--url", URL, "--yes", "--history", "yesterday"], "Give all, none"),
        (["install", "t", "--url", URL, "--ca-file", "nothing.pem"], "no PEM certificate"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(machine: Path, arguments: list[str], said: str) -> None:
    done = run(machine, *arguments)

    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.spec("INST-12")
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("all", "all"),
        ("none", "none"),
        ("2026-03-01", "2026-03-01T00:00:00Z"),
        ("2026-03-01T02:00:00+02:00", "2026-03-01T00:00:00Z"),
    ],
)
def test_a_start_of_the_history_is_kept_in_utc(sync: ModuleType, given: str, kept: str) -> None:
    assert sync.parse_history(given) == kept


@pytest.mark.spec("INST-9")
@pytest.mark.parametrize(
    ("extension", "refused"),
    [
        ("basicConstraints=critical,CA:TRUE", True),
        ("basicConstraints=CA:TRUE", True),
        ("basicConstraints=CA:FALSE", False),
    ],
)
def test_it_knows_which_self_signed_certificates_codex_refuses(
    sync: ModuleType, tmp_path: Path, extension: str, refused: bool
) -> None:
    (tmp_path / "openssl.cnf").write_text("[req]\ndistinguished_name=name\n[name]\n")
    subprocess.run(
        ["openssl", "req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
         "-subj", "/CN=memory", "-addext", extension],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    pem = (tmp_path / "cert.pem").read_text()
    der = ssl.PEM_cert_to_DER_cert(pem)

    assert sync.codex_refuses(pem, der) is refused
    assert not sync.codex_refuses(pem, b"another certificate")
