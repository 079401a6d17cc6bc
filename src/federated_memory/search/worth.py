"""What terms and rows are worth to a ranking: by rarity, by who spoke, and by size (SPEC: INDEX-6)."""

from __future__ import annotations

from federated_memory.index.library import SIZES
from federated_memory.index.rows import Speaker
from federated_memory.search.evidence import Evidence

SATURATION = 1.2
SHAPE_BITS, SHAPE, IS_NAMED = 9, 511, 256
"""The key of a row is its terms, as bits, above its shape and whether the query names who spoke."""
TITLE_SHARE = 0.6
_SPEAKERS = {
    Speaker.USER: 1.0, Speaker.ASSISTANT: 0.95, Speaker.CALL: 0.7, Speaker.TOOL: 0.55, Speaker.SYSTEM: 0.5,
    Speaker.ECHOED_CALL: 0.1, Speaker.ECHO: 0.1, Speaker.AUTHOR: 1.05,
}  # fmt: skip
_NAMED = 3.0
"""Of what somebody said whom the query names: people ask who did what, and talk to each other about the same things."""
_USUAL_SIZE = 9.0
"""Of a row, as a power of two in characters."""
_ROW_LENGTH_SHARE = 0.25
_LONGEST = 16.0
_PART_OF_COVERAGE = 0.4


def _factors() -> list[float]:
    """What each shape of a row is worth; the second half is of rows whose speaker the query names."""
    found = []
    for shape in range(256):
        length = min(_LONGEST, 2 ** ((shape & SIZES - 1) - _USUAL_SIZE))
        damping = 1 + SATURATION * (1 - _ROW_LENGTH_SHARE + _ROW_LENGTH_SHARE * length)
        found.append(_SPEAKERS[Speaker(shape >> 5)] * (1 + SATURATION) / damping)
    return [*found, *(factor * _NAMED for factor in found)]


FACTORS = _factors()


class Sums(dict[int, float]):
    """The weight of sets of terms, each added up once. `all` is that of the query's own."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__({0: 0.0})
        self._weights = evidence.weights
        self.all = sum(evidence.weights) - sum(evidence.weights[number] for number in evidence.bases) or 1.0

    def __missing__(self, terms: int) -> float:
        low = terms & -terms
        found = self[terms] = self._weights[low.bit_length() - 1] + self[terms ^ low]
        return found


class Coverages(dict[int, float]):
    """The factor for how much of the query sets of terms are, each worked out once."""

    def __init__(self, sums: Sums) -> None:
        super().__init__()
        self._sums = sums

    def __missing__(self, terms: int) -> float:
        share = min(1.0, self._sums[terms] / self._sums.all)
        found = self[terms] = 1 - _PART_OF_COVERAGE + _PART_OF_COVERAGE * share
        return found


class Worths(dict[int, float]):
    """What rows with these keys are worth by themselves, each worked out once."""

    def __init__(self, sums: Sums, coverages: Coverages) -> None:
        super().__init__()
        self._sums = sums
        self._coverages = coverages

    def __missing__(self, key: int) -> float:
        terms = key >> SHAPE_BITS
        found = self[key] = self._sums[terms] * FACTORS[key & SHAPE] * self._coverages[terms]
        return found
