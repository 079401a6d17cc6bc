"""Search through the index, and through the files for what it does not hold yet (SPEC: INDEX-6 to INDEX-9)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import orjson

from federated_memory.index import Follower, Index, Source, View
from federated_memory.index.library import Library
from federated_memory.index.reader import RowScope, Table
from federated_memory.index.rows import ROLES
from federated_memory.names import WorkspaceId
from federated_memory.search import ranked_knowledge, ranked_sessions, sessions
from federated_memory.search.by_parts import find_inside_words
from federated_memory.search.candidates import Candidates, IndexedSessions, is_in_time, sure_texts
from federated_memory.search.corpus import Corpus
from federated_memory.search.evidence import Evidence, gather
from federated_memory.search.excerpts import Excerpts
from federated_memory.search.fusion import Entry, rank
from federated_memory.search.hit import After, Budget, Found, Hit, comes_after, parse_after
from federated_memory.search.kept import Kept
from federated_memory.search.lag import Lag, LagFinder
from federated_memory.search.marking import Marking
from federated_memory.search.memory_view import EVERYTHING, MEMORY_KINDS, MemoryView
from federated_memory.search.query import Exact, Ranked
from federated_memory.search.ranking import Weights
from federated_memory.search.reading import Scope
from federated_memory.search.terms import Term, Terms
from federated_memory.store.archive import Archives
from federated_memory.store.documents import Documents
from federated_memory.store.root import Root

_KEPT_RANKINGS = 32
_KEPT_SCOPES = 8
_LEAST_AHEAD = 4
_SCANNED = 100
_SCAN_SHARE = 1.6
"""What brings a score of a scan to the height of the index's."""
_CURSOR = (str, int, float, str, str, str, str)
DOCUMENT_KINDS = frozenset({"knowledge", "overview"})
WRITTEN_KINDS = DOCUMENT_KINDS | MEMORY_KINDS


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a ranked search looks through."""

    workspace_ids: tuple[WorkspaceId, ...]
    kinds: frozenset[str]
    scope: Scope
    per_source: int = 1
    is_distinct: bool = False
    """Whether one passage is shown once, in however many sources it stands."""
    memories: MemoryView = EVERYTHING


@dataclass(slots=True)
class _Ranking:
    """One answer in full, kept so that its pages follow from each other whatever is written in between."""

    signature: bytes
    entries: list[Entry]
    terms: tuple[Term, ...]
    weights: Weights
    library: Library
    note: str
    is_complete: bool
    shown: dict[str, int] = field(default_factory=dict)


class Indexed:
    """Thread-safe; blocking."""

    def __init__(
        self, root: Root, documents: Documents, archives: Archives, index: Index, follower: Follower,
        pool: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self._root = root
        self._documents = documents
        self._archives = archives
        self._index = index
        self._pool = pool
        self._lag = LagFinder(root.feed, documents, archives, follower)
        self._rankings: Kept[_Ranking] = Kept(_KEPT_RANKINGS)
        self._scopes: Kept[RowScope] = Kept(_KEPT_SCOPES)
        self._sessions: Kept[IndexedSessions] = Kept(_KEPT_SCOPES)
        self._marking = Marking()

    def close(self) -> None:
        self._marking.close()

    # -- ranked

    def ranked(
        self, query: Ranked, wanted: Wanted, *, limit: int, after: Sequence[object] | None, budget: Budget
    ) -> Found:
        """Raises: IndexUnusable: there is none now. InvalidArgument: `after` is not of this search."""
        begin = parse_after(after, *_CURSOR)
        signature = _signature(query, wanted)
        ranking = self._kept(str(begin[0]), signature) if begin else None
        start = int(begin[1]) if begin and ranking else 0
        name = str(begin[0]) if begin and ranking else ""
        if ranking is None:
            ranking = self._rank(query, wanted, budget, signature)
            if begin:
                place = begin[2:]
                start = sum(not comes_after(_place(entry), place, 2) for entry in ranking.entries)
        return self._page(name, ranking, query, wanted, start, limit, budget)

    def _kept(self, name: str, signature: bytes) -> _Ranking | None:
        found = self._rankings.get(name)
        return found if found is not None and found.signature == signature else None

    def _keep(self, ranking: _Ranking) -> str:
        name = hashlib.sha256(ranking.signature + str(id(ranking)).encode()).hexdigest()[:16]
        self._rankings.put(name, ranking)
        return name

    def _rank(self, query: Ranked, wanted: Wanted, budget: Budget, signature: bytes) -> _Ranking:
        state = self._lag.wait()
        with self._index.view(budget.is_spent) as view:
            lag = self._lag.find(state, view.library, wanted.workspace_ids, wanted.kinds)
            evidence, entries = self._indexed(view, query, query.terms.wanted, wanted, lag)
            if evidence.is_empty and query.terms.weak and not lag.keys and not lag.note:
                evidence, entries = self._indexed(view, query, query.terms.weak, wanted, lag)
            library = view.library
            notes = [lag.note] if lag.note else []
            if not entries and "memory" in wanted.kinds and wanted.scope.role is None and not wanted.scope.session_id:
                is_wanted = filter_of(wanted, lag)
                scope = self._row_scope(library, wanted, lag, ["noted"], is_wanted)
                is_shown = _with_memories(is_wanted, wanted)
                entries = find_inside_words(view, self._documents, evidence.terms, scope, is_shown)
                notes += ["no word of it was found: these hold it inside words"] if entries else []
        is_complete = True
        if lag.documents or lag.sessions:
            scanned, problem = self._scanned(query, wanted, lag, budget)
            entries = sorted([*entries, *scanned], key=lambda entry: (entry.score, entry.at), reverse=True)
            if problem:
                notes.append(problem)
                is_complete = False
        if entries and not evidence.is_empty and not evidence.is_whole and not (lag.documents or lag.sessions):
            notes.append("nothing holds all of the words: these hold some of them")
        if evidence.capped:
            words = ", ".join(dict.fromkeys(evidence.capped))
            notes.append(f"of very common words ({words}) only the newest places were ranked")
        return _Ranking(
            signature, entries, tuple(evidence.terms), evidence.weights, library, "; ".join(notes), is_complete
        )

    def _indexed(
        self, view: View, query: Ranked, terms: Sequence[Term], wanted: Wanted, lag: Lag
    ) -> tuple[Evidence, list[Entry]]:
        is_wanted = filter_of(wanted, lag)
        tables: list[Table] = []
        for table, kinds in (("written", DOCUMENT_KINDS), ("noted", MEMORY_KINDS)):
            if wanted.kinds & kinds and wanted.scope.role is None:
                tables.append("written" if table == "written" else "noted")
        if "session" in wanted.kinds:
            tables.append("spoken")
        scope = self._row_scope(view.library, wanted, lag, tables, is_wanted)
        evidence = gather(view, terms, query.terms.excluded, scope, tables)
        has_times = wanted.scope.since is not None or wanted.scope.until is not None
        found = rank(
            view.library, evidence, _with_memories(is_wanted, wanted), per_source=wanted.per_source,
            alternatives=has_times, days=query.days,
        )  # fmt: skip
        return evidence, found

    def _row_scope(
        self, library: Library, wanted: Wanted, lag: Lag, tables: Sequence[Table], is_wanted: Callable[[Source], bool]
    ) -> RowScope:
        """The rows that count; kept for the next search of the same kind, as long as nothing new is indexed."""
        of_project = wanted.memories.workspace_ids
        key = (id(library), library.generation, wanted.workspace_ids, wanted.kinds, wanted.scope, of_project)
        known = self._scopes.get(key)
        if known is not None and not lag.keys and not _is_picky(wanted):
            return known
        if _is_picky(wanted):
            is_wanted = _with_memories(is_wanted, wanted)
        speakers = frozenset(number for number, role in ROLES.items() if role == wanted.scope.role)
        found = RowScope(
            library,
            is_wanted if _limits_rows(library, wanted, lag, tables) else None,
            speakers if wanted.scope.role else frozenset(),
            wanted.kinds,
        )
        if not lag.keys and not _is_picky(wanted):
            self._scopes.put(key, found)
        return found

    def _scanned(self, query: Ranked, wanted: Wanted, lag: Lag, budget: Budget) -> tuple[list[Entry], str]:
        """What the index does not hold, searched in the files; and what went wrong."""
        entries: list[Entry] = []
        problems: list[str] = []
        scope = wanted.scope
        if lag.documents and scope.role is None:
            shown = {key for key in lag.documents if wanted.memories.shows(key.workspace_id, key.kind, key.path)}
            with Corpus(self._root, self._documents, wanted.workspace_ids, budget, shown) as corpus:
                found = ranked_knowledge.search_ranked(
                    corpus, self._root.feed, query, since=scope.since, until=scope.until, limit=_SCANNED, after=None
                )
            entries += _entries_of(found, 6)
            problems += [] if found.is_complete else [found.note]
        lag.sessions = [one for one in lag.sessions if wanted.memories.shows(one.workspace_id, "session", "")]
        if lag.sessions:
            found = ranked_sessions.search_ranked(
                self._archives, self._root.feed, self._pool, query, wanted.workspace_ids, scope,
                limit=_SCANNED, after=None, budget=budget.part(),
                only=(archive for archive in lag.sessions if is_in_time(archive, scope)),
            )  # fmt: skip
            entries += _entries_of(found, 7, wanted.per_source)
            problems += [] if found.is_complete else [found.note]
        return entries, "; ".join(problems)

    def _page(
        self, name: str, ranking: _Ranking, query: Ranked, wanted: Wanted, start: int, limit: int, budget: Budget
    ) -> Found:
        if start >= len(ranking.entries):
            return Found([], None, ranking.is_complete, ranking.note)
        terms = Terms(ranking.terms, query.terms.excluded)
        excerpts = Excerpts(
            self._documents, self._archives, self._pool, self._marking, terms, ranking.weights, wanted.scope
        )
        hits: list[Hit] = []
        places: list[After] = []
        is_cut = False
        looked_at = start
        for number in range(start, len(ranking.entries)):
            if number == looked_at and len(hits) < limit:
                looked_at += max(_LEAST_AHEAD, limit - len(hits))
                excerpts.look_ahead(ranking.library, ranking.entries[number:looked_at])
            if len(hits) == limit or (hits and budget.is_spent()):
                name = name or self._keep(ranking)
                places = [(name, *place[1:]) for place in places]
                is_cut = len(hits) < limit
                note = "; ".join(filter(None, [ranking.note, budget.reason if is_cut else ""]))
                return Found(hits, places[-1], ranking.is_complete and not is_cut, note, places)
            entry = ranking.entries[number]
            hit = excerpts.hit(ranking.library, entry)
            if hit is None or (wanted.is_distinct and ranking.shown.setdefault(_passage(hit), number) != number):
                continue
            hits.append(hit)
            places.append((name, number + 1, *_place(entry)))
        if hits and not name:
            name = self._keep(ranking)
            places = [(name, *place[1:]) for place in places]
        return Found(hits, None, ranking.is_complete, ranking.note, places)

    # -- exact

    def exact_sessions(
        self, query: Exact, workspace_ids: Sequence[WorkspaceId], scope: Scope, *, limit: int,
        after: Sequence[object] | None, budget: Budget,
    ) -> Found:  # fmt: skip
        """Raises: IndexUnusable: there is none now. InvalidArgument: `after` is not of this search."""
        candidates, note = self._candidates(query, tuple(dict.fromkeys(workspace_ids)), scope, budget)
        found = sessions.search_exact(
            self._archives, self._pool, query, workspace_ids, scope, limit=limit, after=after, budget=budget,
            candidates=candidates,
        )  # fmt: skip
        if note and found.is_complete:
            return Found(found.hits, found.next, True, note, found.places)
        return found

    def _candidates(
        self, query: Exact, workspace_ids: tuple[WorkspaceId, ...], scope: Scope, budget: Budget
    ) -> tuple[Candidates | None, str]:
        texts = sure_texts(query)
        if not texts:
            return None, ""
        state = self._lag.wait()
        with self._index.view(budget.is_spent) as view:
            wanted = Wanted(workspace_ids, frozenset({"session"}), scope)
            lag = self._lag.find(state, view.library, workspace_ids, wanted.kinds)
            indexed = self._indexed_sessions(view.library, wanted, lag)
        look = partial(self._index.view, budget.is_spent)
        return Candidates(self._archives, look, texts, indexed, lag.sessions), lag.note

    def _indexed_sessions(self, library: Library, wanted: Wanted, lag: Lag) -> IndexedSessions:
        """Kept as `_row_scope` keeps."""
        key = id(library), library.generation, wanted.workspace_ids, wanted.scope
        known = None if lag.keys else self._sessions.get(key)
        if known is not None:
            return known
        is_wanted = filter_of(wanted, lag)
        every = list(library.sources.values())
        sources = (one for one in every if one.etag and one.kind == "session" and is_wanted(one))
        found = IndexedSessions(library, sources, self._row_scope(library, wanted, lag, ["spoken"], is_wanted))
        if not lag.keys:
            self._sessions.put(key, found)
        return found


def _limits_rows(library: Library, wanted: Wanted, lag: Lag, tables: Sequence[Table]) -> bool:
    """Whether the tables that are asked hold rows that do not count."""
    scope = wanted.scope
    is_limited = bool(lag.keys or scope.session_id) or scope.since is not None or scope.until is not None
    written = library.kinds & DOCUMENT_KINDS if "written" in tables else set()
    is_limited = is_limited or wanted.memories.workspace_ids is not None or _is_picky(wanted)
    return is_limited or not library.workspaces <= set(wanted.workspace_ids) or not written <= wanted.kinds


def filter_of(wanted: Wanted, lag: Lag) -> Callable[[Source], bool]:
    """Which sources count."""
    ids = set(wanted.workspace_ids)
    scope = wanted.scope
    of_project = wanted.memories.workspace_ids

    def is_wanted(source: Source) -> bool:
        if source.workspace_id not in ids or source.kind not in wanted.kinds or lag.covers(source):
            return False
        if of_project is not None and source.kind not in MEMORY_KINDS and source.workspace_id not in of_project:
            return False
        if scope.session_id and source.key != scope.session_id:
            return False
        if scope.until is not None and source.kind == "session" and source.at >= scope.until:
            return False
        return scope.since is None or max(source.at, source.ended_at) >= scope.since

    return is_wanted


def _is_picky(wanted: Wanted) -> bool:
    """Whether so few memories may be shown that reading the newest ones would miss those."""
    return bool(wanted.kinds & MEMORY_KINDS) and wanted.memories.leaves_out_many


def _with_memories(is_wanted: Callable[[Source], bool], wanted: Wanted) -> Callable[[Source], bool]:
    """Who may see which memory is asked of those that were found only: there may be many, and mostly all are shown."""
    shows, kinds = wanted.memories.shows, wanted.kinds

    def is_shown(source: Source) -> bool:
        return source.kind in kinds and is_wanted(source) and shows(source.workspace_id, source.kind, source.key)

    return is_shown


def _place(entry: Entry) -> tuple[float, str, str, str, str]:
    return entry.score, entry.at, entry.kind, entry.workspace_id, entry.key


def _signature(query: Ranked, wanted: Wanted) -> bytes:
    scope = wanted.scope
    filters = (scope.role, scope.since, scope.until, scope.session_id, wanted.per_source, wanted.is_distinct,
               wanted.memories.signature)  # fmt: skip
    parts = [query.text, *wanted.workspace_ids, *sorted(wanted.kinds), *filters]
    return hashlib.sha256(orjson.dumps([str(part).encode("utf-8", "replace").decode() for part in parts])).digest()


def _passage(hit: Hit) -> str:
    """What makes two hits the same to a reader."""
    return hit.snippet.replace("«", "").replace("»", "")


def _entries_of(found: Found, weights_at: int, per_source: int = 1) -> list[Entry]:
    """Hits of a scan as entries, their scores brought to the same height."""
    entries: list[Entry] = []
    counts: dict[tuple[str, str, str], int] = {}
    for hit, place in zip(found.hits, found.places, strict=True):
        key = hit.kind, hit.workspace_id, hit.key
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > per_source:
            continue
        weight = sum(part for part in place[weights_at:] if isinstance(part, float)) or 1.0
        score = round(_SCAN_SHARE * hit.score / weight, 6)
        hit = Hit(hit.kind, hit.workspace_id, hit.key, hit.line, hit.role, hit.title, hit.at, hit.snippet, score)
        entries.append(Entry(score, hit.at, *key, (), hit))
    return entries
