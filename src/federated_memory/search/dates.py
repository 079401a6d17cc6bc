"""The days that a query names: `in May`, `on 8 May 2023`, `2023-05`."""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?i:(?P<month>jan(?:uary)?|feb(?:ruary)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?))|(?P<word>(?<!\A)(?:May|March|Mar))"  # `may` and `march` are words too
)
_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)[0-9]{2}"
_NAMED = re.compile(
    rf"\b(?:(?P<before>{_DAY}) (?:of )?)?(?:{_MONTH})\b\.?(?: (?P<after>{_DAY})\b(?!:))?(?:,? (?P<year>{_YEAR})\b)?"
)
_NUMBERED = re.compile(rf"(?<![0-9])({_YEAR}-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01]))?)(?!-?[0-9])")
_MOST = 8


def days_named(text: str) -> re.Pattern[str] | None:
    """What the days that a query names begin with, as RFC 3339 writes them; None when it names none."""
    found = [numbered[1] for numbered in _NUMBERED.finditer(text)]
    for named in _NAMED.finditer(text):
        month = _MONTHS.index((named["month"] or named["word"]).lower()[:3]) + 1
        day = (named["before"] or named["after"] or "").rstrip("stndrh")
        found.append(f"{named['year'] or '....'}-{month:02}" + (f"-{int(day):02}" if day else ""))
    return re.compile("|".join(dict.fromkeys(found[:_MOST]))) if found else None
