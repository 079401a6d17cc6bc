"""The service files, as text (SPEC: CLI-19)."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.operate.user_service import (
    UserService,
    launchd_plist,
    service_environment,
    systemd_unit,
    user_service,
)
from federated_memory.settings import load_settings

NASTY = "a b\"c\\d%h$e'f;g#"
COMMAND = ["/opt/my python/bin/python", "-m", "federated_memory", "serve"]
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1)


@pytest.mark.spec("CLI-19")
def test_a_unit_starts_with_the_user_and_restarts_what_failed() -> None:
    unit = systemd_unit(COMMAND, {"PORT": "8000", "MEMORY_ROOT": "/home/u/memory"}, "/home/u/memory")

    assert unit == (
        "# Made by `federated-memory up`, which writes it anew.\n"
        "[Unit]\nDescription=Federated Memory server\n\n"
        '[Service]\nExecStart="/opt/my python/bin/python" "-m" "federated_memory" "serve"\n'
        'Environment="MEMORY_ROOT=/home/u/memory"\nEnvironment="PORT=8000"\nWorkingDirectory=/home/u/memory\n'
        "Restart=on-failure\nRestartSec=2\nUMask=0077\n\n"
        "[Install]\nWantedBy=default.target\n"
    )


@pytest.mark.spec("CLI-19")
def test_what_systemd_takes_for_more_than_text_is_escaped() -> None:
    unit = systemd_unit([f"/bin/{NASTY}"], {"MEMORY_ROOT": NASTY}, f"/{NASTY}")

    assert 'ExecStart="/bin/a b\\"c\\\\d%%h$$e\'f;g#"\n' in unit
    assert 'Environment="MEMORY_ROOT=a b\\"c\\\\d%%h$e\'f;g#"\n' in unit
    assert "WorkingDirectory=/a b\"c\\d%%h$e'f;g#\n" in unit


@pytest.mark.spec("CLI-19")
@pytest.mark.parametrize("part", ["command", "value", "folder"])
def test_a_line_break_never_reaches_a_unit(part: str) -> None:
    bad = {"command": "/bin/x", "value": "1", "folder": "/y"} | {part: "x\n[Install]"}

    with pytest.raises(InvalidArgument):
        systemd_unit([bad["command"]], {"A": bad["value"]}, bad["folder"])


@pytest.mark.spec("CLI-19")
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    folder = tmp_path / "my %h memory"
    folder.mkdir()
    unit = tmp_path / "federated-memory.service"
    unit.write_text(systemd_unit(["/bin/sh", "-c", "true $x"], {"MEMORY_ROOT": str(folder)}, str(folder)))
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)], env=env, capture_output=True, text=True
    )

    assert unit.name not in done.stdout + done.stderr, done.stderr


@pytest.mark.spec("CLI-19")
def test_a_property_list_holds_every_text_as_it_is() -> None:
    found = plistlib.loads(launchd_plist([*COMMAND, NASTY], {"MEMORY_ROOT": NASTY}, f"/{NASTY}", "/log"))

    assert found["ProgramArguments"] == [*COMMAND, NASTY]
    assert found["EnvironmentVariables"] == {"MEMORY_ROOT": NASTY}
    assert (found["RunAtLoad"], found["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert (found["WorkingDirectory"], found["StandardErrorPath"], found["Umask"]) == (f"/{NASTY}", "/log", 0o077)


@pytest.mark.spec("CLI-19")
@given(root=PRINTABLE)
def test_the_root_of_an_installed_unit_is_read_back(root: str) -> None:
    unit = systemd_unit(COMMAND, {"MEMORY_ROOT": root}, "/x")

    class Installed(UserService):
        def _found(self) -> bytes:
            return self.content

    assert Installed("systemd", Path("/x"), unit.encode()).installed_root == root


@pytest.mark.spec("CLI-19")
def test_a_service_file_is_written_where_its_manager_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    unit = user_service("systemd", COMMAND, {"MEMORY_ROOT": "/m"}, Path("/m"))
    plist = user_service("launchd", COMMAND, {"MEMORY_ROOT": "/m"}, Path("/m"))
    assert (unit.installed_root, unit.is_current) == ("", False)

    unit.write()
    plist.write()

    assert unit.path == tmp_path / ".config/systemd/user/federated-memory.service"
    assert plist.path == tmp_path / "Library/LaunchAgents/org.federated-memory.server.plist"
    assert (unit.installed_root, plist.installed_root) == ("/m", "/m")
    assert unit.is_current
    plist.path.write_text("edited")
    assert (plist.installed_root, plist.is_current) == ("", False)


@pytest.mark.spec("CLI-19")
def test_a_service_gets_every_option_that_was_set_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PORT", "SYNC_TOKEN", "HOST"):
        monkeypatch.delenv(name, raising=False)
    secret = tmp_path / "token"
    secret.write_text("from-a-file")
    given_options = {
        "MEMORY_ROOT": str(tmp_path / "m"), "PUBLIC_URL": "https://memory.test", "MCP_TOKEN_FILE": str(secret),
        "MEMORY_TRUSTED_PROXIES": "10.0.0.0/8,::1", "MEMORY_BENCH_NOOP": "true", "MEMORY_BINDING_DAYS": "7",
    }  # fmt: skip
    for name, value in given_options.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(_env_file=None)

    found = service_environment(settings, 8123)

    assert found == {
        "MEMORY_ROOT": str(tmp_path / "m"), "PUBLIC_URL": "https://memory.test", "MCP_TOKEN_FILE": str(secret),
        "MEMORY_TRUSTED_PROXIES": "10.0.0.0/8,::1/128", "MEMORY_BENCH_NOOP": "True", "MEMORY_BINDING_DAYS": "7",
        "PORT": "8123",
    }  # fmt: skip
    monkeypatch.setenv("MEMORY_TRUSTED_PROXIES", found["MEMORY_TRUSTED_PROXIES"])
    monkeypatch.setenv("MEMORY_BENCH_NOOP", found["MEMORY_BENCH_NOOP"])
    again = load_settings(_env_file=None)
    assert (again.trusted_proxies, again.bench_noop) == (settings.trusted_proxies, True)
