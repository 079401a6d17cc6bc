"""The gzip codec: ISA-L, six times zlib's speed; zlib where ISA-L has no wheel."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

GZIP_WINDOW = 31
"""zlib's `wbits` for a gzip header and trailer."""

HEADER_BYTES = 4

_UNUSUAL_FLAGS = 0b1110_0010
"""Of a header: a checksum of its own, which ISA-L 2.31 misreads when it comes in pieces, and the reserved flags, which
it takes though RFC 1952 says to refuse them, as `zcat` does."""

GZIP_MAGIC = b"\x1f\x8b"
"""What every member begins with."""


class Inflating(Protocol):
    """One gzip member being inflated."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


def _zlib_deflate(data: bytes | memoryview) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, GZIP_WINDOW)
    return compressor.compress(data) + compressor.flush()


def _isal_deflate(data: bytes | memoryview) -> bytes:
    compressed: bytes = _isal.compress(data, 3, GZIP_WINDOW)
    return compressed


_isal: Any
_igzip: Any
try:
    from isal import igzip_lib as _igzip
    from isal import isal_zlib as _isal
except ImportError:  # no wheel for this processor
    _isal = _igzip = None

CodecError: tuple[type[Exception], ...] = (zlib.error,) if _isal is None else (zlib.error, _isal.error)
"""What inflating raises on bytes that are no gzip."""

deflate: Callable[[bytes | memoryview], bytes] = _zlib_deflate if _isal is None else _isal_deflate
"""One whole gzip member; the same bytes for the same data (no time, no name)."""


def inflating(header: bytes = b"") -> Inflating:
    """A decoder of one gzip member; of a member from elsewhere, tell its first `HEADER_BYTES`."""
    is_unusual = len(header) > 3 and header[3] & _UNUSUAL_FLAGS
    decoder: Inflating = (zlib if _isal is None or is_unusual else _isal).decompressobj(GZIP_WINDOW)
    return decoder


def inflating_whole() -> Inflating:
    """A decoder of a member of our own making that is there at once: a fifth faster, as it allocates once."""
    if _igzip is None:
        return inflating()
    decoder: Inflating = _igzip.IgzipDecompressor(flag=_igzip.DECOMP_GZIP)
    return decoder
