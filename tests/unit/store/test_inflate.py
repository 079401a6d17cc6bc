"""Decoding uploads while they stream, and refusing what is hostile or broken."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_memory.errors import FederatedMemoryError, InvalidArgument, TooLarge, UnsupportedFormat
from federated_memory.store import inflate
from federated_memory.store.gzip_codec import deflate, inflating
from federated_memory.store.inflate import InflateLimits, inflater

MIB = 1024**2
TEXT = b"".join(b'{"type":"user","n":%d,"text":"%d"}\n' % (n, n * 7919) for n in range(20_000))


def decoded(encoding: str, body: bytes, *, limits: InflateLimits | None = None, chunk: int = 1 << 16) -> bytes:
    decoder = inflater(encoding, limits)
    out = b"".join(piece for at in range(0, len(body), chunk) for piece in decoder.feed(body[at : at + chunk]))
    decoder.finish()
    return out


def drained(encoding: str, body: bytes) -> None:
    """Decode without keeping anything."""
    decoder = inflater(encoding)
    for at in range(0, len(body), 1 << 16):
        for _ in decoder.feed(body[at : at + (1 << 16)]):
            pass
    decoder.finish()


def zstd(data: bytes, **options: int) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstd,
}


@pytest.mark.spec("ARCH-9")
@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(sorted(ENCODED)),
    parts=st.lists(st.binary(max_size=300) | st.just(TEXT[:90_000]), min_size=1, max_size=4),
    chunk=st.sampled_from([1, 3, 255, 4096, 1 << 20]),
)
def test_any_body_in_any_chunks_decodes_to_what_was_encoded(encoding: str, parts: list[bytes], chunk: int) -> None:
    body = b"".join(ENCODED[encoding](part) for part in parts)

    assert decoded(encoding, body, chunk=max(chunk, len(body) // 2000)) == b"".join(parts)


@pytest.mark.spec("ARCH-9")
def test_pieces_stay_small_so_that_memory_does() -> None:
    for encoding in ("gzip", "zstd"):
        decoder = inflater(encoding)
        pieces = list(decoder.feed(ENCODED[encoding](TEXT)))

        assert b"".join(pieces) == TEXT
        assert max(map(len, pieces)) <= (inflate.PIECE_BYTES if encoding == "gzip" else 8 * MIB)


@pytest.mark.spec("ARCH-9")
@pytest.mark.parametrize("encoding", ["GZIP", " gzip ", "x-gzip"])
def test_spellings_of_gzip(encoding: str) -> None:
    assert decoded(encoding, gzip.compress(b"x")) == b"x"


@pytest.mark.spec("ARCH-9")
@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zip", "\x1b[31m"])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        inflater(encoding)
    assert str(caught.value).isprintable()


@pytest.mark.spec("ARCH-9")
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_body_cut_off_anywhere_is_refused(encoding: str, kept: float) -> None:
    whole = ENCODED[encoding](TEXT)

    with pytest.raises(InvalidArgument, match="ended in the middle"):
        decoded(encoding, whole[: int(kept * len(whole))])


@pytest.mark.spec("ARCH-9")
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_every_last_byte_counts(encoding: str) -> None:
    whole = ENCODED[encoding](TEXT[:500])

    for kept in range(len(whole)):
        with pytest.raises(InvalidArgument):
            decoded(encoding, whole[:kept])


@pytest.mark.spec("ARCH-9")
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("trailing", [b"\0", b"x", b"\0" * 512, b"garbage after the end"])
def test_bytes_after_the_end_are_refused(encoding: str, trailing: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decoded(encoding, ENCODED[encoding](TEXT) + trailing)


@pytest.mark.spec("ARCH-9")
@pytest.mark.parametrize("at", [-1, -5, 40])
def test_a_flipped_bit_is_refused(at: int) -> None:
    body = bytearray(gzip.compress(TEXT))
    body[at] ^= 1
    with pytest.raises(InvalidArgument):
        decoded("gzip", bytes(body))


@pytest.mark.spec("ARCH-9")
@settings(max_examples=200, deadline=None)
@given(encoding=st.sampled_from(["gzip", "zstd"]), body=st.binary(max_size=200), magic=st.booleans())
def test_rubbish_is_refused_and_nothing_else_happens(encoding: str, body: bytes, magic: bool) -> None:
    start = {"gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "zstd": b"\x28\xb5\x2f\xfd"}[encoding]
    with suppress(FederatedMemoryError):
        decoded(encoding, start + body if magic else body)


@pytest.mark.spec("ARCH-10")
def test_the_size_limit_holds_to_the_byte() -> None:
    limits = InflateLimits(max_bytes=len(TEXT))
    for encoding, encode in ENCODED.items():
        assert decoded(encoding, encode(TEXT), limits=limits) == TEXT
        with pytest.raises(TooLarge):
            decoded(encoding, encode(TEXT + b"x"), limits=limits)


@pytest.mark.spec("ARCH-10")
def test_a_short_body_may_repeat_itself_a_long_one_may_not() -> None:
    for encoding in ("gzip", "zstd"):
        assert len(decoded(encoding, ENCODED[encoding](bytes(MIB)))) == MIB
        with pytest.raises(TooLarge, match="200 times"):
            decoded(encoding, ENCODED[encoding](bytes(4 * MIB)))


def gzip_bomb() -> bytes:
    """What 256 MiB of zeros become, or as good as."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(4 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * 64 + b"\x03\0"


def disguised_gzip_bomb() -> bytes:
    return gzip.compress(random.Random(1).randbytes(MIB // 4)) + gzip_bomb()


def zstd_bomb() -> bytes:
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join(packer.compress(bytes(MIB)) for _ in range(256)) + packer.flush()


def empty_gzip_members() -> bytes:
    return deflate(b"") * 50_000


def empty_zstd_frames() -> bytes:
    return zstd(b"") * 110_000


def wide_zstd_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(random.Random(1).randbytes(100_000)) + packer.flush()


@pytest.mark.spec("ARCH-10")
@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip_bomb),
        ("gzip", disguised_gzip_bomb),
        ("gzip", empty_gzip_members),
        ("zstd", zstd_bomb),
        ("zstd", empty_zstd_frames),
        ("zstd", wide_zstd_window),
    ],
)
def test_bombs_are_refused_at_little_cost(encoding: str, bomb: Callable[[], bytes]) -> None:
    body = bomb()

    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(TooLarge):
        drained(encoding, body)
    seconds = time.process_time() - begun
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seconds < 1
    assert peak_bytes < 32 * MIB


@pytest.mark.spec("ARCH-10")
@pytest.mark.parametrize("bomb", [gzip_bomb, zstd_bomb])
def test_the_broken_twin_without_limits_swallows_the_bomb(bomb: Callable[[], bytes]) -> None:
    limits = InflateLimits(max_ratio=10**6, max_members=10**6)
    decoder = inflater("gzip" if bomb is gzip_bomb else "zstd", limits)

    assert sum(map(len, decoder.feed(bomb()))) == 256 * MIB


@pytest.mark.spec("ARCH-9")
def test_members_with_names_and_comments_are_gzip_too() -> None:
    header = b"\x1f\x8b\x08\x1e" + b"\0" * 4 + b"\0\x03"  # header checksum, extra field, name, comment
    header += b"\x04\0abcd" + b"notes.jsonl\0" + b"a comment\0"
    header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    raw = zlib.compressobj(6, wbits=-15)
    body = header + raw.compress(TEXT) + raw.flush()
    body += zlib.crc32(TEXT).to_bytes(4, "little") + len(TEXT).to_bytes(4, "little")
    assert gzip.decompress(body) == TEXT

    assert decoded("gzip", body, chunk=7) == TEXT


def test_the_codec_writes_the_same_bytes_every_time() -> None:
    assert deflate(TEXT) == deflate(memoryview(TEXT))
    assert inflating().decompress(deflate(TEXT), len(TEXT)) == TEXT
