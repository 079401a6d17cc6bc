"""`_meta` and the folders of workspaces: format, registry, tokens, secrets, leftovers (SPEC: CHECK-5 to CHECK-7)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_memory.auth.tokens import NamedToken
from federated_memory.errors import InvalidName
from federated_memory.fs import Folder, NotRegular
from federated_memory.names import parse_workspace_id
from federated_memory.operate.findings import MOVE, Finding, error, info, warning
from federated_memory.operate.modes import open_to_others
from federated_memory.operate.tree import is_leftover, kind_of, leftover
from federated_memory.store.registry import Workspace
from federated_memory.store.root import FORMAT, TEMPORARY

_BACKUP = "Restore it from a backup"
_LEFTOVER_SECONDS = 3600
_IDENTITY = ("workspace_id", "machine", "tool", "project", "description", "project_key", "created_at")


@dataclass(frozen=True, slots=True)
class Registered:
    """`_meta/workspaces.json`; None when it cannot be read."""

    workspaces: dict[str, Workspace] | None
    findings: list[Finding]


def check_format(meta: Folder) -> list[Finding]:
    where = "_meta/format.json"
    try:
        found = json.loads(meta.read("format.json", 1 << 16))["format"]
    except FileNotFoundError:
        return [error(where, "is missing: the format of this root is unknown", "A server writes it anew at its start")]
    except (OSError, ValueError, KeyError, TypeError):
        return [error(where, "is damaged: no server will start", f'It should hold {{"format": {FORMAT}}}')]
    if found != FORMAT:
        return [error(where, f"has format {found!r}, this version reads format {FORMAT}",
                      "Check it with the version that wrote it")]  # fmt: skip
    return []


def read_registry(meta: Folder) -> Registered:
    where = "_meta/workspaces.json"
    try:
        rows = json.loads(meta.read("workspaces.json"))["workspaces"]
        found = {row["workspace_id"]: Workspace.of_row(row) for row in rows}
    except FileNotFoundError:
        return Registered({}, [])
    except (OSError, ValueError, KeyError, TypeError):
        return Registered(None, [error(where, "is damaged: no server will start", _BACKUP)])
    findings = [
        error(where, f"lists a workspace with an id that none can have: {key!a}", _BACKUP)
        for key in found
        if not _is_workspace_id(key)
    ]
    return Registered(found, findings)


def check_meta(root: Path, meta: Folder) -> list[Finding]:
    """Everything in `_meta` but the state database."""
    return [
        *read_registry(meta).findings,
        *_tokens(meta),
        *_key(meta),
        *_entries(meta),
        *_temporary(meta),
        *_modes(root),
    ]


def _tokens(meta: Folder) -> Iterator[Finding]:
    try:
        for row in json.loads(meta.read("tokens.json"))["tokens"]:
            token = NamedToken(**{**row, "read": tuple(row["read"]), "write": tuple(row["write"])})
            if not re.fullmatch("[0-9a-f]{64}", token.sha256):
                raise ValueError
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield error("_meta/tokens.json", "is damaged: no server will start, and named tokens do not work", _BACKUP)


def _key(meta: Folder) -> Iterator[Finding]:
    try:
        if not re.fullmatch(rb"[0-9a-f]{64}", meta.read("secret.key", 1 << 10)):
            yield error(
                "_meta/secret.key",
                "is damaged: no server will start",
                "Delete it: a new one is made, and agents register again",
            )
    except FileNotFoundError:
        yield warning(
            "_meta/secret.key",
            "is missing: every binding has ended",
            "Nothing: a new one is made, and agents register again",
        )
    except OSError:
        yield error("_meta/secret.key", "cannot be read", "Check what it is, its owner and its mode")


def _entries(meta: Folder) -> Iterator[Finding]:
    for entry in meta.entries():
        kind = kind_of(entry)
        where = f"_meta/{entry.name}"
        if is_leftover(entry.name):
            yield leftover(where)
        elif kind not in ("file", "folder", "gone"):
            yield error(where, f"is a {kind}, which is never followed", "Put the file itself here")


def _temporary(meta: Folder) -> Iterator[Finding]:
    """What stays there for long is no upload under way, and should have been swept at start."""
    try:
        with meta.folder(TEMPORARY) as folder:
            for entry in folder.entries():
                found = entry.stat(follow_symlinks=False)
                where = f"_meta/{TEMPORARY}/{entry.name}"
                if time.time() - max(found.st_mtime, found.st_ctime) > _LEFTOVER_SECONDS:
                    yield warning(
                        where,
                        "left by a write that was interrupted; it was never acknowledged",
                        "Restart the server: it removes this. Or delete it",
                    )
                else:
                    yield info(where, "a write under way, or one that was interrupted", "The next start removes it")
    except (FileNotFoundError, NotRegular):
        return


def _modes(root: Path) -> Iterator[Finding]:
    for found in open_to_others(root):
        yield warning(
            found.path, f"has mode {found.mode:04o}: other users of this machine can open it",
            f"chmod {found.wanted:o} {root / found.path}",
        )  # fmt: skip


# -- workspaces


def check_workspace_names(workspaces: Folder, known: dict[str, Workspace]) -> list[Finding]:
    """Folders that no registry knows, and workspaces that have none."""
    found: list[Finding] = []
    seen = set()
    for entry in workspaces.entries():
        where, kind = f"workspaces/{entry.name}", kind_of(entry)
        if kind == "folder" and entry.name in known:
            seen.add(entry.name)
        elif entry.name.startswith(".") and kind in ("file", "folder"):
            found.append(leftover(where) if is_leftover(entry.name) else info(where, "not ours: left alone"))
        elif kind != "folder":
            found.append(warning(where, f"a {kind}, where only folders of workspaces belong; not served", MOVE))
        elif not _is_workspace_id(entry.name):
            found.append(warning(where, "not a name that a workspace may have; not served", MOVE))
        else:
            found.append(
                warning(
                    where,
                    "not in the registry (_meta/workspaces.json); not served",
                    "Register a workspace of this id: its files are taken in. Or restore the registry",
                )
            )
    for workspace_id in sorted(known.keys() - seen):
        if _is_workspace_id(workspace_id):
            found.append(
                error(
                    f"workspaces/{workspace_id}",
                    "is registered, but its folder is missing: all it held is lost",
                    "Restore the folder from a backup",
                )
            )
    return found


def check_identity(workspace: Folder, known: Workspace) -> list[Finding]:
    where = f"workspaces/{known.workspace_id}/identity.json"
    advice = "Restore it from a backup; the registry (_meta/workspaces.json) is what counts"
    try:
        found: Any = json.loads(workspace.read("identity.json", 1 << 20))
    except FileNotFoundError:
        return [warning(where, "is missing; the registry still knows whose workspace this is", advice)]
    except (OSError, ValueError, RecursionError):
        return [warning(where, "is damaged; the registry still knows whose workspace this is", advice)]
    told = found if isinstance(found, dict) else {}
    differing = [name for name in _IDENTITY if told.get(name) != getattr(known, name)]
    if differing:
        return [warning(where, f"differs from the registry in {', '.join(differing)}", advice)]
    return []


def _is_workspace_id(text: str) -> bool:
    try:
        parse_workspace_id(text)
    except InvalidName:
        return False
    return True
