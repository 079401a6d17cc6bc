"""Decoding an uploaded body while it streams, with every cap enforced on the way (SPEC: ARCH-9, ARCH-10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard

from federated_memory.errors import InvalidArgument, TooLarge, UnsupportedFormat
from federated_memory.names import shown
from federated_memory.store.gzip_codec import HEADER_BYTES, CodecError, Inflating, inflating

PIECE_BYTES = 64 * 1024
_ZSTD_PIECE_BYTES = 256  # its decoder has no output limit: 256 bytes become at most 8 MiB


@dataclass(frozen=True, slots=True)
class InflateLimits:
    """`max_ratio` is judged once more than `ratio_floor_bytes` came out: a short transcript may well repeat itself."""

    max_bytes: int = 4 * 1024**3
    max_ratio: int = 200
    ratio_floor_bytes: int = 1024**2
    max_members: int = 20_000
    max_window_bytes: int = 8 * 1024**2


class Inflater(Protocol):
    """A body being decoded."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` decodes to, in pieces; exhaust it before the next call.

        Raises:
            TooLarge: More bytes, members or window than allowed, or a suspicious ratio.
            InvalidArgument: Not what the encoding promises.
        """

    def finish(self) -> None:
        """Raises: InvalidArgument: the body ended in the middle."""


def inflater(encoding: str, limits: InflateLimits | None = None) -> Inflater:
    """The decoder of a `Content-Encoding`: `identity` (or empty), `gzip`, `zstd`.

    Raises:
        UnsupportedFormat: Another encoding.
    """
    limits = limits or InflateLimits()
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity(limits)
        case "gzip" | "x-gzip":
            return _Gzip(limits)
        case "zstd":
            return _Zstd(limits)
    raise UnsupportedFormat(
        f"The encoding {shown(encoding)} is not supported", hint="Send `identity`, `gzip` or `zstd`"
    )


class _Budget:
    """What a body took in and gave out, held to the limits."""

    __slots__ = ("_limits", "_members", "consumed", "produced")

    def __init__(self, limits: InflateLimits) -> None:
        self._limits = limits
        self._members = 0
        self.consumed = 0
        self.produced = 0

    def count_member(self) -> None:
        self._members += 1
        if self._members > self._limits.max_members:
            raise TooLarge(
                f"The body has more than {self._limits.max_members} compressed members",
                hint="Compress the transcript in one go",
            )

    def count_output(self, size: int) -> None:
        self.produced += size
        if self.produced > self._limits.max_bytes:
            raise TooLarge(
                f"The transcript has more than {self._limits.max_bytes} bytes", hint="Split it into several sessions"
            )
        ceiling = max(self._limits.ratio_floor_bytes, self.consumed * self._limits.max_ratio)
        if self.produced > ceiling:
            raise TooLarge(
                f"The body inflates to more than {self._limits.max_ratio} times its size", hint="Send it uncompressed"
            )


class _Identity:
    def __init__(self, limits: InflateLimits) -> None:
        self._budget = _Budget(limits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._budget.consumed += len(data)
        self._budget.count_output(len(data))
        if data:
            yield data

    def finish(self) -> None:
        return


class _Gzip:
    def __init__(self, limits: InflateLimits) -> None:
        self._budget = _Budget(limits)
        self._member: Inflating | None = None
        self._begun = b""  # the first bytes of a member, until they tell its decoder
        self._is_empty = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._is_empty = False
            self._budget.consumed += len(piece)
            yield from self._inflate(piece)

    def _inflate(self, rest: bytes) -> Iterator[bytes]:
        while rest:
            if self._member is None:
                rest, self._begun = self._begun + rest, b""
                if len(rest) < HEADER_BYTES:
                    self._begun = rest
                    return
                self._budget.count_member()
                self._member = inflating(rest)
            is_full = True
            while is_full and not self._member.eof:  # a full piece: the decoder may hold back more
                try:
                    out = self._member.decompress(rest, PIECE_BYTES)
                except CodecError:
                    raise InvalidArgument(
                        "The body is no valid gzip", hint="Send whole gzip members and nothing else"
                    ) from None
                rest = self._member.unconsumed_tail
                is_full = len(out) == PIECE_BYTES
                if out:
                    self._budget.count_output(len(out))
                    yield out
            if self._member.eof:
                rest = self._member.unused_data
                self._member = None

    def finish(self) -> None:
        if self._is_empty or self._begun or self._member is not None:
            raise _truncated("gzip")


class _Zstd:
    def __init__(self, limits: InflateLimits) -> None:
        self._budget = _Budget(limits)
        self._max_window_bytes = limits.max_window_bytes
        self._decoder = zstandard.ZstdDecompressor(max_window_size=limits.max_window_bytes)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._is_empty = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_PIECE_BYTES):
            piece = data[start : start + _ZSTD_PIECE_BYTES]
            self._is_empty = False
            self._budget.consumed += len(piece)
            yield from self._inflate(piece)

    def _inflate(self, rest: bytes) -> Iterator[bytes]:
        while rest:
            if self._frame is None:
                self._budget.count_member()
                self._frame = self._decoder.decompressobj(write_size=PIECE_BYTES)
            try:
                out = self._frame.decompress(rest)
            except zstandard.ZstdError as error:
                raise self._refusal(error) from None
            if out:
                self._budget.count_output(len(out))
                yield out
            if not self._frame.eof:
                return
            rest = self._frame.unused_data
            self._frame = None

    def _refusal(self, error: zstandard.ZstdError) -> InvalidArgument | TooLarge:
        if "too much memory" in str(error):
            return TooLarge(
                f"The body needs a zstd window over {self._max_window_bytes} bytes",
                hint="Compress it at level 19 or lower, without --long",
            )
        return InvalidArgument("The body is no valid zstd", hint="Send whole zstd frames and nothing else")

    def finish(self) -> None:
        if self._is_empty or self._frame is not None:
            raise _truncated("zstd")


def _truncated(encoding: str) -> InvalidArgument:
    return InvalidArgument(f"The {encoding} body ended in the middle", hint="Send the whole transcript again")
