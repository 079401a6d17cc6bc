"""Many small writes, one commit: whoever comes while a commit is under way shares the next one (SPEC: STATE-4).

Whoever comes alone, to a fast disk, commits by itself: waking a thread and being woken by it takes as long again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from federated_memory.errors import FederatedMemoryError, RateLimited, Unavailable
from federated_memory.store.database import Database

logger = logging.getLogger(__name__)

T = TypeVar("T")
MOST_WAITING = 4_096
_MOST_AT_ONCE = 256


class GroupCommit:
    """What has queued up is run in one transaction, by a thread of its own or by whoever came alone. An answer is given
    only after the commit, and one commit is over before the next begins.

    Work must look before it writes: when it raises one of our errors it has written nothing, and the others of its
    transaction are not disturbed. Any other error undoes the whole transaction, and everybody in it is told.
    """

    def __init__(self, database: Database, committed: Callable[[list[Any]], None], undone: Callable[[], None]) -> None:
        """In the thread that commits, before anybody is answered: `committed` gets the results of each commit, and
        `undone` is called when one failed."""
        self._database = database
        self._committed = committed
        self._undone = undone
        self._waiting: deque[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]] = deque()
        self._committing = threading.Lock()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(self, work: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> Future[T]:
        """`alone`: nobody else is known to come now, so that it may be done before this returns.

        Raises: RateLimited: too many wait already. Unavailable: the server is stopping.
        """
        answer: Future[T] = Future()
        if alone and self._committed_here(work, answer):
            return answer
        with self._wake:
            self._ensure_open()
            if len(self._waiting) >= MOST_WAITING:
                raise RateLimited("Too many writes wait for the disk", hint="Wait a second", retry_after_seconds=1)
            self._waiting.append((work, answer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
                self._thread.start()
            self._wake.notify()
        return answer

    def _committed_here(self, work: Callable[[sqlite3.Connection], T], answer: Future[T]) -> bool:
        """In the caller's thread, if nothing keeps it."""
        if self._waiting or not self._committing.acquire(blocking=False):
            return False
        try:
            with self._database.quickly() as is_quick:
                if is_quick:
                    self._ensure_open()
                    self._commit([(work, answer)])
            return is_quick
        finally:
            self._committing.release()

    def _ensure_open(self) -> None:
        if self._is_closed:
            raise Unavailable("The server is stopping", hint="Send it again")

    def close(self) -> None:
        """Commit what waits, and end."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._is_closed:
                    self._wake.wait()
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
            with self._committing:
                self._commit([item for item in batch if item[1].set_running_or_notify_cancel()])

    def _commit(self, batch: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        refused: list[tuple[Future[Any], FederatedMemoryError]] = []
        try:
            with self._database.transaction(tells=False) as transaction:
                for work, answer in batch:
                    try:
                        done.append((answer, work(transaction)))
                    except FederatedMemoryError as error:
                        refused.append((answer, error))
        except BaseException as error:  # the thread must outlive whatever happens to one batch
            try:
                self._undone()
            except Exception:
                logger.exception("what was counted on a failed commit cannot be read again")
            if not isinstance(error, FederatedMemoryError):
                logger.exception("a commit of shared state failed")
                error = Unavailable("The server failed unexpectedly", hint="Retry; its log says more")
            for _, answer in batch:
                answer.set_exception(error)
            return
        self._committed([result for _, result in done])
        for answer, result in done:
            answer.set_result(result)
        for answer, problem in refused:
            answer.set_exception(problem)
