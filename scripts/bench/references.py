"""What our code is compared with: the plain ways to do the same work."""

import gzip
import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

GZIP_FORMAT = 31  # zlib's window bits for a gzip header
GZIP_LEVEL = 6


def write_atomic(path: Path, data: bytes) -> None:
    """A durable replacement and nothing else: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f"{path.name}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def gzip_6(data: bytes) -> bytes:
    """What `gzip -6` makes of it, in one member."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_FORMAT)
    return packer.compress(data) + packer.flush()


def rewrite_gzip_6(path: Path, data: bytes) -> None:
    """The plain way to keep a grown transcript: compress all of it again."""
    write_atomic(path, gzip_6(data))


def sha256(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def sequential_page(path: Path, first: int, count: int) -> list[bytes]:
    """Lines `first` (from 0) to `first + count` of a gzip file, read from its start."""
    with gzip.open(path) as lines:
        return list(itertools.islice(lines, first, first + count))
