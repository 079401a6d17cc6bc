"""Which raw lines of a transcript can hold a match in their text, found without parsing them (SPEC: FIND-9).

A turn's text is decoded JSON. What is certain of its raw line: an unbroken run of ASCII letters, digits and signs that
JSON does not escape stands there as it is, unless the line spells such a character as an escape (`\\u0061`). What
readers write themselves is known: they put spaces, colons and line ends between what they join, numbers may be spelled
otherwise, a tool without a name is called `tool`, and what follows the arguments of a slash command is moved up to
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from federated_memory.search.literals import Literals
from federated_memory.search.query import Exact, Pattern, compile_pattern
from federated_memory.search.raw_pieces import piece_of
from federated_memory.search.terms import Terms
from federated_memory.store.members import LONGEST_MEMBER_BYTES

_OVERLAP_BYTES = 16 * 1024  # more than any text that is looked for
_RUN = re.compile(r"[0-9A-Za-z!#$%&'()*+,\-.;<=>?@^`{|}~]{2,}")
_SIGN = re.compile("[^0-9A-Za-z]")
_FOREIGN_RUN = re.compile("[^\0-\x7f\ufffd]+")
_NUMBER = re.compile("[0-9eE.+-]*")
_SHORTEST_WORD = 3
_TRIED_ALONE = 4
_OWN_WORDS = ("tool",)
_MOVED = "command-args"
_JOINED = r"namespace\\*\x22"
_ASCII_ESCAPED = r"\\u00[2-7]"
_FOLDING_ESCAPED = r"\\u(?:00[2-7]|212[aA]|017[fF])"  # the Kelvin sign is a k, the long s an s
_ANYTHING_ESCAPED = r"\\u"


class RawFilter:
    """Passes every raw line that may hold a match, and few others: those with one of the texts, or with an escape that
    may spell it; and of lines without such an escape, only those that hold all of `needed` too.

    Patterns are tried one by one: RE2 looks for a plain text four times faster than for alternatives, or more.
    """

    def __init__(self, texts: Sequence[str], escapes: Sequence[str], needed: Iterable[str] = ()) -> None:
        self._escapes = [compile_pattern(escape) for escape in escapes]
        self._each = [*map(compile_pattern, texts), *self._escapes]
        self._any = compile_pattern("|".join((*texts, *escapes)))
        self._needed = [text.encode() for text in needed]

    def pattern_in(self, raw: bytes) -> Pattern | None:
        """A pattern of all the lines of `raw` that may pass; None when none does."""
        found = [pattern for pattern in self._each if pattern.search(raw)]
        return found[0] if len(found) == 1 else self._any if found else None

    def may_be_in(self, line: bytes) -> bool:
        """Whether one line passes."""
        return self.passes(line) if self._needed else self.pattern_in(line) is not None

    def passes(self, line: bytes) -> bool:
        """The last word on a line with the pattern, which is in all that holds `needed`."""
        return all(text in line for text in self._needed) or any(escape.search(line) for escape in self._escapes)


def filter_for_exact(query: Exact) -> RawFilter | None:
    """What passes every raw line whose text may match; None when each line has to be looked at."""
    found = filter_for(query.literals)
    piece = piece_of(query.text) if found is None and query.mode == "regex" else None
    if piece is None:
        return found
    pattern, ignores_case = piece
    return RawFilter([pattern], [_FOLDING_ESCAPED if ignores_case else _ASCII_ESCAPED, _MOVED, _JOINED])


def filter_for(literals: Literals) -> RawFilter | None:
    """What passes every raw line whose text holds all the literals; None when each line has to be looked at."""
    runs = [run for text in literals.texts for run in _RUN.findall(text) if _stands_as_it_is(run)]
    if runs and not literals.ignores_case:
        return RawFilter([_pattern_of(max(runs, key=len))], [_ASCII_ESCAPED, _MOVED], runs)
    if runs:
        return RawFilter([f"(?i:{_pattern_of(max(runs, key=len))})"], [_FOLDING_ESCAPED, _MOVED])
    foreign = [run for text in literals.texts for run in _FOREIGN_RUN.findall(text)]
    if foreign:
        run = max(foreign, key=len)
        return RawFilter([f"(?i:{run})" if literals.ignores_case else run], [_ANYTHING_ESCAPED])
    return None


def _pattern_of(run: str) -> str:
    return _SIGN.sub(lambda sign: f"\\x{ord(sign[0]):02x}", run)


def filter_for_terms(terms: Terms) -> RawFilter:
    """What passes every raw line whose text may hold one of the wanted terms."""
    needles = [term.needle_pattern() for term in terms.wanted]
    escape = _ASCII_ESCAPED if all(needle.isascii() for needle in needles) else _ANYTHING_ESCAPED
    return RawFilter(needles if len(needles) <= _TRIED_ALONE else ["|".join(needles)], [escape])


def _stands_as_it_is(run: str) -> bool:
    """Whether a run is surely in the raw line; two letters alone are in too many."""
    if len(run) < _SHORTEST_WORD and run.isalnum():
        return False
    return not _NUMBER.fullmatch(run) and not any(run.lower() in word for word in _OWN_WORDS)


def lines_with(lines: RawFilter | None, raw: bytes, first_line: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of the lines of a member that pass, with or without their line end."""
    at = counted = 0
    line = first_line
    pattern = lines.pattern_in(raw) if lines else None
    while at < len(raw):
        start = at
        if lines:
            found = pattern.search(raw, at) if pattern is not None else None
            if found is None:
                return
            at = found.start()
            start = raw.rfind(b"\n", start, at) + 1 or start
        end = raw.find(b"\n", at) + 1 or len(raw)
        line += raw.count(b"\n", counted, start)
        counted = start
        data = raw[start:end]  # the same object when it is all of it
        if lines is None or lines.passes(data):
            yield line, data
        at = end


def whole_lines(members: Iterable[tuple[int, bytes]], lines: RawFilter | None) -> Iterator[tuple[int, bytes | None]]:
    """The members of an archive. A line over 4 MiB comes in several: once as None if it may pass, else as nothing."""
    long_line = -1
    passes = False
    tail = b""
    for number, raw in members:
        is_first = number != long_line
        if is_first and (len(raw) < LONGEST_MEMBER_BYTES or raw.endswith(b"\n")):
            yield number, raw
            continue
        if is_first:
            long_line, passes, tail = number, False, b""
        passes_here = lines is None or lines.pattern_in(raw) or lines.pattern_in(tail + raw[:_OVERLAP_BYTES])
        yield number, None if passes_here and not passes else b""
        passes = passes or bool(passes_here)
        tail = raw[-_OVERLAP_BYTES:]
