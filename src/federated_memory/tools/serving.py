"""The protocol's side of resources, prompts and completion: who calls, in which thread, and errors (SPEC: RES-3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from federated_memory import boundary
from federated_memory.auth.caller import Caller
from federated_memory.errors import FederatedMemoryError, InvalidArgument, NotFound
from federated_memory.service.services import Services
from federated_memory.tools import prompts, resources, state_resources
from federated_memory.tools.context import caller_of_request
from federated_memory.tools.notices import Notices
from federated_memory.tools.state_resources import StateNotices

Ctx = ServerRequestContext[Any, Any]
T = TypeVar("T")
_THREADS = 8


def serve_documents(
    server: Server[Any], base: MCPServer[Any], services: Services, notices: Notices, states: StateNotices,
    bus: InMemorySubscriptionBus,
) -> None:  # fmt: skip
    """Register the handlers. What is none of ours, `base` answers: a test's fixtures stand there."""
    handlers = _Handlers(base, services, notices, states, ListenHandler(bus))
    add = server.add_request_handler
    add("resources/list", PaginatedRequestParams, handlers.list_resources)
    add("resources/templates/list", PaginatedRequestParams, handlers.list_templates)
    add("resources/read", ReadResourceRequestParams, handlers.read_resource)
    add("resources/subscribe", SubscribeRequestParams, handlers.subscribe)
    add("resources/unsubscribe", UnsubscribeRequestParams, handlers.unsubscribe)
    add("subscriptions/listen", SubscriptionsListenRequestParams, handlers.listen)
    add("prompts/list", PaginatedRequestParams, handlers.list_prompts)
    add("prompts/get", GetPromptRequestParams, handlers.get_prompt)
    add("completion/complete", CompleteRequestParams, handlers.complete)


class _Handlers:
    def __init__(
        self, base: MCPServer[Any], services: Services, notices: Notices, states: StateNotices, listening: ListenHandler
    ) -> None:
        self._base = base
        self._services = services
        self._notices = notices
        self._states = states
        self._listening = listening
        self._limiter: anyio.CapacityLimiter | None = None

    async def _call(self, ctx: Ctx, where: str, work: Callable[[Caller], T]) -> T:
        """Raises: MCPError: what the services refuse, by its code."""
        self._limiter = self._limiter or anyio.CapacityLimiter(_THREADS)
        caller = caller_of_request(ctx, where)
        try:
            return await anyio.to_thread.run_sync(work, caller, limiter=self._limiter, abandon_on_cancel=True)
        except Exception as error:
            raise _refusal(boundary.understood(error)) from None

    # -- resources

    async def list_resources(self, ctx: Ctx, params: PaginatedRequestParams) -> ListResourcesResult:
        found, cursor = await self._call(
            ctx, "resources/list", lambda caller: resources.page(self._services, caller, params.cursor)
        )
        fixtures = [] if params.cursor else await self._base.list_resources()
        return ListResourcesResult(resources=[*found, *fixtures], next_cursor=cursor)

    async def list_templates(self, _: Ctx, __: PaginatedRequestParams) -> ListResourceTemplatesResult:
        fixtures = await self._base.list_resource_templates()
        has_state = {"state", "all"} & set(self._services.core.settings.toolsets)
        ours = [*resources.TEMPLATES, *([state_resources.TEMPLATE] if has_state else [])]
        return ListResourceTemplatesResult(resource_templates=[*ours, *fixtures])

    async def read_resource(
        self, ctx: Ctx, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        uri = str(params.uri)
        if not uri.startswith(resources.SCHEME):
            return await self._base._handle_read_resource(ctx, params)
        if uri.startswith(state_resources.PREFIX):
            return await self._call(
                ctx, "resources/read", lambda caller: state_resources.read(self._services, caller, uri)
            )
        return await self._call(ctx, "resources/read", lambda caller: resources.read(self._services, caller, uri))

    async def subscribe(self, ctx: Ctx, params: SubscribeRequestParams) -> EmptyResult:
        uri = str(params.uri)

        def ensure_may_read(caller: Caller) -> None:
            if uri.startswith(state_resources.PREFIX):
                state_resources.ensure_may_watch(self._services, caller, uri)
                return
            at = resources.parse_uri(uri)
            self._services.core.policy.reader(caller, at.workspace_id)
            if at.memory_id is not None and not self._services.memories.sees(caller, at.memory_id, at.workspace_id):
                raise NotFound("No such memory", hint="See list_memories")

        if uri.startswith(resources.SCHEME):
            await self._call(ctx, "resources/subscribe", ensure_may_read)
        # The connection outlives the request; the SDK names it nowhere else.
        if not self._notices.subscribe(ctx.session._connection, uri):
            raise _refusal(InvalidArgument("Too many subscriptions", hint="Unsubscribe from some first"))
        return EmptyResult()

    async def unsubscribe(self, ctx: Ctx, params: UnsubscribeRequestParams) -> EmptyResult:
        self._notices.unsubscribe(ctx.session._connection, str(params.uri))
        return EmptyResult()

    async def listen(self, ctx: Ctx, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Only what the caller may read is honoured: when something changes is worth hiding too."""
        asked = params.notifications.resource_subscriptions
        if asked:
            kept = await self._call(
                ctx, "subscriptions/listen",
                lambda caller: [uri for uri in asked if _may_read(self._services, caller, str(uri))],
            )  # fmt: skip
            notifications = params.notifications.model_copy(update={"resource_subscriptions": kept})
            params = params.model_copy(update={"notifications": notifications})
            with self._states.listening([str(uri) for uri in kept]):
                return await self._listening(ctx, params)
        return await self._listening(ctx, params)

    # -- prompts and completion

    async def list_prompts(self, _: Ctx, __: PaginatedRequestParams) -> ListPromptsResult:
        ours = [known.prompt for known in prompts.PROMPTS.values()]
        return ListPromptsResult(prompts=[*ours, *await self._base.list_prompts()])

    async def get_prompt(self, ctx: Ctx, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
        name, arguments = params.name, params.arguments or {}
        if name in prompts.PROMPTS:
            return await self._call(
                ctx, "prompts/get", lambda caller: prompts.get(self._services, caller, name, arguments)
            )
        if name not in {prompt.name for prompt in await self._base.list_prompts()}:
            raise MCPError(code=INVALID_PARAMS, message="No such prompt. See prompts/list")
        return await self._base._handle_get_prompt(ctx, params)

    async def complete(self, ctx: Ctx, params: CompleteRequestParams) -> CompleteResult:
        ref, argument = params.ref, params.argument
        name = ref.name if isinstance(ref, PromptReference) else str(ref.uri)
        is_ours = name in prompts.PROMPTS or name.startswith(resources.SCHEME)
        if not is_ours:
            return CompleteResult(completion=Completion(values=[]))
        given = dict(params.context.arguments or {}) if params.context else {}
        found = await self._call(
            ctx,
            "completion/complete",
            lambda caller: resources.complete(self._services, caller, argument.name, argument.value, given),
        )
        return CompleteResult(completion=found)


def _may_read(services: Services, caller: Caller, uri: str) -> bool:
    if not uri.startswith(resources.SCHEME):
        return True
    if uri.startswith(state_resources.PREFIX):
        return state_resources.may_watch(services, caller, uri)
    try:
        at = resources.parse_uri(uri)
        is_seen = at.memory_id is None or services.memories.sees(caller, at.memory_id, at.workspace_id)
        return is_seen and caller.grant.reads(at.workspace_id)
    except FederatedMemoryError:
        return False


def _refusal(error: FederatedMemoryError) -> MCPError:
    is_theirs = boundary.outcome_of(error).status < 500
    return MCPError(
        code=INVALID_PARAMS if is_theirs else INTERNAL_ERROR, message=boundary.as_text(error),
        data=boundary.as_dict(error),
    )  # fmt: skip
