"""The pages' routes, and what stands around each: forms are checked, errors become pages (SPEC: SITE-3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory import boundary
from federated_memory.auth.caller import CALLER
from federated_memory.errors import InvalidArgument, NotFound, RateLimited
from federated_memory.pages.admin import AdminPages
from federated_memory.pages.asked import Asked, asked_of
from federated_memory.pages.assets import page_asset
from federated_memory.pages.documents import DocumentPages
from federated_memory.pages.finding import FindingPages
from federated_memory.pages.memories import MemoryPages
from federated_memory.pages.rendering import page
from federated_memory.pages.signing import SigningPages
from federated_memory.pages.transcripts import TranscriptPages
from federated_memory.pages.workspaces import WorkspacePages
from federated_memory.service.services import Services
from federated_memory.web.problems import OUTCOME, BodyStalled
from federated_memory.web.visitors import ASSETS, SIGN_IN, VISIT

Handler = Callable[[Asked], Response]
_SEARCHES = 4
"""How many go on at once; others wait, and hold up nobody else."""


class Site:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._searches = anyio.CapacityLimiter(_SEARCHES)

    def all(self) -> list[Route]:
        services = self._services
        signing, workspaces, documents = SigningPages(services), WorkspacePages(services), DocumentPages(services)
        transcripts, admin, finding = TranscriptPages(services), AdminPages(services), FindingPages(services)
        memories = MemoryPages(services)
        shown: list[tuple[str, Handler]] = [
            ("/", workspaces.home),
            ("/machines", workspaces.machines),
            ("/w/{workspace_id}", workspaces.overview),
            ("/w/{workspace_id}/knowledge", documents.list),
            ("/w/{workspace_id}/knowledge/{path:path}", documents.document),
            ("/w/{workspace_id}/history/{path:path}", documents.history),
            ("/w/{workspace_id}/history", documents.history),
            ("/w/{workspace_id}/sessions", transcripts.list),
            ("/w/{workspace_id}/sessions/{session_id}", transcripts.session),
            ("/memories", memories.list),
            ("/w/{workspace_id}/memories", memories.of_workspace),
            ("/w/{workspace_id}/memories/{memory_id}", memories.memory),
            ("/search", finding.search),
            ("/admin", admin.admin),
            (SIGN_IN, signing.form),
        ]
        sent: list[tuple[str, Handler]] = [
            (SIGN_IN, signing.sign_in),
            ("/sign-out", signing.sign_out),
            ("/w/{workspace_id}/restore", documents.restore),
            ("/w/{workspace_id}/memories/{memory_id}/delete", memories.delete),
            ("/admin/tokens", admin.create_token),
            ("/admin/tokens/revoke", admin.revoke_token),
            ("/admin/invitations", admin.invite),
            ("/admin/invitations/withdraw", admin.withdraw),
        ]
        return [
            Route(ASSETS + "/{name}", page_asset, methods=["GET"]),
            *(Route(path, self._endpoint(handler), methods=["GET"]) for path, handler in shown),
            *(Route(path, self._endpoint(handler), methods=["POST"]) for path, handler in sent),
            *(Route(f"/{part}/{{rest:path}}", self._endpoint(_nothing)) for part in ("w", "admin", "search")),
        ]

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        # A search may scan for seconds: it gets a limit of its own.
        limiter = self._searches if handler.__name__ == "search" else None

        async def endpoint(request: Request) -> Response:
            asked: Asked | None = None
            try:
                asked = await asked_of(request)
                is_read = request.method != "POST"
                return await anyio.to_thread.run_sync(handler, asked, limiter=limiter, abandon_on_cancel=is_read)
            except Exception as error:
                return await anyio.to_thread.run_sync(partial(error_page, request, error, asked))
            finally:
                if asked is not None:
                    asked.cancelled.set()

        endpoint.__name__ = f"page_{handler.__name__.strip('_')}"  # what metrics call the route
        return endpoint


def error_page(request: Request, error: Exception, asked: Asked | None = None) -> Response:
    """What went wrong, and where to go from here."""
    if isinstance(error, (BodyStalled, ClientDisconnect)):
        error = InvalidArgument("The form did not arrive", hint="Send it again")
    known = boundary.understood(error)
    request.scope[OUTCOME] = known.code
    outcome = boundary.outcome_of(known)
    found = page(
        asked or Asked(request, request.scope[CALLER], request.scope.get(VISIT)), "error.html", outcome.status,
        title=outcome.title, message=known.message, hint=known.hint, code=known.code,
    )  # fmt: skip
    if isinstance(known, RateLimited) and "retry_after_seconds" in known.facts:
        found.headers["retry-after"] = str(known.facts["retry_after_seconds"])
    return found


def _nothing(_: Asked) -> Response:
    raise NotFound("There is no such page", hint="Begin at the workspaces, or search")
