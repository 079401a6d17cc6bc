"""The shipped filter and jail: exactly the right lines, and a live fail2ban that bans (SPEC: DEPLOY-7)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer, wait_until
from tests.e2e.shipped import DEPLOY, need, render

TIME = "2026-11-21T03:59:08+00:00"
RIGHT = {
    f'{TIME} AUTH_FAIL ip=203.0.113.1 reason=bad_token path="/mcp"': "203.0.113.1",
    '2026-11-21T03:59:08Z AUTH_FAIL ip=203.0.113.2 reason=bad_code path="/api/v1/enroll"': "203.0.113.2",
    '2026-11-21T05:59:08+02:00 AUTH_FAIL ip=203.0.113.3 reason=bad_write_token path="/"': "203.0.113.3",
    f'{TIME} AUTH_FAIL ip=2001:db8::4 reason=revoked path="/mcp"': "2001:db8::4",
    f'box mcp-memory[812]: {TIME} AUTH_FAIL ip=203.0.113.5 reason=bad_token path="/mcp"': "203.0.113.5",
}
FORGED = f'{TIME} AUTH_FAIL ip=198.51.100.1 reason=bad_token path=\\"/mcp\\"'
WRONG = [
    f'{TIME} AUTH_DENY ip=198.51.100.1 reason=no_token path="/mcp"',
    f'{TIME} AUTH_DENY ip=198.51.100.1 reason=host path="/mcp"',
    f'{TIME} AUTH_DENY ip=198.51.100.1 reason=no_token path="{FORGED}"',
    f'{TIME} AUTH_DENY ip=198.51.100.1 reason=no_token path="/x\\n{FORGED}"',
    f'{TIME} INFO web.routes uploaded path="\\r\\n{FORGED}"',
    f'{TIME} AUTH_FAIL ip=evil.example.org reason=bad_token path="/mcp"',
    f'{TIME} AUTH_FAIL ip=unknown reason=bad_token path="/mcp"',
    f'{TIME} AUTH_FAIL ip="198.51.100.1 " reason=bad_token path="/mcp"',
    f'{TIME} WARNING auth.events AUTH_FAIL ip=198.51.100.1 reason=bad_token path="/mcp"',
    f"{TIME} AUTH_FAIL ip=198.51.100.1 reason=bad_token",
    f'{TIME} ERROR index failed detail="AUTH_FAIL ip=198.51.100.1 reason=bad_token path=\\"/mcp\\""',
    f'box sshd[812]: {TIME} AUTH_FAIL ip=198.51.100.1 reason=bad_token path="/mcp"',
    f'box mcp-memory[812]: {TIME} AUTH_DENY ip=198.51.100.1 reason=no_token path="{FORGED}"',
    'Traceback: AUTH_FAIL ip=198.51.100.1 reason=bad_token path="/mcp"',
]


def matched(log: Path, rule: Path) -> list[str]:
    command = ["fail2ban-regex", "--out", "ip", str(log), str(rule)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()


@pytest.mark.spec("DEPLOY-7")
def test_exactly_the_right_lines_match(tmp_path: Path) -> None:
    need("fail2ban-regex")
    log = tmp_path / "log"
    log.write_text("\n".join([*RIGHT, *WRONG]) + "\n")

    assert sorted(matched(log, DEPLOY / "fail2ban-filter.conf")) == sorted(RIGHT.values())

    loose = tmp_path / "loose.conf"  # the twin: the same words, found anywhere in a line
    loose.write_text("[Definition]\nfailregex = AUTH_FAIL ip=<ADDR> reason=\n")
    assert "198.51.100.1" in matched(log, loose)


@pytest.mark.spec("DEPLOY-7")
def test_the_lines_that_the_server_writes_match_and_its_honest_refusals_do_not(
    server: RunningServer, tmp_path: Path
) -> None:
    need("fail2ban-regex")
    with server.api("wrong") as wrong, server.api("") as none, server.api() as sync:
        for _ in range(2):
            assert wrong.call("GET", "/api/v1/workspaces").status == 401
            assert none.call("GET", "/api/v1/workspaces").status == 401
        assert none.call("GET", "/%0d%0a" + TIME + "%20AUTH_FAIL%20ip=198.51.100.9%20reason=x%20path=%22").status == 401
        assert sync.call("GET", "/api/v1/workspaces", Host="evil.example.org").status == 421
        workspace = sync.register()
        assert sync.call("PUT", f"{workspace.url}/knowledge/a.md", b"x").status == 403
        assert sync.call("PUT", f"{workspace.url}/knowledge/a.md", b"x", X_Write_Token="wrong").status == 403
    wait_until(lambda: sum("AUTH_" in line for line in server.log) >= 7)
    log = tmp_path / "log"
    log.write_text("".join(server.log))
    assert matched(log, DEPLOY / "fail2ban-filter.conf") == ["127.0.0.1"] * 3, server.shown()


@pytest.fixture
def fail2ban(tmp_path: Path) -> Iterator[list[str]]:
    """A fail2ban of the test's own with the shipped jail, and a stricter one, that writes its bans into a file."""
    need("fail2ban-server", "fail2ban-client")
    folder = tmp_path / "fail2ban"
    shutil.copytree("/etc/fail2ban", folder, ignore=shutil.ignore_patterns("jail.d"))
    (folder / "jail.d").mkdir()
    shutil.copy(DEPLOY / "fail2ban-filter.conf", folder / "filter.d/mcp-memory.conf")
    (folder / "action.d/note.conf").write_text(f"[Definition]\nactionban = echo <name> <ip> >> {tmp_path}/bans\n")
    jail = render("fail2ban-jail.conf", PORTS="7443,7444")
    ours = f"backend = polling\nlogpath = {tmp_path}/log\naction = note[name=%(__name__)s]\n"
    strict = "[five]\nenabled = true\nfilter = mcp-memory\nmaxretry = 5\n" + ours
    (folder / "jail.d/mcp-memory.conf").write_text(f"{jail}\n{strict}")
    (folder / "jail.local").write_text("[mcp-memory]\n" + ours)
    (folder / "fail2ban.local").write_text("[Definition]\ndbfile = None\n[DEFAULT]\ndbfile = None\n")
    (tmp_path / "log").touch()
    (tmp_path / "bans").touch()
    places = ["-c", str(folder), "-s", f"{tmp_path}/socket", "-p", f"{tmp_path}/pid"]
    places += ["--logtarget", f"{tmp_path}/own.log"]
    client = ["fail2ban-client", *places]
    tested = subprocess.run([*client, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    with subprocess.Popen(["fail2ban-server", *places, "-f", "start"], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: subprocess.run([*client, "ping"], capture_output=True, check=False).returncode == 0)
            wait_until(lambda: failures(client, "five") == failures(client, "mcp-memory") == 0)
            yield client
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def failures(client: list[str], jail: str) -> int | None:
    shown = subprocess.run([*client, "status", jail], capture_output=True, text=True, check=False).stdout
    return next((int(line.split()[-1]) for line in shown.splitlines() if "Total failed" in line), None)


@pytest.mark.spec("DEPLOY-7")
def test_a_live_fail2ban_bans_who_guesses_and_nobody_else(fail2ban: list[str], tmp_path: Path) -> None:
    def write(*lines: str) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with (tmp_path / "log").open("a") as log:
            log.write("".join(line.replace(TIME, now) + "\n" for line in lines))

    def bans() -> list[str]:
        return sorted((tmp_path / "bans").read_text().splitlines())

    wrong = f'{TIME} AUTH_FAIL ip=203.0.113.7 reason=bad_token path="/mcp"'
    write(*[line for line in WRONG if "198.51.100.1" in line] * 5, *[wrong] * 4)
    wait_until(lambda: failures(fail2ban, "five") == failures(fail2ban, "mcp-memory") == 4)
    assert bans() == []
    write(wrong)
    wait_until(lambda: bans() == ["five 203.0.113.7"])
    write(*[wrong] * 4)
    wait_until(lambda: failures(fail2ban, "mcp-memory") == 9)
    assert bans() == ["five 203.0.113.7"], "nine wrong tokens are four starts of a client with an old one"
    write(wrong)
    wait_until(lambda: bans() == ["five 203.0.113.7", "mcp-memory 203.0.113.7"])
