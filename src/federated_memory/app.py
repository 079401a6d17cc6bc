"""The only place that wires parts: settings → store → services → one ASGI application with one lifespan."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
import anyio.to_thread
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from federated_memory.opening import close_services as close_services
from federated_memory.opening import open_services as open_services
from federated_memory.operate.shipped import client_folder
from federated_memory.pages.site import Site
from federated_memory.service.events import FeedSource
from federated_memory.service.observer import Observer
from federated_memory.service.services import Services
from federated_memory.tools.server import MemoryServer
from federated_memory.web.client_files import ClientFiles
from federated_memory.web.enroll import EnrolRoutes
from federated_memory.web.events import EventRoutes
from federated_memory.web.gate import Gate
from federated_memory.web.health import health_routes
from federated_memory.web.long_calls import LongCalls
from federated_memory.web.memories import MemoryRoutes
from federated_memory.web.metrics import metrics_route
from federated_memory.web.observed import Observed
from federated_memory.web.problems import ERROR_HANDLERS
from federated_memory.web.rooms import RoomRoutes
from federated_memory.web.routes import Routes
from federated_memory.web.state import StateRoutes
from federated_memory.web.streams import Streams
from federated_memory.web.tasks import TaskRoutes

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
_EXPIRE_SECONDS = 1.0
_SWEEP_SECONDS = 30.0
_SECRETS_SECONDS = 5.0
"""Nobody waits for the counts, and looking soon would take the processor from those who upload."""
_TEND_SECONDS = 30.0
_MCP_SESSION_IDLE_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class App:
    services: Services
    streams: Streams
    asgi: ASGIApp


def build_app(services: Services) -> App:
    """The ASGI application. Its lifespan runs the background work; it does not own the root."""
    settings = services.core.settings
    streams = Streams()
    services.core.tokens.on_revoke(streams.end)
    observer = Observer(services.core, services.status, lambda: streams.event_streams)
    server = MemoryServer(services, observer)
    feed = FeedSource(services.core.root)
    inner = server.streamable_http_app(
        json_response=True,
        session_idle_timeout=_MCP_SESSION_IDLE_SECONDS,
        max_request_body_size=settings.max_mcp_body_bytes,
        # The gate has checked Host and Origin of every route already.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        streams.start()
        async with server.session_manager.run(), background_work(services), anyio.create_task_group() as following:
            following.start_soon(server.notices.follow)
            following.start_soon(server.state_notices.follow)
            following.start_soon(feed.follow)
            yield
            following.cancel_scope.cancel()

    starlette = Starlette(
        routes=[
            *(_with_streams(route, server) for route in inner.routes),
            *Routes(services).all(),
            *MemoryRoutes(services).all(),
            *RoomRoutes(services).all(),
            *TaskRoutes(services).all(),
            *EnrolRoutes(services).all(),
            *StateRoutes(services).all(),
            *EventRoutes(services, feed).all(),
            *ClientFiles(client_folder(), settings).all(),
            *health_routes(services.status),
            metrics_route(observer),
            *Site(services).all(),
        ],
        exception_handlers=ERROR_HANDLERS,
        lifespan=lifespan,
    )
    gate = Gate(starlette, settings, services.core.tokens, streams, services.signing_in)
    return App(services, streams, Observed(gate, observer))


@contextlib.asynccontextmanager
async def background_work(services: Services) -> AsyncIterator[None]:
    """Recovery, flushing, scanning and indexing, for as long as somebody is served."""
    services.core.index.start()
    try:
        async with anyio.create_task_group() as background:
            background.start_soon(_recover, services)
            background.start_soon(_repeat, _FLUSH_SECONDS, services.core.journal.flush)
            background.start_soon(_repeat, services.core.settings.scan_interval_seconds, lambda: _scan(services))
            background.start_soon(_repeat, _EXPIRE_SECONDS, services.core.state.expire)
            background.start_soon(_repeat, _SWEEP_SECONDS, services.core.state.sweep)
            background.start_soon(_repeat, _SECRETS_SECONDS, services.secrets.catch_up)
            background.start_soon(_repeat, _TEND_SECONDS, services.collaboration.tend)
            background.start_soon(services.collaboration.tasks.keep_leases)
            yield
            background.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(services.core.index.stop)


def _with_streams(route: BaseRoute, server: MemoryServer) -> BaseRoute:
    """The MCP endpoint, whose long calls are answered by a stream."""
    if isinstance(route, Route):
        route.app = LongCalls(route.app, server.long_tools)
    return route


async def _recover(services: Services) -> None:
    """Bring what is known up to the files, behind the first answers."""
    await anyio.to_thread.run_sync(_recover_all, services)
    services.status.is_recovered = True


def _recover_all(services: Services) -> None:
    services.core.archives.recover()
    _scan(services)


def _scan(services: Services) -> None:
    for workspace in services.core.registry.all():
        services.core.scan.workspace(workspace.workspace_id)


async def _repeat(seconds: float, work: Callable[[], object]) -> None:
    while True:
        await anyio.sleep(seconds)
        try:
            await anyio.to_thread.run_sync(work)
        except Exception:
            # One failure, such as a full disk, must not end the work for good.
            logger.exception("background work failed")
