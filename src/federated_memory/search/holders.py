"""Which sources hold the terms of a query, and which of them are worth a closer look (SPEC: INDEX-6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from federated_memory.index.library import Library, Source
from federated_memory.search.evidence import Evidence
from federated_memory.search.memory_view import MEMORY_KINDS
from federated_memory.search.worth import IS_NAMED, SHAPE_BITS, TITLE_SHARE, Coverages, Sums, Worths

_MOST_HEADS = 1_000
"""Sources that only their title speaks for: so many are ranked, the newest."""
_MOST_PROMISING = 200
"""So many are looked at closely: ten pages. In a large store most hold one of the words, somewhere."""
_WHOLE_SHARE = 0.2


class Holder(NamedTuple):
    """A source with its rows that hold terms, rising, and of each a key: its terms and its shape, which is all that its
    worth needs."""

    source: Source
    rows: list[int]
    keys: list[int]

    @property
    def terms(self) -> int:
        found = 0
        for key in self.keys:
            found |= key
        return found >> SHAPE_BITS


def holders_of(library: Library, evidence: Evidence, is_wanted: Callable[[Source], bool]) -> list[Holder]:
    """Every source that may be shown. `is_wanted` decides on memories, and on what only its title speaks for."""
    found: dict[int, Holder] = {}
    held, said = evidence.rows, evidence.said
    for source, segment, part in library.by_segment(sorted(held)):
        shapes, first = segment.shapes, segment.first_row
        keys = [held[row] << SHAPE_BITS | shapes[row - first] for row in part]
        if said and not said.isdisjoint(part):
            keys = [key | IS_NAMED if row in said else key for row, key in zip(part, keys, strict=True)]
        known = found.get(source.id)
        if known is None:
            found[source.id] = Holder(source, part, keys)
        else:
            known.rows.extend(part)
            known.keys.extend(keys)
    for heads in (evidence.titles, evidence.facts):
        newest = sorted(heads, reverse=True)[:_MOST_HEADS] if len(heads) > _MOST_HEADS else heads
        for number in newest:
            named = library.sources.get(number)
            if named is not None and named.etag and number not in found and is_wanted(named):
                found[number] = Holder(named, [], [])
    # Rows of memories are not told apart by who may see them before.
    return [one for one in found.values() if one.source.kind not in MEMORY_KINDS or is_wanted(one.source)]


def most_promising(
    holders: list[Holder], evidence: Evidence, sums: Sums, coverages: Coverages, worths: Worths
) -> tuple[list[Holder], list[Holder]]:
    """Those to look at closely, and the others, the most promising first: by the row that is worth most, by what all
    rows hold together, and by title."""
    if len(holders) <= _MOST_PROMISING:
        return holders, []
    titles, facts = evidence.titles, evidence.facts

    def promise(holder: Holder) -> float:
        number = holder.source.id
        headed = titles.get(number, 0) | facts.get(number, 0)
        keys = holder.keys
        if len(keys) == 1:
            key = keys[0]
            best, terms = worths[key], key >> SHAPE_BITS
        else:
            best, terms = max(map(worths.__getitem__, keys), default=0.0), holder.terms
        return best + coverages[terms | headed] * _WHOLE_SHARE * sums[terms] + TITLE_SHARE * sums[headed]

    ranked = sorted(holders, key=promise, reverse=True)
    return ranked[:_MOST_PROMISING], ranked[_MOST_PROMISING:]


def is_whole(holders: Sequence[Holder], evidence: Evidence) -> bool:
    """Whether a source holds every term, or another word for it."""
    bases = evidence.bases
    wanted = [number for number in range(len(evidence.weights)) if number not in bases]
    each = [sum(1 << other for other in (number, *(at for at in bases if bases[at] == number))) for number in wanted]
    titles, facts = evidence.titles, evidence.facts
    held = {one.terms | titles.get(one.source.id, 0) | facts.get(one.source.id, 0) for one in holders}
    return any(all(terms & one for one in each) for terms in held)
