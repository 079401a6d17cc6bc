"""Which paths are pages, and the cookie of those who are signed in on them (SPEC: SITE-1, SITE-2)."""

from __future__ import annotations

import hashlib
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from federated_memory.settings import Settings

VISIT = "federated_memory.visit"
"""Key of the ASGI scope under which the gate leaves the visit of a signed-in request."""
SIGN_IN, ASSETS = "/sign-in", "/assets"
_OPEN = frozenset({"sign-in", "assets"})
_CLOSED = frozenset({"admin", "machines", "memories", "search", "sign-out", "w"})


def is_page(path: str) -> bool:
    return path == "/" or _first_part(path) in _OPEN | _CLOSED


def is_open_page(path: str) -> bool:
    """Whether it is shown to whoever is not signed in."""
    return _first_part(path) in _OPEN


def cookie_name(settings: Settings) -> str:
    """Behind TLS with the prefix that lets no other host, and no plain HTTP, set it.

    A browser sends cookies to every port of a host: servers of several roots need names of their own.
    """
    name = "fedmem-" + hashlib.sha256(str(settings.root).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"__Host-{name}" if is_secure(settings) else name


def is_secure(settings: Settings) -> bool:
    return settings.public_url.startswith("https://")


def cookie_of(scope: Scope, name: str) -> str:
    """The value of a cookie; empty when there is none, or two that differ."""
    found = set()
    for key, value in scope["headers"]:
        if key == b"cookie":
            for part in value.decode("latin-1").split(";"):
                its_name, _, its_value = part.strip().partition("=")
                if its_name == name:
                    found.add(its_value)
    return found.pop() if len(found) == 1 else ""


def to_sign_in(scope: Scope) -> Response:
    """Off to the sign-in page, and back here afterwards when this was only read."""
    target = quote(scope["path"])
    if scope.get("query_string"):
        target += "?" + scope["query_string"].decode("latin-1")
    is_home = scope["path"] == "/" or scope["method"] not in ("GET", "HEAD")
    url = SIGN_IN if is_home else f"{SIGN_IN}?{urlencode({'next': target})}"
    return RedirectResponse(url, 303, {"cache-control": "no-store"})


def _first_part(path: str) -> str:
    return path[1:].partition("/")[0]
