"""The pages' routes, and what stands around each: forms are checked, errors become pages (SPEC: SITE-3, SITE-12)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory import boundary
from federated_memory.auth.caller import CALLER
from federated_memory.errors import InvalidArgument, RateLimited
from federated_memory.pages.asked import Asked, asked_of
from federated_memory.pages.assets import page_asset
from federated_memory.pages.rendering import page
from federated_memory.service.services import Services
from federated_memory.web.problems import OUTCOME, BodyStalled
from federated_memory.web.visitors import ASSETS, SIGN_IN, VISIT

if TYPE_CHECKING:
    from federated_memory.pages.handlers import Handler

_SEARCHES = 4
"""How many go on at once; others wait, and hold up nobody else."""
_WORKSPACE = "/w/{workspace_id}"
SHOWN = {
    "/": "home",
    "/machines": "machines",
    "/memories": "memories",
    "/search": "search",
    "/admin": "admin",
    SIGN_IN: "sign_in_form",
    _WORKSPACE: "workspace",
    _WORKSPACE + "/knowledge": "knowledge",
    _WORKSPACE + "/knowledge/{path:path}": "document",
    _WORKSPACE + "/deleted": "deleted",
    _WORKSPACE + "/history": "history",
    _WORKSPACE + "/history/{path:path}": "history",
    _WORKSPACE + "/memories": "workspace_memories",
    _WORKSPACE + "/memories/{memory_id}": "memory",
    _WORKSPACE + "/sessions": "sessions",
    _WORKSPACE + "/sessions/{session_id}": "session",
    _WORKSPACE + "/sessions/{session_id}/transcript": "transcript",
    "/w/{rest:path}": "nothing",
    "/admin/{rest:path}": "nothing",
    "/search/{rest:path}": "nothing",
    "/memories/{rest:path}": "nothing",
    "/machines/{rest:path}": "nothing",
    SIGN_IN + "/{rest:path}": "nothing",
}
"""Path → name of the page."""
SENT = {
    SIGN_IN: "sign_in",
    "/sign-out": "sign_out",
    _WORKSPACE + "/restore": "restore",
    _WORKSPACE + "/memories/{memory_id}/delete": "delete_memory",
    "/admin/tokens": "create_token",
    "/admin/tokens/revoke": "revoke_token",
    "/admin/invitations": "invite",
    "/admin/invitations/withdraw": "withdraw",
}
"""Path → name of what a form does."""


class Site:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._searches = anyio.CapacityLimiter(_SEARCHES)

    def all(self) -> list[Route]:
        return [
            Route(ASSETS + "/{name}", page_asset, methods=["GET"]),
            *(Route(path, self._endpoint(name), methods=["POST"]) for path, name in SENT.items()),
            *(Route(path, self._endpoint(name), methods=["GET"]) for path, name in SHOWN.items()),
        ]

    @functools.cached_property
    def _handlers(self) -> Mapping[str, Handler]:
        from federated_memory.pages.handlers import handlers

        return handlers(self._services)

    def _endpoint(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        # A search may scan for seconds: it gets a limit of its own.
        limiter = self._searches if name == "search" else None

        def handle(asked: Asked) -> Response:
            return self._handlers[name](asked)

        async def endpoint(request: Request) -> Response:
            asked: Asked | None = None
            try:
                asked = await asked_of(request)
                is_read = request.method != "POST"
                return await anyio.to_thread.run_sync(handle, asked, limiter=limiter, abandon_on_cancel=is_read)
            except Exception as error:
                return await anyio.to_thread.run_sync(partial(error_page, request, error, asked))
            finally:
                if asked is not None:
                    asked.cancelled.set()

        endpoint.__name__ = f"page_{name}"  # what metrics call the route
        return endpoint


def error_page(request: Request, error: Exception, asked: Asked | None = None) -> Response:
    """What went wrong, and where to go from here."""
    if isinstance(error, (BodyStalled, ClientDisconnect)):
        error = InvalidArgument("The form did not arrive", hint="Send it again")
    known = boundary.understood(error)
    request.scope[OUTCOME] = known.code
    outcome = boundary.outcome_of(known)
    found = page(
        asked or Asked(request, request.scope[CALLER], request.scope.get(VISIT)), "error.html",
        outcome.status, title=outcome.title, message=known.message, hint=known.hint, code=known.code,
    )  # fmt: skip
    if isinstance(known, RateLimited) and "retry_after_seconds" in known.facts:
        found.headers["retry-after"] = str(known.facts["retry_after_seconds"])
    return found
