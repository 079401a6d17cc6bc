"""Templates to answers: everything escaped, nothing from other hosts, nothing cached (SPEC: SITE-4, SITE-5)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

from federated_memory import __version__
from federated_memory.pages.asked import Asked
from federated_memory.pages.assets import asset_url
from federated_memory.pages.hidden import with_hidden_shown
from federated_memory.transcripts.times import parse_time

if TYPE_CHECKING:  # loaded with the first page: nobody else has a use for them
    import jinja2
    from markupsafe import Markup

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: browsers would then send forms with the origin `null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_EMPHASIS = re.compile(r"(\*\*|__|`)(\S[^*_`]*)\1")
_STEPS = ((60, "second"), (60, "minute"), (24, "hour"), (7, "day"), (4.35, "week"), (12, "month"), (1e9, "year"))


def page(asked: Asked, template: str, status: int = 200, **values: Any) -> Response:
    """A whole page. `title` and `section` (the entry of the navigation) are among the values."""
    common = {
        "caller": asked.caller,
        "visit": asked.visit,
        "form_token": asked.visit.form_token if asked.visit else "",
        "query_text": "",
        "notice": "",
        "section": "",
    }
    body = _environment().get_template(template).render({**common, **values})
    return HTMLResponse(with_hidden_shown(body), status, HEADERS)


def redirect(url: str) -> Response:
    """To another page of ours, after a form."""
    return RedirectResponse(url, 303, HEADERS)


def url_of(*parts: str, **query: object) -> str:
    """A path of these parts; a part may hold slashes, which stay. Empty values of the query are left out."""
    path = "/" + "/".join(quote(part, safe="/") for part in parts)
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return path + (f"?{urlencode(given)}" if given else "")


def load_templates() -> None:
    """Compile all of them: later pages need not."""
    for name in _environment().list_templates():
        _environment().get_template(name)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("federated_memory.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals.update(url_of=url_of, asset_url=asset_url, version=__version__)
    found.filters.update(ago=ago, moment=moment, size=size, marks=marks, count=count, without_marks=without_marks)
    return found


def ago(at: str | None, now: datetime | None = None) -> str:
    """`3 hours ago`; empty for no time."""
    when = _datetime(at)
    if when is None:
        return ""
    amount: float = max(0.0, ((now or datetime.now(timezone.utc)) - when).total_seconds())
    if amount < 45:
        return "just now"
    for step, unit in _STEPS:
        if amount < step:
            whole = max(1, int(amount))
            return f"{whole} {unit}{'' if whole == 1 else 's'} ago"
        amount /= step
    return ""


def moment(at: str | None) -> str:
    """`2026-11-21 08:15`, in UTC; empty for no time."""
    when = _datetime(at)
    return "" if when is None else when.strftime("%Y-%m-%d %H:%M")


def size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:.1f} {unit}"


def count(number: int, one: str, more: str = "") -> str:
    """`1 session`, `12,345 sessions`."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def without_marks(text: str) -> str:
    """A line of Markdown without the signs that make words bold or code."""
    return _EMPHASIS.sub(r"\2", text)


def marks(snippet: str) -> Markup:
    """A snippet with its «…» marked, and all of it escaped."""
    from markupsafe import Markup, escape

    pieces = str(escape(snippet)).split("«")
    found = [pieces[0]]
    for piece in pieces[1:]:
        inside, closed, after = piece.partition("»")
        found.append(f"<mark>{inside}</mark>{after}" if closed else f"«{piece}")
    return Markup("".join(found))


def as_query(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _datetime(at: str | None) -> datetime | None:
    text = parse_time(at) if at else None
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
