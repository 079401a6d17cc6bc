"""Text as the table of words takes it, and as queries ask for it (SPEC: INDEX-5).

SQLite's tokenizer knows letters and digits. What it cannot know is added here: the parts of `CamelCase`, names of
languages that end in signs, and pairs of characters of scripts that are written without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase, digits

# Scripts written without spaces, and Hangul, whose particles are attached to its words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U000323af"
)
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
_ASCII = bytes(range(0x80))
_UNSPACED_LEAD = re.compile(rb"[\xe0\xe1\xe3-\xef]|\xf0[\xa0-\xbf]")
"""What their characters begin with in UTF-8. Signs of U+2000 to U+2FFF and emoji do not."""
_LANGUAGE = re.compile(r"(?<![0-9A-Za-z])[A-Za-z](?:\+\+|#)(?!\w)")
_SIGNS = {"++": "plusplus", "#": "sharp"}
_LONGEST_NAME = 80
_MOST_NAMES = 400
_NAME_WORD = re.compile(r"[^\W_]+")
_MOST_NAME_WORDS = 4
_SAID_BY = "saidby"
"""Before a name it makes a word that nobody types and no text holds."""

_LETTERS = bytes.maketrans(bytes(range(256)), bytes(
    ord("U") if chr(code) in ascii_uppercase else ord("l") if chr(code) in ascii_lowercase + digits else ord(" ")
    for code in range(256)
))  # fmt: skip
"""Capitals as `U`, small letters and digits as `l`, all else as spaces."""


def indexed(text: str) -> str:
    """What stands in the table of words for `text`."""
    return "\n".join(_parts(text, unicodedata.normalize("NFC", text)))


def _parts(text: str, composed: str) -> list[str]:
    data = text.encode("utf-8", "replace")
    added = [*_humps(data), *_languages(text)]
    spaced = UNSPACED_RUN.sub(_pairs, composed) if may_be_unspaced(data) else composed
    return [spaced, " ".join(added)] if added else [spaced]


def may_be_unspaced(data: bytes) -> bool:
    """Whether UTF-8 may hold scripts without spaces; accents, arrows and lines of tables are no reason."""
    return not data.isascii() and _UNSPACED_LEAD.search(data.translate(None, _ASCII)) is not None


def _humps(data: bytes) -> list[str]:
    """The distinct names with humps, in parts. A regular expression would take four times as long."""
    shape = data.translate(_LETTERS)
    find, rfind, last = shape.find, shape.rfind, len(shape)
    names: dict[bytes, None] = {}
    for hump in (b"lU", b"UUl"):
        at = find(hump)
        while at >= 0 and len(names) < _MOST_NAMES:
            start = rfind(b" ", 0, at) + 1
            end = find(b" ", at)
            if end < 0:
                end = last
            if end - start <= _LONGEST_NAME:
                names[data[start:end]] = None
            at = find(hump, end)
    return [parts for parts in map(_in_parts, names) if " " in parts]  # others are capitals and a digit


def _languages(text: str) -> list[str]:
    """The distinct names of languages that end in signs, spelled out."""
    names: dict[str, None] = {}
    for signs, spelled in _SIGNS.items():
        at = text.find(signs)
        while at >= 0:
            if at and text[at - 1].isalpha() and _LANGUAGE.match(text, at - 1):
                names[text[at - 1] + spelled] = None
            at = text.find(signs, at + len(signs))
    return list(names)


@lru_cache(4096)
def _in_parts(name: bytes) -> str:
    return " ".join(HUMP.split(name.decode()))


def _pairs(run: re.Match[str]) -> str:
    text = run[0]
    return f" {' '.join([*(text[at : at + 2] for at in range(len(text) - 1)), text[-1]])} "


def with_speakers(text: str, names: Iterable[str]) -> str:
    """What stands in the table of words for what these people said. What Unicode spells in another way than they did
    stands there as they did too: exact queries look for that."""
    composed = unicodedata.normalize("NFC", text)
    parts = _parts(text, composed)
    if composed != text:
        parts.append(UNSPACED_RUN.sub(_pairs, text))
    parts += (_SAID_BY + word for name in names for word in _NAME_WORD.findall(name)[:_MOST_NAME_WORDS])
    return "\n".join(parts)


def said_by(word: str) -> str:
    """An expression that finds what somebody of that name said."""
    return f'"{_SAID_BY}{word}"'


def phrase(words: list[str]) -> str:
    """An expression that finds these words in a row; each is letters and digits, or a run of an unspaced script."""
    parts: list[str] = []
    for word in words:
        if UNSPACED_RUN.fullmatch(word):
            parts += [word[at : at + 2] for at in range(len(word) - 1)] or [word]
        else:
            parts.append(word)
    # The last character of a run stands alone, so that a single one can be asked for by what pairs begin with.
    is_single = len(words) == 1 and len(parts) == 1 and bool(UNSPACED_RUN.fullmatch(parts[0])) and len(parts[0]) == 1
    return f'"{" ".join(parts)}"' + ("*" if is_single else "")


def language(letter: str, signs: str) -> str:
    """An expression that finds `C++` and `C#`."""
    return f'"{letter}{_SIGNS[signs]}"'


def grams_of(text: str, most: int = 12) -> list[str]:
    """Runs of three characters that stand in every row that holds `text`, at most so many, spread over it: each costs
    time, and after a dozen hardly a row is left that holds all of them and not the text."""
    grams = list(dict.fromkeys(text[at : at + 3] for at in range(len(text) - 2)))
    usable = [gram for gram in grams if "\0" not in gram and "\ufffd" not in gram]
    step = max(1, -(-len(usable) // most))
    return usable[::step]


def quoted(gram: str) -> str:
    return '"' + gram.replace('"', '""') + '"'
