"""What every match of a pattern must hold: the key to passing over text that cannot match.

A literal left out costs time; one too many would hide matches. So whatever is not plainly certain is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DEEPEST = 20
_REPEAT = re.compile(r"\{(\d*)(?:,\d*)?\}")
_LEADING_FLAGS = re.compile(r"\(\?([imsU]+)\)")
_GROUP = re.compile(r"\((?:\?:|\?P?<\w+>|(?!\?))")
_ONE_LETTER_ESCAPES = frozenset("dDwWsSbBAzntrfva")  # each one character or place, never that letter itself


@dataclass(frozen=True, slots=True)
class Literals:
    """Texts that each match holds whole; with `ignores_case`, up to Unicode's simple case folding."""

    texts: tuple[str, ...] = ()
    ignores_case: bool = False


def literals_of(pattern: str) -> Literals:
    """The literals of a valid RE2 pattern; none for one that is hard to read."""
    flags = _LEADING_FLAGS.match(pattern)
    parser = _Parser(pattern[flags.end() :] if flags else pattern)
    try:
        texts = parser.parse()
    except (_Unsure, IndexError):
        return Literals()
    return Literals(tuple(texts), flags is not None and "i" in flags[1])


class _Unsure(Exception):
    """A construct that is not worth understanding."""


class _Parser:
    """Reads groups, alternatives and repetitions; everything else only ends the literal before it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def parse(self) -> list[str]:
        found = self._level()
        if self._at < len(self._pattern):
            raise _Unsure
        return found

    def _level(self) -> list[str]:
        """The literals up to the end of the group; none when it has alternatives."""
        found: list[str] = []
        run = ""
        has_alternatives = False
        while self._at < len(self._pattern) and self._pattern[self._at] != ")":
            has_alternatives = has_alternatives or self._pattern[self._at] == "|"
            literal, inside = self._atom()
            is_repeated, is_optional = self._repetition()
            if not is_optional:
                run += literal
                found += inside
            if is_repeated or not literal:
                found.append(run)
                run = ""
        return [] if has_alternatives else [text for text in (*found, run) if text]

    def _atom(self) -> tuple[str, list[str]]:
        """Step over one atom; returns the character it stands for, and what it holds if it is a group."""
        character = self._pattern[self._at]
        if character == "(":
            return "", self._group()
        self._at += 1
        if character == "[":
            self._skip_class()
        elif character == "\\":
            return self._escaped(), []
        elif character not in "^$.|":
            return character, []
        return "", []

    def _group(self) -> list[str]:
        opening = _GROUP.match(self._pattern, self._at)
        if opening is None or self._depth == _DEEPEST:
            raise _Unsure
        self._at = opening.end()
        self._depth += 1
        inside = self._level()
        self._depth -= 1
        if self._pattern[self._at] != ")":
            raise _Unsure
        self._at += 1
        return inside

    def _escaped(self) -> str:
        character = self._pattern[self._at]
        self._at += 1
        if character in "pP":
            end = self._pattern.find("}", self._at) if self._pattern[self._at] == "{" else self._at
            if end < 0:
                raise _Unsure
            self._at = end + 1
            return ""
        if character in _ONE_LETTER_ESCAPES:
            return ""
        if character.isalnum() or not character.isascii():
            raise _Unsure
        return character

    def _skip_class(self) -> None:
        pattern, at = self._pattern, self._at
        at += pattern[at] == "^"
        at += pattern[at] == "]"
        while pattern[at] != "]":
            if pattern[at] == "\\":
                at += 2
            elif pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
                at = end + 2
            else:
                at += 1
        self._at = at + 1

    def _repetition(self) -> tuple[bool, bool]:
        """Step over `*`, `+`, `?` or `{n,m}`: is there one, and does it allow none?"""
        rest = self._pattern[self._at : self._at + 1]
        if not rest or rest not in "*+?{":
            return False, False
        least = "1" if rest == "+" else "0"
        length = 1
        if rest == "{":
            counts = _REPEAT.match(self._pattern, self._at)
            if counts is None:
                return False, False  # a brace like any other character
            if not counts[1]:
                raise _Unsure
            least = counts[1]
            length = counts.end() - counts.start()
        self._at += length
        if self._pattern.startswith("?", self._at):
            self._at += 1
        if self._pattern[self._at : self._at + 1] in ("*", "+", "?") or _REPEAT.match(self._pattern, self._at):
            raise _Unsure
        return True, not least.strip("0")
