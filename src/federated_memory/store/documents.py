"""Documents: the Markdown files of knowledge and overviews, every version kept (SPEC: DOC-1 to DOC-8).

A write is one transaction of the state database that holds the whole text (the journal) beside the feed and the row of
the document; it is durable when that transaction is, and acknowledged when the file has been replaced as well. The
journal is emptied about a second later, when the file, the version's copy and their folders have been fsynced, so the
files alone are the truth again. One fsync per write instead of seven; a crash at any point leaves the old or the new
text, and `Journal.recover` finishes what was committed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress

from federated_memory.errors import Conflict, InvalidArgument, NotFound, TooLarge, Unavailable
from federated_memory.fs import Folder, NotRegular
from federated_memory.fs.folder import read_fully, storage_errors, temporary_name
from federated_memory.names import ETag, WorkspaceId, etag_of, fold
from federated_memory.store import versions
from federated_memory.store.changes import Actor, now
from federated_memory.store.document import (
    ANY,
    VERSIONED,
    Document,
    DocumentKind,
    Key,
    Written,
    missing,
    stamp_of,
    title_of,
    titled,
)
from federated_memory.store.journal import Journal, open_folder
from federated_memory.store.memory_file import made_at
from federated_memory.store.memory_rows import MemoryRows
from federated_memory.store.root import STAGED_DOCUMENT, Root
from federated_memory.store.tombstones import Tombstones
from federated_memory.store.versions import Version

SCANNER = Actor("scan")


class Documents:
    """All documents of a root. Blocking: call from a worker thread."""

    def __init__(self, root: Root, journal: Journal, *, max_bytes: int, tombstones: Tombstones | None = None) -> None:
        self._root = root
        self._tombstones = tombstones or Tombstones(root.database)
        self.memories = MemoryRows(root.database)
        self._journal = journal
        self._max_bytes = max_bytes

    # -- reading

    def find(self, key: Key) -> Document | None:
        """The document as last seen, deleted ones included."""
        row = self._root.database.row(
            "SELECT version, etag, bytes, title, updated_at, stamp, deleted FROM documents"
            " WHERE workspace_id = ? AND kind = ? AND path = ?",
            key.workspace_id, key.kind, key.path,
        )  # fmt: skip
        if row is None:
            return None
        if key.is_versioned:
            return Document(key, *row)
        return titled(Document(key, *row), self.memories.subjects(key.workspace_id, key.name.removesuffix(".md")))

    def read(self, key: Key) -> tuple[Document, bytes]:
        """The current text; an edit by hand is recorded first.

        Raises:
            NotFound: No such document.
        """
        found = self._read_file(key)
        known = self.find(key)
        if found is None or known is None or known.deleted or known.etag != etag_of(found[0]):
            with self._root.locked(key.workspace_id):
                known, found = self._observe(key)
        if found is None or known is None:
            raise missing(key)
        return known, found[0]

    def read_version(self, key: Key, version: int) -> tuple[Version, bytes]:
        """Raises: NotFound: the document never had that version."""
        entry = next((entry for entry in self.history(key) if entry.version == version), None)
        if entry is None:
            raise NotFound(f"{key.path} has no version {version}", hint="See knowledge_history")
        below = 0
        with suppress(OSError), self._versions_folder(key) as folder:
            below = versions.collected_below(folder)
            text = folder.read(versions.file_name(version))
            if etag_of(text) == entry.etag:
                return entry, text
        journalled = self._journal.text_of(key, version)
        if journalled is None and version < below:
            raise NotFound(f"Version {version} of {key.path} was removed by `gc`", hint="See knowledge_history")
        if journalled is None:
            raise Unavailable(f"The copy of version {version} of {key.path} is damaged", hint="Run check on the server")
        return entry, journalled

    def history(self, key: Key) -> list[Version]:
        """The versions, newest first, deletions left out.

        Raises:
            NotFound: There never was such a document.
        """
        with suppress(NotFound):
            self.read(key)  # so that an edit by hand is in the list
        known = self.find(key)
        if known is None:
            raise missing(key)
        try:
            with self._versions_folder(key) as folder:
                entries = versions.read_log(folder)
        except FileNotFoundError:
            entries = []
        entries += self._journal.versions_after(key, entries[-1].version if entries else 0)
        newest = {entry.version: entry for entry in reversed(entries) if entry.operation != "delete"}
        return [newest[number] for number in sorted(newest, reverse=True)]

    def list(self, workspace_id: WorkspaceId, kind: DocumentKind = "knowledge") -> list[Document]:
        """The live documents of a workspace as last seen, by path."""
        rows = self._root.database.rows(
            "SELECT path, version, etag, bytes, title, updated_at, stamp FROM documents"
            " WHERE workspace_id = ? AND kind = ? AND deleted = 0 ORDER BY path",
            workspace_id, kind,
        )  # fmt: skip
        found = [Document(Key(workspace_id, kind, row[0]), *row[1:]) for row in rows]
        if kind in VERSIONED:
            return found
        subjects = self.memories.subjects(workspace_id)
        return [titled(document, subjects) for document in found]

    def deleted(self, workspace_id: WorkspaceId) -> Sequence[Document]:
        """The documents of a workspace that are gone, the latest deletion first; each as it was, `version` its last."""
        rows = self._root.database.rows(
            "SELECT path, version, etag, bytes, title, updated_at, stamp, deleted FROM documents"
            " WHERE workspace_id = ? AND kind = 'knowledge' AND deleted = 1 ORDER BY updated_at DESC, path DESC",
            workspace_id,
        )
        return [Document(Key(workspace_id, "knowledge", row[0]), *row[1:]) for row in rows]

    def stamps(self, workspace_id: WorkspaceId, kinds: Collection[DocumentKind]) -> dict[tuple[DocumentKind, str], str]:
        """Of each live document of these kinds, by kind and path, what its file looked like when it was last seen."""
        rows = self._root.database.rows(
            "SELECT kind, path, stamp FROM documents WHERE workspace_id = ? AND deleted = 0"
            f" AND kind IN ({', '.join('?' * len(kinds))})",
            workspace_id, *kinds,
        )  # fmt: skip
        return {(kind, path): stamp for kind, path, stamp in rows}

    def count(self, workspace_id: WorkspaceId, most: int) -> int:
        """How many live documents and overviews a workspace has; counts no further than `most`."""
        row = self._root.database.row(
            "SELECT count(*) FROM (SELECT 1 FROM documents WHERE workspace_id = ? AND deleted = 0 LIMIT ?)",
            workspace_id, most,
        )  # fmt: skip
        return int(row[0]) if row else 0

    # -- writing

    def write(
        self, key: Key, text: bytes, actor: Actor, *, if_match: str | None = None, operation: str = "write"
    ) -> Written:
        """Replace the text of a document, or create it; the replaced text stays as a version.

        `if_match` None replaces whatever is there, an empty string only creates, an etag replaces only that text, `*`
        any text but none.

        Raises:
            Conflict: The precondition fails; the facts carry the current `etag` and `version`. Or another document's
                path differs from this one only in case.
            TooLarge, StorageFull: Nothing was written.
        """
        if len(text) > self._max_bytes:
            raise TooLarge(
                f"The text has {len(text)} bytes, at most {self._max_bytes} are allowed", hint="Split it into documents"
            )
        self._tombstones.ensure_none(key.workspace_id, "text", etag_of(text))
        self._root.ensure_space()
        with self._root.locked(key.workspace_id), storage_errors():
            known, found = self._observe(key)
            live = known if known and found else None
            _ensure_match(key, live, if_match)
            if live and found and found[0] == text:
                return Written(live, "unchanged")
            if live is None and key.is_versioned:
                self._ensure_unique(key)
            written = self._commit(key, known, live, text, actor, operation)
        return Written(written, "replaced" if live else "created")

    def delete(self, key: Key, actor: Actor, *, if_match: str | None = None) -> Document:
        """Remove a document; its versions stay, and it can be restored.

        Raises:
            NotFound: No such document.
            Conflict: `if_match` is not its etag.
        """
        with self._root.locked(key.workspace_id), storage_errors():
            known, found = self._observe(key)
            if known is None or found is None:
                raise missing(key)
            if if_match == "":
                raise InvalidArgument("`if_match` must be an etag here", hint="Leave it out to delete any version")
            _ensure_match(key, known, if_match)
            self._record(key, known, None, actor, "delete", stamp="")
            with self._journal.switching(key), self._folder(key) as folder:
                folder.remove(key.name)
        return known

    def drop(self, key: Key, actor: Actor) -> None:
        """Remove what is kept of a memory, whose file may be there against a tombstone. Raises: NotFound."""
        with self._root.locked(key.workspace_id), storage_errors():
            known = self.find(key)
            if known is None:
                raise missing(key)
            if not known.deleted:
                self._record(key, known, None, actor, "delete", stamp="")
            with suppress(FileNotFoundError, NotRegular), self._journal.switching(key), self._folder(key) as folder:
                folder.remove(key.name)

    def _commit(
        self, key: Key, known: Document | None, live: Document | None, text: bytes, actor: Actor, operation: str
    ) -> Document:
        """Stage, commit, switch. A new name is linked before the commit, since making a name can fail on a full disk;
        an old name is renamed over after it, which cannot. The staged name stays until then: when power loss leaves
        the new name without its commit, and of its bytes who knows what, it tells so (`scan.drop_unfinished`)."""
        with self._folder(key, create=True) as folder:
            staged = temporary_name(STAGED_DOCUMENT)
            self._root.temporary.create(staged, text, sync=False)
            linked = False
            try:
                stamp = stamp_of(self._root.temporary.stat(staged))
                if live is None:
                    self._root.temporary.link(staged, folder, key.name)
                    linked = True
                written = self._record(key, known, text, actor, operation, stamp=stamp, replaced=live)
            except BaseException:
                if linked:
                    folder.remove(key.name)
                self._root.temporary.remove(staged)
                raise
            with self._journal.switching(key):
                if live is None:
                    self._root.temporary.remove(staged)
                else:
                    self._root.temporary.rename(staged, folder, key.name)
        return written

    def _record(
        self, key: Key, known: Document | None, text: bytes | None, actor: Actor, operation: str,
        *, stamp: str, replaced: Document | None = None,
    ) -> Document:  # fmt: skip
        """The transaction: feed, journal and row. `text` None deletes."""
        at = now()
        if text is None:
            assert known is not None
            version, etag, size, title = known.version, known.etag, known.bytes, known.title
        else:
            version = (known.version if known else 0) + 1
            etag, size, title = etag_of(text), len(text), title_of(text, key)
        # A memory is as old as it says, also when it was taken in from elsewhere only now.
        dated = at if key.is_versioned or text is None else made_at(key.name.removesuffix(".md"), text, at)
        document = Document(key, version, etag, size, title, dated, stamp, deleted=text is None)
        with self._root.database.transaction() as transaction:
            number = self._root.feed.append(
                transaction, key.workspace_id, key.kind, key.path, operation, actor, version=version, etag=etag, at=at
            )
            entry = Version(version, etag, at, actor.name, actor.source, operation)
            self._journal.add(transaction, number, key, entry, replaced.etag if replaced else None, text)
            self._upsert(transaction, document)
            if not key.is_versioned:
                self.memories.note(transaction, document, text)
        return document

    @staticmethod
    def _upsert(transaction: sqlite3.Connection, document: Document) -> None:
        key = document.key
        transaction.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET version = excluded.version, etag = excluded.etag, bytes = excluded.bytes,"
            " title = excluded.title, updated_at = excluded.updated_at, stamp = excluded.stamp,"
            " deleted = excluded.deleted",
            (
                key.workspace_id, key.kind, key.path, fold(key.path) if key.is_versioned else "", document.version,
                document.etag, document.bytes, document.title if key.is_versioned else "", document.updated_at,
                document.stamp, int(document.deleted),
            ),
        )  # fmt: skip

    # -- edits by hand

    def observe(self, key: Key) -> Document | None:
        """Look at the file itself; an unknown text becomes a version of its own, a missing file a deletion."""
        with self._root.locked(key.workspace_id), storage_errors():
            known, found = self._observe(key)
        return known if found else None

    def _observe(self, key: Key) -> tuple[Document | None, tuple[bytes, str] | None]:
        self._journal.ensure_settled(key)
        known = self.find(key) or self._remembered(key)
        found = self._read_file(key)
        if found is None:
            if known is not None and not known.deleted:
                known = self._record(key, known, None, SCANNER, "delete", stamp="")
            return known, None
        text, stamp = found
        if known is not None and not known.deleted and known.etag == etag_of(text):
            if known.stamp != stamp:
                title = title_of(text, key)
                known = Document(key, known.version, known.etag, len(text), title, known.updated_at, stamp)
                with self._root.database.transaction() as transaction:
                    self._upsert(transaction, known)
            return known, found
        known = self._record(key, known, text, SCANNER, "external", stamp=stamp)
        return known, found

    def _remembered(self, key: Key) -> Document | None:
        """What the versions alone tell of a document, when the state database is new: counting goes on from there."""
        if not key.is_versioned:
            return None
        try:
            with self._versions_folder(key) as folder:
                last, highest = versions.last_kept(folder)
        except (FileNotFoundError, NotRegular):
            return None
        if last is None or last.version < highest:
            return Document(key, highest, ETag(""), 0, "", "", "", deleted=True) if highest else None
        return Document(key, last.version, ETag(last.etag), 0, "", last.at, "", deleted=last.operation == "delete")

    def _read_file(self, key: Key) -> tuple[bytes, str] | None:
        """The bytes and stamp of the file; None when there is none that may be served."""
        if key.kind == "memory" and self._tombstones.has(key.workspace_id, "memory", key.name.removesuffix(".md")):
            return None  # a sync has put back what was purged
        try:
            with self._folder(key) as folder:
                descriptor = folder.open_file(key.name)
        except (FileNotFoundError, NotRegular):
            return None
        try:
            found = os.fstat(descriptor)
            if found.st_size > self._max_bytes:
                raise TooLarge(
                    f"{key.path} was put there by hand and has {found.st_size} bytes", hint="Make it smaller by hand"
                )
            return read_fully(descriptor, found.st_size + 1), stamp_of(found)
        finally:
            os.close(descriptor)

    def _ensure_unique(self, key: Key) -> None:
        """No live document, and no folder of one, may differ from this path only in case or form."""
        folded = fold(key.path)
        # Left alone, SQLite walks the whole workspace by the primary key here (measured: 2.7 ms at 20,000 documents).
        nearby = self._root.database.rows(
            "SELECT path FROM documents INDEXED BY documents_folded"
            " WHERE workspace_id = ? AND kind = ? AND deleted = 0 AND folded <> '' AND folded = ?",
            key.workspace_id, key.kind, folded,
        )  # fmt: skip
        for depth in range(1, folded.count("/") + 1):
            prefix = "/".join(folded.split("/")[:depth])
            nearby += self._root.database.rows(
                "SELECT path FROM documents INDEXED BY documents_folded"
                " WHERE workspace_id = ? AND kind = ? AND deleted = 0 AND folded <> ''"
                " AND folded > ? AND folded < ? LIMIT 1",
                key.workspace_id, key.kind, prefix + "/", prefix + "0",  # "0" follows "/"
            )  # fmt: skip
        for (path,) in nearby:
            if _is_spelled_differently(path, key.path):
                raise Conflict(
                    f"{key.path} differs from {path} only in case", hint=f"Write below {path}, or choose another name"
                )

    def _folder(self, key: Key, *, create: bool = False) -> Folder:
        return open_folder(self._root, key, key.folders, create=create)

    def _versions_folder(self, key: Key, *, create: bool = False) -> Folder:
        return open_folder(self._root, key, key.version_folders, create=create)


def _ensure_match(key: Key, live: Document | None, if_match: str | None) -> None:
    if if_match is None or if_match == (live.etag if live else "") or (live and if_match == ANY):
        return
    facts: dict[str, object] = {"etag": live.etag, "version": live.version} if live else {"etag": "", "version": 0}
    if not live:
        raise Conflict(f"{key.path} does not exist", hint="Leave `if_match` out, or empty, to create it", **facts)
    if if_match == "":
        raise Conflict(f"{key.path} exists already", hint="Read it, then write with its etag", **facts)
    raise Conflict(f"{key.path} has changed since you read it", hint="Read it again, merge, and retry", **facts)


def _is_spelled_differently(path: str, other: str) -> bool:
    """Whether the first part in which two paths differ is the same but for case or Unicode form."""
    for a, b in zip(path.split("/"), other.split("/"), strict=False):
        if a != b:
            return fold(a) == fold(b)
    return False
