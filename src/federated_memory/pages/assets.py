"""The few files beside the pages: one style sheet, one script, one icon; in the package, fetched by their digest."""

from __future__ import annotations

import functools
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from federated_memory.errors import NotFound
from federated_memory.names import etag_of
from federated_memory.web.transfer import has_etag
from federated_memory.web.visitors import ASSETS

FOLDER = Path(__file__).parent / "assets"
_TYPES = {
    "icon.svg": "image/svg+xml",
    "pages.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
}


@functools.cache
def _asset(name: str) -> tuple[bytes, str]:
    data = (FOLDER / name).read_bytes()
    return data, etag_of(data)


def asset_url(name: str) -> str:
    """It changes with the file, so that a browser may keep what it has."""
    return f"{ASSETS}/{name}?v={_asset(name)[1][:12]}"


async def page_asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _TYPES:
        raise NotFound("No such file", hint="Open / for the pages")
    data, etag = _asset(name)
    is_named = request.query_params.get("v") == etag[:12]
    headers = {
        "etag": f'"{etag}"',
        "cache-control": "public, max-age=31536000, immutable" if is_named else "no-cache",
        "content-type": _TYPES[name],
        "content-security-policy": "default-src 'none'",
        "cross-origin-resource-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }
    if has_etag(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers)
