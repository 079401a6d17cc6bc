"""The one writer of the index: follows the change feed, and makes the index anew when it has to (SPEC: INDEX-1).

Every transaction leaves an index that is right for what it says it holds, and the cursor moves in the transaction that
indexed the changes before it. So a stop at any moment costs a repetition and nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from heapq import merge
from typing import cast

from federated_memory.errors import FederatedMemoryError, NotFound
from federated_memory.index.file import IndexFile, IndexFull, IndexUnusable
from federated_memory.index.parts import merge_parts
from federated_memory.index.sessions import SessionReading, Stopped
from federated_memory.index.tokens import KnownWords
from federated_memory.index.writer import Writing
from federated_memory.names import DocumentPath, SessionId, WorkspaceId
from federated_memory.store.archive import Archive, Archives
from federated_memory.store.changes import Change
from federated_memory.store.document import DOCUMENT_KINDS, DocumentKind, Key
from federated_memory.store.documents import Documents
from federated_memory.store.root import Root

logger = logging.getLogger(__name__)

_CHANGES = 500
_TRANSACTION_BYTES = 16 * 1024**2
_TRANSACTION_SECONDS = 0.3
_CALM_SECONDS = 0.8
"""While no search waits: what a transaction costs beside its rows is shared by more of them."""
_RETRY_SECONDS = 1.0
_SETTLE_SECONDS = 0.25
"""How long changes gather unless a search waits for them: indexing each at once made writes half as slow again."""
_REST_SECONDS = 1.0
"""After so long without a change the index is put in order."""
_MOST_DEAD_SHARE = 0.5
_FEW_ROWS = 20_000
_ROOM_FOR_WRITES = 64 * 1024**2
"""Of what is free above the floor of writes, what the index leaves to them."""
_FULL = "the disk is full: searches read the files instead"

Item = tuple[str, str, str]
"""Workspace, kind and key of what may have to be indexed anew."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """How far the index is. `is_whole` false: it is being made, and holds `done` of `total` sources."""

    cursor: int = 0
    is_whole: bool = False
    done: int = 0
    total: int = 0
    problem: str = ""


class Follower:
    """Keeps the index up to date. `catch_up` does it now, in the caller's thread; `start` in one of its own."""

    def __init__(
        self, root: Root, documents: Documents, archives: Archives, file: IndexFile, *, min_free_bytes: int = 0
    ) -> None:
        self._root = root
        self._documents = documents
        self._archives = archives
        self._file = file
        self._min_free_bytes = min_free_bytes
        self._changed = threading.Event()
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._state = IndexState()
        self._known = KnownWords()
        self._wants_anew = False
        self._is_doubtful = root.was_killed
        self._thread: threading.Thread | None = None
        root.database.on_commit(self._changed.set)

    # -- the outside

    @property
    def state(self) -> IndexState:
        return self._state

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the transaction that goes on end, undone or not, and the thread with it."""
        self._stopping.set()
        self._hurry.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._moved:
            self._moved.notify_all()

    def close(self) -> None:
        """Stop, and close the index; before the root is closed."""
        self.stop()
        self._file.close()

    def rebuild(self) -> None:
        """Let the index be made anew, soon."""
        self._wants_anew = True
        with self._moved:
            self._state = replace(self._state, is_whole=False, done=0, total=0)
        self._hurry.set()
        self._changed.set()

    def throw_away(self, seconds: float) -> bool:
        """Remove all that the index holds; whoever follows makes it anew. False: not within so many seconds."""
        before = self._file.incarnation
        self.rebuild()
        if self._thread is None:
            self._file.renew()
            return True
        with self._moved:
            return self._moved.wait_for(lambda: self._file.incarnation != before, seconds)

    def make_anew(self, progress: Callable[[int, int], None]) -> str:
        """Make the index anew in the caller's thread; returns what kept it from that, if anything."""
        self.rebuild()
        try:
            self.catch_up(progress)
        except IndexFull:
            return _FULL
        except IndexUnusable as error:
            return str(error)
        return ""

    def wait_for(self, number: int, seconds: float) -> bool:
        """Whether the index holds the change with that number, now or within so many seconds."""
        if not self._holds(number):
            self._hurry.set()
        with self._moved:
            return self._moved.wait_for(lambda: self._holds(number), seconds if self._thread else 0)

    def _holds(self, number: int) -> bool:
        return self._state.is_whole and self._state.cursor >= number

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Index everything there is.

        Raises:
            IndexFull, IndexUnusable: The disk is full, or the index was found damaged.
        """
        self._file.look_at_place()
        if self._wants_anew or self._file.is_damaged or (self._is_doubtful and not self._file.verify()):
            self._wants_anew = False
            self._file.renew()
            with self._moved:
                self._moved.notify_all()
        self._is_doubtful = False
        self._ensure_space()
        if not self._is_known():
            self._make_whole(progress)
        head = self._root.feed.head()
        while not self._wants_anew and self._state.cursor < head and self._follow():
            self._ensure_space()
        self._file.shorten_log()

    def put_in_order(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Let words be found in fewer steps, as far as there is room on the disk.

        Raises:
            IndexUnusable: The index was found damaged.
        """
        with suppress(IndexFull):
            is_left = True
            while is_left and not is_stopped():
                self._ensure_space()
                with self._file.writing() as connection:
                    is_left = merge_parts(connection)
        self._file.shorten_log()

    # -- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            self._hurry.clear()
            try:
                self.catch_up()
                self._set_problem("")
                if not self._changed.wait(_REST_SECONDS):
                    self.put_in_order(self._changed.is_set)
                    self._changed.wait()
                self._hurry.wait(_SETTLE_SECONDS)
            except Stopped:
                return
            except IndexFull:
                self._set_problem(_FULL)
                self._stopping.wait(_RETRY_SECONDS)
            except IndexUnusable:
                self._set_problem("")
                with self._moved:
                    self._state = replace(self._state, is_whole=False)
                self._stopping.wait(0.05)
            except Exception:
                logger.exception("indexing failed")
                self._set_problem("indexing failed, see the log: searches read the files instead")
                self._stopping.wait(_RETRY_SECONDS)

    def _set_problem(self, problem: str) -> None:
        with self._moved:
            if problem and problem != self._state.problem:
                logger.warning("index does not follow", extra={"reason": problem})
            self._state = replace(self._state, problem=problem)

    def _ensure_space(self) -> None:
        floor = self._min_free_bytes + min(self._min_free_bytes, _ROOM_FOR_WRITES)
        if floor and self._root.free_bytes() < floor:
            raise IndexFull("less is free than the floor allows")

    # -- making it whole

    def _is_known(self) -> bool:
        """Whether the index is of this node's feed, and so can follow it from its cursor on."""
        feed = self._root.feed
        with self._file.reading() as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
            rows = int(meta.get("next_row", 1)) - 1
        cursor = int(meta.get("cursor", 0))
        is_same = (meta.get("origin"), meta.get("epoch")) == (feed.origin, feed.epoch) and cursor <= feed.head()
        if is_same and cursor and meta.get("cursor_at") != self._time_of(cursor):
            is_same = False
        if rows > _FEW_ROWS and int(meta.get("dead_rows", 0)) > rows * _MOST_DEAD_SHARE:
            logger.info("index holds mostly what is gone and is made anew", extra={"rows": rows})
            self._file.renew()
            return False
        if not is_same or not meta.get("is_whole"):
            return False
        self._move(cursor)
        return True

    def _time_of(self, number: int) -> str:
        found = self._root.feed.after(number - 1, 1)
        return found[0].at if found and found[0].number == number else ""

    def _make_whole(self, progress: Callable[[int, int], None] | None) -> None:
        """Bring every source up to date, the oldest first, whatever the index held before."""
        started = time.monotonic()
        feed = self._root.feed
        head = feed.head()
        with self._moved:
            self._state = replace(self._state, is_whole=False, cursor=0)
        with self._file.writing() as connection:
            writing = Writing(connection)
            writing.set(origin=feed.origin, epoch=feed.epoch, is_whole=0, cursor=0)
            writing.finish()
        items = self._everything()
        self._index(items, progress=progress)
        with self._file.writing() as connection:
            writing = Writing(connection)
            writing.set(is_whole=1, cursor=head, cursor_at=self._time_of(head) if head else "")
            writing.finish()
        self._move(head)
        fields = {"sources": len(items), "elapsed_ms": round(1000 * (time.monotonic() - started))}
        logger.info("index made", extra=fields)

    def _everything(self) -> list[Item]:
        """Every document and session by time, then what the index holds of others."""
        database = self._root.database
        documents = database.rows(
            "SELECT updated_at, workspace_id, kind, path FROM documents WHERE deleted = 0 ORDER BY updated_at"
        )
        sessions = database.rows(
            "SELECT started_at, workspace_id, 'session', session_id FROM archives WHERE current = 1 ORDER BY started_at"
        )
        items: list[Item] = [row[1:] for row in merge(documents, sessions)]
        with self._file.reading() as connection:
            rows = connection.execute("SELECT workspace_id, kind, key FROM sources WHERE etag <> ''").fetchall()
        known = set(items)
        return items + [row for row in rows if row not in known]

    # -- following

    def _follow(self) -> bool:
        """Index the next changes of the feed; False when there are none."""
        changes = self._root.feed.after(self._state.cursor, _CHANGES)
        if not changes:
            return False
        last = changes[-1]
        items = dict.fromkeys((change.workspace_id, change.kind, change.key) for change in changes)
        self._index(list(items), last)
        self._move(last.number)
        return True

    def _move(self, cursor: int) -> None:
        with self._moved:
            self._state = IndexState(cursor, not self._wants_anew)
            self._moved.notify_all()

    def _index(
        self, items: list[Item], last: Change | None = None, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Bring these up to date; with the last transaction, the cursor moves to `last`."""
        total = len(items)
        work = self._steps(items)
        done = 0
        is_left = True
        while is_left:
            with self._file.writing() as connection:
                writing = Writing(connection, self._known)
                done, is_left = self._transaction(writing, work, done)
                if not is_left and last is not None:
                    writing.set(cursor=last.number, cursor_at=last.at)
                writing.finish()
            writing.committed()
            if not self._state.is_whole:
                with self._moved:
                    self._state = replace(self._state, done=done, total=total)
            if progress:
                progress(done, total)
            if is_left:
                self._ensure_space()

    def _transaction(self, writing: Writing, work: Iterator[_Step], done: int) -> tuple[int, bool]:
        """As many steps as a transaction takes; returns how many items are done, and whether there may be more."""
        started = time.monotonic()
        read_bytes = 0
        for step in work:
            if self._stopping.is_set():
                raise Stopped
            size, is_done = step(writing)
            read_bytes += size
            done += is_done
            most = _TRANSACTION_SECONDS if self._hurry.is_set() else _CALM_SECONDS
            if read_bytes >= _TRANSACTION_BYTES or time.monotonic() >= started + most:
                return done, True
        return done, False

    def _steps(self, items: Iterable[Item]) -> Iterator[_Step]:
        for workspace_id, kind, key in items:
            if kind == "session":
                yield from self._session_steps(workspace_id, key)
            elif kind in DOCUMENT_KINDS:
                yield partial(self._document, (workspace_id, kind, key))
            else:
                yield lambda _: (0, True)

    def _session_steps(self, workspace_id: str, session_id: str) -> Iterator[_Step]:
        archive = self._archive(workspace_id, session_id)
        if archive is None:
            yield partial(_forget, (workspace_id, "session", session_id))
            return
        reading = SessionReading(self._archives, archive, self._stopping.is_set)
        is_done = False

        def step(writing: Writing) -> tuple[int, bool]:
            nonlocal is_done
            before = reading.read_bytes
            try:
                is_done = reading.step(writing)
            except NotFound:  # replaced meanwhile: the feed says so next
                is_done = True
            return reading.read_bytes - before, is_done

        while not is_done:
            yield step

    def _archive(self, workspace_id: str, session_id: str) -> Archive | None:
        try:
            return self._archives.find(WorkspaceId(workspace_id), SessionId(session_id))
        except NotFound:
            return None

    def _document(self, item: Item, writing: Writing) -> tuple[int, bool]:
        workspace_id, kind, path = item
        key = Key(WorkspaceId(workspace_id), cast(DocumentKind, kind), DocumentPath(path))
        try:
            document, text = self._documents.read(key)
        except (FederatedMemoryError, OSError):  # gone, too large, or unreadable: not served either
            return _forget(item, writing)
        if key.is_versioned:
            writing.put_document(document, text)
        else:
            writing.put_memory(document, text)
        return len(text), True


_Step = Callable[[Writing], tuple[int, bool]]
"""Does a part of the work on one item; returns how many bytes it read, and whether the item is done."""


def _forget(item: Item, writing: Writing) -> tuple[int, bool]:
    writing.forget(*item)
    return 0, True
