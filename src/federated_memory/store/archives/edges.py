"""The first and last lines of a transcript, kept while it streams past."""

from __future__ import annotations

from collections import deque

HEAD_BYTES = 256 * 1024
TAIL_BYTES = 64 * 1024


class Edges:
    """Holds at most 320 KiB and one chunk, whatever goes by. The chunks must not change afterwards."""

    def __init__(self) -> None:
        self._head: list[memoryview] = []
        self._head_bytes = 0
        self._tail: deque[memoryview] = deque()
        self._tail_bytes = 0
        self.total_bytes = 0

    def add(self, chunk: bytes | memoryview) -> None:
        view = memoryview(chunk)
        self.total_bytes += len(view)
        if self._head_bytes < HEAD_BYTES:
            part = view[: HEAD_BYTES - self._head_bytes]
            self._head.append(part)
            self._head_bytes += len(part)
        part = view[-TAIL_BYTES:]
        self._tail.append(part)
        self._tail_bytes += len(part)
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def head(self, max_bytes: int = HEAD_BYTES) -> list[bytes]:
        """Whole lines of the start, up to `max_bytes` of them; all of them when the transcript is short."""
        start = b"".join(self._head)[:max_bytes]
        lines = start.split(b"\n")
        if self.total_bytes > len(start) or not lines[-1]:
            lines.pop()
        return lines

    def tail(self) -> list[bytes]:
        """Whole lines of the end, unless the longest `head` holds them; the last one may be unterminated."""
        return [] if self.total_bytes <= self._head_bytes else self.last_lines()

    def last_lines(self) -> list[bytes]:
        """Whole lines of the last 64 KiB; the last one may be unterminated."""
        lines = b"".join(self._tail)[-TAIL_BYTES:].split(b"\n")
        if self.total_bytes > TAIL_BYTES:
            del lines[0]
        if lines and not lines[-1]:
            lines.pop()
        return lines
