"""`restore`: an archive becomes a checked root of its own, then takes the place it is meant for (SPEC: BACKUP-6)."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import IO

from federated_memory.errors import Conflict, InvalidArgument, NotFound, Unavailable, UnsupportedFormat
from federated_memory.fs import Folder, RootLock
from federated_memory.fs.folder import storage_errors
from federated_memory.operate.backup import read_archive
from federated_memory.operate.check import check_root
from federated_memory.operate.findings import Report
from federated_memory.operate.manifest import Manifest
from federated_memory.operate.migrate import older_format, run_steps
from federated_memory.store.database import SCHEMA_VERSION

KEPT_SECRETS = ("secret.key", "generated-tokens.env")
"""Of a root that is replaced: bindings stay good, and clients keep their tokens. No backup has them."""
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """`before`: where the root that was there is now."""

    into: Path
    manifest: Manifest
    report: Report
    epoch: int
    before: Path | None


def restore(
    archive: Path, into: Path, *, replace: bool = False, read_data: bool = False, progress: Progress | None = None
) -> Restored:
    """Extract beside `into`, verify, check, take a new epoch, swap.

    Raises:
        NotFound, InvalidArgument, UnsupportedFormat: There is no such archive, it is damaged, or no root of ours.
        Conflict: `into` is not empty, and `replace` was not asked for.
        Locked: A server runs on `into`.
        StorageFull: No room beside `into`. In every case `into` is as it was.
    """
    into = into.absolute()
    _ensure_place(into, replace)
    staged = into.with_name(f".{into.name}.restoring-{secrets.token_hex(4)}")
    try:
        with storage_errors():
            manifest = _extract(archive, staged, progress)
        if (older := older_format(staged)) is not None:
            run_steps(staged, older)  # the archive is its backup
        epoch = _take_epoch(staged / "_meta" / "state.sqlite3")
        report = check_root(staged, read_data=read_data, pause_seconds=0)
        if report.count("error"):
            first = next(finding for finding in report.findings if finding.severity == "error")
            raise InvalidArgument(
                f"What the archive holds does not pass the check: {first.path}: {first.problem}",
                hint="Use another backup",
            )
        with storage_errors():
            before = _swap(staged, into)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return Restored(into, manifest, report, epoch, before)


def _ensure_place(into: Path, replace: bool) -> None:
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise Conflict(f"{into} is no folder", hint="Name a new folder")
    if not into.parent.is_dir():
        raise NotFound(f"There is no folder {into.parent}", hint="Make it first")
    if not into.is_dir() or not any(into.iterdir()):
        return
    if not (into / "_meta" / "format.json").exists():
        raise Conflict(f"{into} is not empty, and no memory root", hint="Name a new folder")
    if not replace:
        raise Conflict(
            f"{into} is a memory root already",
            hint="Name a new folder, or pass --replace: the old one is kept beside it",
        )
    lock = RootLock(into / "_meta" / "lock")
    lock.acquire()  # Locked: a server runs there
    lock.release()


def _extract(archive: Path, staged: Path, progress: Progress | None) -> Manifest:
    try:
        raw = archive.open("rb")
    except FileNotFoundError:
        raise NotFound(f"There is no file {archive}", hint="Name a backup") from None
    except OSError as error:
        raise Unavailable(f"{archive} cannot be read ({error.strerror})", hint="Check its owner and mode") from error
    with raw, Folder.open(staged, create=True) as top:
        total = os.fstat(raw.fileno()).st_size

        def extract(name: str, source: IO[bytes]) -> None:
            *folders, last = _parts(name)
            with top.folder(*folders, create=True, sync=False) as folder:
                descriptor = folder.open_file(last, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                with os.fdopen(descriptor, "wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
            if progress:
                progress(raw.tell(), total)

        manifest = read_archive(raw, extract)
        for file in manifest.files:
            os.utime(staged / file.path, ns=(file.modified_ns, file.modified_ns))
        if not {"_meta/format.json", "_meta/state.sqlite3"} <= manifest.paths:
            raise InvalidArgument("The archive holds no memory root", hint="Name a backup")
        if not top.sync_file_system():
            os.sync()
    return manifest


def _parts(name: str) -> tuple[str, ...]:
    """Raises: InvalidArgument: a name that leads out of the folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "/".join(parts) != name:
        raise InvalidArgument("The archive names a file outside of its folder", hint="This is no backup of ours")
    return parts


def _take_epoch(state: Path) -> int:
    """Changes from here on are not those that the old root went on to make under the same numbers."""
    try:
        with closing(sqlite3.connect(state, isolation_level=None)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise UnsupportedFormat(
                    f"The backup's state has schema {version}, this version reads up to {SCHEMA_VERSION}",
                    hint="Install the federated-memory that wrote it, or a newer one",
                )
            (known,) = database.execute("SELECT value FROM node WHERE key = 'epoch'").fetchone()
            # Seconds, so that the same backup restored twice gives two epochs.
            epoch = max(int(known) + 1, int(time.time()))
            database.execute("UPDATE node SET value = ? WHERE key = 'epoch'", (str(epoch),))
            database.execute("UPDATE node SET value = '0' WHERE key = 'open'")
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise InvalidArgument("The backup's state database is damaged", hint="Use another backup") from error
    return epoch


def _swap(staged: Path, into: Path) -> Path | None:
    before = None
    if into.is_dir() and any(into.iterdir()):
        at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
        before = into.with_name(f"{into.name}.before-{at}")
        for name in KEPT_SECRETS:
            with suppress(FileNotFoundError):
                shutil.copy2(into / "_meta" / name, staged / "_meta" / name)
        into.rename(before)
    try:
        staged.rename(into)
    except OSError:
        if before:
            before.rename(into)
        raise
    with Folder.open(into.parent) as parent:
        parent.sync_names()
    return before
