"""`/api/v1/memories`: the same services as the tools, and what imports and admins need (SPEC: MEM-15)."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument
from federated_memory.names import parse_workspace_id
from federated_memory.service.memory_draft import MemoryDraft
from federated_memory.service.memory_transfer import imported_draft
from federated_memory.service.services import Services
from federated_memory.store.registry import Workspace
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of, flag, json_body, paging, parsed_body
from federated_memory.web.transfer import in_thread

_LIST = "/api/v1/memories"
_FILTERS = ("workspace_id", "project", "machine", "tool", "agent", "memory_kind", "room", "since", "until", "as_of")
_MOST_IMPORTED = 2_000


class DraftBody(BaseModel):
    """A memory to store."""

    model_config = ConfigDict(extra="forbid")

    content: str
    kind: str = "note"
    subject: str | None = None
    summary: str | None = None
    project: str = ""
    importance: int = 3
    tags: list[str] = Field(default_factory=list)
    files: list[str] = Field(default_factory=list)
    references: list[str] = Field(default_factory=list)
    supersedes: list[str] = Field(default_factory=list)
    expires_at: str | None = None
    ttl_seconds: int | None = None
    visibility: str = "all"
    room: str = ""

    def draft(self) -> MemoryDraft:
        return MemoryDraft(**{name: getattr(self, name) for name in DraftBody.model_fields})


class StoreBody(DraftBody):
    workspace_id: str = ""


class ImportedBody(DraftBody):
    """A memory from elsewhere; `source` names it there, `memory_id` here, if it was ours."""

    source: str = ""
    memory_id: str = ""
    others: dict[str, Any] = Field(default_factory=dict)
    created_at: str = ""
    user: str = ""
    agent: str = ""
    machine: str = ""
    session: str = ""


class ImportBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    workspace_id: str
    memories: list[ImportedBody] = Field(max_length=_MOST_IMPORTED)
    dry_run: bool = False


class DeleteBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    workspace_id: str = ""
    project: str = ""
    machine: str = ""
    tool: str = ""
    since: str | None = None
    before: str | None = None
    reason: str = ""
    dry_run: bool = True


class AliasBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    alias: str = Field(min_length=1, max_length=200)
    project: str = Field(default="", max_length=200)


class MemoryRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._memories = services.memories

    def all(self) -> list[Route]:
        return [
            Route(_LIST, self.list, methods=["GET"]),
            Route(_LIST, self.store, methods=["POST"]),
            Route(_LIST + "/import", self.import_many, methods=["POST"]),
            Route(_LIST + "/export", self.export, methods=["GET"]),
            Route(_LIST + "/delete", self.delete_many, methods=["POST"]),
            Route(_LIST + "/{memory_id}", self.get, methods=["GET"]),
            Route(_LIST + "/{memory_id}", self.delete, methods=["DELETE"]),
            Route("/api/v1/project-aliases", self.aliases, methods=["GET"]),
            Route("/api/v1/project-aliases", self.set_alias, methods=["PUT"]),
        ]

    async def list(self, request: Request) -> Response:
        query = request.query_params
        given: dict[str, Any] = {name: query[name] for name in _FILTERS if query.get(name)}
        service = partial(
            self._memories.list, caller_of(request), **given, **paging(request),
            tags=[tag for tag in query.get("tags", "").split(",") if tag.strip()],
            include_superseded=flag(request, "include_superseded"), include_hidden=flag(request, "include_hidden"),
            binding=request.headers.get("x-memory-binding"),
        )  # fmt: skip
        return json_response(await in_thread(service))

    async def store(self, request: Request) -> Response:
        """For AI tokens in the workspace of their binding; others name the workspace."""
        caller = caller_of(request)
        body = parsed_body(StoreBody, await json_body(request))
        wanted = {name: value for name, value in body.model_dump().items() if name != "workspace_id"}
        workspace = await in_thread(self._granted, request, caller, body.workspace_id)
        session = await in_thread(
            self._services.core.policy.registration, caller, request.headers.get("x-memory-binding")
        )
        service = partial(self._memories.keep, caller, workspace, MemoryDraft(**wanted), session=session)
        return json_response(await in_thread(service), 201)

    async def get(self, request: Request) -> Response:
        service = partial(
            self._memories.content, caller_of(request), request.path_params["memory_id"],
            request.query_params.get("workspace_id", ""), request.headers.get("x-memory-binding"),
        )  # fmt: skip
        return json_response(await in_thread(service))

    async def delete(self, request: Request) -> Response:
        caller, query = caller_of(request), request.query_params
        workspace = await in_thread(self._granted, request, caller, query.get("workspace_id", ""))
        service = partial(
            self._memories.remove, caller, workspace, request.path_params["memory_id"], query.get("reason", "")
        )
        return json_response(await in_thread(service))

    async def import_many(self, request: Request) -> Response:
        caller = caller_of(request)
        body = parsed_body(ImportBody, await json_body(request))
        workspace = await in_thread(self._granted, request, caller, body.workspace_id)
        drafts = [imported_draft(item.model_dump()) for item in body.memories]
        service = partial(self._services.memory_transfer.import_many, caller, workspace, drafts, dry_run=body.dry_run)
        return json_response(await in_thread(service))

    async def export(self, request: Request) -> Response:
        service = partial(
            self._services.memory_transfer.export,
            workspace_id=request.query_params.get("workspace_id", ""), **paging(request),
        )  # fmt: skip
        return json_response(await in_thread(service, caller_of(request)))

    async def delete_many(self, request: Request) -> Response:
        caller = caller_of(request)
        self._services.core.policy.ensure_role(caller, ("admin",))
        body = parsed_body(DeleteBody, await json_body(request))
        return json_response(await in_thread(partial(self._memories.delete_many, caller, **body.model_dump())))

    async def aliases(self, request: Request) -> Response:
        self._services.core.policy.ensure_role(caller_of(request), ("admin",))
        return json_response({"aliases": await in_thread(self._services.core.aliases.all)})

    async def set_alias(self, request: Request) -> Response:
        self._services.core.policy.ensure_role(caller_of(request), ("admin",))
        body = parsed_body(AliasBody, await json_body(request))
        await in_thread(self._services.core.aliases.set, body.alias, body.project)
        return json_response({"aliases": await in_thread(self._services.core.aliases.all)})

    def _granted(self, request: Request, caller: Caller, workspace_id: str) -> Workspace:
        binding, write_token = request.headers.get("x-memory-binding"), request.headers.get("x-write-token")
        policy = self._services.core.policy
        if caller.role == "ai" and not workspace_id:
            return policy.writer(caller, binding)
        if not workspace_id:
            raise InvalidArgument("workspace_id missing", hint="See GET /api/v1/workspaces for the ids")
        return policy.writer_at(caller, parse_workspace_id(workspace_id), binding, write_token)
