"""Sections of a text, fitted to a budget in order of worth (SPEC: BRIEF-2).

Each section is told how many bytes it has, counted as in JSON, and gives as much of itself as fits. Shares say how the
room is divided when it is short; what a section leaves over goes to the others, the worthiest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from federated_memory.service.framing import fenced
from federated_memory.service.pages import cut_text, json_bytes

LEAST_BYTES = 320
"""With less room than this, a section that is longer says too little to be worth it."""
_LEAST_BODY_BYTES = 60
_NATURAL = 1 << 22
CUT = " […]"


@dataclass(frozen=True, slots=True)
class Fitted:
    text: str
    is_whole: bool


Fit = Callable[[int], Fitted]
NOTHING = Fitted("", False)


@dataclass(frozen=True, slots=True)
class Section:
    share: float
    fit: Fit


def lay_out(sections: Sequence[Section], room: int) -> Fitted:
    """The sections one after the other, in at most `room` bytes of JSON."""
    wholes = [section.fit(_NATURAL) for section in sections]
    sizes = [json_bytes(whole.text) for whole in wholes]
    given = _divided(sections, sizes, room)
    fitted = [
        whole if size <= has else section.fit(has)
        for section, whole, size, has in zip(sections, wholes, sizes, given, strict=True)
    ]
    # What a section could not use, since a heading or a row did not fit, may be enough for another one.
    spare = room - sum(json_bytes(one.text) for one in fitted)
    for number, section in enumerate(sections):
        if not fitted[number].is_whole:
            used = json_bytes(fitted[number].text)
            fitted[number] = section.fit(used + spare)
            spare += used - json_bytes(fitted[number].text)
    return Fitted("".join(one.text for one in fitted), all(one.is_whole for one in fitted))


def _divided(sections: Sequence[Section], sizes: Sequence[int], room: int) -> list[int]:
    """What each section gets: first, in order of worth, the least that lets it speak; then its share; then the rest."""
    given = [0] * len(sections)
    for number, size in enumerate(sizes):
        least = min(size, LEAST_BYTES)
        if least <= room:
            given[number] = least
            room -= least
    speaking = [number for number, size in enumerate(sizes) if given[number] or not size]
    total = sum(sections[number].share for number in speaking)
    shares = {number: int(room * sections[number].share / total) for number in speaking}
    for most in (shares, dict.fromkeys(speaking, room)):
        for number in speaking:
            more = min(sizes[number] - given[number], most[number], room)
            given[number] += more
            room -= more
    return given


# -- kinds of sections


def plain(text: str) -> Fit:
    """Words of ours: all of them or none."""
    whole = Fitted("\n\n" + text, True)
    return lambda budget: whole if json_bytes(whole.text) <= budget else NOTHING


def document(heading: str, body: str, mark: str, *, more: str, is_whole: bool = True) -> Fit:
    """A stored text below its heading, cut at its end; `more` says where all of it is."""

    def fit(budget: int) -> Fitted:
        if is_whole:
            whole = _framed(heading, body, mark)
            if json_bytes(whole) <= budget:
                return Fitted(whole, True)
        room = budget - json_bytes(_framed(heading, CUT, mark, more))
        if room < _LEAST_BODY_BYTES:
            return NOTHING
        return Fitted(_framed(heading, _cut_at_line(body, room) + CUT, mark, more), False)

    return fit


def rows(heading: str, lines: Sequence[str], mark: str, *, more: str, is_whole: bool = True) -> Fit:
    """Lines of stored text below their heading, as many as fit."""

    def fit(budget: int) -> Fitted:
        for count in range(len(lines), 0, -1):
            complete = is_whole and count == len(lines)
            text = _framed(heading, "\n".join(lines[:count]), mark, "" if complete else more)
            if json_bytes(text) <= budget:
                return Fitted(text, complete)
        return NOTHING

    return fit


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing somebody said, `label` before it."""

    label: str
    text: str


def conversation(heading: str, title: str, exchanges: Sequence[Sequence[Piece]], mark: str, *, more: str) -> Fit:
    """The newest exchange first in worth, last in place; a third of the room is its first piece's."""

    def fit(budget: int) -> Fitted:
        room = budget - json_bytes(_framed(heading, title, mark, more))
        if room < 0:
            return NOTHING
        parts: list[str] = []
        is_whole = True
        for exchange in exchanges:
            if is_whole and room >= _LEAST_BODY_BYTES:
                text, is_whole = _exchange(exchange, room)
                room -= json_bytes(text)
                parts.insert(0, text)
            else:
                is_whole = False
        return Fitted(_framed(heading, title + "".join(parts), mark, more), is_whole)

    return fit


def _exchange(pieces: Sequence[Piece], room: int) -> tuple[str, bool]:
    sizes = [json_bytes(_piece(piece, piece.text)) for piece in pieces]
    texts, is_whole = [], True
    for number, piece in enumerate(pieces):
        following = sum(sizes[number + 1 :])
        given = room if number == len(pieces) - 1 else max(room // 3, room - following)
        text = _piece(piece, piece.text)
        if sizes[number] > given:
            is_whole = False
            inside = given - json_bytes(_piece(piece, CUT))
            text = _piece(piece, cut_text(piece.text, inside) + CUT) if inside > 0 else ""
        room -= json_bytes(text)
        texts.append(text)
    return "".join(texts), is_whole


def _piece(piece: Piece, text: str) -> str:
    return f"\n{piece.label}: {text}"


def _framed(heading: str, body: str, mark: str, after: str = "") -> str:
    return f"\n\n{heading}\n{fenced(body, mark)}" + (f"\n{after}" if after else "")


def _cut_at_line(text: str, budget: int) -> str:
    cut = cut_text(text, budget)
    end = cut.rfind("\n", len(cut) * 2 // 3)
    return cut[:end] if end > 0 and len(cut) < len(text) else cut
