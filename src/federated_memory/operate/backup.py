"""`backup`: a snapshot becomes one verified `.tar.zst`; only then may an older one go (SPEC: BACKUP-1 to BACKUP-5).

Written as `.partial`, fsynced, read again from the disk and compared with the manifest, renamed; pruning comes last, so
that no failure costs a backup that was good.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import zstandard
from filelock import FileLock, Timeout

from federated_memory.errors import Conflict, InvalidArgument, Locked, StorageFull, Unavailable
from federated_memory.fs import Folder
from federated_memory.fs.folder import storage_errors
from federated_memory.operate.manifest import MANIFEST, File, Manifest, parse_manifest, read_beside, remove_both
from federated_memory.operate.manifest import write_beside as _write_beside
from federated_memory.store.changes import now

KEEP_DAYS = 14
FEWEST = 3
"""So many verified backups stay, however old they are."""
_NAME = re.compile(r"federated-memory-(\d{4}-\d{2}-\d{2})T\d{6}Z\.tar\.zst\Z")
_PARTIAL = ".partial"
_LEVEL = 3
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BackupFile:
    """An archive in a backup folder. `manifest` None: nobody has verified it, or the file is another one since."""

    name: str
    day: date
    manifest: Manifest | None

    @property
    def is_verified(self) -> bool:
        return self.manifest is not None and bool(self.manifest.verified_at)


@dataclass(frozen=True, slots=True)
class Done:
    path: Path
    manifest: Manifest
    pruned: tuple[str, ...]


def file_name(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("federated-memory-%Y-%m-%dT%H%M%SZ.tar.zst")


def backups_in(folder: Path) -> list[BackupFile]:
    """The archives of a backup folder, newest first by the date in their names; other files are nobody's business."""
    found = []
    for path in folder.iterdir():
        match = _NAME.match(path.name)
        with suppress(ValueError):
            if match and path.is_file() and not path.is_symlink():
                found.append(BackupFile(path.name, date.fromisoformat(match[1]), read_beside(path)))
    return sorted(found, key=lambda backup: backup.name, reverse=True)


def to_prune(backups: list[BackupFile], today: date, keep_days: int) -> list[BackupFile]:
    """Those older than `keep_days` days (today is the first), but never one of the newest `FEWEST` verified."""
    kept = {backup.name for backup in [item for item in backups if item.is_verified][:FEWEST]}
    if len(kept) < FEWEST:
        return []
    oldest = today - timedelta(days=keep_days - 1)
    return [backup for backup in backups if backup.day < oldest and backup.name not in kept]


@contextmanager
def target_folder(to: Path, root: Path) -> Iterator[Folder]:
    """The folder that backups go to, ours alone until the block ends.

    Raises:
        InvalidArgument: It lies inside the root that is backed up.
        Locked: Another backup is being written there.
        Unavailable, StorageFull: It cannot be made or written.
    """
    wanted = to.resolve()
    if wanted == root.resolve() or root.resolve() in wanted.parents:
        raise InvalidArgument(f"{to} is inside the memory root", hint="Put backups on another disk, or beside the root")
    try:
        folder = Folder.open(wanted, create=True)
    except OSError as error:
        raise Unavailable(
            f"{to} cannot be opened or made ({error.strerror})", hint="Is the backup disk mounted, and yours to write?"
        ) from error
    lock = FileLock(wanted / ".lock", mode=0o600)
    try:
        with folder:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise Locked(f"Another backup is being written to {to}", hint="Wait until it is done") from None
            except OSError as error:
                raise Unavailable(f"{to} cannot be written ({error.strerror})", hint="Check owner and mode") from error
            yield folder
    finally:
        lock.release()


def _moment(target: Folder) -> datetime:
    """Now, or the next second when a backup of this one is there: names tell seconds."""
    while target.exists(file_name(now := datetime.now(timezone.utc))):
        time.sleep(0.05)
    return now


def write_backup(
    snapshot: Path, target: Folder, to: Path, *, keep_days: int = KEEP_DAYS, at: datetime | None = None,
    progress: Progress | None = None,
) -> Done:  # fmt: skip
    """Archive a snapshot into the open folder `target` (`to` by name), verify it, then prune.

    Raises:
        StorageFull: The target is full; nothing is left of this backup, and older ones are as they were.
        Unavailable: Another failure of a disk, or what was read again differs.
    """
    at = at or _moment(target)
    name = file_name(at)
    if target.exists(name):
        raise Conflict(f"{name} exists already", hint="Try again in a second")
    partial = name + _PARTIAL
    for entry in target.entries():  # left by a backup that was killed; the lock says that nobody writes it now
        if entry.name.endswith(_PARTIAL) and _NAME.match(entry.name.removesuffix(_PARTIAL)):
            target.remove(entry.name)
    try:
        manifest = _archive(snapshot, target, partial, to, progress)
        manifest = _verified(target, partial, manifest)
        with _target_errors(to):
            target.rename(partial, target, name)
            target.sync_names()
            _write_beside(target, name, manifest)
    except BaseException:
        with suppress(OSError):
            target.remove(partial)
        raise
    pruned = to_prune(backups_in(to), at.date(), keep_days)
    for backup in pruned:
        remove_both(target, backup.name)
    return Done(to / name, manifest, tuple(backup.name for backup in pruned))


def _archive(snapshot: Path, target: Folder, partial: str, to: Path, progress: Progress | None) -> Manifest:
    paths = sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file())
    total, done = sum((snapshot / path).stat().st_size for path in paths), 0
    files: list[File] = []
    with _target_errors(to):
        descriptor = target.open_file(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "wb") as raw:
            with (
                zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(raw, closefd=False) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                for path in paths:
                    files.append(_add(tar, snapshot / path, path))
                    done += files[-1].size
                    if progress:
                        progress(done, total)
                manifest = Manifest(now(), tuple(files), paths=frozenset(paths))
                data = manifest.to_bytes()
                tar.addfile(_member(MANIFEST, len(data), 0), io.BytesIO(data))
            raw.flush()
            os.fsync(raw.fileno())
    return manifest


def _add(tar: tarfile.TarFile, file: Path, path: str) -> File:
    with file.open("rb") as source:
        found = os.fstat(source.fileno())
        digest = hashlib.sha256()
        member = _member(path, found.st_size, found.st_mtime_ns // 10**9)
        tar.addfile(member, _Hashing(source, digest.update))
    return File(path, found.st_size, digest.hexdigest(), found.st_mtime_ns)


class _Hashing:
    """A file that tells what was read of it."""

    def __init__(self, source: IO[bytes], told: Callable[[bytes], None]) -> None:
        self._source = source
        self._told = told

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._told(data)
        return data


def _member(name: str, size: int, modified: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, modified, 0o600
    return member


def _verified(target: Folder, name: str, wanted: Manifest) -> Manifest:
    """Read the archive again, from the disk and not from memory, and compare all of it with what went in."""
    descriptor = target.open_file(name)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    with os.fdopen(descriptor, "rb") as raw:
        digest = hashlib.sha256()
        found = read_archive(_Hashing(raw, digest.update), None)
        while rest := raw.read(_CHUNK):
            digest.update(rest)
        size = raw.tell()
    if found.files != wanted.files:
        raise Unavailable("What was written differs from what was read", hint="The backup disk may be failing")
    return replace(wanted, sha256=digest.hexdigest(), size=size, verified_at=now())


def read_archive(raw: object, extract: Callable[[str, IO[bytes]], None] | None) -> Manifest:
    """Read an archive from end to end; every member is hashed and compared with the manifest, which comes last.

    `extract` is given each name and a stream that it must read to its end. Until this returns, nothing that was
    extracted may be trusted.

    Raises:
        InvalidArgument: Damaged, cut off, or no backup at all. UnsupportedFormat: A newer version wrote it.
    """
    seen: list[File] = []
    manifest: Manifest | None = None
    try:
        with (
            zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw, closefd=False) as plain,  # type: ignore[arg-type]
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            for member in tar:
                source = tar.extractfile(member) if member.isreg() else None
                if source is None or manifest is not None:
                    raise InvalidArgument("The archive is no backup of this program", hint="Name a backup")
                if member.name == MANIFEST:
                    manifest = parse_manifest(source.read())
                    continue
                digest = hashlib.sha256()
                stream = _Hashing(source, digest.update)
                if extract:
                    extract(member.name, stream)  # type: ignore[arg-type]
                while stream.read(_CHUNK):
                    pass
                seen.append(File(member.name, member.size, digest.hexdigest(), 0))
            while plain.read(_CHUNK):  # to the frame's checksum
                pass
    except (zstandard.ZstdError, tarfile.TarError, EOFError, ValueError) as error:
        raise InvalidArgument("The archive is damaged or cut off", hint="Use another backup") from error
    if manifest is None:
        raise InvalidArgument("The archive is cut off: its manifest is missing", hint="Use another backup")
    if [(file.path, file.size, file.sha256) for file in manifest.files] != [
        (file.path, file.size, file.sha256) for file in seen
    ]:
        raise InvalidArgument("The archive does not hold what its manifest says", hint="Use another backup")
    return manifest


@contextmanager
def _target_errors(to: Path) -> Iterator[None]:
    """Raises: StorageFull, Unavailable: saying that it is the backup's disk, not the server's."""
    try:
        with storage_errors():
            yield
    except StorageFull as error:
        raise StorageFull(
            f"The disk of {to} is full: no backup was made, and older ones are as they were",
            hint="Free space there, or keep fewer days",
        ) from error


__all__ = ["FEWEST", "KEEP_DAYS", "BackupFile", "Done", "backups_in", "file_name", "read_archive", "target_folder",
           "to_prune", "write_backup"]  # fmt: skip
