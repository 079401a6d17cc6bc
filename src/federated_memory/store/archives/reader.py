"""Reading archives: only the members needed, of a file that may grow or be replaced meanwhile (SPEC: ARCH-14)."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import NamedTuple, TypeVar

from federated_memory.errors import NotFound, Unavailable
from federated_memory.fs import NotRegular
from federated_memory.store.archives.cache import BytesCache
from federated_memory.store.archives.files import open_archive
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.lines import end_of_line, start_of_line
from federated_memory.store.members import LONGEST_MEMBER_BYTES, DamagedMember, Member, damaged, inflate_member
from federated_memory.store.root import Root

T = TypeVar("T")

_BATCH_LINES = 64
_LONGEST_KEPT_LINE = 64 * 1024


class Line(NamedTuple):
    """A line without its newline, or a part of it: `total_bytes` is the length of all of it."""

    number: int
    data: bytes
    total_bytes: int


class ArchiveReader:
    """Waits for an upload only when it meets the last moment of one."""

    def __init__(self, root: Root, rows: ArchiveRows, cache_bytes: int) -> None:
        self._root = root
        self._rows = rows
        self._members = BytesCache(cache_bytes)
        self._lines = BytesCache(cache_bytes)

    def read_lines(self, archive: Archive, offset: int, limit: int, max_bytes: int, byte_offset: int) -> list[Line]:
        limit = min(limit, archive.lines - offset)  # what came since is for those who find the archive again
        if offset < 0 or limit <= 0:
            return []

        def read(found: Archive, file: _File) -> list[Line]:
            page = _Page(offset, limit, max(1, max_bytes), max(0, byte_offset))
            page.fill(found, self._rows.members_from(found.id, offset), lambda member: self._inflate(file, member))
            return page.lines

        return self._consistently(archive, read)

    def lines_at(self, archive: Archive, numbers: Sequence[int]) -> Iterator[Line]:
        """Line by line, in batches that share a member, so that no member is inflated or split twice."""
        at = 0
        while at < len(numbers):
            end = at + 1
            while end < len(numbers) and numbers[end] - numbers[at] < _BATCH_LINES:
                end += 1
            wanted = numbers[at:end]

            def read(found: Archive, file: _File, wanted: Sequence[int] = wanted) -> _Picked:
                page = _Picked(wanted)
                members = self._rows.members_from(found.id, wanted[0])
                page.fill(found, members, lambda member: self._inflate(file, member))
                return page

            page = self._consistently(archive, read)
            yield from (line for line in page.lines if line.number < archive.lines)
            at = bisect_left(numbers, page.reached, at + 1) if page.reached else end

    def line_at(self, archive: Archive, number: int) -> Line | None:
        """One line, which a search may show again and again; None when there is none such."""
        if not 0 <= number < archive.lines:
            return None
        data = self._lines.get((archive.sha256, number))
        if data is not None:
            return Line(number, data, len(data))

        def read(found: Archive, file: _File) -> Line | None:
            page = _Page(number, 1, LONGEST_MEMBER_BYTES, 0)
            page.fill(found, self._rows.members_from(found.id, number), lambda member: self._inflate(file, member))
            line = page.lines[0] if page.lines else None
            is_open = found.has_open_line and number == found.lines - 1
            if line is not None and line.total_bytes == len(line.data) <= _LONGEST_KEPT_LINE and not is_open:
                self._lines.put((found.sha256, number), line.data)
            return line

        return self._consistently(archive, read)

    def _inflate(self, file: _File, member: Member) -> bytes:
        key = member.sha256_so_far, member.raw_bytes
        raw = self._members.get(key)
        if raw is None:
            raw = inflate_member(file.descriptor, member)
            self._members.put(key, raw)
        return raw

    def members(
        self, archive: Archive, first_line: int, on_damage: Callable[[Member], None] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        file, members = self._settled(archive)
        start = max(0, bisect_right([member.first_line for member in members], first_line) - 1)
        while start and members[start - 1].first_line == members[start].first_line:
            start -= 1  # a long line begins in an earlier member
        inflated = _inflated(archive, file, members[start:], on_damage)
        return ((member.first_line, raw) for member, raw in inflated)

    def stream(self, archive: Archive, start: int) -> Iterator[bytes]:
        file, members = self._settled(archive)
        first = max(0, bisect_right([member.raw_offset for member in members], start) - 1)
        return _clipped(_inflated(archive, file, members[first:]), start, archive.raw_bytes)

    def _consistently(self, archive: Archive, read: Callable[[Archive, _File], T]) -> T:
        """What `read` makes of the archive's rows and its file, which belong together.

        They may not for the moment between a rename and the commit that follows it: then again under the lock.
        """
        try:
            with _File(open_archive(self._root, archive)) as file:
                if file.inode == archive.inode:
                    return read(archive, file)
        except (DamagedMember, FileNotFoundError, NotRegular):
            pass
        with self._root.locked(archive.workspace_id):
            fresh = self._fresh(archive)
            with self._open(fresh) as file:
                try:
                    return read(fresh, file)
                except DamagedMember as error:
                    raise damaged(archive.session_id, error.member) from None

    def _settled(self, archive: Archive) -> tuple[_File, list[Member]]:
        """An open file and the members it has now."""
        with self._root.locked(archive.workspace_id):
            return self._open(self._fresh(archive)), self._rows.members(archive.id)

    def _fresh(self, archive: Archive) -> Archive:
        fresh = self._rows.by_id(archive.id)
        if fresh is None:
            raise NotFound(f"Session {archive.session_id} is gone", hint="See list_sessions")
        return fresh

    def _open(self, archive: Archive) -> _File:
        try:
            return _File(open_archive(self._root, archive))
        except (FileNotFoundError, NotRegular):
            raise Unavailable(
                f"The file of session {archive.session_id} is missing", hint="Run check on the server"
            ) from None


class _File:
    """An open archive file, closed at the latest with its last user."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino

    def __enter__(self) -> _File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:  # a stream that nobody ever started
        self.close()


class _Page:
    """The lines that one call asked for, as far as they fit."""

    def __init__(self, offset: int, limit: int, max_bytes: int, byte_offset: int) -> None:
        self._next = offset
        self._end = offset + limit
        self._room = max_bytes
        self._skip = byte_offset
        self._is_full = False
        self.lines: list[Line] = []

    def fill(self, archive: Archive, members: Iterable[Member], inflate: Callable[[Member], bytes]) -> None:
        for first_line, found in groupby(members, key=lambda member: member.first_line):
            if first_line >= self._end:
                return
            self._next = max(self._next, first_line)
            group = list(found)
            if len(group) == 1:
                self._take_lines(first_line, inflate(group[0]))
            else:
                is_open = archive.has_open_line and first_line == archive.lines - 1
                self._take_long_line(group, is_open, inflate)
            if self._is_full or self._next >= self._end:
                return

    def _take_lines(self, first_line: int, raw: bytes) -> None:
        at = start_of_line(raw, self._next - first_line)
        while at < len(raw) and self._next < self._end and not self._is_full:
            end = end_of_line(raw, at)
            self._take_slice(raw, at, end)
            at = end + 1

    def _take_slice(self, raw: bytes, start: int, end: int) -> None:
        self._take(end - start, lambda wanted: raw[start + wanted.start : start + wanted.stop])

    def _take_long_line(self, parts: Sequence[Member], is_open: bool, inflate: Callable[[Member], bytes]) -> None:
        begin = parts[0].raw_offset

        def cut(wanted: slice) -> bytes:
            pieces = []
            for part in parts:
                first = part.raw_offset - begin
                if first < wanted.stop and first + part.raw_bytes > wanted.start:
                    pieces.append(inflate(part)[max(0, wanted.start - first) : wanted.stop - first])
            return b"".join(pieces)

        self._take(parts[-1].raw_end - begin - (not is_open), cut)

    def _take(self, total_bytes: int, cut: Callable[[slice], bytes]) -> None:
        """Take in the next line; `cut` gives a part of it."""
        start, self._skip = min(self._skip, total_bytes), 0
        end = min(total_bytes, start + self._room)
        if self.lines and end < total_bytes:
            self._is_full = True
            return
        self.lines.append(Line(self._next, cut(slice(start, end)), total_bytes))
        self._next += 1
        self._room -= end - start
        self._is_full = end < total_bytes


class _Picked(_Page):
    """Some lines, whose numbers rise."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(numbers[0], numbers[-1] - numbers[0] + 1, LONGEST_MEMBER_BYTES, 0)
        self._numbers = numbers

    @property
    def reached(self) -> int:
        """Up to which line everything was looked at; 0: there was nothing more."""
        return self._next if self._is_full else 0

    def _take_lines(self, first_line: int, raw: bytes) -> None:
        at, line = 0, first_line
        for number in self._numbers[bisect_left(self._numbers, self._next) :]:
            at = start_of_line(raw, number - line, at)
            if at >= len(raw):
                break
            line = self._next = number
            self._take_slice(raw, at, end_of_line(raw, at))
            if self._is_full:
                return
        else:
            self._next = self._end
            return
        self._next = max(self._next, first_line + raw.count(b"\n") + (not raw.endswith(b"\n")))

    def _take(self, total_bytes: int, cut: Callable[[slice], bytes]) -> None:
        at = bisect_left(self._numbers, self._next)
        if at == len(self._numbers) or self._numbers[at] != self._next:
            self._next += 1
            return
        if self.lines and self._room < total_bytes:
            self._is_full = True
            return
        super()._take(total_bytes, cut)


def _inflated(
    archive: Archive, file: _File, members: Sequence[Member], on_damage: Callable[[Member], None] | None = None
) -> Iterator[tuple[Member, bytes]]:
    with file:
        for member in members:
            try:
                raw = inflate_member(file.descriptor, member)
            except DamagedMember as error:
                if on_damage is None:
                    raise damaged(archive.session_id, error.member) from None
                on_damage(member)
            else:
                yield member, raw


def _clipped(members: Iterator[tuple[Member, bytes]], start: int, end: int) -> Iterator[bytes]:
    for member, raw in members:
        if member.raw_offset >= end:
            return
        part = raw[max(0, start - member.raw_offset) : end - member.raw_offset]
        if part:
            yield part
