"""The slow troubles that `doctor` looks for: backups, silent machines, certificates (SPEC: CLI-21).

Nothing is changed; only the state database's times are read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from federated_memory.auth.certificates import presented_by, read_chain
from federated_memory.errors import InvalidArgument
from federated_memory.operate.backup_record import noted_backups
from federated_memory.operate.diagnosis import Row
from federated_memory.operate.state_file import open_state
from federated_memory.settings import Settings

_BACKUP_AGE = timedelta(days=2)
_SILENCE, _GONE = timedelta(days=7), timedelta(days=60)
_EXPIRY_SOON = timedelta(days=21)
_MOST_MACHINES = 10
_JAIL = "[mcp-memory]"


def backups(root: Path) -> Iterator[Row]:
    """How old the newest backup is, and whether it was read again."""
    today = datetime.now(timezone.utc)
    noted = noted_backups(root)
    if not noted:
        oldest = _time_of(root, "SELECT min(at) FROM changes")
        if oldest and today - oldest > _BACKUP_AGE:
            yield Row("backup", "warn", "there is none", "Run `federated-memory backup --to DIR` daily")
        else:
            yield Row("backup", "ok", "none yet")
        return
    newest = noted[0]
    where = Path(newest.folder) / newest.name
    detail = f"{newest.name} in {newest.folder}, verified {newest.verified_at[:16].replace('T', ' ')}"
    if today - _parsed(newest.created_at) > _BACKUP_AGE:
        yield Row("backup", "warn", f"the newest is old: {detail}", "Does its timer still run?")
    elif Path(newest.folder).is_dir() and not where.exists():
        yield Row("backup", "warn", f"gone: {detail}", "Who removed it? Make another one")
    else:
        yield Row("backup", "ok", detail)


def machines(root: Path) -> Iterator[Row]:
    """Machines that sent sessions, and have sent none for a week."""
    try:
        known = json.loads((root / "_meta" / "workspaces.json").read_bytes())["workspaces"]
        with open_state(root) as state:
            rows = state.rows("SELECT workspace_id, max(at) FROM changes WHERE kind = 'session' GROUP BY workspace_id")
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error):
        return
    machine_of = {row["workspace_id"]: str(row["machine"]) for row in known}
    newest: dict[str, str] = {}
    for workspace_id, at in rows:
        if workspace_id in machine_of:
            machine = machine_of[workspace_id]
            newest[machine] = max(at, newest.get(machine, ""))
    today = datetime.now(timezone.utc)
    silent = [(machine, today - _parsed(at)) for machine, at in sorted(newest.items())]
    found = [(machine, age) for machine, age in silent if _SILENCE < age < _GONE]
    for machine, age in found[:_MOST_MACHINES]:
        yield Row("machines", "warn", f"{machine} has sent no session for {age.days} days",
                  "There: memory_sync.py doctor")  # fmt: skip
    if newest and not found:
        yield Row("machines", "ok", f"{len(newest)} sent sessions, none has stopped")


def certificate(settings: Settings, *, online: bool) -> Iterator[Row]:
    """When it expires: that of the file, and (`online`) the one that PUBLIC_URL presents."""
    found: list[tuple[str, bytes]] = []
    if settings.tls_certificate:
        try:
            found.append((str(settings.tls_certificate), read_chain(settings.tls_certificate).leaf))
        except InvalidArgument as error:
            yield Row("certificate", "fail", error.message, error.hint)
    if online and settings.public_url.startswith("https://"):
        try:
            found.append((settings.public_url, presented_by(settings.public_url).certificate))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            yield Row("certificate", "warn", f"{settings.public_url} does not answer from here ({reason})",
                      "Is the proxy running?")  # fmt: skip
    if len({der for _, der in found}) == 2:
        yield Row("certificate", "warn", "the proxy presents another one than MEMORY_TLS_CERTIFICATE holds",
                  "Reload the proxy; invitations tell the file's fingerprint")  # fmt: skip
    for where, der in found:
        yield _expiry(where, der)


def _expiry(where: str, der: bytes) -> Row:
    from cryptography.x509 import load_der_x509_certificate

    try:
        until = load_der_x509_certificate(der).not_valid_after_utc
    except ValueError:
        return Row("certificate", "fail", f"{where}: not a certificate", "Make it anew")
    left = until - datetime.now(timezone.utc)
    if left < timedelta(0):
        return Row("certificate", "fail", f"{where}: expired on {until:%Y-%m-%d}", "Renew it")
    if left < _EXPIRY_SOON:
        return Row("certificate", "warn", f"{where}: expires in {left.days} days", "Renew it")
    return Row("certificate", "ok", f"{where}: good until {until:%Y-%m-%d}")


def _time_of(root: Path, sql: str) -> datetime | None:
    try:
        with open_state(root) as state:
            (found,) = state.row(sql)
        return _parsed(found) if found else None
    except (FileNotFoundError, sqlite3.Error):
        return None


def _parsed(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return datetime.fromtimestamp(0, timezone.utc)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def bans(settings: Settings, fail2ban: Path = Path("/etc/fail2ban")) -> Iterator[Row]:
    """Does the jail that reads this server's log understand it?"""
    files = [*fail2ban.glob("jail.d/*"), fail2ban / "jail.local"]
    has_jail = any(_JAIL in _text(file) for file in files)
    if not has_jail:
        return
    if settings.log_format == "json":
        yield Row(
            "bans", "warn", "MEMORY_LOG_FORMAT=json: fail2ban's jail mcp-memory reads the text form, and bans nobody",
            "Set MEMORY_LOG_FORMAT=text and restart the server",
        )  # fmt: skip
    else:
        yield Row("bans", "ok", "fail2ban's jail mcp-memory understands the log")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
