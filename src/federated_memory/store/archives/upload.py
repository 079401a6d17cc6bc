"""One upload of a transcript, from its first byte to the acknowledgement (SPEC: ARCH-3 to ARCH-8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from federated_memory.errors import TooLarge, Unavailable
from federated_memory.fs.folder import storage_errors
from federated_memory.names import ETag, SessionId, WorkspaceId
from federated_memory.store.archives.comparison import Comparison
from federated_memory.store.archives.describing import describe, describe_longer
from federated_memory.store.archives.digests import RunningDigests
from federated_memory.store.archives.edges import Edges
from federated_memory.store.archives.files import file_of, open_archive
from federated_memory.store.archives.placing import Draft, Occupied, Placing
from federated_memory.store.archives.provenance import Scalar
from federated_memory.store.archives.recovery import Recovery
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.archives.staging import Stage
from federated_memory.store.changes import Actor, now
from federated_memory.store.members import (
    Boundary,
    DamagedMember,
    Member,
    MemberWriter,
    boundary_before,
    damaged,
    first_boundary,
    inflate_member,
)
from federated_memory.store.root import Root

_SMALL_MEMBER_BYTES = 64 * 1024
_SMALL_FILE_BYTES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class SessionStored:
    """What is stored once an upload is acknowledged; `unchanged` when all of it was stored before."""

    status: Literal["created", "appended", "unchanged", "diverged"]
    revision: int
    sha256: ETag
    raw_bytes: int
    lines: int
    title: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """The parts that all uploads to a root share."""

    root: Root
    rows: ArchiveRows
    placing: Placing
    recovery: Recovery
    digests: RunningDigests
    max_session_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """Who sends what for which session; `source` is clean. `archive` and `members` are what is stored of it now.

    `is_damaged`: the file does not hold that any more; `archive` has its true size and time.
    """

    workspace_id: WorkspaceId
    session_id: SessionId
    native_id: str
    actor: Actor
    source: dict[str, Scalar]
    archive: Archive | None
    members: Sequence[Member]
    next_revision: int = 1
    is_damaged: bool = False


class Upload:
    """A body that streams in. Feed it, then `finish`; leaving the `with` block without that drops it.

    Not for two threads at once. Memory stays at a few members, whatever the size.
    """

    def __init__(self, shelf: Shelf, request: Request, cleanup: ExitStack, *, is_whole: bool) -> None:
        """`is_whole`: the body is the whole transcript, not only what follows the stored one. Owns `cleanup`."""
        old = request.archive
        self._shelf = shelf
        self._request = request
        self._cleanup = cleanup
        self._comparison = (
            Comparison(request.members, old.lines, is_damaged=request.is_damaged) if old and is_whole else None
        )
        self._edges = Edges()
        self._total_bytes = old.raw_bytes if old and not is_whole else 0
        self._ends_open = bool(old and old.has_open_line)
        self._kept = 0
        self._stage: Stage | None = None
        self._writer: MemberWriter | None = None
        self._file = -1
        self._is_over = False

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def __del__(self) -> None:  # an upload that somebody forgot must not hold its session for good
        self.abort()

    def feed(self, raw: bytes) -> None:
        """Take in the next bytes of the body.

        Raises:
            TooLarge: The transcript grew over the limit.
            StorageFull, Unavailable: Nothing was changed; `abort`.
        """
        self._ensure_going_on()
        if not raw:
            return
        chunk = memoryview(raw)
        self._total_bytes += len(chunk)
        if self._total_bytes > self._shelf.max_session_bytes:
            raise TooLarge(
                f"The transcript has more than {self._shelf.max_session_bytes} bytes",
                hint="Split it into several sessions",
            )
        self._edges.add(chunk)
        self._ends_open = raw[-1:] != b"\n"
        with storage_errors():
            if self._writer is None and self._comparison:
                chunk = self._comparison.feed(chunk)
            if chunk:
                self._ensure_writer().feed(chunk)

    def finish(self) -> SessionStored:
        """Store the body; durable, and seen by every reader, when this returns.

        Raises:
            StorageFull, Unavailable: Nothing was changed.
        """
        self._ensure_going_on()
        try:
            with storage_errors():
                return self._finish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Forget a body that was not finished. May be called twice."""
        self._is_over = True
        self._cleanup.close()

    def _ensure_going_on(self) -> None:
        if self._is_over:
            raise RuntimeError("this upload is over")

    def _finish(self) -> SessionStored:
        old = self._request.archive
        if old and self._writer is None and (not self._comparison or self._comparison.ends_here(self._inflate)):
            if self._comparison and self._comparison.is_complete:
                self._shelf.digests.keep(self._comparison.digest)
            return _stored("unchanged", old)
        writer = self._ensure_writer()
        end = writer.finish()
        assert self._stage
        draft = Draft(
            self._operation, self._row(end), old, self._kept, writer.members, self._stage, self._is_tail,
            self._request.actor, self._request.source,
        )  # fmt: skip
        try:
            placed = self._shelf.placing.place(draft)
        except Occupied:
            self._shelf.recovery.make_room(self._request.workspace_id, self._request.session_id)
            raise Unavailable(
                "A file of this session was put there by hand", hint="Retry: it is taken in now"
            ) from None
        self._shelf.digests.keep(writer.before_last)
        self._shelf.digests.keep(end.digest)
        return _stored(self._operation, placed)

    # -- where new members begin

    def _ensure_writer(self) -> MemberWriter:
        if self._writer is None:
            start, held = self._start()
            copied = 0 if self._is_tail else start.gzip_offset
            stage = Stage(self._shelf.root, copy_from=self._file, copy_bytes=copied)
            self._cleanup.callback(stage.discard)
            self._stage = stage
            self._writer = MemberWriter(stage.write, start)
            for part in held:
                self._writer.feed(part)
        return self._writer

    def _start(self) -> tuple[Boundary, Sequence[bytes | memoryview]]:
        """The boundary that new members follow, and what of the transcript comes before the next bytes of the body."""
        old, members, comparison = self._request.archive, self._request.members, self._comparison
        if not old:
            return first_boundary(), []
        self._open(old)
        if comparison:
            self._kept = comparison.proven
            if not comparison.has_diverged and _is_last_rewritten(old, members):
                self._kept -= 1
            return comparison.go_back_to(self._kept)
        self._kept = len(members) - _is_last_rewritten(old, members)
        try:
            digest = self._shelf.digests.after(members[: self._kept], self._inflate)
        except DamagedMember as error:
            raise damaged(self._request.session_id, error.member) from None
        held = [self._inflate(member) for member in members[self._kept :]]
        return boundary_before(members, self._kept, old.lines, digest), held

    @property
    def _is_tail(self) -> bool:
        """Do the new members follow all of the old ones?"""
        return self._request.archive is not None and self._kept == len(self._request.members)

    @property
    def _operation(self) -> Literal["created", "appended", "diverged"]:
        if self._request.archive is None:
            return "created"
        return "diverged" if self._comparison and self._comparison.has_diverged else "appended"

    def _open(self, old: Archive) -> None:
        if self._file < 0:
            self._file = open_archive(self._shelf.root, old)
            self._cleanup.callback(os.close, self._file)

    def _inflate(self, member: Member) -> bytes:
        assert self._request.archive
        try:
            self._open(self._request.archive)
            return inflate_member(self._file, member)
        except (DamagedMember, FileNotFoundError):
            raise damaged(self._request.session_id, member) from None

    # -- what becomes of it

    def _row(self, end: Boundary) -> Archive:
        request, old = self._request, self._request.archive
        at = now()
        if old and self._operation == "appended":
            described = describe_longer(old, self._edges, self._opening)
        else:
            described = describe(self._edges, request.source, request.native_id or (old.native_id if old else ""), at)
        return Archive(
            id=old.id if old else 0,
            workspace_id=request.workspace_id,
            session_id=request.session_id,
            revision=old.revision if old and self._operation == "appended" else request.next_revision,
            is_current=True,
            file=old.file if old else file_of(request.session_id, described.started_at),
            sha256=ETag(end.digest.hexdigest()),
            raw_bytes=end.raw_offset,
            gzip_bytes=end.gzip_offset,
            lines=end.line + self._ends_open,
            has_open_line=self._ends_open,
            agent=described.agent,
            native_id=described.native_id or request.session_id,
            title=described.title,
            cwd=described.cwd,
            started_at=described.started_at,
            ended_at=described.ended_at,
            updated_at=at,
            modified_ns=0,
            inode=0,
        )

    def _opening(self) -> list[bytes]:
        """The first lines of the transcript, for one that only now gets its title."""
        if self._comparison:
            return self._edges.head()
        return self._inflate(self._request.members[0]).split(b"\n") + self._edges.head()


def _is_last_rewritten(old: Archive, members: Sequence[Member]) -> bool:
    """Is the last member written anew, with what follows? Its line goes on, or many small ones would pile up."""
    return old.has_open_line or (members[-1].raw_bytes < _SMALL_MEMBER_BYTES and old.gzip_bytes <= _SMALL_FILE_BYTES)


def _stored(status: Literal["created", "appended", "unchanged", "diverged"], archive: Archive) -> SessionStored:
    return SessionStored(status, archive.revision, archive.sha256, archive.raw_bytes, archive.lines, archive.title)
