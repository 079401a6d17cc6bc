"""What a caller asked for, parsed once (SPEC: FIND-1 to FIND-5).

`literal` is exact, case-sensitive text. `regex` is RE2, matched line by line. `ranked` is words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import re2

from federated_memory.errors import InvalidArgument
from federated_memory.search.literals import Literals, literals_of
from federated_memory.search.terms import Terms, parse_terms

Mode = Literal["ranked", "literal", "regex"]
Pattern = Any
"""A compiled RE2 pattern: `search(data, start)` and `finditer(data)` over bytes."""

MAX_CHARACTERS = 2_000
_MAX_PROGRAM_SIZE = 20_000
# Where the place in the text matters, and not only the place in the line.
_KNOWS_THE_TEXT = re.compile(r"\\[AzC]|\(\?[A-Za-z]*[m-]")
_HINT = "Use RE2 syntax (no look-around, no back-references); `(?i)` at the start ignores case"


@dataclass(frozen=True, slots=True)
class Exact:
    """A `literal` or `regex` query. `literals` are in every match, whole."""

    mode: Literal["literal", "regex"]
    text: str
    literals: Literals
    _literal: bytes
    _pattern: Pattern
    _by_line: bool

    def first(self, text: bytes) -> tuple[int, int] | None:
        """Where the first match is."""
        return next(self.matches(text), None)

    def matches(self, text: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
        """The first match in each line from the one at `start` on. `text` is as `plain` gives it."""
        if self.mode == "literal":
            find = self._find_literal
        elif self._by_line:
            find = self._find_by_line
        else:
            find = self._find_pattern
        while start < len(text) and (found := find(text, start)) is not None:
            if found[0] == len(text) and text.endswith(b"\n"):
                return  # what follows the last line end is no line
            yield found
            end = text.find(b"\n", max(found) - (found[1] > found[0] and text[found[1] - 1 : found[1]] == b"\n"))
            start = end + 1 if end >= 0 else len(text)
