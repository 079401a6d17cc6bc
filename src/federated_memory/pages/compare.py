"""Two texts side by side: rows of what stayed, changed, came and went (SPEC: SITE-7)."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from federated_memory.errors import InvalidArgument
from federated_memory.service.pages import split_lines

_MOST_BYTES = 512 * 1024
_MOST_LINES = 20_000
_MOST_CHANGED_LINES = 3_000
_MOST_WORK = 1_000_000
"""Pairs of words that are looked at for what differs inside lines; hostile texts would take for ever."""
_MOST_ALIGNED = 30
_LEAST_LIKENESS = 0.4
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_MEANING = re.compile(r"\w+")
_CONTEXT = 3

Kind = Literal["same", "changed", "removed", "added", "skipped"]
Piece = tuple[str, bool]
"""A part of a line, and whether it is what changed."""


@dataclass(frozen=True, slots=True)
class Row:
    """Numbers count from 1; None where there is no line. `skipped` says how many equal lines are left out."""

    kind: Kind
    left: int | None = None
    right: int | None = None
    old: tuple[Piece, ...] = ()
    new: tuple[Piece, ...] = ()
    skipped: int = 0


def compare(old: str, new: str) -> list[Row]:
    """Raises: InvalidArgument: the texts are too long, or too much is different."""
    if len(old) + len(new) > _MOST_BYTES:
        raise _too_long()
    before, after = _lines(old), _lines(new)
    if len(before) + len(after) > _MOST_LINES:
        raise _too_long()
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    middle_old, middle_new = before[head : len(before) - tail], after[head : len(after) - tail]
    if len(middle_old) + len(middle_new) > _MOST_CHANGED_LINES:
        raise _too_long()
    rows = [Row("same", at + 1, at + 1, ((line, False),), ((line, False),)) for at, line in enumerate(before[:head])]
    rows += _changed(middle_old, middle_new, head)
    rows += [
        Row("same", len(before) - tail + at + 1, len(after) - tail + at + 1, ((line, False),), ((line, False),))
        for at, line in enumerate(before[len(before) - tail :])
    ]
    return list(_without_sameness(rows))


def _lines(text: str) -> list[str]:
    return [line.rstrip("\n") for line in split_lines(text)]


def _common(left: list[str], right: list[str]) -> int:
    return next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other),
                min(len(left), len(right)))  # fmt: skip


def _changed(old: list[str], new: list[str], offset: int) -> list[Row]:
    rows: list[Row] = []
    work = _MOST_WORK
    for tag, low, high, left, right in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if tag == "equal":
            rows += [
                Row("same", offset + at + 1, offset + left + at - low + 1, ((old[at], False),), ((old[at], False),))
                for at in range(low, high)
            ]
            continue
        for one, other in _pairs(old, new, (low, high), (left, right)):
            if one is not None and other is not None:
                was, is_now, work = _pieces(old[one], new[other], work)
                rows.append(Row("changed", offset + one + 1, offset + other + 1, was, is_now))
            elif one is not None:
                rows.append(Row("removed", offset + one + 1, None, ((old[one], False),), ()))
            elif other is not None:
                rows.append(Row("added", None, offset + other + 1, (), ((new[other], False),)))
    return rows


def _pairs(
    old: list[str], new: list[str], here: tuple[int, int], there: tuple[int, int]
) -> Iterator[tuple[int | None, int | None]]:
    """The lines that replaced others, each beside the one most like it, in order; one by one where there are many."""
    left, right = range(*here), range(*there)
    if len(left) > _MOST_ALIGNED or len(right) > _MOST_ALIGNED:
        yield from zip_longest(left, right)
        return
    words, others = (
        [Counter(_MEANING.findall(old[at])) for at in left],
        [Counter(_MEANING.findall(new[at])) for at in right],
    )
    likeness = [[_likeness(one, other) for other in others] for one in words]
    # best[i][j]: the most likeness that pairs can have among the lines from i and from j on.
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + likeness[i][j])
    i = j = 0
    gone: list[int] = []
    come: list[int] = []
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right) and likeness[i][j] and best[i][j] == best[i + 1][j + 1] + likeness[i][j]:
            yield from zip_longest(gone, come)
            gone, come = [], []
            yield left[i], right[j]
            i, j = i + 1, j + 1
        elif i < len(left) and (j == len(right) or best[i][j] == best[i + 1][j]):
            gone.append(left[i])
            i += 1
        else:
            come.append(right[j])
            j += 1
    yield from zip_longest(gone, come)


def _likeness(one: Counter[str], other: Counter[str]) -> float:
    """The share of words that two lines have in common; 0 when it is too small to stand beside each other."""
    shared = 2 * sum((one & other).values()) / max(1, one.total() + other.total())
    return shared if shared >= _LEAST_LIKENESS else 0.0


def _pieces(old: str, new: str, work: int) -> tuple[tuple[Piece, ...], tuple[Piece, ...], int]:
    """Both lines with the words that differ marked, unless hardly any is the same; and the work that is left."""
    whole = ((old, False),), ((new, False),)
    if len(old) * len(new) > 64 * work:  # more words than that are not in them
        return *whole, work
    words, others = _WORDS.findall(old), _WORDS.findall(new)
    work -= len(words) * len(others)
    if work < 0:
        return *whole, 0
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=False)
    if matcher.quick_ratio() < _LEAST_LIKENESS:
        return *whole, work
    was: list[Piece] = []
    is_now: list[Piece] = []
    for tag, low, high, left, right in matcher.get_opcodes():
        if high > low:
            was.append(("".join(words[low:high]), tag != "equal"))
        if right > left:
            is_now.append(("".join(others[left:right]), tag != "equal"))
    return tuple(was), tuple(is_now), work


def _without_sameness(rows: list[Row]) -> Iterator[Row]:
    """Only what changed, and three lines around it."""
    kept = {
        near for at, row in enumerate(rows) if row.kind != "same" for near in range(at - _CONTEXT, at + _CONTEXT + 1)
    }
    skipped = 0
    for at, row in enumerate(rows):
        if at in kept:
            if skipped:
                yield Row("skipped", skipped=skipped)
            skipped = 0
            yield row
        else:
            skipped += 1
    if skipped:
        yield Row("skipped", skipped=skipped)


def _too_long() -> InvalidArgument:
    return InvalidArgument("These versions differ in too much to stand side by side", hint="Look at each by itself")
