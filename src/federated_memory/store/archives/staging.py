"""New archive bytes on their way to their place: in memory while they are few, then in a temporary file."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from federated_memory.fs.folder import temporary_name, write_fully
from federated_memory.store.root import Root

_MEMORY_BYTES = 1024**2
_SPACE_CHECK_BYTES = 16 * 1024**2
_COPY_BYTES = 1024**2
_CANNOT_COPY = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EBADF})


class Stage:
    """Collects bytes; ends as a durable temporary file (`seal`), at the end of another file (`append_to`), or gone."""

    def __init__(self, root: Root, *, copy_from: int = -1, copy_bytes: int = 0) -> None:
        """With `copy_bytes`, the staged file begins with so much of the open file `copy_from`, the caller's own.

        Raises:
            StorageFull: Less is free than the floor allows.
        """
        root.ensure_space()
        self._root = root
        self._copy_from = copy_from
        self._copy_bytes = copy_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._unchecked = 0
        self._name = ""
        self._descriptor = -1

    def write(self, data: bytes) -> None:
        """Raises: StorageFull, OSError: discard the stage."""
        self._unchecked += len(data)
        if self._unchecked > _SPACE_CHECK_BYTES:
            self._root.ensure_space()
            self._unchecked = 0
        self._parts.append(data)
        self._held += len(data)
        if self._held > _MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._descriptor < 0:
            name = temporary_name("archive")
            self._descriptor = self._root.temporary.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._name = name
            if self._copy_bytes:
                copy_bytes(self._copy_from, self._descriptor, self._copy_bytes)
        for part in self._parts:
            write_fully(self._descriptor, part)
        self._parts.clear()
        self._held = 0

    def seal(self) -> str:
        """Make the bytes durable in a file of the root's temporary folder; its name."""
        self._spill()
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        return self._name

    def append_to(self, descriptor: int, *, start: int = 0) -> None:
        """Write the bytes, but the first `start`, where `descriptor` stands; not yet durable."""
        if self._name:
            self._spill()
            copy_bytes(self._descriptor, descriptor, os.fstat(self._descriptor).st_size, start)
        elif self._parts:
            write_fully(descriptor, memoryview(b"".join(self._parts))[start:])

    def onto(self, copy_from: int, copy_bytes: int) -> Stage:
        """Another stage: so much of an open file, then these bytes."""
        whole = Stage(self._root, copy_from=copy_from, copy_bytes=copy_bytes)
        try:
            whole._spill()
            self.append_to(whole._descriptor)
        except BaseException:
            whole.discard()
            raise
        return whole

    def discard(self) -> None:
        """Forget the bytes; a sealed file that was moved to its place stays there."""
        self._parts.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._name:
            with suppress(OSError):  # it was moved; or the disk fails, and the next start sweeps it
                self._root.temporary.remove(self._name)


def copy_bytes(source: int, target: int, end: int, start: int = 0) -> None:
    """Copy the bytes from `start` to `end` of one open file to where another stands; in the kernel where it can.

    Raises:
        OSError: A step failed, or the source is shorter.
    """
    while start < end:
        step = _kernel_copy(source, target, start, end - start)
        if not step:
            data = os.pread(source, min(_COPY_BYTES, end - start), start)
            if not data:
                raise OSError(errno.EIO, "the file is shorter than it was")
            write_fully(target, data)
            step = len(data)
        start += step


def _kernel_copy(source: int, target: int, offset: int, size: int) -> int:
    """The bytes copied; 0 when this system or file system cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, target, size, offset)
    except OSError as error:
        if error.errno in _CANNOT_COPY:
            return 0
        raise
