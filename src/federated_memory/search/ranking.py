"""What makes one text a better answer than another: how many of the terms it holds, how rare these are, how often they
stand in it, and how close together (after BM25, with constants for what depends on the whole corpus).

A score is a function of the text and of the terms' weights alone. The weights are counted for the first page and
travel in the cursor, so that later pages are ordered as the first one was, whatever is stored in between.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from federated_memory.errors import InvalidArgument
from federated_memory.search.query import compile_pattern
from federated_memory.search.snippet import Span
from federated_memory.search.terms import Terms
from federated_memory.store.changes import ChangeFeed

_SATURATION = 1.2
_LENGTH_SHARE = 0.6
_PART_OF_COVERAGE = 0.6  # how much of a score depends on how many of the terms were found
_WINDOW_BYTES = 400
_MAX_NAMED = 4096
_MAX_CHANGE_BATCHES = 100
_NEXT_PART = re.compile(rb"(?:(?<=[a-z])[A-Z]|_)\Z")

Weights = Sequence[float]
"""How much each of the wanted terms counts."""
Place = tuple[int, int, tuple[int, ...]]
"""Where terms stand in a text: from, to, and the numbers of the terms there."""


class Matcher:
    """Finds the terms of a query in texts. They are numbered: those wanted first, then those excluded."""

    def __init__(self, terms: Terms, *, by_line: bool = False) -> None:
        """`by_line`: find also what a single line can show of a phrase that goes on in the next."""
        self._terms = (*terms.wanted, *terms.excluded)
        patterns = [term.line_pattern() if by_line else term.pattern() for term in self._terms]
        self.wanted = len(terms.wanted)
        self.has_excluded = bool(terms.excluded)
        self._each = [compile_pattern(pattern, crosses_lines=True) for pattern in patterns]
        is_one = len(patterns) == 1
        self._any = self._each[0] if is_one else compile_pattern("|".join(patterns), crosses_lines=True)
        self._named: dict[bytes, tuple[tuple[int, ...], int, int]] = {}

    def places(self, text: bytes, most: int = 500) -> Iterator[Place]:
        """Where terms stand, in order."""
        for found in islice(self._any.finditer(text), most):
            start, end = found.span()
            numbers, lead, trail = self._look_at(text[start:end])
            yield start + lead, end - trail, numbers

    def named(self, found: bytes) -> tuple[int, ...]:
        """The terms that stand in the text of a match."""
        return self._look_at(found)[0]

    def _look_at(self, found: bytes) -> tuple[tuple[int, ...], int, int]:
        """The terms in a match, and how many bytes at its ends only show that a word begins and ends there."""
        known = self._named.get(found)
        if known is None:
            if len(self._named) == _MAX_NAMED:
                self._named.clear()
            numbers = tuple(number for number, pattern in enumerate(self._each) if pattern.search(found))
            term = self._terms[numbers[0]] if numbers else None
            first = (term.initials or term.text[0]).encode() if term else b""
            lead = int(first.isascii() and first != b"" and found[:1].lower() not in first)
            known = self._named[found] = numbers, lead, int(_NEXT_PART.search(found) is not None)
        return known

    def is_excluded(self, places: Sequence[Place]) -> bool:
        return any(number >= self.wanted for _, _, numbers in places for number in numbers)


def weights_of(terms: Terms, found_in: Sequence[int], total: int) -> tuple[float, ...]:
    """How much each wanted term counts, which `found_in` so many of `total` texts hold."""
    return tuple(
        term.weight * math.log1p((max(total, count) - count + 0.5) / (count + 0.5))
        for term, count in zip(terms.wanted, found_in, strict=False)
    )


def saturated(count: int, size: int, usual_size: int) -> float:
    """What `count` occurrences in a text of `size` bytes are worth: 0 for none, less and less for more, at most 1."""
    return count / (count + _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * size / usual_size))


def sum_of(weights: Weights, numbers: int) -> float:
    """The weight of a set of terms, given as bits."""
    return sum(weight for number, weight in enumerate(weights) if numbers >> number & 1)


def covered(weights: Weights, numbers: int) -> float:
    """A factor for how much of the query these terms are."""
    total = sum(weights)
    return 1 - _PART_OF_COVERAGE + _PART_OF_COVERAGE * (sum_of(weights, numbers) / total if total else 1)


def bits(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


def best_passage(places: Sequence[Place], weights: Weights) -> tuple[int, list[Span]]:
    """The terms (as bits) and the spans of the stretch of text that says most; the first span begins it."""
    best: tuple[float, int, list[Span]] = (-1.0, 0, [])
    first = 0
    for last in range(len(places)):
        while places[last][1] - places[first][0] > _WINDOW_BYTES and first < last:
            first += 1
        window = places[first : last + 1]
        numbers = bits(number for _, _, terms in window for number in terms)
        weight = sum_of(weights, numbers)
        if weight > best[0]:
            best = weight, numbers, [(start, end) for start, end, _ in window]
    return best[1], best[2]


def changed_since(feed: ChangeFeed, number: int) -> set[tuple[str, str, str]]:
    """Workspace, kind and key of what was written after change `number`, and so may stand in another place now.

    Raises:
        InvalidArgument: That was too long ago.
    """
    changed: set[tuple[str, str, str]] = set()
    for _ in range(_MAX_CHANGE_BATCHES):
        changes = feed.after(number)
        if not changes:
            return changed
        changed.update((change.workspace_id, change.kind, change.key) for change in changes)
        number = changes[-1].number
    raise InvalidArgument("The cursor is too old", hint="Leave it out to start again")
