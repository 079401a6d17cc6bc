"""Timestamps as agents write them, in the one form that sorts as text."""

from __future__ import annotations

from datetime import datetime, timezone

_SECONDS = range(946_684_800, 4_102_444_800)  # the years 2000 to 2099; the same span in milliseconds does not overlap


def parse_time(value: object) -> str | None:
    """`value` as `2026-11-21T03:59:08.123Z`, or None when it is no time.

    `value` is RFC 3339 text (without a zone it is taken as UTC; digits below the millisecond are dropped), or seconds
    or milliseconds since 1970 between the years 2000 and 2099.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _parse_epoch(value)
    return None


def _parse_text(text: str) -> str | None:
    if len(text) < 19 or text[4] != "-" or text[7] != "-" or text[10] not in "Tt ":
        return None
    try:
        if len(text) == 24 and text[10] == "T" and text[19] == "." and text[23] == "Z":  # nearly every line
            datetime.fromisoformat(text[:23])
            return text
        millis, zone = _split_fraction(text[19:])
        moment = datetime.fromisoformat(text[:19] + zone)
        moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return f"{moment.isoformat()[:19]}.{millis}Z"


def _split_fraction(rest: str) -> tuple[str, str]:
    """`.123456789+0200` as (`123`, `+02:00`); `Z` is the empty zone."""
    millis = "000"
    if rest[:1] in {".", ","}:
        zone = rest[1:].lstrip("0123456789")
        millis = (rest[1 : len(rest) - len(zone)] + "000")[:3]
        rest = zone
    if rest in {"Z", "z"}:
        return millis, ""
    # Python 3.10 reads no zone but `+02:00`.
    return millis, f"{rest[:3]}:{rest[3:] or '00'}" if len(rest) in (3, 5) else rest


def _parse_epoch(number: float) -> str | None:
    if _SECONDS.start <= number < _SECONDS.stop:
        number *= 1000
    elif not _SECONDS.start * 1000 <= number < _SECONDS.stop * 1000:
        return None
    seconds, millis = divmod(round(number), 1000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]}.{millis:03}Z"
