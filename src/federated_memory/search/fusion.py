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

from federated_memory.index.library import SIZES, Library, Source
from federated_memory.index.rows import Speaker
from federated_memory.search.evidence import Evidence
from federated_memory.search.hit import Hit
from federated_memory.search.memory_view import MEMORY_KINDS

_SPEAKERS = {
    Speaker.USER: 1.0, Speaker.ASSISTANT: 0.95, Speaker.CALL: 0.7, Speaker.TOOL: 0.55, Speaker.SYSTEM: 0.5,
    Speaker.ECHOED_CALL: 0.1, Speaker.ECHO: 0.1, Speaker.AUTHOR: 1.05,
}  # fmt: skip
_NAMED = 3.0
"""Of what somebody said whom the query names: people ask who did what, and talk to each other about the same things."""
_HEARD = 1.5
"""Of the turns around what somebody said whom the query names: what that person was asked, and what came of it."""
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
_IMPORTANCE_STEP, _USUAL_WORTH = 0.02, 3
_RANK_FACTORS = (1.0, 0.6, 0.45)
_MOST_HEADS = 1_000
"""Sources that only their title speaks for: so many are ranked, the newest."""
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
    """The rows of one source, rising, and of each a key: its terms and its shape, which is all that its worth needs."""

    source: Source
    rows: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    kinds: dict[int, int] = field(default_factory=dict)
    """How many rows have each key."""
    held: int = 0
    whole: float = 0.0
    best: float = 0.0
    """What the row is worth that is worth most by itself; `best_key` is its key."""
    best_key: int = -1


def _factors() -> list[float]:
    """What each shape of a row is worth; the second half is of rows whose speaker the query names."""
    found = []
    for shape in range(256):
        length = min(_LONGEST, 2 ** ((shape & SIZES - 1) - _USUAL_SIZE))
        damping = 1 + _SATURATION * (1 - _ROW_LENGTH_SHARE + _ROW_LENGTH_SHARE * length)
        found.append(_SPEAKERS[Speaker(shape >> 5)] * (1 + _SATURATION) / damping)
    return [*found, *(factor * _NAMED for factor in found)]


_FACTORS = _factors()
_SHAPE_BITS, _SHAPE, _IS_NAMED = 9, 511, 256


class _Sums(dict[int, float]):
    """The weight of sets of terms, each added up once. `all` is that of the query's own."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__({0: 0.0})
        self._weights = evidence.weights
        self.all = sum(evidence.weights) - sum(evidence.weights[number] for number in evidence.bases) or 1.0

    def __missing__(self, terms: int) -> float:
        low = terms & -terms
        found = self[terms] = self._weights[low.bit_length() - 1] + self[terms ^ low]
        return found


class _Coverages(dict[int, float]):
    """The factor for how much of the query sets of terms are, each worked out once."""

    def __init__(self, sums: _Sums) -> None:
        super().__init__()
        self._sums = sums

    def __missing__(self, terms: int) -> float:
        share = min(1.0, self._sums[terms] / self._sums.all)
        found = self[terms] = 1 - _PART_OF_COVERAGE + _PART_OF_COVERAGE * share
        return found


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
    sums = _Sums(evidence)
    coverages = _Coverages(sums)
    tallies = _tallies(library, evidence, is_wanted)
    usual_rows = max(1.0, sum(tally.source.rows for tally in tallies) / max(1, len(tallies)))
    for tally in tallies:
        _weigh(tally, evidence, sums, coverages, usual_rows)
    tallies.sort(key=lambda tally: -tally.whole - tally.best)
    evidence.is_whole = _is_whole(tallies, evidence)
    entries: list[Entry] = []
    for number, tally in enumerate(tallies[:_KEPT]):
        windows = _windows(tally, sums, coverages) if number < _WINDOWED else _best_row(tally)
        dated = _DATED if days is not None and _was_on(tally.source, days) else 1.0
        entries += _entries(tally, windows, sums, dated, per_source, alternatives)
    entries.sort(key=lambda entry: (entry.kind, entry.workspace_id, entry.key))
    entries.sort(key=lambda entry: (entry.score, entry.at), reverse=True)
    return entries


def _is_whole(tallies: Sequence[_Tally], evidence: Evidence) -> bool:
    """Whether a source holds every term, or another word for it."""
    bases = evidence.bases
    wanted = [number for number in range(len(evidence.weights)) if number not in bases]
    each = [sum(1 << other for other in (number, *(at for at in bases if bases[at] == number))) for number in wanted]
    titles, facts = evidence.titles, evidence.facts
    held = {tally.held | titles.get(tally.source.id, 0) | facts.get(tally.source.id, 0) for tally in tallies}
    return any(all(terms & one for one in each) for terms in held)


def _tallies(library: Library, evidence: Evidence, is_wanted: Callable[[Source], bool]) -> list[_Tally]:
    found: dict[int, _Tally] = {}
    held, said = evidence.rows, evidence.said
    for source, segment, part in library.by_segment(sorted(held)):
        shapes, first = segment.shapes, segment.first_row
        keys = [held[row] << _SHAPE_BITS | shapes[row - first] for row in part]
        if said and not said.isdisjoint(part):
            keys = [key | _IS_NAMED if row in said else key for row, key in zip(part, keys, strict=True)]
        tally = found.get(source.id)
        if tally is None:
            found[source.id] = _Tally(source, part, keys)
        else:
            tally.rows += part
            tally.keys += keys
    for tally in found.values():
        tally.kinds = _counted(tally.keys)
    for heads in (evidence.titles, evidence.facts):
        newest = sorted(heads, reverse=True)[:_MOST_HEADS] if len(heads) > _MOST_HEADS else heads
        for number in newest:
            known = library.sources.get(number)
            if known is not None and known.etag and number not in found and is_wanted(known):
                found[number] = _Tally(known)
    # Rows of memories are not told apart by who may see them before.
    return [one for one in found.values() if one.source.kind not in MEMORY_KINDS or is_wanted(one.source)]


def _counted(keys: list[int]) -> dict[int, int]:
    if len(keys) > _FEW_KEYS:
        return Counter(keys)
    found: dict[int, int] = {}
    for key in keys:  # a `Counter` takes longer to make than these take to count
        found[key] = found.get(key, 0) + 1
    return found


def _weigh(tally: _Tally, evidence: Evidence, sums: _Sums, coverages: _Coverages, usual_rows: float) -> None:
    """What all rows of a source are worth together, with its title."""
    together: dict[int, float] = {}
    for key, rows in tally.kinds.items():
        factor = _FACTORS[key & _SHAPE]
        terms = key >> _SHAPE_BITS
        by_itself = sums[terms] * factor * coverages[terms]
        if by_itself > tally.best:
            tally.best, tally.best_key = by_itself, key
        together[terms] = together.get(terms, 0.0) + rows * factor
    single: dict[int, float] = {}
    for terms, worth in together.items():
        tally.held |= terms
        while terms:
            low = terms & -terms
            single[low] = single.get(low, 0.0) + worth
            terms ^= low
    length = tally.source.rows / usual_rows
    damping = _SATURATION * (1 - _SOURCE_LENGTH_SHARE + _SOURCE_LENGTH_SHARE * length)
    whole = sum(sums[term] * worth * (1 + _SATURATION) / (worth + damping) for term, worth in single.items())
    titled = evidence.titles.get(tally.source.id, 0)
    told = evidence.facts.get(tally.source.id, 0) & ~titled
    share = _SESSION_SHARE if tally.source.kind == "session" else _SOURCE_SHARE
    tally.whole = share * whole * coverages[tally.held | titled | told]
    tally.whole += _TITLE_SHARE * sums[titled] + _FACTS_SHARE * sums[told]


def _windows(tally: _Tally, sums: _Sums, coverages: _Coverages) -> list[tuple[float, int]]:
    """The rows worth most, each with the worth (below zero: the less, the better) of the window around it."""
    rows, keys = tally.rows, tally.keys
    last = len(rows) - 1
    found: list[tuple[float, int]] = []
    for at in _looked_at(tally, sums):
        row, key = rows[at], keys[at]
        held = key >> _SHAPE_BITS
        worth = sums[held] * _FACTORS[key & _SHAPE]
        for near in (at - 1, at + 1):
            if 0 <= near <= last and abs(rows[near] - row) == 1:
                terms = keys[near] >> _SHAPE_BITS
                heard = _HEARD if key & _IS_NAMED and not keys[near] & _IS_NAMED else 1.0
                worth += _NEIGHBOUR * heard * _FACTORS[keys[near] & _SHAPE] * sums[terms & ~held]
                held |= terms
        found.append((-worth * coverages[held], row))
    found.sort()
    return found


def _best_row(tally: _Tally) -> list[tuple[float, int]]:
    return [(-tally.best, tally.rows[tally.keys.index(tally.best_key)])] if tally.best_key >= 0 else []


def _looked_at(tally: _Tally, sums: _Sums) -> Sequence[int]:
    """Where in a tally the rows are that are worth most by themselves; there are few distinct worths."""
    keys = tally.keys
    if len(keys) <= _LOOKED_AT:
        return range(len(keys))
    count = 0
    wanted: set[int] = set()
    for kind in sorted(tally.kinds, key=lambda key: -sums[key >> _SHAPE_BITS] * _FACTORS[key & _SHAPE]):
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
    sums: _Sums,
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
    for place, factor in enumerate(_RANK_FACTORS):
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
