"""Services as one ASGI application with one lifespan."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from federated_memory.app import background_work
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
from federated_memory.web.live_stream import OpenStreams
from federated_memory.web.long_calls import LongCalls
from federated_memory.web.memories import MemoryRoutes
from federated_memory.web.metrics import metrics_route
from federated_memory.web.observed import Observed
from federated_memory.web.openapi.document import openapi_route
from federated_memory.web.problems import ERROR_HANDLERS
from federated_memory.web.refusals import PlainRefusals
from federated_memory.web.rooms import RoomRoutes
from federated_memory.web.routes import Routes
from federated_memory.web.state import StateRoutes
from federated_memory.web.streams import Streams
from federated_memory.web.tasks import TaskRoutes

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
    open_streams = OpenStreams(settings.max_event_streams)
    feed = FeedSource(services.core.root, services.core.memories)
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
            *StateRoutes(services).all(),  # first: the shortest of all requests should not look far for its route
            *Routes(services).all(),
            *MemoryRoutes(services).all(),
            *RoomRoutes(services, open_streams).all(),
            *TaskRoutes(services).all(),
            *EnrolRoutes(services).all(),
            *EventRoutes(services, feed, open_streams).all(),
            *ClientFiles(client_folder(), settings).all(),
            *health_routes(services.status),
            metrics_route(observer),
            openapi_route(),
            *Site(services).all(),
        ],
        exception_handlers=ERROR_HANDLERS,
        lifespan=lifespan,
    )
    gate = Gate(starlette, settings, services.core.tokens, streams, services.signing_in)
    return App(services, streams, Observed(gate, observer))


def _with_streams(route: BaseRoute, server: MemoryServer) -> BaseRoute:
    """The MCP endpoint, whose long calls are answered by a stream, and whose refusals quote nothing."""
    if isinstance(route, Route):
        route.app = LongCalls(PlainRefusals(route.app), server.long_tools)
    return route
