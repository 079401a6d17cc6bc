"""Routes for people who read: sessions of all workspaces, transcripts as messages, an old version brought back.

The same services as `list_sessions`, `read_session` and `restore_knowledge` (SPEC: HTTP-1).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import InvalidArgument
from federated_memory.names import parse_workspace_id
from federated_memory.service.services import Services
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of, json_body, paging
from federated_memory.web.transfer import if_match_of, in_thread, integer

_WORKSPACE = "/api/v1/workspaces/{workspace_id}"


def reading_routes(services: Services) -> list[Route]:
    async def sessions(request: Request) -> Response:
        query = request.query_params
        service = partial(
            services.sessions.list, workspace_id=query.get("workspace_id", ""), tool=query.get("tool", ""),
            since=query.get("since"), until=query.get("until"), **paging(request),
        )  # fmt: skip
        return json_response(await in_thread(service, caller_of(request)))

    async def locate(request: Request) -> Response:
        service = services.sessions.locate
        return json_response(await in_thread(service, caller_of(request), request.path_params["session_id"]))

    async def messages(request: Request) -> Response:
        given, params = paging(request), request.path_params
        form: Any = request.query_params.get("form", "messages")
        if form not in ("messages", "raw"):
            raise InvalidArgument("form is not one that is known", hint="It is messages or raw")
        offsets: dict[str, Any] = {name: integer(request, name, 0) for name in ("offset", "byte_offset")}
        service = partial(
            services.sessions.read,
            **offsets,
            form=form,
            revision=integer(request, "revision"), limit=given["limit"], max_bytes=given["max_bytes"],
        )  # fmt: skip
        return json_response(await in_thread(service, caller_of(request), params["workspace_id"], params["session_id"]))

    async def restore(request: Request) -> Response:
        """`{"version": n}`: a new version that equals that one; `If-Match` as for a write."""
        caller = caller_of(request)
        binding, write_token = request.headers.get("x-memory-binding"), request.headers.get("x-write-token")
        granted = services.core.policy.writer_at
        workspace = await in_thread(
            granted, caller, parse_workspace_id(request.path_params["workspace_id"]), binding, write_token
        )
        version = (await json_body(request)).get("version")
        if not isinstance(version, int) or isinstance(version, bool):
            raise InvalidArgument("version missing", hint='Send {"version": 3}; its history names them')
        done = await in_thread(
            services.knowledge.put_back,
            caller, workspace, request.path_params["path"], version, if_match_of(request),
        )  # fmt: skip
        return json_response(done, etag=f'"{done.etag}"')

    return [
        Route("/api/v1/sessions", sessions, methods=["GET"]),
        Route("/api/v1/sessions/{session_id}", locate, methods=["GET"]),
        Route(_WORKSPACE + "/sessions/{session_id}/messages", messages, methods=["GET"]),
        Route(_WORKSPACE + "/versions/{path:path}", restore, methods=["POST"]),
    ]
