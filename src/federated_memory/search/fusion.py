"""From rows that hold terms to ranked sources: documents and sessions in one order (SPEC: INDEX-6, FIND-7).

A row counts by the rarity of its terms, by who spoke and by its size; with the row before and the row after it makes a
window. A source counts by its best windows, by what all of its rows hold together, and by its title; a row for more
when the query names who spoke, a session when it names the day. A score is a share of what the query's terms weigh, so
that documents and sessions compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from federated_memory.index.library import SIZES, Library, Source
from federated_memory.index.rows import Speaker
from federated_memory.search.evidence import Evidence
from federated_memory.search.hit import Hit
from federated_memory.search.ranking import Weights

_SPEAKERS = {
    Speaker.USER: 1.0, Speaker.ASSISTANT: 0.95, Speaker.CALL: 0.7, Speaker.TOOL: 0.55, Speaker.SYSTEM: 0.5,
    Speaker.ECHOED_CALL: 0.1, Speaker.ECHO: 0.1, Speaker.AUTHOR: 1.05,
}  # fmt: skip
_NAMED = 3.0
"""Of what somebody said whom the query names: people ask who did what, and talk to each other about the same things."""
_DATED = 2.0
"""Of a session on a day that the query names."""
_USUAL_SIZE = 9.0
"""Of a row, as a power of two in characters."""
_SATURATION = 1.2
_ROW_LENGTH_SHARE = 0.25
_SOURCE_LENGTH_SHARE = 0.5
_LONGEST = 16.0
_NEIGHBOUR = 0.35
_PART_OF_COVERAGE = 0.4
_SOURCE_SHARE, _SESSION_SHARE = 0.3, 0.1
_SECOND = 0.2
"""Of a session's second best window: who came back to a thing did more than mention it."""
_TITLE_SHARE = 0.6
_FACTS_SHARE = 0.5
_RANK_FACTORS = (1.0, 0.6, 0.45)
_WINDOWED = 400
_KEPT = 2_000
_ALTERNATIVES = 6


class Entry(NamedTuple):
    """A place in a ranking: rows of a source, the best one first, or (`hit`) something found without the index."""

    score: float
    at: str
    kind: str
    workspace_id: str
    key: str
    rows: tuple[int, ...]
    hit: Hit | None = None


@dataclass(slots=True)
class _Tally:
    """The rows of one source with their terms and factors, by row."""

    source: Source
    rows: list[tuple[int, int, float]]
    held: int = 0
    whole: float = 0.0


def _factors() -> list[float]:
    """What each shape of a row is worth."""
    found = []
    for shape in range(256):
        length = min(_LONGEST, 2 ** ((shape & SIZES - 1) - _USUAL_SIZE))
        damping = 1 + _SATURATION * (1 - _ROW_LENGTH_SHARE + _ROW_LENGTH_SHARE * length)
        found.append(_SPEAKERS[Speaker(shape >> 5)] * (1 + _SATURATION) / damping)
    return found


_FACTORS = _factors()


class _Sums:
    """The weight of sets of terms, each added up once."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._known: dict[int, float] = {0: 0.0}
        self.all = sum(weights) or 1.0

    def of(self, terms: int) -> float:
        known = self._known.get(terms)
        if known is None:
            low = terms & -terms
            known = self._known[terms] = self._weights[low.bit_length() - 1] + self.of(terms ^ low)
        return known

    def coverage(self, terms: int) -> float:
        return 1 - _PART_OF_COVERAGE + _PART_OF_COVERAGE * self.of(terms) / self.all


def rank(
    library: Library,
    evidence: Evidence,
    is_wanted: Callable[[Source], bool],
    *,
    per_source: int,
    alternatives: bool = False,
    days: re.Pattern[str] | None = None,
) -> list[Entry]:
    """The best sources, best first; each at most `per_source` times. With `alternatives`, entries name more rows.

    `days` are those that the query names. `is_wanted` decides on sources that only their title speaks for.
    """
    sums = _Sums(evidence.weights)
    tallies = _tallies(library, evidence, is_wanted)
    usual_rows = max(1.0, sum(tally.source.rows for tally in tallies) / max(1, len(tallies)))
    for tally in tallies:
        _weigh(tally, evidence, sums, usual_rows)
    tallies.sort(key=lambda tally: -tally.whole - sums.of(tally.held))
    entries: list[Entry] = []
    for number, tally in enumerate(tallies[:_KEPT]):
        windows = _windows(tally, sums) if number < _WINDOWED else [(0.0, tally.rows[0][0])] if tally.rows else []
        dated = _DATED if days is not None and _was_on(tally.source, days) else 1.0
        entries += _entries(tally, windows, sums, dated, per_source, alternatives)
    entries.sort(key=lambda entry: (entry.kind, entry.workspace_id, entry.key))
    entries.sort(key=lambda entry: (entry.score, entry.at), reverse=True)
    return entries


def _tallies(library: Library, evidence: Evidence, is_wanted: Callable[[Source], bool]) -> list[_Tally]:
    found: dict[int, _Tally] = {}
    rows = sorted(evidence.rows)
    at, end = 0, len(rows)
    held, said = evidence.rows, evidence.said
    while at < end:
        segment = library.segment_of(rows[at])
        if segment is None or segment.source is None:
            at += 1
            continue
        source = segment.source
        tally = found.get(source.id)
        if tally is None:
            tally = found[source.id] = _Tally(source, [])
        shapes, first, last = segment.shapes, segment.first_row, segment.last_row
        while at < end and (row := rows[at]) <= last:
            factor = _FACTORS[shapes[row - first]]
            tally.rows.append((row, held[row], factor * _NAMED if row in said else factor))
            at += 1
    for heads in (evidence.titles, evidence.facts):
        for number in heads:
            known = library.sources.get(number)
            if known is not None and known.etag and number not in found and is_wanted(known):
                found[number] = _Tally(known, [])
    return list(found.values())


def _weigh(tally: _Tally, evidence: Evidence, sums: _Sums, usual_rows: float) -> None:
    """What all rows of a source are worth together, with its title."""
    counts: dict[int, float] = {}
    for _, terms, factor in tally.rows:
        counts[terms] = counts.get(terms, 0.0) + factor
    single: dict[int, float] = {}
    for terms, worth in counts.items():
        tally.held |= terms
        while terms:
            low = terms & -terms
            single[low] = single.get(low, 0.0) + worth
            terms ^= low
    length = tally.source.rows / usual_rows
    damping = _SATURATION * (1 - _SOURCE_LENGTH_SHARE + _SOURCE_LENGTH_SHARE * length)
    whole = sum(sums.of(term) * worth * (1 + _SATURATION) / (worth + damping) for term, worth in single.items())
    titled = evidence.titles.get(tally.source.id, 0)
    told = evidence.facts.get(tally.source.id, 0) & ~titled
    share = _SESSION_SHARE if tally.source.kind == "session" else _SOURCE_SHARE
    tally.whole = share * whole * sums.coverage(tally.held | titled | told)
    tally.whole += _TITLE_SHARE * sums.of(titled) + _FACTS_SHARE * sums.of(told)


def _windows(tally: _Tally, sums: _Sums) -> list[tuple[float, int]]:
    """Each row with the worth of the window around it, best first."""
    rows = tally.rows
    found: list[tuple[float, int]] = []
    before, before_terms, before_factor = -2, 0, 0.0
    for number, (row, terms, factor) in enumerate(rows):
        worth = sums.of(terms) * factor
        held = terms
        if before == row - 1:
            worth += _NEIGHBOUR * before_factor * sums.of(before_terms & ~held)
            held |= before_terms
        if number + 1 < len(rows) and rows[number + 1][0] == row + 1:
            _, after_terms, after_factor = rows[number + 1]
            worth += _NEIGHBOUR * after_factor * sums.of(after_terms & ~held)
            held |= after_terms
        found.append((worth * sums.coverage(held), row))
        before, before_terms, before_factor = row, terms, factor
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    return found


def _was_on(source: Source, days: re.Pattern[str]) -> bool:
    return any(days.match(at) for segment in source.segments for at in (segment.first_at, segment.last_at))


def _entries(
    tally: _Tally,
    windows: Sequence[tuple[float, int]],
    sums: _Sums,
    dated: float,
    per_source: int,
    alternatives: bool,
) -> list[Entry]:
    source = tally.source
    chosen: list[tuple[float, int]] = []
    for worth, row in windows:
        if all(abs(row - other) > 1 for _, other in chosen):
            chosen.append((worth, row))
        if len(chosen) == max(2, per_source):
            break
    total = tally.whole + (_SECOND * chosen[1][0] if source.kind == "session" and len(chosen) > 1 else 0.0)
    entries: list[Entry] = []
    for factor, place in zip(_RANK_FACTORS, count()):
        if place >= min(per_source, max(1, len(chosen))):
            break
        worth, row = chosen[place] if chosen else (0.0, 0)
        rows: tuple[int, ...] = (row,) if row else ()
        if alternatives and rows:
            rows += tuple(other for _, other in windows if other != row)[:_ALTERNATIVES]
        score = round(dated * (worth + total) * factor / sums.all, 6)
        entries.append(Entry(score, source.at, source.kind, source.workspace_id, source.key, rows))
    return entries
