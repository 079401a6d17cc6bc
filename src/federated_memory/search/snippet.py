"""The excerpt around a match: short, readable, cut between characters, its matches in «…»."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_CHARACTERS = 300
_MAX_LINES = 3
_LEAD_CHARACTERS = 80  # shown before the match when its line is too long
_MAX_MARKED_BYTES = 180
_AROUND_BYTES = 2 * MAX_CHARACTERS
_ANCHOR = "\ue000"
# What cannot be shown: of one byte, and (here as the beginning of their bytes) of several.
_CONTROLS = bytes(32 if (byte < 0x20 and byte != 0x0A) or byte == 0x7F else byte for byte in range(256))
_RARE = re.compile(rb"\xc2[\x80-\x9f]|\xee\x80\x80")

Span = tuple[int, int]


def snippet(text: bytes, spans: Sequence[Span]) -> str:
    """At most 300 characters and three lines of `text` around the first of `spans`, every span in sight marked.

    `text` is UTF-8; the spans are byte offsets. Runs of white space become one space.
    """
    start, end = spans[0]
    end = min(end, start + _MAX_MARKED_BYTES)
    low, high = max(0, start - _AROUND_BYTES), min(len(text), end + _AROUND_BYTES)
    others = sorted(spans[1:])
    before = _marked(text, low, start, others)
    match = _decoded(text[start:end]).replace("\n", " ")
    after = _marked(text, end, high, others)
    return _assembled(f"{before}{_ANCHOR}{match}{_ANCHOR}{after}".split("\n"), before.count("\n"))


def shortened(excerpt: str, room: int) -> str:
    """A snippet in at most `room` characters: its first line with a mark, around that."""
    if len(excerpt) <= room:
        return excerpt
    lines = excerpt.split("\n")
    line = next((line for line in lines if "«" in line), lines[0])
    at = max(0, line.find("«"))
    return _cut(line, max(0, at - room // 4) if len(line) > room else 0, room)


def _marked(text: bytes, low: int, high: int, spans: Iterable[Span]) -> str:
    pieces: list[str] = []
    for start, end in spans:
        if low <= start < end <= high and end - start <= _MAX_MARKED_BYTES:
            pieces += _decoded(text[low:start]), "«", _decoded(text[start:end]), "»"
            low = end
    return "".join((*pieces, _decoded(text[low:high])))


def _decoded(data: bytes) -> str:
    data = data.translate(_CONTROLS)
    if not data.isascii():
        data = _RARE.sub(b" ", data)
    # The ends of a window may lie within a character; what is left of that one goes.
    return data.decode("utf-8", "ignore")


def _plain(line: str) -> str:
    return " ".join(line.split())


def _assembled(lines: list[str], number: int) -> str:
    """The line of the match, and its neighbours while there is room."""
    line = _plain(lines[number])
    at = line.index(_ANCHOR)
    line = line.replace(_ANCHOR + _ANCHOR, "").replace(_ANCHOR, "«", 1).replace(_ANCHOR, "»", 1)
    shown = [_cut(line, max(0, at - _LEAD_CHARACTERS) if len(line) > MAX_CHARACTERS else 0, MAX_CHARACTERS)]
    room = MAX_CHARACTERS - len(shown[0]) - 1
    before = _plain(lines[number - 1]) if number else ""
    if before and len(before) <= room // 2:
        shown.insert(0, before)
        room -= len(before) + 1
    for following in map(_plain, lines[number + 1 :]):
        if following and (len(shown) == _MAX_LINES or room < min(len(following), _LEAD_CHARACTERS // 2)):
            break
        if following:
            shown.append(_cut(following, 0, room))
            room -= len(shown[-1]) + 1
    return "\n".join(shown)


def _cut(line: str, start: int, room: int) -> str:
    """Part of a line in at most `room` characters, never half a pair of marks."""
    if start == 0 and len(line) <= room:
        return line
    start = min(start, max(0, len(line) - room + 1))
    head = "…" if start else ""
    part = line[start : start + room - len(head) - 2]
    if part.find("»") >= 0 and not 0 <= part.find("«") < part.find("»"):
        part = part.replace("»", "", 1)
    tail = "»" if part.rfind("«") > part.rfind("»") else ""
    return f"{head}{part}{tail}" + ("…" if start + len(part) < len(line) else "")
