"""The last step of an upload: from staged bytes to a transcript that readers see (SPEC: ARCH-5, ARCH-6).

Files first, all durable, then one transaction of the state database, then the acknowledgement. A failure on the way
puts the old files back; what a crash leaves, `recovery` brings to the old or to the new state.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from federated_memory.errors import Unavailable
from federated_memory.fs import Folder
from federated_memory.fs.folder import storage_errors, temporary_name
from federated_memory.store.archives.files import (
    REVISIONS,
    is_as_seen,
    link_or_copy,
    name_of,
    open_folder,
    provenance_name,
    revision_file_of,
)
from federated_memory.store.archives.member_scan import scan_file
from federated_memory.store.archives.provenance import Scalar, parse_provenance, provenance_of
from federated_memory.store.archives.rows import Archive, ArchiveRows
from federated_memory.store.archives.staging import Stage
from federated_memory.store.changes import Actor
from federated_memory.store.gzip_codec import GZIP_MAGIC
from federated_memory.store.members import Member
from federated_memory.store.root import Root

_MAX_TWINS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """A transcript that is wholly staged.

    `row` is the archive as it shall be, `old` what it extends or replaces. Of the old members the first `kept` stay and
    `members` follow. `is_tail`: the stage holds what shall follow the old file; else it holds the whole new one.
    """

    operation: Literal["created", "appended", "diverged"]
    row: Archive
    old: Archive | None
    kept: int
    members: list[Member]
    stage: Stage
    is_tail: bool
    actor: Actor
    source: dict[str, Scalar]


class Occupied(Exception):
    """A file that has no row stands where a new archive belongs; somebody put it there by hand."""


class Placing:
    """Puts drafts in their places; one for a root. Thread-safe."""

    def __init__(self, root: Root, rows: ArchiveRows) -> None:
        self._root = root
        self._rows = rows
        self._growing = threading.Lock()

    @contextmanager
    def nothing_grows(self) -> Iterator[None]:
        """While this is held, every archive file is as long as committed, and a second name for it freezes it.

        That is because a file with two names is never written in place. Take it after `Root.locked`, never before.
        """
        with self._growing:
            yield

    def place(self, draft: Draft) -> Archive:
        """The archive as readers see it from now on.

        Raises:
            Unavailable: The file was changed by hand meanwhile.
            Occupied: It was put there by hand.
            StorageFull, OSError: A step failed; the old state is back.
        """
        with storage_errors(), ExitStack() as after:
            draft, staged = self._staged(draft, after)
            after.enter_context(self._root.locked(draft.row.workspace_id))
            if not staged:
                after.enter_context(self._growing)
            with ExitStack() as undo:
                found = _Switch(self._root, draft, undo, after).put(staged)
                row = self._commit(draft, replace(draft.row, modified_ns=found.st_mtime_ns, inode=found.st_ino))
                undo.pop_all()
        return row

    def _staged(self, draft: Draft, after: ExitStack) -> tuple[Draft, str]:
        """The draft and a durable file in the temporary folder that holds it; no name when it is a tail.

        The same raw bytes are stored once: the file may be a second name of another archive's. That one is read through
        first, so that damage does not spread.
        """
        temporary = self._root.temporary
        twins = [] if draft.operation == "appended" else self._rows.twins(draft.row.sha256, draft.row.raw_bytes)
        for twin in twins[:_MAX_TWINS]:
            if name := self._link(twin):
                after.callback(_quietly, temporary.remove, name)
                found = scan_file(temporary, name)
                if found.sha256 == twin.sha256 and found.is_ours:
                    row = replace(draft.row, gzip_bytes=found.gzip_bytes)
                    return replace(draft, row=row, kept=0, members=found.members, is_tail=False), name
        return draft, "" if draft.is_tail else draft.stage.seal()

    def _link(self, twin: Archive) -> str:
        """A second name, in the temporary folder, for the file of an archive; empty when that cannot be."""
        name = temporary_name("twin")
        with suppress(OSError), self._growing, open_folder(self._root, twin.workspace_id, twin.file) as folder:
            if is_as_seen(folder.stat(name_of(twin)), twin):
                folder.link(name_of(twin), self._root.temporary, name)
                return name
        return ""

    def _commit(self, draft: Draft, row: Archive) -> Archive:
        rows, old = self._rows, draft.old
        with self._root.database.transaction() as transaction:
            if draft.operation == "appended":
                rows.update(transaction, row)
            else:
                if old:
                    rows.update(transaction, replace(old, is_current=False, file=revision_file_of(old)))
                row = replace(row, id=rows.insert(transaction, row))
            if old and draft.operation == "diverged":
                rows.copy_members(transaction, old.id, row.id, draft.kept)
            rows.replace_members(transaction, row.id, draft.kept, draft.members)
            self._root.feed.append(
                transaction, row.workspace_id, "session", row.session_id, draft.operation, draft.actor,
                version=row.revision, etag=row.sha256, at=row.updated_at,
            )  # fmt: skip
        return row


class _Switch:
    """The files of one draft, put in place step by step; each step first says how it is undone."""

    def __init__(self, root: Root, draft: Draft, undo: ExitStack, after: ExitStack) -> None:
        self._root = root
        self._draft = draft
        self._undo = undo
        self._after = after
        self._name = name_of(draft.row)
        self._folder = after.enter_context(open_folder(root, draft.row.workspace_id, draft.row.file, create=True))

    def put(self, staged: str) -> os.stat_result:
        """Put the provenance and the file in their places, durably; what the file is now."""
        old = self._draft.old
        self._ensure_as_seen(old)
        if old and not staged:
            self._grow(old)
        else:
            self._replace(old, staged)
        self._folder.sync_names()
        return self._folder.stat(self._name)

    def _ensure_as_seen(self, old: Archive | None) -> None:
        try:
            found = self._folder.stat(self._name)
        except FileNotFoundError:
            if old is None:
                return
        else:
            if old is None:
                raise Occupied
            if is_as_seen(found, old):
                return
        raise Unavailable(
            "The session's file was changed by hand meanwhile", hint="Retry: the change is taken in first"
        )

    def _grow(self, old: Archive) -> None:
        tail = self._draft.stage
        descriptor = self._folder.open_file(self._name, os.O_RDWR)
        self._after.callback(os.close, descriptor)
        if os.fstat(descriptor).st_nlink > 1:  # what the other name shows must not change
            whole = tail.onto(descriptor, old.gzip_bytes)
            self._after.callback(whole.discard)
            self._replace(old, whole.seal())
            return
        self._undo_by(os.utime, descriptor, ns=(old.modified_ns, old.modified_ns))
        self._undo_by(os.ftruncate, descriptor, old.gzip_bytes)
        # The first byte comes last: until then what follows the committed bytes is no gzip, and a crash leaves the old
        # transcript, never a part of the new one.
        os.lseek(descriptor, old.gzip_bytes + 1, os.SEEK_SET)
        tail.append_to(descriptor, start=1)
        os.pwrite(descriptor, GZIP_MAGIC[:1], old.gzip_bytes)
        os.fsync(descriptor)
        self._put_provenance()

    def _replace(self, old: Archive | None, staged: str) -> None:
        self._put_provenance()  # before the file, which never stands there without
        if old is None:
            self._undo_by(self._folder.remove, self._name)
        elif self._draft.operation == "diverged":
            self._keep_revision(old)
        else:
            name = temporary_name("old")
            self._after.callback(_quietly, self._root.temporary.remove, name)
            self._keep(self._root.temporary, name)
        self._root.temporary.rename(staged, self._folder, self._name)

    def _keep_revision(self, old: Archive) -> None:
        folder = self._after.enter_context(self._folder.folder(REVISIONS, old.session_id, create=True))
        name = revision_file_of(old).rsplit("/", 1)[1]
        if folder.exists(name):
            if folder.stat(name).st_ino == self._folder.stat(self._name).st_ino:  # left by a crash
                folder.remove(name)
            else:
                folder.rename(name, folder, f"{secrets.token_hex(6)}.{name}")
        self._keep(folder, name)
        folder.sync_names()

    def _keep(self, folder: Folder, name: str) -> None:
        """Give the old file a second name, by which it comes back when a later step fails."""
        self._undo_by(folder.remove, name)  # a rename onto a name of the same file does nothing
        link_or_copy(self._folder, self._name, folder, name)
        self._undo_by(folder.rename, name, self._folder, self._name)

    def _put_provenance(self) -> None:
        name = provenance_name(self._draft.row.session_id)
        before = self._folder.read(name) if self._folder.exists(name) else None
        temporary = temporary_name("provenance")
        self._after.callback(_quietly, self._root.temporary.remove, temporary)
        known = parse_provenance(before or b"", self._draft.row.session_id)
        told = provenance_of(self._draft.row, known, self._draft.actor, self._draft.source)
        self._root.temporary.create(temporary, told.to_bytes())
        if before is None:
            self._undo_by(self._folder.remove, name)
        else:
            self._undo_by(self._folder.replace, name, before)
        self._root.temporary.rename(temporary, self._folder, name)

    def _undo_by(self, step: Callable[..., object], *arguments: object, **options: object) -> None:
        self._undo.callback(_quietly, step, *arguments, **options)


def _quietly(step: Callable[..., object], *arguments: object, **options: object) -> None:
    try:
        step(*arguments, **options)
    except FileNotFoundError:
        pass
    except OSError as error:  # the disk fails: what it leaves is recovered at the next start
        logger.warning("a step could not be undone", extra={"step": step.__name__, "errno": error.errno})
