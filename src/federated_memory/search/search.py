"""The one entry point: what callers search with (SPEC: FIND-1 to FIND-12, INDEX-6 to INDEX-9)."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from federated_memory.errors import InvalidArgument
from federated_memory.index import Follower, Index
from federated_memory.index.file import IndexUnusable
from federated_memory.names import WorkspaceId
from federated_memory.search import knowledge, ranked_knowledge, ranked_sessions, sessions
from federated_memory.search.corpus import Corpus
from federated_memory.search.hit import After, Budget, Found, Hit
from federated_memory.search.indexed import DOCUMENT_KINDS, WRITTEN_KINDS, Indexed, Wanted
from federated_memory.search.memory_view import EVERYTHING, MemoryView
from federated_memory.search.query import Exact, Query, Ranked
from federated_memory.search.reading import Scope
from federated_memory.store.archive import Archives
from federated_memory.store.documents import Documents
from federated_memory.store.root import Root
from federated_memory.transcripts import Role

_THREADS = 2
_SESSION_HITS = 3
_NOTHING = Found([], note="There is nothing to look for in this query; `literal` finds signs and spaces too")
_NO_INDEX = "the index is being made: files were searched directly"


class Search:
    """Searches through the index; without one, and where it is behind, by scanning. Blocking: call from a worker
    thread. Thread-safe.

    All searches share two threads for transcripts, so that no number of them takes the processor from other requests.
    `since` is included, `until` is not; both compare as text with RFC 3339 times in UTC, so a date alone works too.
    `limit` is at least 1; `after` is the `next` of the page before. `cancelled` ends a search early; what was found by
    then is returned.
    """

    def __init__(
        self,
        root: Root,
        documents: Documents,
        archives: Archives,
        *,
        timeout_seconds: float,
        index: Index | None = None,
        follower: Follower | None = None,
    ) -> None:
        self._root = root
        self._documents = documents
        self._archives = archives
        self._timeout_seconds = timeout_seconds
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="search")
        self._indexed = Indexed(root, documents, archives, index, follower, self._pool) if index and follower else None

    def close(self) -> None:
        """Wait for the searches that go on; before the root is closed."""
        self._pool.shutdown()
        if self._indexed is not None:
            self._indexed.close()

    def knowledge(
        self,
        query: Query,
        workspace_ids: Sequence[WorkspaceId],
        *,
        kinds: Collection[str] = DOCUMENT_KINDS,
        memories: MemoryView = EVERYTHING,
        since: str | None = None,
        until: str | None = None,
        limit: int = 20,
        after: Sequence[object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Found:
        """Documents and overviews, or others of `kinds`: with an exact query every line that matches, newest document
        first; ranked, each document once, best first.

        Raises:
            InvalidArgument: `after` is not of this search.
        """
        budget = Budget(self._timeout_seconds, cancelled)
        if isinstance(query, Exact):
            with self._corpus(workspace_ids, budget, kinds, memories) as corpus:
                return knowledge.search_exact(corpus, query, since=since, until=until, limit=limit, after=after)
        if not query.terms.wanted:
            return _NOTHING

        def scan() -> Found:
            with self._corpus(workspace_ids, budget, kinds, memories) as corpus:
                return ranked_knowledge.search_ranked(
                    corpus, self._root.feed, query, since=since, until=until, limit=limit, after=after
                )

        scope = Scope(None, since, until)
        wanted = Wanted(tuple(dict.fromkeys(workspace_ids)), frozenset(kinds), scope, memories=memories)
        return self._ranked(query, wanted, scan, limit=limit, after=after, budget=budget)

    def _corpus(
        self, workspace_ids: Sequence[WorkspaceId], budget: Budget, kinds: Collection[str], memories: MemoryView
    ) -> Corpus:
        shows = None if memories is EVERYTHING else memories.shows
        return Corpus(self._root, self._documents, workspace_ids, budget, kinds=kinds, shows=shows)

    def sessions(
        self,
        query: Query,
        workspace_ids: Sequence[WorkspaceId],
        *,
        role: Role | None = None,
        session_id: str = "",
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
        scope = Scope(role, since, until, session_id)
        if isinstance(query, Exact):
            return self._exact_sessions(query, workspace_ids, scope, limit=limit, after=after, budget=budget)
        if not query.terms.wanted:
            return _NOTHING

        def scan() -> Found:
            return ranked_sessions.search_ranked(
                self._archives, self._root.feed, self._pool, query, workspace_ids, scope,
                limit=limit, after=after, budget=budget,
            )  # fmt: skip

        ids = tuple(dict.fromkeys(workspace_ids))
        wanted = Wanted(ids, frozenset({"session"}), scope, per_source=_SESSION_HITS)
        return self._ranked(query, wanted, scan, limit=limit, after=after, budget=budget)

    def memory(
        self,
        query: Query,
        workspace_ids: Sequence[WorkspaceId],
        *,
        kinds: Collection[str] = ("knowledge", "memory", "session"),
        memories: MemoryView = EVERYTHING,
        session_id: str = "",
        role: Role | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 20,
        after: Sequence[object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Found:
        """One list over everything: ranked, the best window of each document and session, each passage once; exact,
        newest first.

        Raises:
            InvalidArgument: `after` is not of this search.
        """
        scope = Scope(role, since, until, session_id)
        wanted_kinds = frozenset(kinds) | (DOCUMENT_KINDS if "knowledge" in kinds else frozenset())
        if session_id:
            wanted_kinds &= {"session"}
        if isinstance(query, Exact):
            return self._exact_memory(
                query, workspace_ids, wanted_kinds, scope, memories, limit=limit, after=after, cancelled=cancelled
            )
        if not query.terms.wanted:
            return _NOTHING
        budget = Budget(self._timeout_seconds, cancelled)
        wanted = Wanted(tuple(dict.fromkeys(workspace_ids)), wanted_kinds, scope, is_distinct=True, memories=memories)

        def scan() -> Found:
            return self._scanned_memory(query, wanted, limit, cancelled)

        return self._ranked(query, wanted, scan, limit=limit, after=after, budget=budget)

    # -- with the index, or without

    def _ranked(
        self,
        query: Ranked,
        wanted: Wanted,
        scan: Callable[[], Found],
        *,
        limit: int,
        after: Sequence[object] | None,
        budget: Budget,
    ) -> Found:
        is_of_a_scan = after is not None and (not after or not isinstance(after[0], str))
        if self._indexed is None or is_of_a_scan:
            return scan()
        try:
            return self._indexed.ranked(query, wanted, limit=limit, after=after, budget=budget)
        except IndexUnusable:
            if budget.is_spent():
                return Found([], None, False, budget.reason)
            return _noted(scan())

    def _exact_sessions(
        self,
        query: Exact,
        workspace_ids: Sequence[WorkspaceId],
        scope: Scope,
        *,
        limit: int,
        after: Sequence[object] | None,
        budget: Budget,
    ) -> Found:
        if self._indexed is not None:
            try:
                return self._indexed.exact_sessions(
                    query, workspace_ids, scope, limit=limit, after=after, budget=budget
                )
            except IndexUnusable:
                pass
        return sessions.search_exact(
            self._archives, self._pool, query, workspace_ids, scope, limit=limit, after=after, budget=budget
        )

    def _scanned_memory(self, query: Ranked, wanted: Wanted, limit: int, cancelled: threading.Event | None) -> Found:
        """Without an index: the best of both, at most one page."""
        scope = wanted.scope
        parts: list[Found] = []
        kinds = wanted.kinds & WRITTEN_KINDS
        if kinds and scope.role is None:
            parts.append(
                self.knowledge(query, wanted.workspace_ids, kinds=kinds, memories=wanted.memories, since=scope.since,
                               until=scope.until, limit=limit, cancelled=cancelled)
            )  # fmt: skip
        if "session" in wanted.kinds:
            parts.append(
                self.sessions(query, _of_sessions(wanted.workspace_ids, wanted.memories), role=scope.role,
                              session_id=scope.session_id, since=scope.since, until=scope.until,
                              limit=limit, cancelled=cancelled)
            )  # fmt: skip
        hits = sorted((hit for part in parts for hit in part.hits), key=lambda hit: (hit.score, hit.at), reverse=True)
        note = "; ".join(dict.fromkeys(part.note for part in parts if part.note))
        return Found(hits[:limit], None, all(part.is_complete for part in parts), note)

    def _exact_memory(
        self,
        query: Exact,
        workspace_ids: Sequence[WorkspaceId],
        kinds: frozenset[str],
        scope: Scope,
        memories: MemoryView,
        *,
        limit: int,
        after: Sequence[object] | None,
        cancelled: threading.Event | None,
    ) -> Found:
        """Lines of documents and turns of sessions, the newest document or session first."""
        begins = _begins_of(after)
        parts: list[Found] = []
        written = kinds & WRITTEN_KINDS
        for is_wanted, begin in zip((written and scope.role is None, "session" in kinds), begins, strict=True):
            if not is_wanted or begin == ():
                parts.append(Found([]))
            elif not parts:
                parts.append(
                    self.knowledge(query, workspace_ids, kinds=written, memories=memories, since=scope.since,
                                   until=scope.until, limit=limit, after=begin, cancelled=cancelled)
                )  # fmt: skip
            else:
                parts.append(
                    self.sessions(query, _of_sessions(workspace_ids, memories), role=scope.role,
                              session_id=scope.session_id, since=scope.since, until=scope.until,
                                  limit=limit, after=begin, cancelled=cancelled)
                )  # fmt: skip
        return _merged(parts, begins, limit)


def _of_sessions(workspace_ids: Sequence[WorkspaceId], memories: MemoryView) -> Sequence[WorkspaceId]:
    allowed = memories.workspace_ids
    return workspace_ids if allowed is None else [one for one in workspace_ids if one in allowed]


_Begins = tuple[Sequence[object] | None, Sequence[object] | None]
"""Where the two searches that an exact one over everything consists of go on: None from the start, empty nowhere."""


def _begins_of(after: Sequence[object] | None) -> _Begins:
    """Raises: InvalidArgument: not a place that `_merged` gave."""
    if after is None:
        return None, None
    length = after[0] if after else None
    if type(length) is not int or not -1 <= length <= len(after) - 2:
        raise InvalidArgument("The cursor is not of this search", hint="Leave it out to start again")
    split = 1 + max(0, length)
    rest = after[split]
    if type(rest) is not int or rest not in (-1, len(after) - split - 1):
        raise InvalidArgument("The cursor is not of this search", hint="Leave it out to start again")
    return (None if length < 0 else after[1:split]), (None if rest < 0 else after[split + 1 :])


def _merged(parts: Sequence[Found], begins: _Begins, limit: int) -> Found:
    """One page of two: by the time of the document or session, the newest first."""
    streams = [
        [(str(place[0]), number, hit, place) for hit, place in zip(part.hits, part.places, strict=True)]
        for number, part in enumerate(parts)
    ]
    reached: list[Sequence[object] | None] = list(begins)
    hits: list[Hit] = []
    places: list[After] = []
    taken = [0, 0]
    merged = heapq.merge(*streams, key=lambda row: (row[0], -row[1]), reverse=True)
    for _, number, hit, place in merged:
        if len(hits) == limit:
            break
        reached[number] = place
        taken[number] += 1
        hits.append(hit)
        places.append(_joined(reached))
    ends = [
        part.next if count == len(part.hits) else reached[number]
        for number, (part, count) in enumerate(zip(parts, taken, strict=True))
    ]
    is_end = all(part.next is None and count == len(part.hits) for part, count in zip(parts, taken, strict=True))
    note = "; ".join(dict.fromkeys(part.note for part in parts if part.note))
    following = None if is_end else _joined([() if end is None and taken[at] == len(parts[at].hits) else end
                                             for at, end in enumerate(ends)])  # fmt: skip
    return Found(hits, following, all(part.is_complete for part in parts), note, places)


def _joined(begins: Sequence[Sequence[object] | None]) -> After:
    joined: list[object] = []
    for begin in begins:
        joined += [-1] if begin is None else [len(begin), *begin]
    return tuple(joined)  # type: ignore[arg-type]


def _noted(found: Found) -> Found:
    note = "; ".join(filter(None, [_NO_INDEX, found.note]))
    return Found(found.hits, found.next, found.is_complete, note, found.places)
