"""`/metrics` for Prometheus (SPEC: METRICS-1). Admins only: counts tell who works on what."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.service.observer import Observer
from federated_memory.web.requests import caller_of
from federated_memory.web.transfer import in_thread

_FORM = "text/plain; version=0.0.4; charset=utf-8"


def metrics_route(observer: Observer) -> Route:
    async def metrics(request: Request) -> Response:
        text = await in_thread(observer.text, caller_of(request))
        return Response(text, headers={"content-type": _FORM, "cache-control": "no-store"})

    return Route("/metrics", metrics, methods=["GET"])
