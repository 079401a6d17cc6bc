"""Session archives: whole transcripts, verbatim, gzip members of whole lines (SPEC: ARCH-1 to ARCH-15)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from federated_memory.errors import Conflict, NotFound
from federated_memory.fs.folder import storage_errors
from federated_memory.names import ETag, SessionId, WorkspaceId
from federated_memory.store.archives.digests import RunningDigests
from federated_memory.store.archives.files import open_folder, provenance_file_of, read_provenance
from federated_memory.store.archives.leases import Leases
from federated_memory.store.archives.placing import Placing
from federated_memory.store.archives.provenance import Provenance, clean_source
from federated_memory.store.archives.reader import ArchiveReader, Line
from federated_memory.store.archives.recovery import Recovery
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.archives.settling import Recovered
from federated_memory.store.archives.upload import Request, SessionStored, Shelf, Upload
from federated_memory.store.changes import Actor
from federated_memory.store.members import Member
from federated_memory.store.root import Root
from federated_memory.store.tombstones import Tombstones

__all__ = ["Archive", "Archives", "Line", "Provenance", "Recovered", "SessionStored", "Upload"]


_ALONE_SECONDS = 5.0


class Archives:
    """All archives of a root. Blocking: call from a worker thread. Thread-safe."""

    def __init__(
        self,
        root: Root,
        *,
        max_session_bytes: int = 4 * 1024**3,
        lease_wait_seconds: float = 10,
        cache_bytes: int = 8 * 1024**2,
        tombstones: Tombstones | None = None,
    ) -> None:
        """`lease_wait_seconds`: how long a second upload of a session waits for the first; `cache_bytes`: inflated
        members kept for the next reader."""
        self._root = root
        self._tombstones = tombstones or Tombstones(root.database)
        self._rows = ArchiveRows(root.database)
        self._placing = Placing(root, self._rows)
        self._leases = Leases()
        self._wait_seconds = lease_wait_seconds
        self._recovery = Recovery(root, self._rows, self._leases)
        self._shelf = Shelf(root, self._rows, self._placing, self._recovery, RunningDigests(), max_session_bytes)
        self._reader = ArchiveReader(root, self._rows, cache_bytes)

    # -- writing

    def receive(
        self,
        workspace_id: WorkspaceId,
        session_id: SessionId,
        *,
        native_id: str = "",
        actor: Actor,
        source: Mapping[str, object] | None = None,
    ) -> Upload:
        """Begin an upload of a whole transcript. Use it as a context manager: it holds the session.

        Raises:
            NotFound: No such workspace.
            Locked: Another upload of the session goes on.
        """
        with ExitStack() as cleanup:
            request = self._request(cleanup, workspace_id, session_id, native_id, actor, source)
            return Upload(self._shelf, request, cleanup.pop_all(), is_whole=True)

    def append(
        self,
        workspace_id: WorkspaceId,
        session_id: SessionId,
        offset: int,
        *,
        if_match: ETag | None = None,
        native_id: str = "",
        actor: Actor,
        source: Mapping[str, object] | None = None,
    ) -> Upload:
        """Begin an upload of what follows the first `offset` raw bytes; 0 creates a session that is missing.

        Raises:
            NotFound: No such workspace, or nothing is stored that could be followed.
            Conflict: Another length, or (`if_match`) other bytes are stored; the facts carry the true `offset` and
                `etag`.
            Locked: Another upload of the session goes on.
        """
        with ExitStack() as cleanup:
            request = self._request(cleanup, workspace_id, session_id, native_id, actor, source)
            old = request.archive
            if old is None and (offset or if_match):
                raise _no_session(session_id)
            if old and request.is_damaged:
                raise Conflict(
                    f"What is stored of session {session_id} is damaged", hint="Send the whole transcript", offset=0,
                    etag=old.sha256,
                )  # fmt: skip
            if old and (offset != old.raw_bytes or if_match not in (None, old.sha256)):
                raise Conflict(
                    f"Session {session_id} holds {old.raw_bytes} bytes, not the {offset} that were to be followed",
                    hint="Send what follows the offset that is held, or the whole transcript",
                    offset=old.raw_bytes,
                    etag=old.sha256,
                )
            return Upload(self._shelf, request, cleanup.pop_all(), is_whole=False)

    def _request(
        self,
        cleanup: ExitStack,
        workspace_id: WorkspaceId,
        session_id: SessionId,
        native_id: str,
        actor: Actor,
        source: Mapping[str, object] | None,
    ) -> Request:
        self._tombstones.ensure_none(workspace_id, "session", session_id)
        self._leases.take(workspace_id, session_id, self._wait_seconds)
        cleanup.callback(self._leases.give_back, workspace_id, session_id)
        with storage_errors():
            try:
                archive, is_damaged = self._recovery.session(workspace_id, session_id)
            except FileNotFoundError:
                raise NotFound(f"No workspace {workspace_id}", hint="Register it first") from None
        revisions = self._rows.revisions(workspace_id, session_id)
        return Request(
            workspace_id,
            session_id,
            native_id,
            actor,
            clean_source(source),
            archive,
            self._rows.members(archive.id) if archive else [],
            next_revision=1 + max((row.revision for row in revisions), default=0),
            is_damaged=is_damaged,
        )

    # -- finding

    def find(self, workspace_id: WorkspaceId, session_id: SessionId, revision: int | None = None) -> Archive:
        """The current transcript of a session, or a replaced one.

        Raises:
            NotFound: No such session, or revision of it.
        """
        if revision is None:
            found = self._rows.current(workspace_id, session_id)
        else:
            found = self._rows.revision(workspace_id, session_id, revision)
        if found is None:
            raise _no_session(session_id, revision)
        return found

    def find_all(self, keys: Sequence[tuple[WorkspaceId, SessionId]]) -> list[Archive]:
        """The current transcripts of those of these sessions that are there, in the same order."""
        return self._rows.all_current(keys)

    def newest(
        self,
        workspace_id: WorkspaceId,
        *,
        agent: str | None = None,
        since: str | None = None,
        until: str | None = None,
        after: tuple[str, str] | None = None,
        limit: int = 50,
    ) -> list[Archive]:
        """The current transcripts of a workspace, by `started_at` and then id, newest first.

        `since` is included, `until` is not; both compare as text, so a date alone works. The next page comes `after`
        the `(started_at, session_id)` of the last row.
        """
        return self._rows.newest(workspace_id, agent=agent, since=since, until=until, after=after, limit=limit)

    def revisions(self, workspace_id: WorkspaceId, session_id: SessionId) -> list[Archive]:
        """The current transcript and those it replaced, newest first.

        Raises:
            NotFound: No such session.
        """
        found = self._rows.revisions(workspace_id, session_id)
        if not found:
            raise _no_session(session_id)
        return found

    def provenance(self, archive: Archive) -> Provenance:
        """Where a session's current transcript came from; all unknown when its file is damaged."""
        try:
            with open_folder(self._root, archive.workspace_id, provenance_file_of(archive)) as folder:
                return read_provenance(folder, archive.session_id) or Provenance(archive.session_id)
        except OSError:
            return Provenance(archive.session_id)

    # -- reading

    def read_lines(
        self, archive: Archive, offset: int, limit: int, max_bytes: int, *, byte_offset: int = 0
    ) -> list[Line]:
        """At most `limit` lines from the line `offset`, counted from 0, and at most `max_bytes` of them.

        A first line that is longer is cut, so there is always a next place to read on from; `byte_offset` skips so much
        of it. Only the members that hold these lines are inflated.

        Raises:
            NotFound: The archive is gone.
            Unavailable: Its file is damaged; the message names the member.
        """
        return self._reader.read_lines(archive, offset, limit, max_bytes, byte_offset)

    def members(
        self, archive: Archive, first_line: int = 0, on_damage: Callable[[Member], None] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """The transcript as (first line, raw bytes) of one member after the other, for scans.

        Members begin and end with a line; only a line of over 4 MiB comes in several parts with the same first line.
        With `on_damage`, damaged ones are told to it and left out.

        Raises:
            NotFound, Unavailable: As for `read_lines`.
        """
        return self._reader.members(archive, first_line, on_damage)

    def lines_at(self, archive: Archive, numbers: Sequence[int]) -> Iterator[Line]:
        """The lines with these numbers, which rise. A line over 4 MiB is cut.

        Raises:
            NotFound, Unavailable: As for `read_lines`.
        """
        return self._reader.lines_at(archive, numbers)

    def line_at(self, archive: Archive, number: int) -> Line | None:
        """One line, cut when it is over 4 MiB; None when there is none such. Those read last are kept in memory.

        Raises:
            NotFound, Unavailable: As for `read_lines`.
        """
        return self._reader.line_at(archive, number)

    def layout(self, archive: Archive) -> list[Member]:
        """The members of a transcript, as of now: it may have grown since `archive` was found."""
        return self._rows.members(archive.id)

    def stream(self, archive: Archive, start: int = 0) -> Iterator[bytes]:
        """The raw bytes from the offset `start`, exactly `archive.raw_bytes` in all, also while the session grows.

        Raises:
            NotFound, Unavailable: As for `read_lines`.
        """
        return self._reader.stream(archive, start)

    # -- keeping

    def recover(self) -> Recovered:
        """Bring rows and files together in every workspace: after a crash, a restore, or changes by hand.

        One stat per archive when nothing happened. Sessions that are being uploaded are left to their upload.
        """
        return self._recovery.run()

    def recover_workspace(self, workspace_id: WorkspaceId) -> Recovered:
        return self._recovery.workspace(workspace_id)

    def rebuild(self, workspace_id: WorkspaceId) -> Recovered:
        """Read every archive of a workspace from end to end and make its rows anew."""
        return self._recovery.workspace(workspace_id, is_thorough=True)

    def problem(self, archive: Archive) -> str:
        """What is wrong with an archive's file, read from end to end; empty when it holds what was acknowledged.

        It may grow meanwhile.
        """
        return self._recovery.problem(archive)

    @contextmanager
    def alone(self, workspace_id: WorkspaceId, session_id: SessionId) -> Iterator[list[Archive]]:
        """Hold a session and its files; gives its transcripts, newest (that is, current) first.

        Raises:
            Locked: An upload of it goes on.
        """
        with ExitStack() as cleanup:
            self._leases.take(workspace_id, session_id, max(self._wait_seconds, _ALONE_SECONDS))
            cleanup.callback(self._leases.give_back, workspace_id, session_id)
            cleanup.enter_context(self._root.locked(workspace_id))
            cleanup.enter_context(self._placing.nothing_grows())
            yield self._rows.revisions(workspace_id, session_id)

    @contextmanager
    def busy_with(self, sessions: Sequence[tuple[WorkspaceId, SessionId]]) -> Iterator[None]:
        """While held, nobody uploads one of these. Take it before `Root.locked`.

        Raises:
            Locked: An upload of one goes on.
        """
        with ExitStack() as cleanup:
            for workspace_id, session_id in sessions:
                self._leases.take(workspace_id, session_id, max(self._wait_seconds, _ALONE_SECONDS))
                cleanup.callback(self._leases.give_back, workspace_id, session_id)
            yield

    def twins(self, archive: Archive) -> list[Archive]:
        """Every transcript, replaced ones too, with the same raw bytes; itself included."""
        return self._rows.twins(archive.sha256, archive.raw_bytes)

    def nothing_grows(self) -> AbstractContextManager[None]:
        """While held, every archive file is as long as committed, and one that gets a second name stays as it is.

        For backups that link. Take it after `Root.locked`, never before.
        """
        return self._placing.nothing_grows()


def _no_session(session_id: SessionId, revision: int | None = None) -> NotFound:
    what = f"session {session_id}" if revision is None else f"revision {revision} of session {session_id}"
    return NotFound(f"No {what}", hint="See list_sessions")
