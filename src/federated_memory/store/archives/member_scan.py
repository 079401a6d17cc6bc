"""Reading an archive file from end to end: its members, its hash, and whether it is whole (SPEC: ARCH-12)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from federated_memory.fs import Folder
from federated_memory.store.archives.edges import Edges
from federated_memory.store.gzip_codec import HEADER_BYTES, CodecError, Inflating, inflating
from federated_memory.store.members import LONGEST_MEMBER_BYTES, Digest, Member

_PIECE_BYTES = 256 * 1024
_BROKEN: tuple[type[Exception], ...] = (*CodecError, EOFError)


@dataclass(slots=True)
class Scanned:
    """What a file holds. `problem` is empty when it is whole gzip to its last byte; `members` are the intact ones.

    `is_ours`: the members are cut as `members` promises; a file from elsewhere is to be written anew.
    """

    members: list[Member] = field(default_factory=list)
    gzip_bytes: int = 0
    raw_bytes: int = 0
    lines: int = 0
    has_open_line: bool = False
    sha256: str = ""
    sha256_at_mark: bytes = b""
    is_ours: bool = True
    problem: str = ""
    edges: Edges = field(default_factory=Edges)


def scan_members(
    descriptor: int, *, start: int = 0, mark: int | None = None, sink: Callable[[bytes], None] | None = None
) -> Scanned:
    """Every member from `start` to the end of the file; `sha256_at_mark` is of the first `mark` raw bytes.

    `sink` gets the raw bytes in pieces. Memory stays at a few of them, whatever the file holds.
    """
    return _Scan(descriptor, start, mark, sink).run()


def scan_file(folder: Folder, name: str) -> Scanned:
    """The same for a file by its name. Raises: FileNotFoundError, NotRegular."""
    descriptor = folder.open_file(name)
    try:
        return scan_members(descriptor)
    finally:
        os.close(descriptor)


class _Scan:
    def __init__(self, descriptor: int, start: int, mark: int | None, sink: Callable[[bytes], None] | None) -> None:
        self._descriptor = descriptor
        self._sink = sink
        self._offset = start
        self._mark = mark
        self._digest: Digest = hashlib.sha256()
        self._newlines = 0
        self._last = b"\n"  # the newest raw byte: does a line begin after it?
        self._shapes: list[tuple[int, bool]] = []
        self._found = Scanned(gzip_bytes=start)
        if mark == 0:
            self._found.sha256_at_mark = self._digest.digest()

    def run(self) -> Scanned:
        found = self._found
        data = b""
        while data or (data := self._read()):
            data = self._member(data)
            if found.problem:
                break
        if not found.members and not found.problem:
            found.problem = "the file is empty"
        found.is_ours = _is_ours(found.members, self._shapes)
        found.has_open_line = self._last != b"\n"
        found.lines = self._newlines + found.has_open_line
        found.sha256 = "" if found.problem else self._digest.hexdigest()
        return found

    def _read(self) -> bytes:
        data = os.pread(self._descriptor, _PIECE_BYTES, self._offset)
        self._offset += len(data)
        return data

    def _member(self, data: bytes) -> bytes:
        """Take in one member that begins with `data`; returns the bytes read past its end."""
        found = self._found
        newlines, raw_bytes, last = self._newlines, found.raw_bytes, self._last
        while len(data) < HEADER_BYTES and (more := self._read()):
            data += more
        decoder = inflating(data)
        try:
            while not decoder.eof:
                if not data and not (data := self._read()):
                    raise EOFError
                data = self._inflate(decoder, data)
        except _BROKEN:
            found.problem = f"member {len(found.members)} at byte {found.gzip_bytes} is damaged or cut off"
            self._newlines, found.raw_bytes, self._last = newlines, raw_bytes, last
            return b""
        data = decoder.unused_data
        gzip_end = self._offset - len(data)
        member = Member(
            len(found.members), newlines, raw_bytes, found.raw_bytes - raw_bytes,
            found.gzip_bytes, gzip_end - found.gzip_bytes, self._digest.digest(),
        )  # fmt: skip
        found.gzip_bytes = gzip_end
        self._shapes.append((self._newlines - newlines, self._last == b"\n"))
        found.members.append(member)
        return data

    def _inflate(self, decoder: Inflating, data: bytes) -> bytes:
        """Take in what `data` decodes to; returns what is left of it, empty when the decoder needs more or is done."""
        is_full = True
        while is_full and not decoder.eof:
            raw = decoder.decompress(data, _PIECE_BYTES)
            data = decoder.unconsumed_tail
            is_full = len(raw) == _PIECE_BYTES
            if raw:
                self._take(raw)
        return b""

    def _take(self, raw: bytes) -> None:
        found = self._found
        room = None if self._mark is None else self._mark - found.raw_bytes
        if room is not None and 0 < room <= len(raw):
            self._digest.update(raw[:room])
            found.sha256_at_mark = self._digest.digest()
            self._digest.update(raw[room:])
        else:
            self._digest.update(raw)
        if self._sink:
            self._sink(raw)
        found.raw_bytes += len(raw)
        found.edges.add(raw)
        self._newlines += raw.count(b"\n")
        self._last = raw[-1:]


def _is_ours(members: list[Member], shapes: list[tuple[int, bool]]) -> bool:
    """Is every member whole lines, or a part of one line that is longer than a member may be?

    `shapes` tells of each member how many lines end in it, and whether it ends with one of them.
    """
    is_inside_line = False
    for number, (member, (ends, ends_line)) in enumerate(zip(members, shapes, strict=True)):
        is_last = number == len(members) - 1
        is_right_size = 0 < member.raw_bytes <= LONGEST_MEMBER_BYTES or (not member.raw_bytes and len(members) == 1)
        is_right_end = (ends == 1 and ends_line) if is_inside_line else (ends_line or is_last)
        if not is_right_size or not (ends == 0 or is_right_end):
            return False
        is_inside_line = not ends_line
    return True
