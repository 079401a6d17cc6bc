"""`/client/…`: what a new machine fetches before it has a token (SPEC: ENROL-9, ENROL-10)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.names import etag_of
from federated_memory.operate.shipped import CLIENT_FILES
from federated_memory.settings import Settings
from federated_memory.web.transfer import has_etag, in_thread

_TYPES = {
    ".py": "text/x-python; charset=utf-8",
    ".sh": "text/x-shellscript; charset=utf-8",
    ".ps1": "text/plain; charset=utf-8",
    ".json": "application/json",
}
_ORIGIN = b"@ORIGIN@"
_SCRIPTS = (".sh", ".ps1")
_HOST = re.compile(r"(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?\Z", re.IGNORECASE)
_PLAIN_IN_SCRIPTS = ":/[]%-._~"
"""Beside letters and digits: what neither sh nor PowerShell takes for anything else, in quotes or out of them."""


class ClientFiles:
    """The client's files, as they are; in the two installers `@ORIGIN@` is this server's origin."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings

    def all(self) -> list[Route]:
        return [Route(f"/client/{name}", self.send, methods=["GET"]) for name in CLIENT_FILES]

    async def send(self, request: Request) -> Response:
        """GET and HEAD."""
        path = self._folder / request.url.path.rpartition("/")[2]
        try:
            data = await in_thread(path.read_bytes)
        except FileNotFoundError:
            raise NotFound(
                f"This server was installed without {path.name}", hint="Install the package anew on the server"
            ) from None
        if path.suffix in _SCRIPTS:
            data = data.replace(_ORIGIN, _safe_in_scripts(origin_of(request, self._settings)))
        etag = etag_of(data)
        headers = {
            "etag": f'"{etag}"',
            "cache-control": "no-cache",
            "x-content-type-options": "nosniff",
            "content-type": _TYPES[path.suffix],
        }
        if has_etag(request, etag):
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers={**headers, "content-length": str(len(data))})
        return Response(data, headers=headers)


def origin_of(request: Request, settings: Settings) -> str:
    """What clients reach this server by: PUBLIC_URL, else the Host that the gate let pass.

    Raises:
        InvalidArgument: That Host is no host and port.
    """
    if settings.public_url:
        return settings.public_url
    host = request.headers.get("host", "")
    if not _HOST.match(host):
        raise InvalidArgument("The Host header is no host name and port", hint="Send one, or set PUBLIC_URL")
    return f"http://{host.lower()}"


def _safe_in_scripts(origin: str) -> bytes:
    return quote(origin, safe=_PLAIN_IN_SCRIPTS).encode("ascii")
