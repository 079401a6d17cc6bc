"""Links between the pages of a list: forward by the service's cursor, back by those that led here (SPEC: SITE-14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from federated_memory.pages.asked import Asked
from federated_memory.pages.rendering import as_query

_BETWEEN, _FORGOTTEN = ".", "-"
_MOST_CHARACTERS = 4_000
"""Of the way back: what an address may be long has its limits. Beyond, the way back ends at what is remembered."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Addresses; empty where there is none. `first` is empty on the first page."""

    first: str
    previous: str
    next: str


def pages_of(asked: Asked, path: str, given: Mapping[str, str], next_cursor: str | None) -> Pages:
    """`given`: what else the addresses of this list hold."""
    cursor, trail = asked.query.get("cursor", ""), asked.query.get("trail", "")
    # The cursors of the pages between the first and this one; `_FORGOTTEN` stands for those dropped.
    before = trail.split(_BETWEEN) if trail else []

    def url(wanted: str, way: list[str]) -> str:
        query = as_query({**given, "cursor": wanted, "trail": _BETWEEN.join(way)})
        return f"{path}?{urlencode(query)}" if query else path

    previous = ""
    if cursor and not before:
        previous = url("", [])
    elif cursor and before[-1] != _FORGOTTEN:
        previous = url(before[-1], before[:-1])
    return Pages(
        first=url("", []) if cursor else "",
        previous=previous,
        next=url(next_cursor, _kept([*before, cursor] if cursor else [])) if next_cursor else "",
    )


def _kept(way: list[str]) -> list[str]:
    if len(_BETWEEN.join(way)) <= _MOST_CHARACTERS:
        return way
    kept = way[1:]  # one of the way, or the mark of an earlier cut
    while len(kept) > 1 and len(_BETWEEN.join(kept)) > _MOST_CHARACTERS:
        kept = kept[1:]
    return [_FORGOTTEN, *kept]
