"""Lists and texts cut to a byte budget, and the cursors that go on (SPEC: PAGE-1 to PAGE-3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import orjson

from federated_memory.errors import InvalidArgument
from federated_memory.service.results import Result

DEFAULT_MAX_BYTES = 8_000
LEAST_MAX_BYTES, MOST_MAX_BYTES = 1_000, 65_536
ENVELOPE_BYTES = 400
"""What a result needs around its rows, in JSON and in its text form."""

Row = TypeVar("Row", bound=Result)
CursorPart = str | int | float
CursorKey = list[CursorPart]


def encode_cursor(order: str, key: Iterable[CursorPart]) -> str:
    """The place of a row in the order of that name."""
    return base64.urlsafe_b64encode(orjson.dumps([order, *key])).decode().rstrip("=")


def decode_cursor(cursor: str | None, order: str, *types: type) -> CursorKey | None:
    """The place that a page gave; `types` are those of its parts, where they are known.

    Raises:
        InvalidArgument: Not a cursor of that order.
    """
    if not cursor:
        return None
    try:
        found: object = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        found = None
    if isinstance(found, list) and found[:1] == [order]:
        key: CursorKey = found[1:]
        if all(type(part) in (str, int, float) for part in key) and [*map(type, key)] == list(types or map(type, key)):
            return key
    raise InvalidArgument("`cursor` is not one that this list gave", hint="Pass `next_cursor`, or leave it out")


def fit_rows(rows: Iterable[Row], limit: int, max_bytes: int, taken_bytes: int = 0) -> tuple[list[Row], bool]:
    """As many rows as the limit and the budget allow, at least one, and whether there are more."""
    fitting: list[Row] = []
    used = ENVELOPE_BYTES + taken_bytes
    for row in rows:
        used += len(orjson.dumps(row.as_dict())) + 1
        if fitting and (len(fitting) >= limit or used > max_bytes):
            return fitting, True
        fitting.append(row)
    return fitting, False


def json_bytes(text: str) -> int:
    """What the text takes inside JSON, without its quotes; never less than in UTF-8."""
    return len(orjson.dumps(text)) - 2


def cut_text(text: str, budget: int) -> str:
    """The longest beginning that fits the budget inside JSON; whole code points, at least one."""
    if json_bytes(text) <= budget:
        return text
    low, high = 1, min(len(text), budget)
    while low < high:
        middle = (low + high + 1) // 2
        if json_bytes(text[:middle]) <= budget:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def split_lines(text: str) -> list[str]:
    """Lines with their line feeds; only a line feed ends a line, and nothing follows the last one."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


@dataclass(frozen=True, slots=True)
class TextPage:
    text: str
    lines: int
    next_offset: int | None = None
    next_byte_offset: int | None = None


def page_text(text: str, *, offset: int, byte_offset: int, limit: int, budget: int) -> TextPage:
    """Lines from `offset` that fit the budget. A line longer than that is cut, and `next_byte_offset` goes on in it.

    Raises:
        InvalidArgument: `byte_offset` is inside a character, or past its line.
    """
    lines = split_lines(text)
    parts: list[str] = []
    following = offset
    for number in range(offset, min(len(lines), offset + limit)):
        start = byte_offset if number == offset else 0
        line = _from_byte(lines[number], start) if start else lines[number]
        budget -= json_bytes(line)
        if budget < 0 and parts:
            break
        if budget < 0:
            piece = cut_text(line, budget + json_bytes(line))
            if piece != line:
                taken = start + len(piece.encode("utf-8", "surrogatepass"))
                return TextPage(piece, len(lines), number, taken)
        parts.append(line)
        following = number + 1
    return TextPage("".join(parts), len(lines), following if following < len(lines) else None)


def _from_byte(line: str, start: int) -> str:
    data = line.encode("utf-8", "surrogatepass")
    if start >= len(data) or data[start] & 0xC0 == 0x80:
        raise InvalidArgument(
            "`byte_offset` is not one that a page gave", hint="Pass `next_byte_offset`, or leave it out"
        )
    return data[start:].decode("utf-8", "surrogatepass")
