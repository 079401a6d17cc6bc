"""The form of an archive: members of whole lines, each inflated on its own."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_memory.store import gzip_codec
from federated_memory.store.archives.member_scan import Scanned, scan_members
from federated_memory.store.gzip_codec import deflate
from federated_memory.store.members import (
    LONGEST_MEMBER_BYTES,
    MEMBER_BYTES,
    DamagedMember,
    Member,
    MemberWriter,
    boundary_before,
    first_boundary,
    inflate_member,
)
from tests.unit.store.archive_rig import small_members

LINE = b'{"type":"assistant","text":"' + b"some words of a transcript " * 30 + b'"}\n'


def written(raw: bytes, chunk: int = 1 << 20) -> tuple[bytes, list[Member]]:
    parts: list[bytes] = []
    writer = MemberWriter(parts.append, first_boundary())
    for at in range(0, len(raw), chunk):
        writer.feed(raw[at : at + chunk])
    end = writer.finish()
    assert end.digest.hexdigest() == hashlib.sha256(raw).hexdigest()
    assert (end.raw_offset, end.gzip_offset, end.line) == (len(raw), sum(map(len, parts)), raw.count(b"\n"))
    return b"".join(parts), writer.members


@contextmanager
def file_with(data: bytes, folder: Path) -> Iterator[int]:
    path = folder / "file.gz"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def scanned(data: bytes, folder: Path, **options: int) -> Scanned:
    with file_with(data, folder) as descriptor:
        return scan_members(descriptor, **options)


texts = st.lists(
    st.builds(
        lambda size, newline: b"x" * size + newline,
        st.sampled_from([0, 1, 30, 62, 63, 64, 65, 158, 159, 160, 161, 320, 400]),
        st.sampled_from([b"\n", b"\n", b""]),
    ),
    max_size=10,
).map(b"".join)


@pytest.mark.spec("ARCH-1")
@settings(max_examples=300, deadline=None)
@given(raw=texts, chunk=st.integers(1, 500))
def test_cuts_do_not_depend_on_how_the_bytes_arrive(raw: bytes, chunk: int) -> None:
    with small_members():
        assert written(raw, chunk) == written(raw)


@pytest.mark.spec("ARCH-1")
@settings(max_examples=300, deadline=None)
@given(raw=texts)
def test_members_are_whole_lines_and_only_parts_of_a_long_line_are_not(raw: bytes) -> None:
    with small_members():
        _, members = written(raw)

    pieces = [raw[member.raw_offset : member.raw_end] for member in members]
    assert b"".join(pieces) == raw
    for member, piece in zip(members, pieces, strict=True):
        is_part = raw[: member.raw_offset][-1:] not in (b"", b"\n") or not piece.endswith(b"\n")
        assert len(piece) <= (160 if is_part or piece.count(b"\n") == 1 else 64)
        assert piece.count(b"\n") <= 1 or not is_part or member is members[-1]
        assert member.first_line == raw[: member.raw_offset].count(b"\n")
        assert member.sha256_so_far == hashlib.sha256(raw[: member.raw_end]).digest()


@pytest.mark.spec("ARCH-2")
@settings(max_examples=150, deadline=None)
@given(raw=texts, mark=st.integers(0, 900))
def test_a_scan_finds_the_members_that_were_written(
    raw: bytes, mark: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with small_members():
        data, members = written(raw)
        found = scanned(data, folder, mark=mark)

    assert found.members == members
    assert (found.problem, found.is_ours, found.gzip_bytes) == ("", True, len(data))
    assert (found.sha256, found.raw_bytes) == (hashlib.sha256(raw).hexdigest(), len(raw))
    assert (found.lines, found.has_open_line) == (
        len(raw.split(b"\n")) - (raw[-1:] in (b"\n", b"")),
        raw[-1:] not in (b"\n", b""),
    )
    assert found.sha256_at_mark == (hashlib.sha256(raw[:mark]).digest() if mark <= len(raw) else b"")


@pytest.mark.spec("ARCH-1")
def test_members_have_256_kib_of_whole_lines() -> None:
    raw = LINE * 2000
    _, members = written(raw)

    assert len(members) == -(-len(raw) // (MEMBER_BYTES // len(LINE) * len(LINE)))
    assert all(MEMBER_BYTES - len(LINE) < member.raw_bytes <= MEMBER_BYTES for member in members[:-1])


@pytest.mark.spec("ARCH-1")
def test_a_line_of_many_megabytes_is_cut_so_that_memory_stays_bounded() -> None:
    long = b"y" * (2 * LONGEST_MEMBER_BYTES + 5) + b"\n"
    _, members = written(LINE + long + LINE)

    assert [member.raw_bytes for member in members] == [
        len(LINE), LONGEST_MEMBER_BYTES, LONGEST_MEMBER_BYTES, 6, len(LINE),
    ]  # fmt: skip
    assert [member.first_line for member in members] == [0, 1, 1, 1, 2]


@pytest.mark.spec("ARCH-2")
def test_zcat_prints_the_transcript(tmp_path: Path) -> None:
    raw = LINE * 1000 + b"an unterminated last line"
    data, _ = written(raw)
    (tmp_path / "x.gz").write_bytes(data)

    assert gzip.decompress(data) == raw
    if program := shutil.which("zcat"):
        assert subprocess.run([program, tmp_path / "x.gz"], capture_output=True, check=True).stdout == raw


@pytest.mark.spec("ARCH-2")
def test_an_empty_transcript_is_valid_gzip(tmp_path: Path) -> None:
    data, members = written(b"")

    assert gzip.decompress(data) == b""
    assert [member.raw_bytes for member in members] == [0]
    assert scanned(data, tmp_path).members == members


@pytest.mark.spec("ARCH-2")
def test_each_member_inflates_on_its_own_and_damage_names_it(tmp_path: Path) -> None:
    raw = b"".join(b"%d " % n + LINE for n in range(2000))
    data, members = written(raw)
    with file_with(data, tmp_path) as descriptor:
        for member in random.Random(1).sample(members, 3):
            assert inflate_member(descriptor, member) == raw[member.raw_offset : member.raw_end]

    for at, number in ((members[2].gzip_offset + 500, 2), (members[4].gzip_end - 1, 4)):
        flipped = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        with file_with(flipped, tmp_path) as descriptor, pytest.raises(DamagedMember) as caught:
            inflate_member(descriptor, members[number])
        assert caught.value.member.number == number
        assert scanned(flipped, tmp_path).problem.startswith(f"member {number} at byte {members[number].gzip_offset}")


@pytest.mark.spec("ARCH-2")
@pytest.mark.parametrize("wrong", ["raw_bytes", "gzip_bytes"])
def test_a_row_that_does_not_fit_the_file_is_noticed(wrong: str, tmp_path: Path) -> None:
    data, members = written(LINE * 1000)
    with file_with(data, tmp_path) as descriptor:
        for difference in (-1, 1):
            row = members[1]._replace(**{wrong: getattr(members[1], wrong) + difference})
            with pytest.raises(DamagedMember):
                inflate_member(descriptor, row)


@pytest.mark.spec("ARCH-12")
@pytest.mark.parametrize(
    ("data", "intact"),
    [
        (deflate(LINE) + deflate(LINE)[:-3], 1),
        (deflate(LINE) + b"\0\0\0\0", 1),
        (deflate(LINE) + b"\x1f", 1),
        (b"no gzip at all", 0),
        (b"", 0),
    ],
)
def test_a_scan_tells_a_torn_file_from_a_whole_one(data: bytes, intact: int, tmp_path: Path) -> None:
    found = scanned(data, tmp_path)

    assert found.problem
    assert (len(found.members), found.raw_bytes, found.gzip_bytes) == (
        intact, intact * len(LINE), intact * len(deflate(LINE)),
    )  # fmt: skip
    assert found.sha256 == ""


@pytest.mark.spec("ARCH-13")
@pytest.mark.parametrize(
    ("pieces", "is_ours"),
    [
        ([b"a\nb\n", b"c\n"], True),
        ([b"a\nb", b"c\n"], False),
        ([b"a\n", b"b"], True),
        ([b"a", b"b", b"c\n", b"d\n"], True),
        ([b"a", b"b\nc\n"], False),
        ([b"a\n", b"b\nc", b"d"], False),
        ([b"a\n", b"", b"b\n"], False),
        ([b""], True),
        ([b"z" * (LONGEST_MEMBER_BYTES + 1)], False),
    ],
)
def test_files_from_elsewhere_are_told_by_their_cuts(pieces: list[bytes], is_ours: bool, tmp_path: Path) -> None:
    data = b"".join(map(gzip.compress, pieces))

    found = scanned(data, tmp_path)
    assert (found.problem, found.is_ours) == ("", is_ours)


@pytest.mark.spec("ARCH-2")
def test_writing_goes_on_behind_any_member() -> None:
    raw = LINE * 900 + b"z" * (LONGEST_MEMBER_BYTES + 7) + b"\n" + LINE * 3
    data, members = written(raw)
    lines = raw.count(b"\n")

    for number in range(len(members) + 1):
        place = members[number].raw_offset if number < len(members) else len(raw)
        parts: list[bytes] = []
        start = boundary_before(members, number, lines, hashlib.sha256(raw[:place]))
        writer = MemberWriter(parts.append, start)
        writer.feed(raw[place:])
        writer.finish()
        assert members[:number] + writer.members == members
        assert data[: members[number].gzip_offset if number < len(members) else None] + b"".join(parts) == data


@pytest.mark.spec("ARCH-1")
def test_without_isal_the_files_are_the_same_to_readers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = LINE * 700
    monkeypatch.setattr(gzip_codec, "_isal", None)
    data = gzip_codec._zlib_deflate(raw)

    assert gzip.decompress(data) == raw
    assert scanned(data, tmp_path).sha256 == hashlib.sha256(raw).hexdigest()
    assert data[4:8] == bytes(4)  # no time: the same bytes for the same lines
    assert type(gzip_codec.inflating()) is type(zlib.decompressobj())
