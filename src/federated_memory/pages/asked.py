"""One request of a page: who asks for what, and the checks that every form passes (SPEC: SITE-3)."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import QueryParams
from starlette.requests import Request

from federated_memory.auth.caller import CALLER, Caller
from federated_memory.auth.visits import Visit
from federated_memory.errors import Forbidden, InvalidArgument
from federated_memory.web.transfer import read_small
from federated_memory.web.visitors import VISIT

_MAX_FORM_BYTES = 64 * 1024
_MAX_FIELDS = 50
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Asked:
    request: Request
    caller: Caller
    visit: Visit | None
    """None on the pages that are open to everybody."""
    form: Mapping[str, str] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set once nobody waits for the answer any more."""

    @property
    def query(self) -> QueryParams:
        return self.request.query_params

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def number(self, name: str) -> int | None:
        """A whole number of the query, from 0. Raises: InvalidArgument: it is something else."""
        text = self.query.get(name, "").strip()
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise InvalidArgument(f"{name} is not a whole number", hint="Go back and follow a link of the page")
        return int(text)


async def asked_of(request: Request) -> Asked:
    """Raises: Forbidden, InvalidArgument, TooLarge: a form that is not from one of our pages."""
    caller: Caller = request.scope[CALLER]
    visit: Visit | None = request.scope.get(VISIT)
    if request.method != "POST":
        return Asked(request, caller, visit)
    ensure_same_origin(request)
    form = await _form(request)
    if visit is not None:
        ensure_form_token(form, visit.form_token)
    return Asked(request, caller, visit, form)


def ensure_same_origin(request: Request) -> None:
    """Every browser says where a form comes from. Raises: Forbidden: from elsewhere, or not said."""
    origin = request.headers.get("origin", "")
    if not origin or urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise Forbidden("This form was not sent from a page of this server", hint="Open the page here and send it anew")


def ensure_form_token(form: Mapping[str, str], expected: str) -> None:
    given = form.get("form_token", "")
    if not expected or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        raise Forbidden("This form is out of date", hint="Open the page again and send it anew")


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise InvalidArgument("This is no form", hint=f"Send {_FORM}")
    data = await read_small(request, _MAX_FORM_BYTES)
    try:
        found = parse_qs(data.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidArgument("This is no form", hint=f"Send {_FORM} as UTF-8") from None
    return {name: values[-1] for name, values in found.items()}
