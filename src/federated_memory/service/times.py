"""Time filters: a date or an RFC 3339 time, as the text that stored times compare with."""

from __future__ import annotations

from federated_memory.errors import InvalidArgument
from federated_memory.transcripts.times import parse_time

_DATE_CHARACTERS = len("2026-11-21")


def parse_since(text: str | None) -> str | None:
    return _parse(text, "T00:00:00.000Z")


def parse_until(text: str | None) -> str | None:
    """A date includes its whole day."""
    return _parse(text, "T23:59:59.999Z")


def _parse(text: str | None, rest_of_day: str) -> str | None:
    if not text:
        return None
    found = parse_time(text + rest_of_day if len(text) == _DATE_CHARACTERS else text)
    if found is None:
        raise InvalidArgument("since and until take a date or time", hint="Such as 2026-11-21 or 2026-11-21T08:00:00Z")
    return found
