"""The file of one transcript, held against its rows (SPEC: CHECK-4)."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_memory.fs.folder import read_fully
from federated_memory.store.archives.rows import Archive
from federated_memory.store.gzip_codec import GZIP_WINDOW, deflate
from federated_memory.store.members import DamagedMember, Member, inflate_member

_HEADER = b"\x1f\x8b\x08"
_TRAILER_BYTES = 8
_LEAST_MEMBER_BYTES = 18
_APPENDING_SECONDS = 600
_HARMLESS = "The transcript is whole. Look at the disk; restore this file from a backup to have it as it was"
LOST = "Restore it from a backup, or move it away and upload the transcript again from its machine"


@dataclass(frozen=True, slots=True)
class Problem:
    """`is_loss`: bytes that were acknowledged are gone or wrong. `evidence`: as of a finding."""

    text: str
    advice: str = LOST
    is_loss: bool = True
    evidence: str = ""


def row_problems(archive: Archive, members: Sequence[Member]) -> Iterator[Problem]:
    """What the rows say that cannot be, whatever the file holds."""
    advice = "Restore the whole root from one backup"
    raw = gzip = line = 0
    for number, member in enumerate(members):
        is_next = member.number == number and member.raw_offset == raw and member.gzip_offset == gzip
        if not is_next or not line <= member.first_line <= archive.lines:
            yield Problem(f"the state database has no place for its member {member.number}", advice)
            return
        raw, gzip, line = member.raw_end, member.gzip_end, member.first_line
    if not members or (raw, gzip, members[-1].sha256_so_far.hex()) != (
        archive.raw_bytes, archive.gzip_bytes, archive.sha256,
    ):  # fmt: skip
        yield Problem("the state database describes its members otherwise than the whole", advice)


class ArchiveFile:
    """An open archive. `counts` gets what was read."""

    def __init__(self, descriptor: int, archive: Archive, members: Sequence[Member], counts: Counter[str]) -> None:
        self._descriptor = descriptor
        self._archive = archive
        self._members = members
        self._counts = counts

    def problems(self, *, read_data: bool, is_served: bool) -> Iterator[Problem]:
        """`is_served`: a server runs, and may be about to append."""
        yield from self._size(is_served)
        self._counts["members"] += len(self._members)
        yield from self._read() if read_data else self._look()

    def _size(self, is_served: bool) -> Iterator[Problem]:
        found = os.fstat(self._descriptor)
        size, committed = found.st_size, self._archive.gzip_bytes
        if size > committed:
            if is_served and time.time() - found.st_mtime < _APPENDING_SECONDS:
                return
            yield Problem(
                f"has {size - committed:,} bytes behind the {committed:,} that were acknowledged, as an append leaves "
                "them that was interrupted",
                "Nothing: the next start removes them",
                is_loss=False,
                evidence=self._archive.sha256,
            )
        elif size < committed:
            at = next((member for member in self._members if member.gzip_end > size), None)
            yield Problem(
                f"is cut short: {size:,} of {committed:,} bytes"
                + (f"; lost from line {at.first_line} on, of {self._archive.lines}" if at else ""),
                evidence=self._archive.sha256,
            )

    def _look(self) -> Iterator[Problem]:
        """Without inflating: does a member begin and end where the rows say?"""
        for member in self._members:
            head = os.pread(self._descriptor, len(_HEADER), member.gzip_offset)
            tail = os.pread(self._descriptor, _TRAILER_BYTES, member.gzip_end - _TRAILER_BYTES)
            if len(tail) < _TRAILER_BYTES or member.gzip_bytes < _LEAST_MEMBER_BYTES:
                return  # the file is too short, and that is known
            if head != _HEADER or int.from_bytes(tail[4:], "little") != member.raw_bytes & 0xFFFFFFFF:
                yield self._damaged(member, "holds something else at its edges")

    def _read(self) -> Iterator[Problem]:
        """Inflate everything: every member, its CRC, the hash up to its end, and its very bytes."""
        digest, newlines = hashlib.sha256(), 0
        is_whole, last = True, b"\n"
        for member in self._members:
            if os.fstat(self._descriptor).st_size < member.gzip_end:
                return
            if member.first_line != newlines and is_whole:
                yield self._damaged(member, f"begins with line {newlines}, not {member.first_line}")
            self._counts["bytes"] += member.gzip_bytes
            try:
                raw = inflate_member(self._descriptor, member)
            except DamagedMember:
                is_whole = False
                yield self._damaged(member, "cannot be inflated, or fails its CRC")
                continue
            digest.update(raw)
            newlines += raw.count(b"\n")
            last = raw[-1:] or last
            if is_whole and digest.digest() != member.sha256_so_far:
                is_whole = False
                yield self._damaged(member, "inflates to other bytes than were acknowledged (SHA-256)")
            yield from self._encoding(member, raw)
        lines = newlines + (last != b"\n")
        if is_whole and lines != self._archive.lines:
            text = f"has {lines} lines, the state database says {self._archive.lines}"
            yield Problem(text, evidence=self._archive.sha256)

    def _encoding(self, member: Member, raw: bytes) -> Iterator[Problem]:
        """A byte can change without a trace in what is inflated: in the header, or in bits that only fill a byte.

        What we wrote is what deflating gives again; a file that another program compressed differs in many bytes.
        """
        stored = read_fully(self._descriptor, member.gzip_bytes, member.gzip_offset)
        candidates = (encode(raw) for encode in (deflate, _zlib_deflate))
        for expected in candidates:
            if expected == stored:
                return
            if len(expected) == len(stored):
                changed = [at for at, (a, b) in enumerate(zip(expected, stored, strict=True)) if a != b]
                if len(changed) == 1:
                    yield Problem(
                        f"byte {member.gzip_offset + changed[0]:,} has changed, where it does not matter",
                        _HARMLESS,
                        is_loss=False,
                    )
                    return

    def _damaged(self, member: Member, what: str) -> Problem:
        following = self._members[member.number + 1 :]
        until = following[0].first_line if following else self._archive.lines
        lines = f"lines {member.first_line} to {max(until - 1, member.first_line)}"
        text = f"member {member.number} ({lines}, byte {member.gzip_offset:,}) {what}"
        return Problem(text, evidence=member.sha256_so_far.hex())


def _zlib_deflate(raw: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, GZIP_WINDOW)
    return compressor.compress(raw) + compressor.flush()
