"""Documents in pieces of the size that a search shows (SPEC: INDEX-3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LONGEST_CHUNK = 1_600
_SHORTEST_CHUNK = 200
_HEADING = re.compile(r"(#{1,6})[ \t]+(\S.*)")
_FENCE = re.compile(r" {0,3}(```|~~~)")


class Chunk(NamedTuple):
    """Lines of a document from `line` on, with the headings they stand under."""

    line: int
    headings: str
    text: str


def chunks_of(text: str) -> list[Chunk]:
    """The chunks of a Markdown text, in order; each of its characters is in one of them."""
    found: list[Chunk] = []
    for line, headings, lines in _sections(text):
        start, size = 0, 0
        for number, content in enumerate(lines):
            is_full = size + len(content) > _LONGEST_CHUNK and size >= _SHORTEST_CHUNK
            if is_full or (size > _LONGEST_CHUNK // 2 and not content.strip()):
                found.append(Chunk(line + start, headings, "\n".join(lines[start:number])))
                start, size = number, 0
            size += len(content) + 1
        if size:
            found.append(Chunk(line + start, headings, "\n".join(lines[start:])))
    return [chunk for chunk in found if chunk.text.strip()]


def _sections(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """First line, headings and lines of each stretch of text under one heading."""
    path: list[str] = []
    lines: list[str] = []
    first, fence = 0, ""
    for number, content in enumerate(text.split("\n")):
        mark = _FENCE.match(content)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        heading = None if fence else _HEADING.match(content)
        if heading:
            if lines:
                yield first, " ".join(path), lines
            path = [*path[: len(heading[1]) - 1], heading[2]]
            first, lines = number, []
        lines.append(content)
    if lines:
        yield first, " ".join(path), lines
