"""Stored text inside a text for a model: between marks it cannot forge, every character of it seen (SPEC: SEC-4)."""

from __future__ import annotations

import re
import secrets

from federated_memory.names import is_seen

_TERMINAL = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # colours, cursor movements
    "|\x1b\\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\\\)"  # titles, links
    "|\x1b[ -/]{0,8}[0-~]"
)
_SPACES = re.compile(r"[^\S\n\t ]")


def new_mark() -> str:
    """A word that no stored text can know."""
    return secrets.token_hex(4)


def fenced(text: str, mark: str = "") -> str:
    mark = mark or new_mark()
    return f"<<<{mark}\n{text}\n{mark}>>>"


def one_line(text: str) -> str:
    """Stored text on one line: whatever does not print becomes a space."""
    text = text.replace("\n", " ")
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def inner(text: str) -> str:
    """Text whose further lines are indented, so that none can look like the next entry of a list."""
    return text.replace("\n", "\n ")


def visible(text: str) -> str:
    """The text without what steers a terminal or hides from a person but not from a model. Never longer in JSON."""
    if text.isascii() and text.isprintable():
        return text
    plain = _SPACES.sub(" ", _TERMINAL.sub("", text.replace("\r\n", "\n")))
    return "".join(character for character in plain if character in "\n\t" or is_seen(character))


def visible_line(text: str, limit: int) -> str:
    """`visible` text on one line of at most `limit` characters."""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
