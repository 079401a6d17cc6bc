"""The one entry point: what callers search with (SPEC: FIND-1 to FIND-12)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from federated_memory.names import WorkspaceId
from federated_memory.search import knowledge, ranked_knowledge, ranked_sessions, sessions
from federated_memory.search.corpus import Corpus
from federated_memory.search.hit import Budget, Found
from federated_memory.search.query import Exact, Query
from federated_memory.search.reading import Scope
from federated_memory.store.archive import Archives
from federated_memory.store.documents import Documents
from federated_memory.store.root import Root
from federated_memory.transcripts import Role

_THREADS = 2
_NOTHING = Found([], note="There is nothing to look for in this query; `literal` finds signs and spaces too")


class Search:
    """Searches by scanning. Blocking: call from a worker thread. Thread-safe.

    All searches share two threads for transcripts, so that no number of them takes the processor from other requests.
    `since` is included, `until` is not; both compare as text with RFC 3339 times in UTC, so a date alone works too.
    `limit` is at least 1; `after` is the `next` of the page before. `cancelled` ends a search early; what was found by
    then is returned.
    """

    def __init__(self, root: Root, documents: Documents, archives: Archives, *, timeout_seconds: float) -> None:
        self._root = root
        self._documents = documents
        self._archives = archives
        self._timeout_seconds = timeout_seconds
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="search")

    def close(self) -> None:
        """Wait for the searches that go on; before the root is closed."""
        self._pool.shutdown()

    def knowledge(
        self,
        query: Query,
        workspace_ids: Sequence[WorkspaceId],
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int = 20,
        after: Sequence[object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Found:
        """Documents and overviews: with an exact query every line that matches, newest document first; ranked, each
        document once, best first.

        Raises:
            InvalidArgument: `after` is not of this search.
        """
        budget = Budget(self._timeout_seconds, cancelled)
        if not isinstance(query, Exact) and not query.terms.wanted:
            return _NOTHING
        with Corpus(self._root, self._documents, workspace_ids, budget) as corpus:
            if isinstance(query, Exact):
                return knowledge.search_exact(corpus, query, since=since, until=until, limit=limit, after=after)
            return ranked_knowledge.search_ranked(
                corpus, self._root.feed, query, since=since, until=until, limit=limit, after=after
            )

    def sessions(
        self,
        query: Query,
        workspace_ids: Sequence[WorkspaceId],
        *,
        role: Role | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 20,
        after: Sequence[object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Found:
        """What was said in sessions: with an exact query every line and role that matches, newest session first;
        ranked, best first, at most three hits of each session. `role` and times are those of the turn.

        Raises:
            InvalidArgument: `after` is not of this search.
        """
        budget = Budget(self._timeout_seconds, cancelled)
        scope = Scope(role, since, until)
        if isinstance(query, Exact):
            return sessions.search_exact(
                self._archives, self._pool, query, workspace_ids, scope, limit=limit, after=after, budget=budget
            )
        if not query.terms.wanted:
            return _NOTHING
        return ranked_sessions.search_ranked(
            self._archives, self._root.feed, self._pool, query, workspace_ids, scope,
            limit=limit, after=after, budget=budget,
        )  # fmt: skip
