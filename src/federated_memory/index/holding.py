"""From a text that must stand in a row to an expression for the table of words (SPEC: INDEX-11).

Between separators a text holds whole words, which stand in the row one after the other. Only its first and its last
word may be a part of a longer one: they stand for all the words that they can be a part of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product, takewhile
from math import prod
from typing import NamedTuple

from federated_memory.index.stems import stemmer
from federated_memory.index.tokens import LONGEST_WORD, UNSURE, tokenizer
from federated_memory.index.words import UNSPACED, phrase

_SEPARATORS = re.compile(r"[\x00-/:-@\[-`{-\x7f]+")
_UNSPACED_RUN = re.compile(f"([{UNSPACED}]+)")
_FEW_PHRASES, _MOST_PHRASES = 64, 300
_FEW_ENDINGS, _SHORTEST_BEGINNING = 4, 2


class Part(NamedTuple):
    """A word, or a part of one: what may stand before it and after it is not known."""

    text: str
    begins_open: bool
    ends_open: bool


Lookup = Callable[[Part], "list[str] | None"]
"""The words that a part can be of; None: too many to tell."""
_Choice = list[str]
"""Expressions of which one holds; none: no row can."""


def expression_of(texts: Sequence[str], lookup: Lookup) -> str | None:
    """What finds every row that holds all of these texts, and few others; None: nothing tells them apart."""
    found: list[_Choice] = []
    for text in texts:
        for is_spaced, run in groupby(_pieces(text), key=lambda piece: isinstance(piece, Part)):
            if is_spaced:
                parts = [piece for piece in run if isinstance(piece, Part)]
                found += _in_a_row([_variants(part, lookup) for part in parts], is_open=parts[-1].ends_open)
            else:
                found += [[phrase([piece])] for piece in run if isinstance(piece, str)]
    if not found:
        return None
    unsure = f'"{UNSURE}"'
    if not all(found):
        return unsure
    # Each phrase costs: long choices are asked for only when there is nothing better.
    narrow = [choice for choice in found if len(choice) <= _FEW_PHRASES] or found
    return f"(({') AND ('.join(dict.fromkeys(map(' OR '.join, narrow)))})) OR {unsure}"


def _pieces(text: str) -> Iterator[Part | str]:
    """The words of a text, and as they are its runs of scripts that are written without spaces."""
    chunks = _SEPARATORS.split(text)
    for at, chunk in enumerate(chunks):
        begins_open, ends_open = at == 0, at == len(chunks) - 1
        if chunk.isascii():
            if chunk:
                yield Part(chunk.lower(), begins_open, ends_open)
            continue
        runs = _UNSPACED_RUN.split(chunk)
        for number, run in enumerate(runs):
            words = tokenizer().words(run)
            if number % 2:
                if words:  # not only marks
                    yield run
                continue
            for place, word in enumerate(words):
                yield Part(
                    word,
                    begins_open and number == 0 and place == 0,
                    ends_open and number == len(runs) - 1 and place == len(words) - 1,
                )


def _variants(part: Part, lookup: Lookup) -> list[str] | None:
    """The words that a part can be of, itself first."""
    if len(part.text.encode()) > LONGEST_WORD:
        return []
    if not (part.begins_open or part.ends_open):
        return [part.text]
    found = lookup(part)
    return found and sorted(found, key=lambda word: word != part.text)


def _in_a_row(run: list[list[str] | None], *, is_open: bool) -> list[_Choice]:
    """Choices that all hold for words that follow each other, of each what it may be. `is_open`: what the last of them
    may be begins alike."""
    found: list[_Choice] = []
    groups = [(is_known, list(group)) for is_known, group in groupby(run, key=lambda words: words is not None)]
    for number, (is_known, group) in enumerate(groups):
        if is_known:
            is_last = number == len(groups) - 1
            found += _phrases([words for words in group if words is not None], is_open=is_open and is_last)
    return found


def _phrases(run: list[list[str]], *, is_open: bool) -> list[_Choice]:
    if not all(run):
        return [[]]
    beginning = _beginning_of(run[-1]) if is_open and len(run) > 1 and len(run[-1]) > _FEW_ENDINGS else ""
    if beginning:
        return [_each_begun(run[:-1], beginning)]
    first, inner, last = run[0], run[1:-1], run[-1]
    if len(run) == 1 or len(first) == 1 or len(last) == 1:
        if prod(map(len, run)) <= _MOST_PHRASES:
            return [_each(run)]
    elif len(first) + len(last) <= _MOST_PHRASES:
        # Of two ends with variants one is nearly always as it is written: the rest is asked for without its order.
        rest = [f"({' OR '.join(_each([end[1:]]))})" for end in (first, last)]
        apart = " AND ".join([*rest, *(_each(inner) if inner else [])])
        return [[*_each([first[:1], *inner, last]), *_each([first[1:], *inner, last[:1]]), f"({apart})"]]
    # Only the ends of a run have variants.
    ends = [_each([words]) for words in (first, last) if len(words) > 1]
    whole = [words for words in run if len(words) == 1]
    return [*ends, _each(whole)] if whole else ends


def _beginning_of(words: list[str]) -> str:
    """What all of these words begin with in the table of words; empty: too little. To look for that takes less time
    than to look for each of them, and finds little else."""
    stems = stemmer().stems(words)
    pairs = zip(min(stems), max(stems), strict=False)
    common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    while len(common) > 1 and stemmer().stem(common) != common:  # it would be looked for as its stem
        common = common[:-1]
    return common if len(common) >= _SHORTEST_BEGINNING and common.isalnum() else ""


def _each_begun(run: list[list[str]], beginning: str) -> _Choice:
    """Only the first word of a run has variants, of which it is nearly always as it is written: the rest is asked for
    without its order."""
    first, inner = run[0], [words[0] for words in run[1:]]
    found = [f'"{" ".join([first[0], *inner, beginning])}" *']
    if len(first) > 1:
        others = " OR ".join(f'"{word}"' for word in first[1:])
        found.append(f'(({others}) AND "{" ".join([*inner, beginning])}" *)')
    return found


def _each(run: list[list[str]]) -> _Choice:
    """A phrase for each way to take one word of each."""
    return [f'"{" ".join(words)}"' for words in product(*run)]
