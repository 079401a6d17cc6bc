"""A root of an older format becomes one of this version's, after a verified backup (SPEC: MIGRATE-1 to MIGRATE-3).

`STEPS` has one step per older format; format 1 is the first there ever was, so it is empty. A step is given the root's
folder, which nobody else uses, and must be able to begin again after a crash in its middle.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated_memory.errors import UnsupportedFormat
from federated_memory.fs import Folder, RootLock
from federated_memory.fs.folder import storage_errors
from federated_memory.store.root import FORMAT

logger = logging.getLogger(__name__)

Step = Callable[[Path], None]
STEPS: Mapping[int, Step] = {}
"""Format → what makes the next one of it."""
BACKUPS = "before-migration"
_NOTE = "migrating.json"
_FROZEN = "migration-snapshot"
_STATE = "state.sqlite3"
_LEFT_OUT = frozenset(
    {
        "secret.key", "generated-tokens.env", "control.json", "lock", "tmp", "snapshots", "imports", "quarantine",
        "index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm", _STATE, f"{_STATE}-wal", f"{_STATE}-shm",
        BACKUPS, _NOTE, _FROZEN,
    }
)  # fmt: skip
"""Of `_meta`: secrets, what is derived, and what belongs to a process."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """`backup`: the archive of the root as it was."""

    before: int
    now: int
    backup: Path


def older_format(root: Path) -> int | None:
    """The format of a root that `migrate` can make a current one of; None: there is nothing it could do."""
    try:
        found = json.loads((root / "_meta" / "format.json").read_bytes())["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if type(found) is not int or found >= FORMAT or any(number not in STEPS for number in range(found, FORMAT)):
        return None
    return found


def migrate(root: Path, *, to: Path | None = None) -> Migrated | None:
    """Back the root up, then take it step by step to this version's format; None: it needs nothing that can be done.

    The backup goes to `to`, else into the root's `_meta/before-migration`, the one place a service may surely write.
    Interrupted, it goes on where it was, with the backup that it made first.

    Raises:
        Locked: A server runs on it.
        StorageFull, Unavailable: The backup could not be made; nothing was changed. Or a step failed; call again.
    """
    found = older_format(root)
    if found is None:
        return None
    lock = RootLock(root / "_meta" / "lock")
    lock.acquire()
    try:
        with storage_errors():
            note = _noted(root, found) or _begin(root, found, to)
            logger.warning("memory root is migrated", extra={"from_format": found, "to_format": FORMAT})
            run_steps(root, found)
            (root / "_meta" / _NOTE).unlink()
            _sync(root / "_meta")
    finally:
        lock.release()
    return Migrated(int(note["format"]), FORMAT, Path(str(note["backup"])))


def run_steps(root: Path, found: int) -> None:
    """From format `found` to this version's, each step durable before its number is. Nobody else uses the root."""
    for number in range(found, FORMAT):
        STEPS[number](root)
        os.sync()
        _replace(root, "format.json", {"format": number + 1})
    for name in ("index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"):  # derived: made anew
        (root / "_meta" / name).unlink(missing_ok=True)


def _noted(root: Path, found: int) -> dict[str, Any] | None:
    """What an interrupted migration has noted: its backup is of the root before any step, and is not made again."""
    try:
        note: dict[str, Any] = json.loads((root / "_meta" / _NOTE).read_bytes())
        return note if found < int(note["to"]) else None  # else it has reached its aim, and only the note was left
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UnsupportedFormat(
            f"_meta/{_NOTE} is damaged: a migration was interrupted, and its backup is not known",
            hint=f"Restore the backup in _meta/{BACKUPS}, or the newest of yours",
        ) from None


def _begin(root: Path, found: int, to: Path | None) -> dict[str, Any]:
    from federated_memory.operate.backup import target_folder, write_backup
    from federated_memory.operate.backup_record import note_backup

    folder = (to or root / "_meta" / BACKUPS).absolute()
    frozen = root / "_meta" / _FROZEN
    try:
        _freeze(root, frozen)
        with target_folder(folder, root if to else frozen) as target:
            done = write_backup(frozen, target, folder)
    finally:
        shutil.rmtree(frozen, ignore_errors=True)
    note_backup(root, done)
    note = {"format": found, "to": FORMAT, "backup": str(done.path)}
    _replace(root, _NOTE, note)
    return note


def _freeze(root: Path, frozen: Path) -> None:
    """Second names of all that a backup holds, and a copy of the state database."""
    shutil.rmtree(frozen, ignore_errors=True)
    for top, folders, names in os.walk(root):
        here = Path(top).relative_to(root)
        if here == Path("_meta"):
            folders[:] = [name for name in folders if name not in _LEFT_OUT]
            names = [name for name in names if name not in _LEFT_OUT]
        folders[:] = [name for name in folders if not (Path(top) / name).is_symlink()]
        (frozen / here).mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in names:
            source = Path(top) / name
            if source.is_file() and not source.is_symlink():
                _link(source, frozen / here / name)
    state = root / "_meta" / _STATE
    if state.exists():
        with closing(sqlite3.connect(state)) as known, closing(sqlite3.connect(frozen / "_meta" / _STATE)) as copy:
            known.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no second names on this file system
        shutil.copy2(source, target)


def _replace(root: Path, name: str, value: object) -> None:
    with Folder.open(root) as folder, folder.folder("_meta") as meta:
        meta.replace(name, json.dumps(value).encode() + b"\n")


def _sync(path: Path) -> None:
    with suppress(FileNotFoundError), Folder.open(path) as folder:
        folder.sync_names()
