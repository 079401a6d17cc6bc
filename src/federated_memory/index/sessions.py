"""Reads a transcript into rows: all of it, or what follows what is indexed already (SPEC: INDEX-4)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import cast, get_args

from federated_memory.errors import Unavailable
from federated_memory.index.rows import rows_of
from federated_memory.index.writer import PARTIAL, Described, Stored, Writing
from federated_memory.store.archive import Archive, Archives
from federated_memory.store.members import LONGEST_MEMBER_BYTES, Member
from federated_memory.transcripts import Agent, Reader, detect, read_turns, reader_of

_HEAD_LINES, _HEAD_BYTES = 50, 256 * 1024
_STEP_BYTES = 16 * 1024**2
_NOTHING = hashlib.sha256().digest()


class Rewritten(Exception):
    """What is indexed is not what the transcript begins with."""


class Stopped(Exception):
    """The follower was asked to stop."""


def reader_for(archives: Archives, archive: Archive) -> Reader:
    """The reader of the agent that is known, else of the one that the first lines look like."""
    if archive.agent in get_args(Agent) and archive.agent != "unknown":
        return reader_of(cast(Agent, archive.agent))
    return detect([line.data for line in archives.read_lines(archive, 0, _HEAD_LINES, _HEAD_BYTES)])


class SessionReading:
    """Brings one session up to date, in steps of some megabytes so that no transaction grows without bounds.

    `step` does one of them in a transaction of the caller's and returns whether the session is done.
    """

    def __init__(self, archives: Archives, archive: Archive, is_stopped: Callable[[], bool]) -> None:
        self._archives = archives
        self._archive = archive
        self._is_stopped = is_stopped
        self._layout = [member for member in archives.layout(archive) if member.raw_end <= archive.raw_bytes]
        self._reader: Reader | None = None
        self.read_bytes = 0

    def step(self, writing: Writing) -> bool:
        """Raises: Stopped. NotFound: the archive is gone."""
        archive = self._archive
        known = writing.stored(archive.workspace_id, archive.session_id)
        if known and known.etag == archive.sha256:
            self._describe(writing, known.id, known.agent, archive.sha256)
            return True
        reader = self._reader_for(known)
        if known and self._may_follow(known, reader):
            with suppress(Rewritten, Unavailable):
                return self._go_on(writing, known, reader)
        source = self._describe(writing, 0, reader.agent, PARTIAL)
        writing.clear(source)
        start = Stored(source, PARTIAL, reader.agent, 0, 0, 0, 0, b"", _NOTHING, 0)
        try:
            return self._go_on(writing, start, reader)
        except Unavailable:  # its file is missing: a scan will tell
            writing.reach(replace(start, etag=archive.sha256, unread=1))
            return True

    def _reader_for(self, known: Stored | None) -> Reader:
        if self._reader is None:
            try:
                self._reader = reader_for(self._archives, self._archive)
            except Unavailable:  # its first member is damaged
                self._reader = reader_of(known.agent if known else "unknown")
        return self._reader

    def _may_follow(self, known: Stored, reader: Reader) -> bool:
        if known.agent != reader.agent or known.raw_bytes > self._archive.raw_bytes:
            return False
        return not known.sealed_bytes or any(
            member.raw_end == known.sealed_bytes and member.sha256_so_far == known.sealed_sha256
            for member in self._layout
        )

    def _go_on(self, writing: Writing, known: Stored, reader: Reader) -> bool:
        """Index what follows `known`. Raises: Rewritten: before anything was changed."""
        archive = self._archive
        following = _Following(self._archives, archive, known, self._next_seal(known))
        following.prove()
        if known.lines or known.raw_bytes:
            writing.clear(known.id, only_open=True)
        stored = replace(known, etag=PARTIAL, agent=reader.agent)
        try:
            for line, data, is_whole in following.lines():
                if data is None:
                    stored.unread += 1
                    continue
                if not is_whole:  # the rows before it stay when it goes, also when it gives none
                    writing.end_rows(stored.id, archive.started_at)
                for row in rows_of(read_turns(reader, data, line)):
                    writing.put_row(stored.id, row, archive.started_at)
                if not is_whole:
                    writing.end_rows(stored.id, archive.started_at, is_open=True)
                if self._is_stopped():
                    raise Stopped
        except (Unavailable, OSError):  # its file is gone: `check` says so, and a scan
            stored.unread += 1
            following.is_done = True
        stored.unread += following.damaged
        writing.end_rows(stored.id, archive.started_at)
        self.read_bytes += following.at - known.raw_bytes
        stored.lines, stored.raw_bytes = following.line, following.complete
        stored.sealed_line, stored.sealed_bytes, stored.sealed_sha256 = following.seal
        stored.tail_sha256 = following.digest.digest()
        if following.is_done:
            stored.etag = archive.sha256
        self._describe(writing, stored.id, reader.agent, stored.etag)
        writing.reach(stored)
        return following.is_done

    def _next_seal(self, known: Stored) -> Callable[[int], tuple[int, int, bytes] | None]:
        """Which places in the transcript stay as they are: every end of a member but the last one's."""
        ends: dict[int, tuple[int, int, bytes]] = {}
        for member, following in pairwise(self._layout):
            if member.raw_end > known.sealed_bytes and following.first_line != member.first_line:
                ends[member.raw_end] = following.first_line, member.raw_end, member.sha256_so_far
        return ends.get

    def _describe(self, writing: Writing, source: int, agent: str, etag: str) -> int:
        archive = self._archive
        days = writing.days(source) if source else ""
        facts = f"{archive.cwd} {agent} {days}"
        return writing.describe(
            Described(
                archive.workspace_id, "session", archive.session_id, etag, archive.title, archive.started_at,
                ended_at=max(archive.ended_at, archive.updated_at), agent=agent, facts=facts,
            )
        )  # fmt: skip


class _Following:
    """The lines of a transcript after those that are indexed, and the digests that prove them next time."""

    def __init__(
        self,
        archives: Archives,
        archive: Archive,
        known: Stored,
        seal_at: Callable[[int], tuple[int, int, bytes] | None],
    ) -> None:
        self.line = known.lines
        self.complete = known.raw_bytes
        """Up to where whole lines are indexed."""
        self.seal = known.sealed_line, known.sealed_bytes, known.sealed_sha256
        self.digest = hashlib.sha256()
        self.is_done = False
        self.at = known.sealed_bytes
        self._known = known
        self._seal_at = seal_at
        self._raw_bytes = archive.raw_bytes
        self.damaged = 0
        """Members that cannot be read: they are left out, `check` names them, and a scan tells."""
        members = archives.members(archive, known.sealed_line, self._leave_out) if archive.lines else iter(())
        self._members = members
        self._rest = b""
        self._number = known.sealed_line
        self._is_long = False

    def prove(self) -> None:
        """Read what lies between the last seal and the last line that is indexed. Raises: Rewritten."""
        missing = self._known.raw_bytes - self.at
        while missing:
            piece = self._next()
            if piece is None:
                raise Rewritten
            number, raw = piece
            self.digest.update(raw[:missing])
            self._rest, missing = raw[missing:], max(0, missing - len(raw))
            self._number = number
        if self.digest.digest() != self._known.tail_sha256:
            raise Rewritten

    def _leave_out(self, member: Member) -> None:
        self.damaged += 1
        self.at = member.raw_end

    def _next(self) -> tuple[int, bytes] | None:
        damaged = self.damaged
        found = next(self._members, None)
        if found is None or self.at >= self._raw_bytes:
            return None
        number, raw = found
        if self.damaged > damaged:
            self.line = number
        raw = raw[: self._raw_bytes - self.at]
        self.at += len(raw)
        return number, raw

    def lines(self) -> Iterator[tuple[int, bytes | None, bool]]:
        """Number, bytes (None: over 4 MiB) and whether it is whole, for each line of the next few megabytes."""
        start = self.at
        if self._rest:
            rest, self._rest = self._rest, b""
            yield from self._split(rest)
        while (piece := self._next()) is not None:
            number, raw = piece
            if self._is_long and number == self._number:
                self._pass_over(raw)
                continue
            self._is_long = False
            self._number = number
            if len(raw) >= LONGEST_MEMBER_BYTES and not raw.endswith(b"\n"):
                self._is_long = True
                yield self.line, None, False
                self._pass_over(raw)
                continue
            yield from self._split(raw)
            if self.at - start >= _STEP_BYTES and self.seal[1] == self.at:
                return
        self.is_done = True

    def _pass_over(self, raw: bytes) -> None:
        self.digest.update(raw)
        if raw.endswith(b"\n"):
            self.line += 1
            self.complete = self.at
            self._seal()

    def _split(self, raw: bytes) -> Iterator[tuple[int, bytes | None, bool]]:
        pieces = raw.split(b"\n")
        rest = pieces.pop()
        if rest or self._seal_at(self.at) is None:  # else the digest begins anew after it
            self.digest.update(raw[: len(raw) - len(rest)])
        for data in pieces:
            yield self.line, data, True
            self.line += 1
        self.complete = self.at - len(rest)
        if rest:
            yield self.line, rest, False
        else:
            self._seal()

    def _seal(self) -> None:
        """Where a member ends that stays: from here on the next reading begins."""
        found = self._seal_at(self.at)
        if found is not None:
            self.seal = found
            self.digest = hashlib.sha256()
