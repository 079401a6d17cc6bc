"""What of a pattern without a literal must still stand in a raw line as it is (SPEC: FIND-9).

`\\b[a-z]{4}_[0-9]{3}\\b` names no text, yet each of its matches is a run of ASCII letters, digits and underscores, and
such a run stands in raw JSON unbroken. So the pattern without its assertions, looked for in the raw line, passes few
lines, and these are parsed. Whatever is not plainly of that kind ends a piece.
"""

from __future__ import annotations

import re
import string
from math import log2

from federated_memory.search.query import compile_pattern

_PLAIN = frozenset(string.ascii_letters + string.digits + "_")
_IN_NUMBERS = frozenset(string.digits + "eE")
_OWN_WORDS = (b"tool", b"image")
"""What readers write themselves."""
_FLAGS = re.compile(r"\(\?([imsU]+)\)")
_REPEAT = re.compile(r"(?:\*|\+|\?|\{(\d+)(?:,\d*)?\})\??")
_ASSERTION = re.compile(r"\\[bBAz]|\^|\$")
_CLASS = re.compile(r"\[((?:[0-9A-Za-z_]-[0-9A-Za-z_]|[0-9A-Za-z_]|\\[dw])+)\]")
_CLASS_PART = re.compile(r"(\w)-(\w)|\\([dw])|(\w)", re.ASCII)
_GROUPS = {"d": frozenset(string.digits), "w": _PLAIN}
_KNOWN_ESCAPES = frozenset("bBAzdDwWsSpPntrfvaC")
_LEAST_BITS = 10.0
"""What a piece must say to be worth looking for; a letter that is known says six."""
_MOST_COUNTED = 20


class _Unsure(Exception):
    """A construct that is not worth understanding."""


def piece_of(pattern: str) -> tuple[str, bool] | None:
    """A pattern of what stands unbroken in the raw line of each match, and whether it ignores case; None: nothing."""
    flags = _FLAGS.match(pattern)
    rest = pattern[flags.end() :] if flags else pattern
    if "|" in rest or "(" in rest or not rest.isascii() or (flags and "U" in flags[1]):
        return None
    try:
        best = max(_pieces(rest), key=lambda piece: piece[0], default=(0.0, ""))
    except _Unsure:
        return None
    ignores_case = flags is not None and "i" in flags[1]
    if best[0] < _LEAST_BITS:
        return None
    piece = f"(?i:{best[1]})" if ignores_case else best[1]
    return None if any(compile_pattern(piece).search(word) for word in _OWN_WORDS) else (piece, ignores_case)


def _pieces(pattern: str) -> list[tuple[float, str]]:
    """The runs of plain characters of a pattern, each with how much it says in bits."""
    found: list[tuple[float, str]] = []
    piece, bits, is_no_number = "", 0.0, False
    at = 0
    while at <= len(pattern):
        if assertion := _ASSERTION.match(pattern, at):
            at = assertion.end()
            continue
        atom, characters = _atom(pattern, at)
        at += max(1, len(atom))
        repeat = _REPEAT.match(pattern, at) if atom else None
        times = repeat[0] if repeat else ""
        at += len(times)
        if times and _REPEAT.match(pattern, at):
            raise _Unsure
        if characters:
            least = 1 if not times or times[0] == "+" else int(repeat[1]) if repeat and repeat[1] else 0
            piece += atom + times
            bits += min(least, _MOST_COUNTED) * (6 - log2(len(characters)))
            is_no_number = is_no_number or (least > 0 and characters.isdisjoint(_IN_NUMBERS))
        else:
            found += [(bits, piece)] if is_no_number else []
            piece, bits, is_no_number = "", 0.0, False
    return found


def _atom(pattern: str, at: int) -> tuple[str, frozenset[str]]:
    """What one atom is spelled like, and the plain characters it stands for; none when it may stand for others."""
    nothing: frozenset[str] = frozenset()
    character = pattern[at : at + 1]
    if character in _PLAIN:
        return character, frozenset(character)
    if character == "\\":
        following = pattern[at + 1 : at + 2]
        if following.isalnum() and following not in _KNOWN_ESCAPES:
            raise _Unsure
        if following in ("p", "P") and pattern[at + 2 : at + 3] == "{":
            return pattern[at : pattern.find("}", at) + 1], nothing
        if following in ("p", "P"):
            return pattern[at : at + 3], nothing
        return pattern[at : at + 2], _GROUPS.get(following, nothing)
    if character == "[":
        plain = _CLASS.match(pattern, at)
        if plain is None:
            return pattern[at : _end_of_class(pattern, at)], nothing
        return plain[0], _members(plain[1])
    return character, nothing


def _members(inside: str) -> frozenset[str]:
    found: set[str] = set()
    for first, last, group, single in _CLASS_PART.findall(inside):
        if group:
            found |= _GROUPS[group]
        else:
            found |= {chr(code) for code in range(ord(first or single), ord(last or single) + 1)}
    return frozenset(found) if found <= _PLAIN else frozenset()


def _end_of_class(pattern: str, at: int) -> int:
    at += 1
    at += pattern.startswith("^", at)
    at += pattern.startswith("]", at)
    while at < len(pattern) and pattern[at] != "]":
        if pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
            at = end + 2
        else:
            at += 2 if pattern[at] == "\\" else 1
    return at + 1
