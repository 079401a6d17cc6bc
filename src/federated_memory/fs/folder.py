"""Files below one open directory (SPEC: STORE-2, SEC-1)."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from federated_memory.errors import Conflict, StorageFull, Unavailable

_LIBC = ctypes.CDLL(None)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not block the open


class NotRegular(OSError):
    """A name holds a symlink, device, FIFO or socket where a file or folder of ours belongs."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the disk says into what a caller understands.

    Raises:
        StorageFull: No blocks, inodes or quota left.
        Unavailable: Any other failure of the disk, such as a read-only remount.
        Conflict: Something that is no plain file or folder stands in the way.
    """
    try:
        yield
    except (NotRegular, FileExistsError, IsADirectoryError) as error:
        raise Conflict(
            "Something else stands at that place on the server, such as a link or a folder",
            hint="Remove it there, or choose another name",
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("The server's disk is full", hint="Free space on the server, then retry") from error
        if error.errno in (errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE):
            raise Unavailable(
                f"The server's disk refused ({errno.errorcode[error.errno]})", hint="Tell its operator, then retry"
            ) from error
        raise


class Folder:
    """An open directory; close it, or use it as a context manager.

    Names are single parts that `names` has parsed or that we made; they are still refused when they hold a separator.
    """

    __slots__ = ("_fd", "_staging")

    def __init__(self, descriptor: int, staging: Folder | None = None) -> None:
        """`staging` is where this folder and those below it make their temporary files; None: beside the real ones."""
        self._fd = descriptor
        self._staging = staging

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Folder:
        """Raises: OSError: `path` is missing, no directory, or a symlink."""
        if create:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(os.open(path, _OPEN_FOLDER & ~os.O_NOFOLLOW))

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def folder(self, *parts: str, create: bool = False, sync: bool = True) -> Folder:
        """The folder at `parts` below this one; with `create`, made on the way (mode 0700), and durable if `sync`.

        Raises:
            FileNotFoundError: A part is missing.
            NotRegular: A part is a symlink or no directory.
        """
        current = os.dup(self._fd)
        try:
            for part in parts:
                following = _open_child(current, part, create=create, sync=sync)
                os.close(current)
                current = following
        except BaseException:
            os.close(current)
            raise
        return Folder(current, self._staging)

    def staged_in(self, staging: Folder) -> Folder:
        """The same folder with its temporary files, and those of the folders below it, in `staging`."""
        return Folder(os.dup(self._fd), staging)

    def open_file(self, name: str, flags: int = 0) -> int:
        """A descriptor of the regular file `name`, for reading unless `flags` say more; the caller closes it.

        Raises:
            FileNotFoundError: No such file.
            NotRegular: A symlink, directory, device, FIFO or socket.
        """
        try:
            descriptor = os.open(_part(name), _OPEN_FILE | flags, 0o600, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise NotRegular(error.errno, "not a regular file") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotRegular(errno.EINVAL, "not a regular file")
        return descriptor

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """The bytes of `name`; with `max_bytes`, at most one more than that."""
        descriptor = self.open_file(name)
        try:
            size = os.fstat(descriptor).st_size + 1
            return read_fully(descriptor, size if max_bytes is None else min(size, max_bytes + 1))
        finally:
            os.close(descriptor)

    def read_tail(self, name: str, max_bytes: int) -> bytes:
        """The last bytes of `name`; empty when it is missing."""
        try:
            descriptor = self.open_file(name)
        except FileNotFoundError:
            return b""
        try:
            return read_fully(descriptor, max_bytes, max(0, os.fstat(descriptor).st_size - max_bytes))
        finally:
            os.close(descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Of the name itself, never of what a symlink points to."""
        return os.stat(_part(name), dir_fd=self._fd, follow_symlinks=False)

    def exists(self, name: str) -> bool:
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def entries(self) -> list[os.DirEntry[str]]:
        """What the directory holds, by name."""
        with os.scandir(self._fd) as found:
            return sorted(found, key=lambda entry: entry.name)

    def create(self, name: str, data: bytes, *, sync: bool = True) -> None:
        """Write a new file; with `sync`, its bytes are durable (its name: after `sync_names`).

        Raises:
            FileExistsError: The name is taken.
            OSError: A step failed; the name is gone again.
        """
        descriptor = os.open(_part(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            write_fully(descriptor, data)
            if sync:
                os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                self.remove(name)
            raise
        finally:
            os.close(descriptor)

    def replace(self, name: str, data: bytes) -> None:
        """Replace `name` with `data`; durable when this returns.

        The name holds the old or the new bytes whole, never a mixture, also after a crash (SPEC: STORE-2).

        Raises:
            OSError: A step failed. A full disk leaves the old bytes and no temporary file.
        """
        staging = self._staging or self
        temporary = temporary_name(name)
        staging.create(temporary, data)
        try:
            staging.rename(temporary, self, name)
            self.sync_names()
        except BaseException:
            with suppress(OSError):
                staging.remove(temporary)
            raise

    def append(self, name: str, data: bytes) -> None:
        """Add bytes to the end of `name`, made if missing; not yet durable."""
        descriptor = os.open(
            _part(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd
        )
        try:
            write_fully(descriptor, data)
        finally:
            os.close(descriptor)

    def rename(self, name: str, target: Folder, target_name: str) -> None:
        """Move `name` to another folder or name, over what is there; both stay on one file system."""
        os.rename(_part(name), _part(target_name), src_dir_fd=self._fd, dst_dir_fd=target._fd)

    def link(self, name: str, target: Folder, target_name: str) -> None:
        """A second name for the same file. Raises: FileExistsError: the name is taken."""
        os.link(_part(name), _part(target_name), src_dir_fd=self._fd, dst_dir_fd=target._fd, follow_symlinks=False)

    def remove(self, name: str) -> None:
        os.unlink(_part(name), dir_fd=self._fd)

    def remove_folder(self, name: str) -> None:
        """Raises: OSError: the folder is not empty."""
        os.rmdir(_part(name), dir_fd=self._fd)

    def remove_tree(self, name: str) -> None:
        """Remove a folder with all it holds, or a file; no link is followed."""
        try:
            inner = self.folder(name)
        except NotRegular:
            self.remove(name)
            return
        with inner:
            for entry in inner.entries():
                if entry.is_dir(follow_symlinks=False):
                    inner.remove_tree(entry.name)
                else:
                    inner.remove(entry.name)
        self.remove_folder(name)

    def sync_file(self, name: str) -> None:
        """Make the bytes of `name` durable."""
        descriptor = self.open_file(name)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_names(self) -> None:
        """Make creations, renames and removals in this folder durable."""
        os.fsync(self._fd)

    def sync_file_system(self) -> bool:
        """Make everything on this file system durable in one go; False where that cannot be done, or not be proven.

        Linux reports a failed write to `syncfs` since version 5.8.
        """
        syncfs = getattr(_LIBC, "syncfs", None)
        return syncfs is not None and _linux_version() >= (5, 8) and syncfs(self._fd) == 0

    def free_bytes(self) -> int:
        found = os.statvfs(self._fd)
        return found.f_bavail * found.f_frsize


@cache
def _linux_version() -> tuple[int, int]:
    """(0, 0) elsewhere."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release) if sys.platform == "linux" else None
    return (int(found[1]), int(found[2])) if found else (0, 0)


def temporary_name(name: str) -> str:
    """A name beside `name` that no document has, and that the sweep at start recognises."""
    return f".{name[:80]}.{secrets.token_hex(6)}.tmp"


def read_fully(descriptor: int, size: int, offset: int = 0) -> bytes:
    """Up to `size` bytes from `offset`; fewer only at the end of the file."""
    parts: list[bytes] = []
    while size > 0:
        part = os.pread(descriptor, min(size, 1 << 24), offset)
        if not part:
            break
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_fully(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _part(name: str) -> str:
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise NotRegular(errno.EINVAL, "not a single name")
    return name


def _open_child(parent: int, name: str, *, create: bool, sync: bool) -> int:
    try:
        return os.open(_part(name), _OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotRegular(error.errno, "not a folder") from None
        raise
    with suppress(FileExistsError):  # another thread may make it at the same moment
        os.mkdir(name, 0o700, dir_fd=parent)
        if sync:
            os.fsync(parent)
    return os.open(name, _OPEN_FOLDER, dir_fd=parent)
