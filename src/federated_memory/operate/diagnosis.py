"""The quick look behind `doctor`: settings, root, machine. Every check is a function that gives rows (SPEC: CLI-11).

Nothing is changed, and nothing that is stored is read but the newest change's time.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pwd
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from federated_memory.auth.tokens import GENERATED
from federated_memory.operate.modes import open_to_others, owners
from federated_memory.operate.state_file import open_state
from federated_memory.search.ripgrep import find_ripgrep
from federated_memory.settings import EXAMPLE_TOKENS, Settings, is_loopback

State = Literal["ok", "warn", "fail"]

_TIGHT_BYTES = 1024**3
_FEWEST_INODES, _FEW_INODES = 100, 10_000
_SHORTEST_TOKEN = 20
_MOST_SECRETS = 10
_CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Row:
    """What one check found; the `hint` says what to do about a `warn` or `fail`."""

    name: str
    state: State
    detail: str
    hint: str = ""


def diagnose(settings: Settings) -> list[Row]:
    """Everything but the server: about the machine, the settings, and (if there is one) the root."""
    rows = [*tools(), *tokens(settings), *address(settings)]
    if not (settings.root / "_meta").is_dir():
        missing = Row(
            "root", "fail", f"there is none at {settings.root}", "Run `federated-memory init`, or set MEMORY_ROOT"
        )
        return [missing, *rows]
    checks: tuple[Callable[[Path], Iterator[Row]], ...] = (root_folder, modes, clock, stored_secrets)
    return [*(row for check in checks for row in check(settings.root)), *disk(settings), *rows]


# -- the root


def root_folder(root: Path) -> Iterator[Row]:
    found = owners(root)
    me, owner = os.geteuid(), os.stat(root / "_meta").st_uid
    others = [path for uid, paths in found.items() if uid != owner for path in paths if path != "."]
    if not os.access(root / "_meta", os.R_OK | os.W_OK | os.X_OK):
        yield Row("root", "fail", f"{root} is not readable and writable for you", f"Run this as {_user(owner)}")
    elif others:
        shown = ", ".join(others[:3])
        yield Row("root", "fail", f"{shown} belong to another user than the rest", f"chown them to {_user(owner)}")
    elif me != owner:
        yield Row(
            "root", "warn", f"{root} belongs to {_user(owner)}", f"Run commands as {_user(owner)}, not as {_user(me)}"
        )
    else:
        yield Row("root", "ok", str(root))


def modes(root: Path) -> Iterator[Row]:
    found = list(open_to_others(root))
    for item in found:
        detail = f"{item.path} has mode {item.mode:04o}: others on this machine can open it"
        yield Row("modes", "warn", detail, f"chmod {item.wanted:o} {root / item.path}")
    if not found:
        yield Row("modes", "ok", "root and secrets are private")


def is_locked(root: Path) -> bool:
    """Whether a process holds the root; looked at for an instant, and never waited for."""
    try:
        descriptor = os.open(root / "_meta" / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def disk(settings: Settings) -> Iterator[Row]:
    found = os.statvfs(settings.root)
    free = found.f_bavail * found.f_frsize
    detail = f"{free / 1e9:,.1f} GB free"
    if free < settings.min_free_bytes:
        yield Row("disk", "fail", f"{detail}, less than MEMORY_MIN_FREE_BYTES: writes are refused", "Free some space")
    elif free < max(_TIGHT_BYTES, 4 * settings.min_free_bytes):
        yield Row("disk", "warn", detail, "Free some space soon")
    else:
        yield Row("disk", "ok", detail)
    if found.f_files:  # some file systems have no fixed number
        state: State = "fail" if found.f_favail < _FEWEST_INODES else "warn" if found.f_favail < _FEW_INODES else "ok"
        yield Row("inodes", state, f"{found.f_favail:,} free", "" if state == "ok" else "Remove many small files")


def clock(root: Path) -> Iterator[Row]:
    """Order never depends on the clock, but what people see does."""
    try:
        with open_state(root) as state:
            rows = state.rows("SELECT at FROM changes ORDER BY number DESC LIMIT 1")
            newest = datetime.fromisoformat(rows[0][0].replace("Z", "+00:00")) if rows else None
    except FileNotFoundError:
        return
    except (sqlite3.Error, ValueError) as error:
        yield Row("state", "fail", f"_meta/state.sqlite3 cannot be read: {error}", "Run `federated-memory check`")
        return
    behind = newest - datetime.now(timezone.utc) if newest else timedelta(0)
    if behind > _CLOCK_TOLERANCE:
        shown = str(behind).split(".")[0]
        yield Row("clock", "warn", f"it is {shown} behind the newest change", "Set the clock; use NTP")
    else:
        yield Row("clock", "ok", "not behind the newest change" if newest else "nothing to compare with yet")


def stored_secrets(root: Path) -> Iterator[Row]:
    """What the server found in what it stores (SPEC: REDACT-12); nothing when it has never looked."""
    try:
        with open_state(root) as state:
            rows = state.rows(
                "SELECT workspace_id, kind, key, counts FROM secret_findings WHERE counts <> '{}' ORDER BY 1, 2, 3"
            )
    except (FileNotFoundError, sqlite3.Error):
        return
    if not rows:
        return
    for workspace_id, kind, key, counts in rows[:_MOST_SECRETS]:
        yield Row(
            "secrets", "warn", secret_line(workspace_id, kind, key, json.loads(counts)),
            "Replace it there, and change the secret where it is used",
        )  # fmt: skip
    if len(rows) > _MOST_SECRETS:
        yield Row("secrets", "warn", f"{len(rows) - _MOST_SECRETS} more documents and sessions hold secrets", "")


def secret_line(workspace_id: str, kind: str, name: str, counts: Mapping[str, int]) -> str:
    """Where secrets were found and of which kinds; never their text."""
    kinds = ", ".join(f"{number} {found}" for found, number in sorted(counts.items()))
    return f"{kind} {name} of {workspace_id}: {kinds}"


# -- the settings


def tokens(settings: Settings) -> Iterator[Row]:
    ai, sync = (token.get_secret_value() if token else "" for token in (settings.mcp_token, settings.sync_token))
    is_public = not settings.is_loopback_bind or not is_loopback(_public_host(settings))
    if {ai, sync} & EXAMPLE_TOKENS and is_public:
        yield Row("tokens", "fail", "the example tokens guard a public address", "Set MCP_TOKEN and SYNC_TOKEN")
    elif ai and ai == sync:
        yield Row("tokens", "fail", "MCP_TOKEN and SYNC_TOKEN are the same", "Agents and sync scripts need one each")
    elif is_public and any(0 < len(token) < _SHORTEST_TOKEN for token in (ai, sync)):
        yield Row("tokens", "warn", "a token is short enough to be guessed", "Use 32 random characters")
    elif {ai, sync} & EXAMPLE_TOKENS:
        yield Row("tokens", "ok", "the example tokens, on this machine only")
    elif ai:
        yield Row("tokens", "ok", "MCP_TOKEN is set" + ("" if sync else "; no SYNC_TOKEN: uploads are off"))
    elif (settings.root / "_meta" / GENERATED).exists():
        yield Row("tokens", "ok", f"those of _meta/{GENERATED}")
    else:
        yield Row("tokens", "warn", "none yet", "`federated-memory init` or the first start makes them")


def address(settings: Settings) -> Iterator[Row]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"{host}:{settings.port}"
    if not settings.is_loopback_bind and not settings.public_url:
        yield Row("address", "warn", f"{where} is public, but PUBLIC_URL is not set: others get a 421",
                  "Set PUBLIC_URL to the origin that clients use")  # fmt: skip
    elif settings.public_url.startswith("http://") and not is_loopback(_public_host(settings)):
        yield Row("address", "warn", f"{settings.public_url} sends tokens unencrypted", "Put TLS in front; use https")
    else:
        yield Row("address", "ok", where + (f", for others {settings.public_url}" if settings.public_url else ""))


def _public_host(settings: Settings) -> str:
    return urlsplit(settings.public_url).hostname or "localhost"


# -- the machine


def tools() -> Iterator[Row]:
    ripgrep = find_ripgrep()
    if ripgrep:
        yield Row("ripgrep", "ok", ripgrep)
    else:
        yield Row("ripgrep", "warn", "no rg 13 or newer: searching knowledge is slower", "Install ripgrep")
    for name, module, state, loss in (
        ("isal", "isal", "warn", "transcripts are packed by zlib, which is slower"),
        ("re2", "re2", "fail", "no regular expression can be searched for"),
    ):
        if importlib.util.find_spec(module):
            yield Row(name, "ok", "found")
        else:
            yield Row(name, "warn" if state == "warn" else "fail", f"missing: {loss}", "Install federated-memory again")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
