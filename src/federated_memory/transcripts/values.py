"""JSON from outside: parsed leniently, and seen as the type a reader hopes for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import orjson


def text_in(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def mapping_in(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def list_in(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def parse_record(raw: bytes) -> dict[str, object] | None:
    """The JSON object in one line, free of lone surrogates; None when the line holds none, even read leniently."""
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        record = _parse_leniently(raw)
    return record if isinstance(record, dict) else None


def decoded(text: str) -> object:
    """The JSON object or list that `text` spells, or `text` itself."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _parse_leniently(raw: bytes) -> object:
    # JavaScript cuts strings in the middle of an emoji and writes the lone half as an escape; crashes leave control
    # characters and broken UTF-8, editors a byte order mark. The rest of such a line is worth reading.
    try:
        value = json.loads(
            raw.decode("utf-8-sig", "replace"),
            strict=False,
            parse_int=_finite,
            parse_float=_finite,
            parse_constant=lambda _: None,
        )
        text = json.dumps(value, ensure_ascii=False)
        return orjson.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
