"""Liveness and readiness; no token, and nothing about what is stored."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.service.status import StatusService
from federated_memory.web.problems import json_response


def health_routes(status: StatusService) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reasons = status.reasons()
        return json_response({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
