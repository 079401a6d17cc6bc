"""Exact search over transcripts (SPEC: FIND-8): complete, newest session first; what was said, never raw JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from federated_memory.names import WorkspaceId
from federated_memory.search.hit import After, Budget, Found, Hit, parse_after
from federated_memory.search.query import Exact, plain_text
from federated_memory.search.raw_lines import RawFilter, filter_for_exact
from federated_memory.search.reading import Notes, Picked, Scope, Walk, in_order, newest_first, place_of
from federated_memory.search.snippet import snippet
from federated_memory.store.archive import Archive, Archives
from federated_memory.transcripts import Turn

_LINES_AT_ONCE = 1_000
"""So many lines that may match are looked at one after the other: a page is mostly full by then, and what other threads
had begun would be for nothing."""
_PAST_ALL_LINES = 2**53 - 1
_PAST_ALL_ROLES = "~"


class Candidates(Protocol):
    """The sessions that can hold a match, and where in them it can be."""

    def archives(self, scope: Scope, begin: Sequence[object] | None) -> Iterator[Archive]:
        """These sessions, newest first, from the one at `begin` on."""
        ...

    def lines_of(self, archive: Archive) -> Sequence[int] | None:
        """The lines that can hold a match, rising; None: any of them."""
        ...


@dataclass(frozen=True, slots=True)
class _Part:
    """What was found in one archive."""

    hits: list[Hit]
    walk: Walk


def search_exact(
    archives: Archives,
    pool: ThreadPoolExecutor,
    query: Exact,
    workspace_ids: Sequence[WorkspaceId],
    scope: Scope,
    *,
    limit: int,
    after: Sequence[object] | None,
    budget: Budget,
    candidates: Candidates | None = None,
) -> Found:
    """Every line and role with a match, once: newest session first, then by line and role.

    `candidates`: of all sessions, only these can hold one.
    """
    begin = parse_after(after, str, str, str, int, str)
    lines_filter = filter_for_exact(query)

    def work(archive: Archive) -> _Part:
        first = (0, "")
        if begin and begin[:3] == place_of(archive):
            line, role = int(begin[3]), str(begin[4])
            first = (line + 1, "") if role == _PAST_ALL_ROLES else (line, role)
        walk = _walk(archives, archive, lines_filter, first[0], budget, candidates)
        hits: list[Hit] = []
        with closing(walk.turns()) as lines:
            for turns in lines:
                hits += (hit for hit in _hits(archive, query, scope, turns) if (hit.line, hit.role) > first)
                if len(hits) > limit:
                    break
        return _Part(hits, walk)

    hits: list[Hit] = []
    places: list[After] = []
    reached = begin
    notes = Notes()
    if candidates is None:
        wanted = newest_first(archives, workspace_ids, scope, begin)
    else:
        wanted = candidates.archives(scope, begin)
    with closing(in_order(pool, wanted, work, budget, _Quick(candidates))) as parts:
        for archive, part in parts:
            if part is None:
                notes.stopped = budget.reason
                return notes.found(hits, places, reached)
            notes.add(part.walk)
            for hit in part.hits:
                if len(hits) == limit:
                    return notes.found(hits, places, places[-1])
                hits.append(hit)
                places.append((*place_of(archive), hit.line, hit.role))
            if not part.walk.is_finished:
                notes.stopped = f"{budget.reason}; it reached sessions of {archive.started_at}"
                if part.walk.reached:
                    reached = (*place_of(archive), part.walk.reached - 1, _PAST_ALL_ROLES)
                return notes.found(hits, places, reached)
            reached = (*place_of(archive), _PAST_ALL_LINES, _PAST_ALL_ROLES)
    return notes.found(hits, places, None)


def _named_lines(candidates: Candidates | None, archive: Archive) -> Sequence[int] | None:
    """The only lines that can hold a match, if that is known."""
    return candidates.lines_of(archive) if candidates else None


class _Quick:
    """Whether an archive is looked at before another thread would have begun with it: the first of those of which the
    lines are known."""

    def __init__(self, candidates: Candidates | None) -> None:
        self._candidates = candidates
        self._lines = 0

    def __call__(self, archive: Archive) -> bool:
        lines = _named_lines(self._candidates, archive)
        self._lines += len(lines or ())
        return lines is not None and self._lines <= _LINES_AT_ONCE


def _walk(
    archives: Archives,
    archive: Archive,
    lines_filter: RawFilter | None,
    first_line: int,
    budget: Budget,
    candidates: Candidates | None,
) -> Walk:
    lines = _named_lines(candidates, archive)
    if lines is None:
        return Walk(archives, archive, lines_filter, first_line, budget)
    return Picked(archives, archive, lines_filter, first_line, budget, numbers=lines)


def _hits(archive: Archive, query: Exact, scope: Scope, turns: Sequence[Turn]) -> Iterator[Hit]:
    """The first match of each role, by role."""
    matched: set[str] = set()
    for turn in sorted(turns, key=lambda turn: turn.role):
        if turn.role not in matched and scope.holds(archive, turn):
            text = plain_text(turn.text)
            span = next(query.matches(text), None)
            if span is not None:
                matched.add(turn.role)
                yield hit_in(archive, turn, snippet(text, [span]))


def hit_in(archive: Archive, turn: Turn, excerpt: str, score: float = 0.0) -> Hit:
    at = turn.at or archive.started_at
    return Hit(
        "session", archive.workspace_id, archive.session_id, turn.line, turn.role, archive.title, at, excerpt, score
    )
