"""What a caller asks for, parsed once (SPEC: FIND-1 to FIND-4).

`literal` is exact, case-sensitive text. `regex` is RE2, matched line by line. `ranked` is words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import re2

from federated_memory.errors import InvalidArgument
from federated_memory.names import shown
from federated_memory.search.dates import days_named
from federated_memory.search.literals import Literals, literals_of
from federated_memory.search.terms import Terms, parse_terms
from federated_memory.store.lines import end_of_line

Mode = Literal["ranked", "literal", "regex"]
Pattern = Any
"""A compiled RE2 pattern: `search` and `finditer` over bytes."""

MAX_CHARACTERS = 2_000
MAX_RANKED_CHARACTERS = 20_000
_MAX_MEMORY_BYTES = 8 * 1024**2
_MAX_PROGRAM_SIZE = 20_000  # larger programs search so slowly that their automaton fills its memory again and again
# Where it matters in which line of a text one is; a few patterns without such a thing are caught too.
_LOOKS_BEYOND_A_LINE = re.compile(r"\\[AzC]|\(\?[A-Za-z]*[m-]")
_HINT = "Use RE2 syntax: no look-around, no back-references; `(?i)` at the start ignores case"


@dataclass(frozen=True, slots=True)
class Exact:
    """A `literal` or `regex` query; `literals` are in every match."""

    mode: Literal["literal", "regex"]
    text: str
    literals: Literals
    _needle: bytes
    _pattern: Pattern
    _goes_by_line: bool

    def matches(self, text: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
        """The first match that begins in each line, as byte offsets; `text` is as `plain` gives it."""
        while start < len(text) and (found := self._find(text, start)) is not None:
            if found[0] == len(text) and text.endswith(b"\n"):
                return  # after the last line end there is no line
            yield found
            line_end = text.find(b"\n", found[0])
            start = line_end + 1 if line_end >= 0 else len(text)

    def _find(self, text: bytes, start: int) -> tuple[int, int] | None:
        if self.mode == "literal":
            at = text.find(self._needle, start)
            return None if at < 0 else (at, at + len(self._needle))
        if self._goes_by_line:
            return self._find_by_line(text, start)
        found = self._pattern.search(text, start)
        return None if found is None else found.span()

    def _find_by_line(self, text: bytes, start: int) -> tuple[int, int] | None:
        while start < len(text):
            end = end_of_line(text, start)
            if found := self._pattern.search(text[start:end]):
                return start + found.start(), start + found.end()
            start = end + 1
        return None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A `ranked` query. Nothing to look for is nothing to find."""

    text: str
    terms: Terms
    days: re.Pattern[str] | None = None
    """What the days that it names begin with."""


Query = Exact | Ranked


def parse_query(text: str, mode: Mode) -> Query:
    """Raises: InvalidArgument: too long; or, in `literal` and `regex`, blank, no Unicode text, or no RE2 pattern."""
    most = MAX_RANKED_CHARACTERS if mode == "ranked" else MAX_CHARACTERS
    if len(text) > most:
        raise InvalidArgument(f"The query has {len(text)} characters, at most {most} are allowed", hint="Shorten it")
    if mode == "ranked":
        return Ranked(text, parse_terms(text), days_named(text))
    if not text.strip():
        raise InvalidArgument("The query is blank", hint="Say what to look for")
    try:
        needle = text.replace("\r\n", "\n").encode()
    except UnicodeEncodeError:
        raise InvalidArgument("The query holds a lone surrogate", hint="Send valid Unicode text") from None
    if mode == "literal":
        return Exact("literal", text, Literals((needle.decode(),)), needle, None, False)
    _ensure_valid(text)
    pattern = compile_pattern("(?m)" + text)
    return Exact("regex", text, literals_of(text), b"", pattern, bool(_LOOKS_BEYOND_A_LINE.search(text)))


def _ensure_valid(pattern: str) -> None:
    try:
        size = compile_pattern(pattern).programsize
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        # What follows the colon is a part of the pattern.
        raise InvalidArgument(f"Not a pattern: {shown(reason.split(':', 1)[0])}", hint=_HINT) from None
    if size > _MAX_PROGRAM_SIZE:
        raise InvalidArgument("The pattern is too large", hint="Use smaller repeat counts, such as {1,100}")


def compile_pattern(pattern: str, *, crosses_lines: bool = False) -> Pattern:
    """A pattern over UTF-8 bytes; groups are not captured, which keeps RE2 in its fastest engine.

    Raises:
        re2.error: Not RE2 syntax, or too large.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY_BYTES
    options.never_nl = not crosses_lines
    options.never_capture = True
    compiled = re2.compile(pattern, options)
    re2.purge()  # its cache would keep the memory of 128 callers' patterns
    return compiled


def plain(data: bytes) -> bytes:
    """Text as queries see it: valid UTF-8, what cannot be decoded replaced, lines ending in a bare line feed."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "replace").encode()
    return data


def plain_text(text: str) -> bytes:
    """As `plain`, of a text that is decoded already."""
    return (text.replace("\r\n", "\n") if "\r" in text else text).encode("utf-8", "replace")
