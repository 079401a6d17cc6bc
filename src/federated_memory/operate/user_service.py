"""The server as a service of its user: systemd on Linux, launchd on macOS (SPEC: CLI-19).

What is written is made by pure functions; what is run is a list of commands.
"""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, SecretStr

from federated_memory.errors import InvalidArgument
from federated_memory.settings import Settings

Kind = Literal["systemd", "launchd"]
UNIT = "federated-memory.service"
LABEL = "org.federated-memory.server"
_SECRET_FILES = ("MCP_TOKEN_FILE", "SYNC_TOKEN_FILE")
_UNIT_ROOT = re.compile(r'^Environment="MEMORY_ROOT=(.*)"$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UserService:
    """A service file: where it belongs, and what it should hold."""

    kind: Kind
    path: Path
    content: bytes

    @property
    def is_current(self) -> bool:
        return self._found() == self.content

    @property
    def installed_root(self) -> str:
        """The root that the file there serves; empty without one."""
        found = self._found()
        if not found:
            return ""
        if self.kind == "systemd":
            match = _UNIT_ROOT.search(found.decode("utf-8", "replace"))
            return _unquoted(match[1]) if match else ""
        try:
            return str(plistlib.loads(found)["EnvironmentVariables"]["MEMORY_ROOT"])
        except (ValueError, KeyError, TypeError, plistlib.InvalidFileException):
            return ""

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_bytes(self.content)
        temporary.chmod(0o644)
        temporary.replace(self.path)

    def commands(self) -> list[list[str]]:
        """What makes the manager run it as it is written, now and after a restart of the machine."""
        if self.kind == "systemd":
            return [["systemctl", "--user", *verb] for verb in (["daemon-reload"], ["enable", UNIT], ["restart", UNIT])]
        domain = f"gui/{os.getuid()}"
        return [["launchctl", "bootout", f"{domain}/{LABEL}"], ["launchctl", "bootstrap", domain, str(self.path)]]

    @property
    def log_hint(self) -> str:
        return f"journalctl --user -u {UNIT}" if self.kind == "systemd" else f"the log is {log_file()}"

    def _found(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""


def find_manager() -> Kind | None:
    """What keeps services running for this user; None in a container, over `su`, and the like."""
    if sys.platform == "darwin":
        return "launchd"
    try:
        done = subprocess.run(
            ["systemctl", "--user", "show-environment"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "systemd" if done.returncode == 0 else None


def user_service(kind: Kind, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> UserService:
    """The service of this user that runs `command` in `folder`."""
    if kind == "systemd":
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        text = systemd_unit(command, environment, str(folder))
        return UserService(kind, base / "systemd" / "user" / UNIT, text.encode())
    content = launchd_plist(command, environment, str(folder), str(log_file()))
    return UserService(kind, Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist", content)


def systemd_unit(command: Sequence[str], environment: Mapping[str, str], folder: str) -> str:
    """A unit for `systemd --user` (systemd.exec, systemd.service). Raises: InvalidArgument: a line break in a value."""
    for value in (*command, *environment.values(), folder):
        if not value.isprintable():
            raise InvalidArgument("A path or setting holds control characters", hint="No service can be made of it")
    variables = "".join(f"Environment={_quoted(f'{name}={environment[name]}')}\n" for name in sorted(environment))
    # Of all values only those of ExecStart know variables.
    started = " ".join(_quoted(part).replace("$", "$$") for part in command)
    return (
        "# Made by `federated-memory up`, which writes it anew.\n"
        "[Unit]\nDescription=Federated Memory server\n\n"
        f"[Service]\nExecStart={started}\n{variables}WorkingDirectory={folder.replace('%', '%%')}\n"
        "Restart=on-failure\nRestartSec=2\nUMask=0077\n\n"
        "[Install]\nWantedBy=default.target\n"
    )


def launchd_plist(command: Sequence[str], environment: Mapping[str, str], folder: str, log: str) -> bytes:
    """A property list for a launchd agent (launchd.plist)."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "EnvironmentVariables": dict(environment),
            "WorkingDirectory": folder,
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 5,
            "Umask": 0o077,
            "ProcessType": "Background",
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }
    )


def service_environment(settings: Settings, port: int) -> dict[str, str]:
    """Every option that was set, for a process that has neither this shell nor its `.env`; no secrets."""
    found = {name: os.environ[name] for name in _SECRET_FILES if os.environ.get(name)}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) or value is None:
            continue
        alias = Settings.model_fields[name].validation_alias
        variable = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"MEMORY_{name.upper()}"
        found[variable] = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return {**found, "MEMORY_ROOT": str(settings.root.resolve()), "PORT": str(port)}


def log_file() -> Path:
    """Where a server writes that has no terminal and no journal."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Logs" / "federated-memory.log"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "federated-memory" / "serve.log"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).replace("%%", "%")
