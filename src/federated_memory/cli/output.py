"""What commands print: JSON, tables and progress (SPEC: CLI-2).

Results go to standard output, everything else to standard error. Stored text is printed without its control
characters, so that nothing stored can steer a terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Literal, NoReturn

Style = Literal["bold", "dim", "name", "added", "removed", "mark"]
_STYLES = {"bold": "1", "dim": "2", "name": "36", "added": "32", "removed": "31", "mark": "1;33"}
_GAP = "  "
_LEAST_COLUMN = 8
_BAR = 30


def json_option() -> argparse.ArgumentParser:
    """The parent of every verb's parser: `--json`."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--json", action="store_true", help="print one JSON value and nothing else")
    return parent


def print_json(value: object) -> None:
    """One JSON value, ASCII only, so that no terminal and no locale can spoil it."""
    print_raw(json.dumps(value, indent=2))


def print_line(text: str = "") -> None:
    """One line of text, whatever it holds."""
    print_raw(plain(text))


def print_text(text: str) -> None:
    """Text of many lines: exactly as it is when piped; on a terminal without what could steer it."""
    if sys.stdout.isatty():
        for line in text.split("\n") if not text.endswith("\n") else text[:-1].split("\n"):
            print_raw(plain(line.replace("\t", "    ")))
        return
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _end_quietly()


def styled(text: str, style: Style) -> str:
    """For a terminal that shows colours; as it is elsewhere, and where NO_COLOR is set."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and _is_coloured() else text


def print_styled(text: str, style: Style) -> None:
    """`print_line`, in a style."""
    print_raw(styled(plain(text), style))


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """`name  value` lines, the values in one column."""
    rows = [(name, plain(value)) for name, value in pairs]
    width = max((_width(name) for name, _ in rows), default=0)
    for name, value in rows:
        print_raw(f"{_padded(name, width)}{_GAP}{value}".rstrip())


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns under their headers; numbers to the right.

    On a terminal, long texts are cut to fit its width; the first column, numbers and headers never are.
    """
    found = list(rows)
    cells = [list(headers), *([plain(str(cell)) for cell in row] for row in found)]
    is_number = [bool(found) and all(isinstance(row[at], int) for row in found) for at in range(len(headers))]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    if sys.stdout.isatty():
        least = [
            width if at == 0 or is_number[at] else min(width, max(_LEAST_COLUMN, _width(headers[at])))
            for at, width in enumerate(widths)
        ]
        widths = _fitted(widths, least, shutil.get_terminal_size().columns)
    for number, row in enumerate(cells):
        parts = [
            _padded(_cut(cell, width), width, right) for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        if number == 0:
            print_raw(styled(_GAP.join(parts).rstrip(), "bold"))
        else:
            print_raw(_GAP.join([styled(parts[0], "name"), *parts[1:]]).rstrip())


def plain(text: str) -> str:
    """One line without control, invisible or unpaired characters."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd" for character in text
    )


def size(count: int) -> str:
    """Bytes for people: `999 B`, `1.2 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def counted(count: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


class Progress:
    """A bar on standard error while a long work runs, only on a terminal; gone when it ends."""

    def __init__(self, label: str, *, is_shown: bool = True) -> None:
        self._label = label
        self._is_shown = is_shown and sys.stderr.isatty()
        self._drawn = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            print("\r" + " " * len(self._drawn) + "\r", end="", file=sys.stderr, flush=True)

    def show(self, done: int, total: int) -> None:
        """Draw how far the work is; cheap when nothing changed to the eye."""
        if not self._is_shown:
            return
        share = min(1.0, done / total) if total else 1.0
        bar = "#" * round(share * _BAR)
        line = f"{self._label} [{bar:<{_BAR}}] {share:4.0%}"
        if line != self._drawn:
            self._drawn = line
            print("\r" + line, end="", file=sys.stderr, flush=True)


def print_raw(text: str) -> None:
    """One line whose text was made safe already."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:
        _end_quietly()


def _end_quietly() -> NoReturn:
    """Whoever reads has seen enough, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _padded(text: str, width: int, right: bool = False) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return text + "…"


def _fitted(widths: list[int], least: list[int], room: int) -> list[int]:
    """The widest columns made narrower until all fit, or none can be any narrower."""
    room -= len(_GAP) * (len(widths) - 1)
    widths = list(widths)
    while sum(widths) > room and widths != least:
        _, at = max((width, at) for at, width in enumerate(widths) if width > least[at])
        widths[at] -= 1
    return widths
