"""From rows that hold terms to ranked sources: documents and sessions in one order (SPEC: INDEX-6, FIND-7).

A row counts by the rarity of its terms, by who spoke and by its size; with the row before and the row after it makes a
window. A source counts by its best windows, by what all of its rows hold together, and by its title; a row for more
when the query names who spoke, a session when it names the day. A score is a share of what the query's terms weigh, so
that documents and sessions compare.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from federated_memory.index.library import Library, Source
from federated_memory.search.evidence import Evidence
from federated_memory.search.hit import Hit
from federated_memory.search.holders import Holder, holders_of, is_whole, most_promising
from federated_memory.search.worth import (
    FACTORS,
    IS_NAMED,
    SATURATION,
    SHAPE,
    SHAPE_BITS,
    TITLE_SHARE,
    Coverages,
    Sums,
    Worths,
)

_HEARD = 1.5
"""Of the turns around what somebody said whom the query names: what that person was asked, and what came of it."""
_DATED = 2.0
"""Of a session on a day that the query names."""
_SOURCE_LENGTH_SHARE = 0.5
_NEIGHBOUR = 0.35
_SOURCE_SHARE, _SESSION_SHARE = 0.3, 0.1
_SECOND = 0.2
"""Of a session's second best window: who came back to a thing did more than mention it."""
_FACTS_SHARE = 0.5
_IMPORTANCE_STEP, _USUAL_WORTH = 0.02, 3
_RANKFACTORS = (1.0, 0.6, 0.45)
_WINDOWED = 60
"""So many sources are looked at closely; no page shows more, and those behind are too far behind."""
_LOOKED_AT = 24
_KEPT = 2_000
_FEW_KEYS = 60
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
    """A source, its rows with their keys, and what they are worth."""

    source: Source
    rows: list[int]
    keys: list[int]
    kinds: dict[int, int] = field(init=False)
    """How many rows have each key."""
    whole: float = 0.0
    best: float = 0.0
    """What the row is worth that is worth most by itself; `best_key` is its key."""
    best_key: int = -1

    def __post_init__(self) -> None:
        self.kinds = _counted(self.keys)


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
    sums = Sums(evidence)
    coverages = Coverages(sums)
    worths = Worths(sums, coverages)
    holders = holders_of(library, evidence, is_wanted)
    usual_rows = max(1.0, sum(holder.source.rows for holder in holders) / max(1, len(holders)))
    promising, others = most_promising(holders, evidence, sums, coverages, worths)
    evidence.is_whole = is_whole(promising, evidence) or is_whole(others, evidence)
    tallies = [_Tally(*holder) for holder in promising]
    for tally in tallies:
        _weigh(tally, evidence, sums, coverages, worths, usual_rows)
    tallies.sort(key=lambda tally: -tally.whole - tally.best)
    entries: list[Entry] = []
    for number, tally in enumerate(tallies):
        windows = _windows(tally, sums, coverages) if number < _WINDOWED else _best_row(tally)
        dated = _DATED if days is not None and _was_on(tally.source, days) else 1.0
        entries += _entries(tally, windows, sums, dated, per_source, alternatives)
    entries += _behind(others[: _KEPT - len(tallies)], min((entry.score for entry in entries), default=0.0))
    entries.sort(key=lambda entry: (entry.kind, entry.workspace_id, entry.key))
    entries.sort(key=lambda entry: (entry.score, entry.at), reverse=True)
    return entries


def _behind(holders: Sequence[Holder], score: float) -> list[Entry]:
    """Entries of what was not looked at closely, in the order given, with less than `score`."""
    found: list[Entry] = []
    for number, (source, rows, _) in enumerate(holders, 1):
        less = round(score * (1 - number / (len(holders) + 1)), 6)
        newest = tuple(rows[: -_ALTERNATIVES - 1 : -1])
        found.append(Entry(less, source.at, source.kind, source.workspace_id, source.key, newest))
    return found


def _counted(keys: list[int]) -> dict[int, int]:
    if len(keys) > _FEW_KEYS:
        return Counter(keys)
    found: dict[int, int] = {}
    for key in keys:  # a `Counter` takes longer to make than these take to count
        found[key] = found.get(key, 0) + 1
    return found


def _weigh(
    tally: _Tally, evidence: Evidence, sums: Sums, coverages: Coverages, worths: Worths, usual_rows: float
) -> None:
    """What all rows of a source are worth together, with its title."""
    together: dict[int, float] = {}
    for key, rows in tally.kinds.items():
        if worths[key] > tally.best:
            tally.best, tally.best_key = worths[key], key
        terms = key >> SHAPE_BITS
        together[terms] = together.get(terms, 0.0) + rows * FACTORS[key & SHAPE]
    held = 0
    single: dict[int, float] = {}
    for terms, worth in together.items():
        held |= terms
        while terms:
            low = terms & -terms
            single[low] = single.get(low, 0.0) + worth
            terms ^= low
    length = tally.source.rows / usual_rows
    damping = SATURATION * (1 - _SOURCE_LENGTH_SHARE + _SOURCE_LENGTH_SHARE * length)
    whole = sum(sums[term] * worth * (1 + SATURATION) / (worth + damping) for term, worth in single.items())
    titled = evidence.titles.get(tally.source.id, 0)
    told = evidence.facts.get(tally.source.id, 0) & ~titled
    share = _SESSION_SHARE if tally.source.kind == "session" else _SOURCE_SHARE
    tally.whole = share * whole * coverages[held | titled | told]
    tally.whole += TITLE_SHARE * sums[titled] + _FACTS_SHARE * sums[told]


def _windows(tally: _Tally, sums: Sums, coverages: Coverages) -> list[tuple[float, int]]:
    """The rows worth most, each with the worth (below zero: the less, the better) of the window around it."""
    rows, keys = tally.rows, tally.keys
    last = len(rows) - 1
    found: list[tuple[float, int]] = []
    for at in _looked_at(tally, sums):
        row, key = rows[at], keys[at]
        held = key >> SHAPE_BITS
        worth = sums[held] * FACTORS[key & SHAPE]
        for near in (at - 1, at + 1):
            if 0 <= near <= last and abs(rows[near] - row) == 1:
                terms = keys[near] >> SHAPE_BITS
                heard = _HEARD if key & IS_NAMED and not keys[near] & IS_NAMED else 1.0
                worth += _NEIGHBOUR * heard * FACTORS[keys[near] & SHAPE] * sums[terms & ~held]
                held |= terms
        found.append((-worth * coverages[held], row))
    found.sort()
    return found


def _best_row(tally: _Tally) -> list[tuple[float, int]]:
    return [(-tally.best, tally.rows[tally.keys.index(tally.best_key)])] if tally.best_key >= 0 else []


def _looked_at(tally: _Tally, sums: Sums) -> Sequence[int]:
    """Where in a tally the rows are that are worth most by themselves; there are few distinct worths."""
    keys = tally.keys
    if len(keys) <= _LOOKED_AT:
        return range(len(keys))
    count = 0
    wanted: set[int] = set()
    for kind in sorted(tally.kinds, key=lambda key: -sums[key >> SHAPE_BITS] * FACTORS[key & SHAPE]):
        if count + tally.kinds[kind] > _LOOKED_AT:
            break
        wanted.add(kind)
        count += tally.kinds[kind]
    else:
        kind = -1
    places = [at for at, key in enumerate(keys) if key in wanted] if wanted else []
    alike = (at for at, key in enumerate(keys) if key == kind)
    return sorted([*places, *islice(alike, _LOOKED_AT)])


def _was_on(source: Source, days: re.Pattern[str]) -> bool:
    return any(days.match(at) for segment in source.segments for at in (segment.first_at, segment.last_at))


def _entries(
    tally: _Tally,
    windows: Sequence[tuple[float, int]],
    sums: Sums,
    dated: float,
    per_source: int,
    alternatives: bool,
) -> list[Entry]:
    source = tally.source
    if not alternatives and len(windows) < 2:
        worth, best = (-windows[0][0], (windows[0][1],)) if windows else (0.0, ())
        score = round(dated * (worth + tally.whole) / sums.all, 6)
        return [Entry(score, source.at, source.kind, source.workspace_id, source.key, best)]
    chosen: list[tuple[float, int]] = []
    for negative, row in windows:
        if all(abs(row - other) > 1 for _, other in chosen):
            chosen.append((-negative, row))
        if len(chosen) == max(2, per_source):
            break
    total = tally.whole + (_SECOND * chosen[1][0] if source.kind == "session" and len(chosen) > 1 else 0.0)
    entries: list[Entry] = []
    for place, factor in enumerate(_RANKFACTORS):
        if place >= min(per_source, max(1, len(chosen))):
            break
        worth, row = chosen[place] if chosen else (0.0, 0)
        rows: tuple[int, ...] = (row,) if row else ()
        if alternatives and rows:
            rows += tuple(other for _, other in windows if other != row)[:_ALTERNATIVES]
        important = 1 + _IMPORTANCE_STEP * (source.worth - _USUAL_WORTH)
        score = round(dated * (worth + total) * factor * important / sums.all, 6)
        entries.append(Entry(score, source.at, source.kind, source.workspace_id, source.key, rows))
    return entries
