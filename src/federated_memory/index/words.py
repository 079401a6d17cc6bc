"""Text as the table of words takes it, and as queries ask for it (SPEC: INDEX-5).

SQLite's tokenizer knows letters and digits. What it cannot know is added here: the parts of `CamelCase`, names of
languages that end in signs, and pairs of characters of scripts that are written without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

import re2

# Scripts written without spaces, and Hangul, whose particles are attached to its words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U000323af"
)
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
_LANGUAGE = re.compile(r"(?<![0-9A-Za-z])([A-Za-z])(\+\+|#)(?!\w)")
_SIGNS = {"++": "plusplus", "#": "sharp"}
_LONGEST_NAME = 80
_MOST_NAMES = 400
_NAME_WORD = re.compile(r"[^\W_]+")
_MOST_NAME_WORDS = 4
_SAID_BY = "saidby"
"""Before a name it makes a word that nobody types and no text holds."""


def _over_bytes(pattern: str) -> Any:
    """Every row is looked through: RE2 does it in a quarter of the time that `re` takes."""
    options = re2.Options()
    options.never_capture = True
    return re2.compile(pattern, options)


_HUMPED_NAME = _over_bytes("[0-9A-Za-z]*(?:[a-z0-9][A-Z]|[A-Z][A-Z][a-z])[0-9A-Za-z]*")
_LANGUAGE_INSIDE = _over_bytes(r"[A-Za-z](?:\+\+|#)")


def indexed(text: str) -> str:
    """What stands in the table of words for `text`."""
    data = text.encode("utf-8", "replace")
    added = _humps(data)
    if _LANGUAGE_INSIDE.search(data):
        added += {f"{letter}{_SIGNS[signs]}" for letter, signs in _LANGUAGE.findall(text)}
    if not text.isascii():
        text = _UNSPACED_RUN.sub(_pairs, unicodedata.normalize("NFC", text))
    return f"{text}\n{' '.join(added)}" if added else text


def _humps(data: bytes) -> list[str]:
    """The distinct names with humps, in parts."""
    names = dict.fromkeys(_HUMPED_NAME.findall(data))
    return [_in_parts(name) for name in islice(names, _MOST_NAMES) if len(name) <= _LONGEST_NAME]


@lru_cache(4096)
def _in_parts(name: bytes) -> str:
    return " ".join(HUMP.split(name.decode()))


def _pairs(run: re.Match[str]) -> str:
    text = run[0]
    return f" {' '.join([*(text[at : at + 2] for at in range(len(text) - 1)), text[-1]])} "


def with_speakers(text: str, names: Iterable[str]) -> str:
    """What stands in the table of words for what these people said."""
    marks = " ".join(_SAID_BY + word for name in names for word in _NAME_WORD.findall(name)[:_MOST_NAME_WORDS])
    return f"{indexed(text)}\n{marks}" if marks else indexed(text)


def said_by(word: str) -> str:
    """An expression that finds what somebody of that name said."""
    return f'"{_SAID_BY}{word}"'


def phrase(words: list[str]) -> str:
    """An expression that finds these words in a row; each is letters and digits, or a run of an unspaced script."""
    parts: list[str] = []
    for word in words:
        if _UNSPACED_RUN.fullmatch(word):
            parts += [word[at : at + 2] for at in range(len(word) - 1)] or [word]
        else:
            parts.append(word)
    # The last character of a run stands alone, so that a single one can be asked for by what pairs begin with.
    is_single = len(words) == 1 and len(parts) == 1 and bool(_UNSPACED_RUN.fullmatch(parts[0])) and len(parts[0]) == 1
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
