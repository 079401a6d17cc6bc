"""Where lines of a text begin and end, found without cutting it into lines."""

from __future__ import annotations


def start_of_line(data: bytes, lines: int, at: int = 0) -> int:
    """Where the line begins that comes so many after the one at `at`; the end of `data` when there are not so many."""
    for _ in range(lines):
        following = data.find(b"\n", at) + 1
        if not following:
            return len(data)
        at = following
    return at


def end_of_line(data: bytes, at: int) -> int:
    """Where the line around `at` ends, its newline left out."""
    end = data.find(b"\n", at)
    return end if end >= 0 else len(data)
