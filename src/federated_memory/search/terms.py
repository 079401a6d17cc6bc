"""What a person typed in `ranked` mode, as terms to look for. Nothing typed is an error.

Terms are joined by *or*. A word counts in its forms; an identifier (`a.b-c/d_e`, `snake_case`, `CamelCase`) whole and
in its parts; Chinese, Japanese, Korean and Thai text as a substring, whole and in pairs; a "quoted phrase" as its words
in that order; what the same thing is called too counts for less. `-word` and `-"a phrase"` exclude, `-x` and `-rf` do
not.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from federated_memory.index import words as index_words
from federated_memory.index.words import HUMP, UNSPACED
from federated_memory.search.alike import alike
from federated_memory.search.words import STOP_WORDS, common_start, forms, other_forms, stem_of

_MAX_TERMS = 32
_MAX_PHRASE_WORDS = 16
_LONGEST_OPTION = 3  # its sign included
_NEEDLE_CHARACTERS = 3
_PART_WEIGHT = 0.5
_PAIR_WEIGHT = 0.4
_ALIKE_WEIGHT = 0.5
_PHRASE_WEIGHT = 2.0

_PHRASE = re.compile(r'(?<!\S)(-?)"([^"]*)"')
_QUOTES = dict.fromkeys(map(ord, "“”„«»＂"), '"')
_APOSTROPHES = dict.fromkeys(map(ord, "'’ʼ`"), " ")
_TOKEN = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])[^\W_])+")
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")
_IS_NUMBERED = re.compile(r"\A[^/\\]*\d[^/\\]*\Z")
"""Of a chunk of several parts: that it names one thing. Of a path, other forms may stand in the text that is meant."""
_LANGUAGE = re.compile(r"[A-Za-z](?:\+\+|#)(?!\w)")

_EDGE = "\ue000"  # stands for a word boundary of ASCII, which the engines write differently
_BETWEEN_WORDS = "[^0-9A-Za-z]{1,8}"
_BETWEEN_PARTS = r"[^0-9A-Za-z\s]{0,2}"
_LINE_END = r"[^0-9A-Za-z]{0,8}$"


@dataclass(frozen=True, slots=True)
class Term:
    """`needle` is a pattern that is found wherever a match is, also in JSON, where an escape may stand before a word.
    `line_template`, if any, is the pattern of what one line can show of a match that goes on in the next. `match` is an
    expression of SQLite's FTS5 that finds the term in the index, `speaker`, if any, one for what somebody of that name
    said. `initials`, if any, are the letters that a match may begin with. `whole`, if any, is the name of one thing,
    such as `req-7f3a-0012`, that the term is a part of. `alike_of`, if any, is the text of the term that this one
    stands in for, in other words."""

    text: str
    weight: float
    needle: str
    template: str
    line_template: str = ""
    match: str = ""
    speaker: str = ""
    initials: str = ""
    whole: str = ""
    alike_of: str = ""

    def needle_pattern(self) -> str:
        return self.needle.replace(_EDGE, r"\b")

    def pattern(self, edge: str = r"\b") -> str:
        return self.template.replace(_EDGE, edge)

    def line_pattern(self, edge: str = r"\b") -> str:
        return (self.line_template or self.template).replace(_EDGE, edge)


@dataclass(frozen=True, slots=True)
class Terms:
    """`weak` are the stop words of a query that has other words too: for when nothing holds any of those."""

    wanted: tuple[Term, ...]
    excluded: tuple[Term, ...]
    weak: tuple[Term, ...] = ()


def parse_terms(text: str) -> Terms:
    """The terms of a query, at most 32; stop words, and excluded words, only when there is nothing else to look for."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").translate(_QUOTES)
    text = unicodedata.normalize("NFC", text)
    wanted: list[Term] = []
    weak: list[Term] = []
    excluded: list[Term] = []
    for minus, phrase in _PHRASE.findall(text):
        (excluded if minus else wanted).extend(_phrase(phrase)[: 1 if minus else None])
    for chunk in _PHRASE.sub(" ", text).translate(_APOSTROPHES).split():
        if chunk[0] == "-" and chunk[1:2].isalnum() and not _is_option(chunk):
            excluded += _word(chunk)[:1]
        else:
            (weak if _is_stop_word(chunk) else wanted).extend(_word(chunk))
    if not wanted:
        return Terms(_distinct(weak or excluded), _distinct(excluded if weak else ()))
    return Terms(_distinct([*wanted, *_in_other_words(wanted)]), _distinct(excluded), _distinct(weak))


def _in_other_words(wanted: Sequence[Term]) -> Iterator[Term]:
    """What else the things are called that whole words of the query name."""
    named = {stem_of(term.text) for term in wanted}
    for term in wanted:
        if term.weight == 1.0:
            others = [word for word in alike(term.text) if stem_of(word) not in named]
            if others:
                yield replace(_in_forms(f"~{term.text}", others), weight=_ALIKE_WEIGHT, alike_of=term.text)


def _is_option(chunk: str) -> bool:
    """`-X` and `-rf` belong to a command that somebody looks for."""
    return chunk.isascii() and len(chunk) <= _LONGEST_OPTION


def _is_stop_word(chunk: str) -> bool:
    tokens = _TOKEN.findall(chunk)
    return len(tokens) == 1 and tokens[0].lower() in STOP_WORDS


def _distinct(terms: Iterable[Term]) -> tuple[Term, ...]:
    best: dict[str, Term] = {}
    for term in terms:
        if term.text not in best or best[term.text].weight < term.weight:
            best[term.text] = term
    # Longer ones first: where two begin at the same place, an alternation finds the first it names.
    return tuple(sorted(list(best.values())[:_MAX_TERMS], key=lambda term: (-len(term.text), term.text)))


def _phrase(text: str) -> list[Term]:
    words = [token.lower() for token in _TOKEN.findall(text)][:_MAX_PHRASE_WORDS]
    if len(words) < 2:
        return _word(text)
    spelled = [_opening(words[0]), *map(_anycase, words[1:])]
    pairs = itertools.pairwise(words)
    separators = [_BETWEEN_WORDS if a.isascii() or b.isascii() else _BETWEEN_PARTS for a, b in pairs]
    whole = line = spelled[-1] + _ending(words[-1])
    for word, separator in zip(spelled[-2::-1], separators[::-1], strict=True):
        whole = word + separator + whole
        line = f"{word}(?:{separator}{line}|{_LINE_END})"
    needle = _needle(max(words, key=len))
    return [Term(" ".join(words), _PHRASE_WEIGHT, needle, whole, line, index_words.phrase(words))]


def _word(chunk: str) -> list[Term]:
    """The terms of a chunk without white space: a word, or an identifier and its parts."""
    if language := _LANGUAGE.match(chunk):
        name = language[0].lower()
        marks = "".join(f"\\{mark}" for mark in name[1:])
        match = index_words.language(name[0], name[1:])
        return [Term(name, 1.0, _anycase(name[0]) + marks, _opening(name[0]) + marks, match=match)]
    tokens = _TOKEN.findall(chunk)
    parts = [part for token in tokens for part in (HUMP.split(token) if token.isascii() else [token])]
    if len(parts) < 2:
        return [term for part in parts for term in _simple(part)]
    found = [_identifier([part.lower() for part in parts])]
    whole = found[0].text if _IS_NUMBERED.search(chunk) else ""
    if len(tokens) == 1:  # McKenzie
        found = [replace(found[0], speaker=index_words.said_by(tokens[0].lower()))]
    for part in parts:
        if len(part) > 1 and part.lower() not in STOP_WORDS:
            found += (replace(term, weight=term.weight * _PART_WEIGHT, whole=whole) for term in _simple(part))
    return found


def _identifier(parts: Sequence[str]) -> Term:
    """The parts in a row, however they are joined: `session_id`, `session-id`, `sessionId`."""
    template = _BETWEEN_PARTS.join((_opening(parts[0]), *map(_anycase, parts[1:])))
    plural = "s?" if parts[-1].isascii() else ""
    longest = max(parts, key=len)
    needle = _anycase(longest) if len(longest) >= _NEEDLE_CHARACTERS else _BETWEEN_PARTS.join(map(_anycase, parts))
    match = index_words.phrase(list(parts))
    if all(part.isascii() for part in parts):
        match += f' OR "{"".join(parts)}"'
    return Term("".join(parts), 1.0, needle, template + plural + _ending(parts[-1]), match=match)


def _simple(token: str) -> list[Term]:
    """A word in its forms, or text of an unspaced script: whole, and in pairs when it is longer."""
    word = token.lower()
    if word[0].isascii():
        return [replace(_in_forms(word, (word, *other_forms(word))), speaker=index_words.said_by(word))]
    speaker = index_words.said_by(word)
    found = [Term(word, 1.0, _anycase(word), _anycase(word), match=index_words.phrase([word]), speaker=speaker)]
    if _IS_UNSPACED.match(word) and len(word) > 2:
        pairs = (word[at : at + 2] for at in range(len(word) - 1))
        found += (Term(pair, _PAIR_WEIGHT, _anycase(pair), _anycase(pair), match=f'"{pair}"') for pair in pairs)
    return found


def _in_forms(text: str, words: Sequence[str]) -> Term:
    """A term that finds any of these words, in their forms."""
    return Term(
        text,
        1.0,
        _either(_needle(common_start(one)) for one in words),
        _either(_spelled(one) for one in words),
        match=" OR ".join(f'"{one}"' for one in words),
        initials="".join(one[0] for one in words),
    )


def _spelled(word: str) -> str:
    rest = "|".join(form[1:] for form in forms(word))
    return _opening(word[0]) + _anycase(rest) + _ending(word)


def _either(patterns: Iterable[str]) -> str:
    found = list(patterns)
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"


def _needle(start: str) -> str:
    """What begins a word. One or two letters are too common to be looked for inside words."""
    return _anycase(start) + ("" if len(start) >= _NEEDLE_CHARACTERS else _ending(start))


def _opening(word: str) -> str:
    """`word`, where a word may begin: after a boundary, a digit or `_`, or as a hump of CamelCase."""
    first, rest = word[0], _anycase(word[1:])
    if not first.isascii():
        return _anycase(word)
    if first.isdigit():
        return f"(?:{_EDGE}|[_A-Za-z]){first}{rest}"
    return f"(?:(?:{_EDGE}|[_0-9])[{first}{first.upper()}]|[a-z]{first.upper()}){rest}"


def _ending(word: str) -> str:
    """Where a word may end. Other scripts than the Latin one know no boundary that the engines agree on."""
    if not word[-1].isascii():
        return ""
    return f"(?:{_EDGE}|[_A-Za-z])" if word[-1].isdigit() else f"(?:{_EDGE}|[_0-9A-Z])"


def _anycase(pattern: str) -> str:
    return f"(?i:{pattern})" if pattern else ""
