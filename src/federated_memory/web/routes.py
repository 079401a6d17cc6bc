"""The HTTP routes (`/api/v1`): the same services as the tools (SPEC: HTTP-1 to HTTP-5)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from federated_memory.auth.caller import Caller
from federated_memory.auth.tokens import Scopes
from federated_memory.errors import InvalidArgument
from federated_memory.names import ETag, WorkspaceId, parse_workspace_id, shown
from federated_memory.service.pages import DEFAULT_MAX_BYTES
from federated_memory.service.searching import Kind, Mode
from federated_memory.service.services import Services
from federated_memory.store.document import ANY
from federated_memory.transcripts import Role
from federated_memory.web.brief import brief_route
from federated_memory.web.problems import json_response
from federated_memory.web.reading import reading_routes
from federated_memory.web.requests import caller_of, flag, json_body, paging
from federated_memory.web.transfer import (
    encoding_of,
    ensure_length,
    etag_header,
    has_etag,
    if_match_of,
    in_thread,
    integer,
    read_small,
    receive_upload,
    when_free,
)

_SEARCHES = 4
"""How many go on at once; others wait, and hold up nobody else."""
_FILTERS = ("workspace_id", "project", "machine", "tool", "agent", "memory_kind", "room", "session_id", "since",
            "until", "as_of")  # fmt: skip
_SEARCHED = ("query", "mode", "kinds", "role", "tags", "include_superseded", "include_hidden", "limit", "cursor",
             "max_bytes")  # fmt: skip
_WORKSPACE = "/api/v1/workspaces/{workspace_id}"


class NewToken(BaseModel):
    """The body that creates a named token."""

    model_config = ConfigDict(extra="forbid")

    name: str
    role: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    read_keys: tuple[str, ...] | None = None
    write_keys: tuple[str, ...] | None = None
    read_rooms: tuple[str, ...] | None = None
    write_rooms: tuple[str, ...] | None = None
    machine: str = ""
    expires: str = ""


class Routes:
    """Handlers of one server. Each names the caller, parses the request and makes one service call."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.core.settings
        self._searches = anyio.CapacityLimiter(_SEARCHES)

    def all(self) -> list[Route]:
        return [
            Route("/api/v1/workspaces", self.list_workspaces, methods=["GET"]),
            Route("/api/v1/workspaces", self.register, methods=["POST"]),
            Route(_WORKSPACE, self.show_workspace, methods=["GET"]),
            Route(_WORKSPACE + "/reissue", self.reissue, methods=["POST"]),
            Route(_WORKSPACE + "/plan", self.plan, methods=["POST"]),
            Route(_WORKSPACE + "/overview", self.read_document, methods=["GET"]),
            Route(_WORKSPACE + "/overview", self.put_document, methods=["PUT"]),
            Route(_WORKSPACE + "/knowledge", self.list_knowledge, methods=["GET"]),
            Route(_WORKSPACE + "/knowledge/{path:path}", self.read_document, methods=["GET"]),
            Route(_WORKSPACE + "/knowledge/{path:path}", self.put_document, methods=["PUT"]),
            Route(_WORKSPACE + "/knowledge/{path:path}", self.delete_document, methods=["DELETE"]),
            Route(_WORKSPACE + "/versions/{path:path}", self.versions, methods=["GET"]),
            Route(_WORKSPACE + "/sessions", self.list_sessions, methods=["GET"]),
            Route(_WORKSPACE + "/sessions/{session_id}", self.read_session, methods=["GET"]),
            Route(_WORKSPACE + "/sessions/{session_id}", self.put_session, methods=["PUT"]),
            Route(_WORKSPACE + "/sessions/{session_id}", self.append_session, methods=["PATCH"]),
            Route("/api/v1/search", self.search, methods=["GET"]),
            Route("/api/v1/tokens", self.list_tokens, methods=["GET"]),
            Route("/api/v1/tokens", self.create_token, methods=["POST"]),
            Route("/api/v1/tokens/{name}", self.revoke_token, methods=["DELETE"]),
            brief_route(self._services),
            *reading_routes(self._services),
            Route("/api/v1/status", self.status, methods=["GET"]),
            Route("/api/v1/flags", self.flags, methods=["GET"]),
            Route("/api/v1/reindex", self.reindex, methods=["POST"]),
            Route("/api/v1/operations/{action}", self.operate, methods=["POST"]),
        ]

    # -- workspaces

    async def list_workspaces(self, request: Request) -> Response:
        query = request.query_params
        service = partial(
            self._services.workspaces.list,
            machine=query.get("machine", ""), tool=query.get("tool", ""), project=query.get("project", ""),
            **paging(request),
        )  # fmt: skip
        return json_response(await in_thread(service, caller_of(request)))

    async def register(self, request: Request) -> Response:
        body = await json_body(request)
        names = ("machine", "tool", "project", "description", "workspace_id", "project_key")
        unknown = body.keys() - set(names)
        if unknown or not all(isinstance(value, str | None) for value in body.values()):
            raise InvalidArgument("Not a registration", hint="Send strings for " + ", ".join(names))
        given = {name: body[name] for name in names if body.get(name)}
        done = await in_thread(partial(self._services.workspaces.register, **given), caller_of(request))
        return json_response(done, 201 if done.created else 200)

    async def show_workspace(self, request: Request) -> Response:
        service = self._services.workspaces.show
        return json_response(await in_thread(service, caller_of(request), request.path_params["workspace_id"]))

    async def reissue(self, request: Request) -> Response:
        service = self._services.workspaces.reissue
        return json_response(await in_thread(service, caller_of(request), request.path_params["workspace_id"]))

    async def plan(self, request: Request) -> Response:
        workspace_id, caller = _workspace_id(request), caller_of(request)
        self._services.core.policy.reader(caller, workspace_id)
        body = await json_body(request)
        return json_response(await in_thread(self._services.sessions.plan, caller, workspace_id, body))

    # -- documents: a path, or (None) the overview

    async def list_knowledge(self, request: Request) -> Response:
        service = partial(
            self._services.knowledge.list, prefix=request.query_params.get("prefix", ""), **paging(request)
        )
        return json_response(await in_thread(service, caller_of(request), request.path_params["workspace_id"]))

    async def read_document(self, request: Request) -> Response:
        params = request.path_params
        etag, version, data = await in_thread(
            self._services.knowledge.content,
            caller_of(request), params["workspace_id"], params.get("path"), integer(request, "version"),
        )  # fmt: skip
        headers = {"etag": f'"{etag}"', "x-version": str(version), "x-content-type-options": "nosniff"}
        if has_etag(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="text/markdown; charset=utf-8")

    async def put_document(self, request: Request) -> Response:
        caller, params = caller_of(request), request.path_params
        workspace = await self._granted(request, caller)
        data = await read_small(request, self._settings.max_document_bytes)
        done = await in_thread(
            self._services.knowledge.put, caller, workspace, params.get("path"), data, if_match_of(request)
        )
        return json_response(done, 201 if done.created else 200, etag=f'"{done.etag}"')

    async def delete_document(self, request: Request) -> Response:
        caller = caller_of(request)
        workspace = await self._granted(request, caller)
        if_match = etag_header(request, "if-match")
        done = await in_thread(
            self._services.knowledge.remove, caller, workspace, request.path_params["path"], if_match
        )
        return json_response(done)

    async def versions(self, request: Request) -> Response:
        params = request.path_params
        service = partial(
            self._services.knowledge.history,
            from_version=integer(request, "from_version"), to_version=integer(request, "to_version"),
            **paging(request),
        )  # fmt: skip
        return json_response(await in_thread(service, caller_of(request), params["workspace_id"], params["path"]))

    # -- sessions

    async def list_sessions(self, request: Request) -> Response:
        query = request.query_params
        service = partial(
            self._services.sessions.list,
            tool=query.get("tool", ""), since=query.get("since"), until=query.get("until"), **paging(request),
        )  # fmt: skip
        return json_response(await in_thread(service, caller_of(request), request.path_params["workspace_id"]))

    async def read_session(self, request: Request) -> Response:
        """GET and HEAD: the transcript itself, and what an upload needs to go on."""
        params = request.path_params
        archive = await in_thread(
            self._services.sessions.find,
            caller_of(request), params["workspace_id"], params["session_id"], integer(request, "revision"),
        )  # fmt: skip
        headers = {
            "etag": f'"{archive.sha256}"',
            "upload-offset": str(archive.raw_bytes),
            "x-revision": str(archive.revision),
            "x-lines": str(archive.lines),
            "content-length": str(archive.raw_bytes),
            "x-content-type-options": "nosniff",
        }
        if has_etag(request, archive.sha256):
            headers.pop("content-length")
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers, media_type="application/jsonl")
        return StreamingResponse(
            self._services.sessions.stream(archive), headers=headers, media_type="application/jsonl"
        )

    async def put_session(self, request: Request) -> Response:
        return await self._store_session(request, None)

    async def append_session(self, request: Request) -> Response:
        offset = integer(request, "upload-offset", header=True)
        if offset is None or offset < 0:
            raise InvalidArgument("Upload-Offset is missing", hint="HEAD tells how many bytes are held")
        return await self._store_session(request, offset)

    async def _store_session(self, request: Request, offset: int | None) -> Response:
        caller, encoding = caller_of(request), encoding_of(request)
        workspace = await self._granted(request, caller)
        ensure_length(request, self._settings.max_session_bytes)
        begin = partial(
            self._services.sessions.begin_upload,
            encoding=encoding, offset=offset, if_match=_session_etag(request), source=_source(request),
        )  # fmt: skip
        upload = await when_free(partial(begin, caller, workspace, request.path_params["session_id"]))
        done = await receive_upload(request, upload)
        return json_response(
            done, 201 if done.status == "created" else 200,
            etag=f'"{done.sha256}"', upload_offset=str(done.bytes),
        )  # fmt: skip

    # -- search

    async def search(self, request: Request) -> Response:
        """As `search_memory`, with the same names; several `kinds` are joined by commas."""
        query = request.query_params
        unknown = query.keys() - {*_FILTERS, *_SEARCHED}
        if unknown:
            raise InvalidArgument(f"search has no parameter {shown(min(unknown))}", hint="See docs/http.md")
        if not query.get("query"):
            raise InvalidArgument("query is missing", hint="Pass what to look for as `query`")
        kinds = tuple(_one_of("kinds", kind, get_args(Kind)) for kind in query.get("kinds", "").split(",") if kind)
        role = _one_of("role", query["role"], get_args(Role)) if query.get("role") else None
        mode = _one_of("mode", query.get("mode") or "ranked", get_args(Mode))
        given: dict[str, Any] = {name: query[name] for name in _FILTERS if query.get(name)}
        cancelled = threading.Event()
        service = partial(
            self._services.searching.memory,
            caller_of(request), query["query"], mode, kinds=kinds, role=role, cancelled=cancelled,
            tags=[tag for tag in query.get("tags", "").split(",") if tag.strip()],
            include_superseded=flag(request, "include_superseded"), include_hidden=flag(request, "include_hidden"),
            binding=request.headers.get("x-memory-binding"),
            **given, **paging(request, 20, DEFAULT_MAX_BYTES),
        )  # fmt: skip
        try:
            return json_response(
                await anyio.to_thread.run_sync(service, limiter=self._searches, abandon_on_cancel=True)
            )
        finally:
            cancelled.set()

    # -- administration

    async def list_tokens(self, request: Request) -> Response:
        rows = await in_thread(self._services.tokens.list, caller_of(request))
        return json_response({"tokens": [row.as_dict() for row in rows]})

    async def create_token(self, request: Request) -> Response:
        caller = caller_of(request)
        self._services.core.policy.ensure_role(caller, ("admin",))
        body = await json_body(request)
        try:
            wanted = NewToken.model_validate(body)
        except ValidationError:
            raise InvalidArgument(
                "Not a token", hint="Send name and role, and if need be read, write, read_keys, …, machine, expires"
            ) from None
        scopes = Scopes(wanted.read_keys, wanted.write_keys, wanted.read_rooms, wanted.write_rooms)
        create = partial(
            self._services.tokens.create,
            read=wanted.read, write=wanted.write, machine=wanted.machine, expires=wanted.expires, scopes=scopes,
        )  # fmt: skip
        return json_response(await in_thread(create, caller, wanted.name, wanted.role), 201)

    async def revoke_token(self, request: Request) -> Response:
        return json_response(
            await in_thread(self._services.tokens.revoke, caller_of(request), request.path_params["name"])
        )

    async def status(self, request: Request) -> Response:
        return json_response(await in_thread(self._services.status.status, caller_of(request)))

    async def flags(self, request: Request) -> Response:
        service = partial(self._services.status.flags, machine=request.query_params.get("machine", ""))
        return json_response(await in_thread(service, caller_of(request)))

    async def reindex(self, request: Request) -> Response:
        return json_response(await in_thread(self._services.status.reindex, caller_of(request)), 202)

    async def operate(self, request: Request) -> Response:
        """One of `service.operations`, by name; the body is a JSON object of its arguments."""
        caller, action = caller_of(request), request.path_params["action"]
        self._services.core.policy.ensure_role(caller, ("admin",))
        body = await json_body(request)
        return json_response(await in_thread(self._services.operations.run, caller, action, body))

    # -- parts of requests

    async def _granted(self, request: Request, caller: Caller) -> Any:
        """The workspace of the path, once the caller's right to write it is proven; before the body is read."""
        check = self._services.core.policy.writer_at
        binding, write_token = request.headers.get("x-memory-binding"), request.headers.get("x-write-token")
        return await in_thread(check, caller, _workspace_id(request), binding, write_token)


def _workspace_id(request: Request) -> WorkspaceId:
    return parse_workspace_id(request.path_params["workspace_id"])


def _one_of(name: str, value: str, allowed: Sequence[str]) -> Any:
    """Raises: InvalidArgument: not one of the allowed words."""
    if value not in allowed:
        raise InvalidArgument(f"{name} is not one that is known", hint="It is one of " + ", ".join(allowed))
    return value


def _session_etag(request: Request) -> ETag | None:
    """What an append follows; `*` is whatever there is, and an append follows something anyway."""
    found = etag_header(request, "if-match")
    return ETag(found) if found and found != ANY else None


def _source(request: Request) -> dict[str, str]:
    """What an upload says of itself: `X-Memory-Source-Agent`, `-Machine`, `-Cwd`; UTF-8."""
    prefix = b"x-memory-source-"
    return {
        name.decode("latin-1").removeprefix(prefix.decode()): value.decode("utf-8", "replace")[:1_000]
        for name, value in request.headers.raw
        if name.startswith(prefix)
    }
