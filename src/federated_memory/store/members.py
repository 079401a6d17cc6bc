"""The form of an archive: gzip members of whole lines, each inflated on its own (SPEC: ARCH-1, ARCH-2).

A member holds up to 256 KiB of raw bytes and ends where a line ends. A longer line is a member of its own, and one over
4 MiB is cut into several members, the only ones that do not begin and end with a line; they share one `first_line`.
So memory is bounded whatever a transcript holds. Lines are counted from 0; an unterminated last line counts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from federated_memory.errors import Unavailable
from federated_memory.store.gzip_codec import CodecError, deflate, inflating_whole

MEMBER_BYTES = 256 * 1024
LONGEST_MEMBER_BYTES = 4 * 1024**2


class Digest(Protocol):
    """A running SHA-256."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...

    def copy(self) -> Digest: ...


class Member(NamedTuple):
    """One row of the table `members`. `sha256_so_far` is of all raw bytes up to this member's end."""

    number: int
    first_line: int
    raw_offset: int
    raw_bytes: int
    gzip_offset: int
    gzip_bytes: int
    sha256_so_far: bytes

    @property
    def raw_end(self) -> int:
        return self.raw_offset + self.raw_bytes

    @property
    def gzip_end(self) -> int:
        return self.gzip_offset + self.gzip_bytes


@dataclass(slots=True)
class Boundary:
    """Where one member ends and the next begins. `digest` covers all raw bytes before it."""

    number: int
    line: int
    raw_offset: int
    gzip_offset: int
    digest: Digest
    is_inside_line: bool = False


def first_boundary() -> Boundary:
    return Boundary(0, 0, 0, 0, hashlib.sha256())


def boundary_before(members: Sequence[Member], number: int, lines: int, digest: Digest) -> Boundary:
    """Before the member `number` of an archive of `lines` lines, or after its last when there are only so many."""
    if number == len(members):
        last = members[-1]
        return Boundary(number, lines, last.raw_end, last.gzip_end, digest)
    member = members[number]
    is_inside_line = number > 0 and members[number - 1].first_line == member.first_line
    return Boundary(number, member.first_line, member.raw_offset, member.gzip_offset, digest, is_inside_line)


class DamagedMember(Exception):
    """The file does not hold the member that its row describes."""

    def __init__(self, member: Member) -> None:
        super().__init__(f"member {member.number}")
        self.member = member


def damaged(session_id: str, member: Member) -> Unavailable:
    """What a caller is told of a damaged member."""
    return Unavailable(
        f"What is stored of session {session_id} is damaged in member {member.number}",
        hint="Run check on the server",
        member=member.number,
    )


def inflate_member(descriptor: int, member: Member) -> bytes:
    """The raw bytes of one member.

    Raises:
        DamagedMember: The file holds something else there.
    """
    compressed = os.pread(descriptor, member.gzip_bytes, member.gzip_offset)
    decoder = inflating_whole()
    try:
        raw = decoder.decompress(compressed, member.raw_bytes + 1)
    except CodecError:
        raise DamagedMember(member) from None
    if len(raw) != member.raw_bytes or not decoder.eof or decoder.unused_data:
        raise DamagedMember(member)
    return raw


class MemberWriter:
    """Cuts raw bytes into members and hands each, compressed, to `sink`.

    The cuts depend on the bytes after `start` only, never on how they were fed. `start` moves with each member;
    `members` are those written so far, and `before_last` is the hash of everything before the last of them.
    """

    def __init__(self, sink: Callable[[bytes], None], start: Boundary) -> None:
        self._sink = sink
        self._end = start
        self._pending = bytearray()
        self._searched = 0  # no line ends before this place in `_pending`, when its line is longer than a member
        self.before_last = start.digest.copy()
        self.members: list[Member] = []

    def feed(self, raw: bytes | memoryview) -> None:
        self._pending += raw
        start = 0
        while end := self._cut(start):
            self._write(start, end)
            start = end
        if start:
            del self._pending[:start]

    def _cut(self, start: int) -> int:
        """Where the member that begins at `start` ends, 0 while that is not decided."""
        pending = self._pending
        if not self._end.is_inside_line:
            if len(pending) - start < MEMBER_BYTES:
                return 0
            end = pending.rfind(b"\n", start, start + MEMBER_BYTES) + 1
            if end:
                return end
        longest = start + LONGEST_MEMBER_BYTES
        end = pending.find(b"\n", max(start, self._searched), longest) + 1
        if end:
            self._end.is_inside_line = False
        elif len(pending) >= longest:
            self._end.is_inside_line = True
            end = longest
        else:
            self._searched = len(pending) - start
            return 0
        self._searched = 0
        return end

    def _write(self, start: int, end: int) -> None:
        begin = self._end
        self.before_last = begin.digest.copy()
        with memoryview(self._pending) as whole, whole[start:end] as raw:
            begin.digest.update(raw)
            compressed = deflate(raw)
        self._sink(compressed)
        self.members.append(
            Member(
                begin.number, begin.line, begin.raw_offset, end - start, begin.gzip_offset, len(compressed),
                begin.digest.digest(),
            )
        )  # fmt: skip
        begin.number += 1
        begin.line += _count_lines(self._pending, start, end)
        begin.raw_offset += end - start
        begin.gzip_offset += len(compressed)

    def finish(self) -> Boundary:
        """Write what is left, an unterminated line included; the end of the whole archive.

        An archive of no bytes has one empty member, so that its file is valid gzip.
        """
        if self._pending or not self._end.number:
            self._write(0, len(self._pending))
            self._pending.clear()
        return self._end


def _count_lines(data: bytearray, start: int, end: int) -> int:
    # Transcripts have lines of kilobytes: `find` leaps from one to the next, where `count` looks at every byte.
    for lines in range(512):
        start = data.find(b"\n", start, end) + 1
        if not start:
            return lines
    return 512 + data.count(b"\n", start, end)
