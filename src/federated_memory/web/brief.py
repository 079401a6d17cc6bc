"""`GET /api/v1/brief`: the brief for those who know their project but not its workspace, such as hooks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import InvalidArgument
from federated_memory.service.brief import DEFAULT_BRIEF_BYTES
from federated_memory.service.brief_scope import Asked
from federated_memory.service.pages import LEAST_MAX_BYTES, MOST_MAX_BYTES
from federated_memory.service.services import Services
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of
from federated_memory.web.transfer import in_thread, integer

_MOST_KEYS = 8


def brief_route(services: Services) -> Route:
    async def brief(request: Request) -> Response:
        caller = caller_of(request)
        max_bytes = integer(request, "max_bytes", DEFAULT_BRIEF_BYTES)
        assert max_bytes is not None
        if not LEAST_MAX_BYTES <= max_bytes <= MOST_MAX_BYTES:
            raise InvalidArgument("max_bytes is out of range", hint=f"{LEAST_MAX_BYTES} to {MOST_MAX_BYTES}")
        return json_response(await in_thread(services.briefing.brief, caller, _asked(request), max_bytes))

    return Route("/api/v1/brief", brief, methods=["GET"])


def _asked(request: Request) -> Asked:
    query = request.query_params
    keys = tuple(key for key in query.getlist("project_key") if key)
    if len(keys) > _MOST_KEYS:
        raise InvalidArgument(f"More than {_MOST_KEYS} project keys", hint="Send those of one project")
    return Asked(
        workspace_id=query.get("workspace_id", ""),
        machine=query.get("machine", ""),
        tool=query.get("tool", ""),
        project=query.get("project", ""),
        project_keys=keys,
        binding=request.headers.get("x-memory-binding", ""),
    )
