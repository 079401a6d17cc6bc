"""`up` on a machine of its own, with the real client; and `mcp install` (SPEC: CLI-17 to CLI-20)."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import wait_until
from tests.e2e.machine import Machine, free_port

FEDMEM = (sys.executable, "-m", "federated_memory")
MANAGER = r"""
echo "$@" >> "$HOME/systemctl.log"
[ -z "$NO_USER_MANAGER" ] || { echo "Failed to connect to bus" >&2; exit 1; }
case "$*" in *restart*federated-memory.service*) exec python3 "$HOME/manager.py" ;; esac
"""
RUN_UNIT = '''
"""Runs the unit as systemd would: its environment, its folder, and nothing of the caller's."""
import os, re, shlex, subprocess
text = open(os.path.expanduser("~/.config/systemd/user/federated-memory.service")).read()
env = dict(shlex.split(line)[0].split("=", 1) for line in re.findall(r"^Environment=(.*)$", text, re.M))
command = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.M)[1])
folder = re.search(r"^WorkingDirectory=(.*)$", text, re.M)[1]
log = open(os.path.expanduser("~/journal"), "ab")
subprocess.Popen(command, env={**env, "HOME": os.environ["HOME"], "PATH": os.environ["PATH"]}, cwd=folder,
                 stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
'''


class Own(Machine):
    """A machine that has a server of its own, once `up` was run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = self.home / "memory"
        self.env |= {
            "MEMORY_ROOT": str(self.root), "PORT": str(free_port()), "MEMORY_MIN_FREE_BYTES": "0",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }  # fmt: skip

    @property
    def control(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "_meta" / "control.json").read_text())
        return found

    def stop(self) -> None:
        """End the server that runs on this machine's root, if there is one."""
        if not (self.root / "_meta" / "control.json").exists():
            return
        pid = int(self.control["pid"])
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (self.root / "_meta" / "control.json").exists())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Own]:
    own = Own(tmp_path)
    own.program("systemctl", MANAGER)
    (own.home / "manager.py").write_text(RUN_UNIT)
    yield own
    own.stop()


def config(machine: Own) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((machine.home / ".memory-sync" / "config.json").read_text())
    return found


@pytest.mark.spec("CLI-18", "CLI-20")
def test_up_in_the_background_serves_and_connects_and_again_changes_nothing(machine: Own) -> None:
    first = machine.run(*FEDMEM, "up", "--yes", "--no-service")

    assert first.returncode == 0, first.stdout + first.stderr
    assert "in the background (pid " in first.stdout
    assert "It ends when this machine restarts" in first.stdout
    assert first.stdout.rstrip().endswith('"What do we know about this project?"')
    assert machine.control["url"] == config(machine)["url"] == f"http://127.0.0.1:{machine.env['PORT']}"
    tokens = (machine.root / "_meta" / "generated-tokens.env").read_text()
    assert config(machine)["ai_token"] in tokens
    assert config(machine)["sync_token"] in tokens
    assert config(machine)["ai_token"] not in first.stdout + first.stderr
    before, pid = config(machine), machine.control["pid"]

    again = machine.run(*FEDMEM, "up", "--yes", "--no-service")

    assert again.returncode == 0, again.stdout + again.stderr
    assert f"runs already at {before['url']} (pid {pid})" in again.stdout
    assert (config(machine), machine.control["pid"]) == (before, pid)


@pytest.mark.spec("CLI-18", "CLI-19")
def test_up_makes_a_service_that_serves_by_what_stands_in_its_file(machine: Own) -> None:
    ran = machine.run(*FEDMEM, "up", "--yes", PUBLIC_URL="https://memory.test:7443")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    asked = (machine.home / "systemctl.log").read_text().splitlines()
    mine = [line for line in asked if "federated-memory.service" in line or line == "--user daemon-reload"]
    assert mine[:3] == [
        "--user daemon-reload", "--user enable federated-memory.service", "--user restart federated-memory.service",
    ]  # fmt: skip
    unit = (machine.home / ".config/systemd/user/federated-memory.service").read_text()
    assert 'Environment="PUBLIC_URL=https://memory.test:7443"\n' in unit
    assert not re.search("TOKEN|fm_", unit)
    assert "as your own service" in ran.stdout
    assert machine.control["url"] == f"http://127.0.0.1:{machine.env['PORT']}"
    machine.stop()
    assert machine.run(*FEDMEM, "up", "--yes").returncode == 0
    assert machine.control["url"] == f"http://127.0.0.1:{machine.env['PORT']}"


@pytest.mark.spec("CLI-19")
def test_up_without_a_service_manager_says_what_that_means(machine: Own) -> None:
    ran = machine.run(*FEDMEM, "up", "--yes", NO_USER_MANAGER="1")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "no service manager of yours runs here" in ran.stdout
    assert not (machine.home / ".config/systemd/user/federated-memory.service").exists()


@pytest.mark.spec("CLI-18")
def test_up_keeps_to_the_port_that_was_set_and_says_when_it_is_taken(machine: Own) -> None:
    port = int(machine.env["PORT"])
    with socket.create_server(("127.0.0.1", port)):
        refused = machine.run(*FEDMEM, "up", "--yes", "--no-service")

    assert refused.returncode == 15
    assert "The server did not start: it ended: " in refused.stderr
    assert "Set PORT to a free port" in refused.stderr


@pytest.mark.spec("CLI-19")
@pytest.mark.parametrize("name", ["MCP_TOKEN", "SYNC_TOKEN"])
def test_no_token_is_written_into_a_service_file(machine: Own, name: str) -> None:
    ran = machine.run(*FEDMEM, "up", "--yes", **{name: "a-secret-of-mine"})

    assert ran.returncode == 9
    assert f"set {name}_FILE" in ran.stderr
    assert not machine.root.exists()


@pytest.mark.spec("CLI-19")
def test_the_service_of_another_root_is_left_alone(machine: Own) -> None:
    unit = machine.home / ".config/systemd/user/federated-memory.service"
    unit.parent.mkdir(parents=True)
    unit.write_text('[Service]\nEnvironment="MEMORY_ROOT=/srv/other"\n')

    ran = machine.run(*FEDMEM, "up", "--yes")

    assert ran.returncode == 9
    assert "/srv/other" in ran.stderr
    assert unit.read_text() == '[Service]\nEnvironment="MEMORY_ROOT=/srv/other"\n'


@pytest.mark.spec("CLI-18")
@pytest.mark.parametrize("flags", [[], ["--no-service"]])
def test_a_dry_run_prints_and_makes_nothing(machine: Own, flags: list[str]) -> None:
    before = sorted(path for path in machine.home.rglob("*") if path.name != "systemctl.log")

    ran = machine.run(*FEDMEM, "up", "--dry-run", *flags)

    assert ran.returncode == 0, ran.stderr
    assert str(machine.root) in ran.stdout
    assert ("ExecStart=" in ran.stdout) is (not flags)
    assert "memory_sync.py install" in ran.stdout
    assert sorted(path for path in machine.home.rglob("*") if path.name != "systemctl.log") == before


@pytest.mark.spec("CLI-17")
def test_mcp_install_writes_the_entry_of_an_agent_and_nothing_else(machine: Own) -> None:
    assert machine.run(*FEDMEM, "up", "--yes", "--no-service", "--client", "cursor").returncode == 0
    (machine.home / ".gemini").mkdir()
    before = {path for path in machine.home.rglob("*") if path.is_file() and self_made(path)}

    ran = machine.run(*FEDMEM, "mcp", "install", "--yes", "--client", "gemini-cli")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = {path for path in machine.home.rglob("*") if path.is_file() and self_made(path)} - before
    assert machine.home / ".gemini/settings.json" in written
    entry = json.loads((machine.home / ".gemini/settings.json").read_text())
    assert "mcpServers" in entry
    assert "hooks" not in entry


def self_made(path: Path) -> bool:
    """Not the server's, nor the client's own folder."""
    return not {"memory", ".memory-sync", ".local"} & set(path.parts)


@pytest.mark.spec("CLI-17")
def test_mcp_install_needs_a_server_a_client_and_a_token(machine: Own) -> None:
    no_server = machine.run(*FEDMEM, "mcp", "install", "--client", "cursor")
    no_token = machine.run(*FEDMEM, "mcp", "install", "--client", "cursor", "--url", "http://127.0.0.1:9")

    assert (no_server.returncode, "No server runs here" in no_server.stderr) == (4, True)
    assert (no_token.returncode, "There is no AI token" in no_token.stderr) == (9, True)
    assert machine.run(*FEDMEM, "mcp", "install").returncode == 2
    assert machine.run(*FEDMEM, "mcp", "install", "--client", "emacs").returncode == 2
