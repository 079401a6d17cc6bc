"""Which raw lines of a transcript can hold a match in their text, found without parsing them (SPEC: FIND-9).

A turn's text is decoded JSON. What is certain of its raw line: an unbroken run of ASCII letters and digits stands there
as it is, unless the line spells such a character as an escape (`\\u0061`). Three things that readers write themselves
are known: numbers may be spelled otherwise, a tool without a name is called `tool`, and what follows the arguments of
a slash command is moved up to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from federated_memory.search.literals import Literals
from federated_memory.search.query import Pattern, compile_pattern
from federated_memory.search.terms import Terms

LONGEST_LINE_BYTES = 8 * 1024**2
_RUN = re.compile("[0-9A-Za-z]{3,}")
_FOREIGN_RUN = re.compile("[^\0-\x7f\ufffd]+")
_NUMBER = re.compile("[0-9]*[eE]?[0-9]*")
_OWN_WORDS = ("tool",)
_ASCII_ESCAPED = r"\\u00[2-7]|command-args"
_FOLDS_TO_ASCII = r"\\u212[aA]|\\u017[fF]"  # the Kelvin sign is a k, the long s an s
_ANYTHING_ESCAPED = r"\\u"


def raw_pattern(literals: Literals) -> Pattern | None:
    """A pattern in every raw line whose text holds all the literals; None when each line has to be looked at."""
    runs = [run for text in literals.texts for run in _RUN.findall(text) if _stands_as_it_is(run)]
    if runs:
        escapes = _ASCII_ESCAPED + (f"|{_FOLDS_TO_ASCII}" if literals.ignores_case else "")
    else:
        runs = [run for text in literals.texts for run in _FOREIGN_RUN.findall(text)]
        escapes = _ANYTHING_ESCAPED
    if not runs:
        return None
    run = max(runs, key=len)
    return compile_pattern((f"(?i:{run})" if literals.ignores_case else run) + "|" + escapes)


def _stands_as_it_is(run: str) -> bool:
    return not _NUMBER.fullmatch(run) and not any(run.lower() in word for word in _OWN_WORDS)


def raw_terms_pattern(terms: Terms) -> Pattern:
    """A pattern in every raw line whose text may hold one of the wanted terms."""
    needles = [term.needle_pattern() for term in terms.wanted]
    escapes = _ASCII_ESCAPED if all(needle.isascii() for needle in needles) else _ANYTHING_ESCAPED
    return compile_pattern("|".join((*needles, escapes)))


def lines_with(pattern: Pattern | None, raw: bytes, first_line: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of the lines of a member that hold the pattern."""
    line = first_line
    counted = at = 0
    while at < len(raw):
        found = pattern.search(raw, at) if pattern is not None else None
        if pattern is not None and found is None:
            return
        start = at if found is None else raw.rfind(b"\n", at, found.start()) + 1 or at
        end = raw.find(b"\n", at if found is None else found.start())
        end = end if end >= 0 else len(raw)
        line += raw.count(b"\n", counted, start)
        counted = start
        yield line, raw[start:end]
        at = end + 1


def whole_lines(members: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes | None]]:
    """The members of an archive, lines that come in parts put together; None for one that is too long for that."""
    number = -1
    parts: list[bytes] = []
    size = 0
    for first_line, raw in members:
        if parts and first_line != number:
            yield number, b"".join(parts) if size <= LONGEST_LINE_BYTES else None
            parts, size = [], 0
        number = first_line
        size += len(raw)
        parts = [*parts, raw] if size <= LONGEST_LINE_BYTES else [b""]
    if parts:
        yield number, b"".join(parts) if size <= LONGEST_LINE_BYTES else None
