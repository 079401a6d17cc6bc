"""What is shipped, looked at with the tools made for it (SPEC: DEPLOY-2, DEPLOY-3, DEPLOY-8, DEPLOY-10)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import lock_requirements
from tests.e2e.shipped import DEPLOY, make_certificate, need, render

WORDS = {
    "mcp-memory.service": {"ROOT": "/data/memory"},
    "mcp-memory-firewall.service": {},
    "mcp-memory-backup.timer": {},
}
WORDS["mcp-memory.socket"] = {"PORT": "8000", "PROXY_GROUP": "www-data"}
WORDS["mcp-memory-backup.service"] = {"ROOT": "/data/memory", "BACKUPS": "/var/backups/mcp-memory"}
MOST_EXPOSED = "15"  # tenths
WITHOUT_NETWORK = "5"


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **env})


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """All units as installed, their programs as ones that are there."""
    for name, words in WORDS.items():
        text = render(name, **words) if words else (DEPLOY / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?m)^(Exec\w+=-?)/(opt|usr/sbin)/\S+", r"\1/bin/true", text))
    return tmp_path


@pytest.mark.spec("DEPLOY-3")
def test_systemd_understands_every_line_of_every_unit(units: Path) -> None:
    need("systemd-analyze")
    for name in WORDS:
        found = run("systemd-analyze", "verify", units / name)
        assert (found.returncode, found.stderr) == (0, ""), name
    twin = units / "mcp-memory.service"
    twin.write_text(twin.read_text().replace("[Service]\n", "[Service]\nNoNewPriviliges=yes\n"))
    assert "Unknown key" in run("systemd-analyze", "verify", twin).stderr


@pytest.mark.spec("DEPLOY-3")
@pytest.mark.parametrize("name", ["mcp-memory.service", "mcp-memory-backup.service"])
def test_the_units_are_shut_in(units: Path, name: str) -> None:
    need("systemd-analyze")
    look = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED}"]
    found = run(*look, units / name)
    assert found.returncode == 0, found.stdout[-300:]
    (units / name).write_text(
        re.sub(r"(?m)^(CapabilityBounding|SystemCall|Restrict|Private).*\n", "", (units / name).read_text())
    )
    assert run(*look, units / name).returncode == 1


@pytest.mark.spec("DEPLOY-12")
def test_without_a_network_the_unit_is_shut_in_further(units: Path) -> None:
    need("systemd-analyze")
    unit = units / "mcp-memory.service"
    look = ["systemd-analyze", "security", "--offline=yes", f"--threshold={WITHOUT_NETWORK}"]
    assert run(*look, unit).returncode == 1, "the broken twin: the unit as it is, with the network"
    unit.write_text(unit.read_text() + (DEPLOY / "mcp-memory-unix-socket.conf").read_text())
    found = run(*look, unit)
    assert found.returncode == 0, found.stdout[-300:]
    found = run("systemd-analyze", "verify", unit)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.spec("DEPLOY-8")
def test_the_timer_has_a_next_time() -> None:
    need("systemd-analyze")
    (when,) = re.findall(r"^OnCalendar=(.*)$", (DEPLOY / "mcp-memory-backup.timer").read_text(), re.MULTILINE)
    assert "Next elapse" in run("systemd-analyze", "calendar", when).stdout


@pytest.mark.spec("DEPLOY-10")
def test_the_lint_of_the_shell_scripts_finds_nothing() -> None:
    need("shellcheck")
    found = run("shellcheck", "-x", "-P", DEPLOY, *sorted(DEPLOY.glob("*.sh")))
    assert found.returncode == 0, found.stdout


@pytest.mark.spec("DEPLOY-10")
def test_the_lint_of_the_container_files_finds_nothing(tmp_path: Path) -> None:
    def tool(name: str) -> str:
        found = Path(sys.executable).with_name(name)
        if not found.exists():
            pytest.skip(f"{name} is not installed")
        return str(found)

    assert run(tool("hadolint"), DEPLOY / "Dockerfile").stdout == ""
    twin = tmp_path / "Dockerfile"
    twin.write_text("FROM python\nRUN cd /x && pip install y\n")
    assert run(tool("hadolint"), twin).returncode != 0
    found = run(tool("compose-lint"), "--fail-on", "high", DEPLOY / "compose.yaml")
    assert found.returncode == 0, found.stdout


@pytest.mark.spec("DEPLOY-10")
def test_the_image_is_built_where_an_engine_is() -> None:
    engine = next((name for name in ("docker", "podman") if run_quietly(name, "info")), None)
    if engine is None:
        pytest.skip("no container engine runs here")
    built = run(engine, "build", "--file", DEPLOY / "Dockerfile", "--tag", "federated-memory:test", DEPLOY.parent)
    assert built.returncode == 0, built.stderr[-2000:]
    seen = run(engine, "run", "--rm", "--read-only", "federated-memory:test", "id", "-u")
    assert seen.stdout.strip() == "10001"


def run_quietly(*command: str) -> bool:
    return shutil.which(command[0]) is not None and run(*command).returncode == 0


@pytest.mark.spec("DEPLOY-2")
def test_every_dependency_is_pinned_and_hashed() -> None:
    text, wanted = lock_requirements.LOCK.read_text(), lock_requirements.dependencies()
    assert lock_requirements.problems(text, wanted) == []
    assert len(wanted) > 10
    without = re.sub(r"(?ms)^uvicorn==.*?(?=^\w)", "", text)
    assert lock_requirements.problems(without, wanted) == ["uvicorn is missing"]
    bare = re.sub(r"(?m)^(uvicorn==\S+) \\\n(    --hash=\S+( \\)?\n)+", r"\1\n", text)
    assert lock_requirements.problems(bare, wanted) == ["uvicorn has no hash"]


@pytest.mark.spec("DEPLOY-5")
def test_the_firewall_takes_the_rules_twice() -> None:
    need("nft", "unshare")
    rules = render("nftables.conf", PORTS="7443, 7444")
    for flag in ("--check", ""):
        script = f"nft {flag} --file - <<'END' && nft list tables\n{rules}\nEND\n"
        found = run("unshare", "--net", "sh", "-c", script + script)
        if "Operation not permitted" in found.stderr:
            pytest.skip("a network namespace needs root")
        assert found.returncode == 0, found.stderr


@pytest.mark.spec("DEPLOY-1")
def test_words_without_a_value_and_values_without_a_word_are_refused() -> None:
    script, file = DEPLOY / "render.sh", DEPLOY / "nftables.conf"
    assert "no value for @PORTS@" in run(script, file).stderr
    assert "has no @PROTS@" in run(script, file, "PROTS=1").stderr
    assert "a & b \\1" in run(script, file, "PORTS=a & b \\1").stdout


@pytest.mark.spec("DEPLOY-6")
def test_the_certificate_says_its_names_and_is_no_authority(tmp_path: Path) -> None:
    need("openssl")
    names = ("memory.example.org", "192.0.2.10", "2001:db8::1")
    certificate = make_certificate(tmp_path, *names)
    text = run("openssl", "x509", "-in", certificate, "-noout", "-text").stdout
    assert "CA:FALSE" in text
    assert "TLS Web Server Authentication" in text
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600
    covers = [DEPLOY / "certificate.sh", "--covers"]
    assert run(*covers, certificate, *names).returncode == 0
    assert run(*covers, certificate, "other.example.org").returncode != 0
    assert run(*covers, certificate, "192.0.2.11").returncode != 0
    old = tmp_path / "old.pem"  # a common name and no SAN: some clients still take it, most do not
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(*make, "-subj", "/CN=memory.example.org", "-keyout", tmp_path / "old.key", "-out", old, "-days", "90")
    assert run(*covers, old, "memory.example.org").returncode != 0


@pytest.mark.spec("DEPLOY-8")
def test_a_backup_that_cannot_be_made_is_said_and_leaves_the_old_ones(tmp_path: Path) -> None:
    folder, program = tmp_path / "backups", tmp_path / "federated-memory"
    script = DEPLOY / "backup.sh"
    env = {"FEDERATED_MEMORY": str(program)}
    assert "is not there" in run(script, folder, **env).stderr
    program.write_text('#!/bin/sh\n[ "$1 $2 $3" = "backup --to $BOX" ] && exit 13\n')
    program.chmod(0o755)
    assert "no folder" in run(script, folder, **env).stderr
    assert "from the top" in run(script, "backups", **env).stderr
    folder.mkdir()
    (folder / "old.tar.zst").write_text("old")
    done = run(script, folder, BOX=str(folder), **env)
    assert done.returncode == 13
    assert "no backup was made (exit code 13)" in done.stderr
    assert (folder / "old.tar.zst").read_text() == "old"
