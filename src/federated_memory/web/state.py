"""`/api/v1/state/…`: the shared state over HTTP; a value is the JSON itself (SPEC: STATE-1 to STATE-8)."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Annotated, Any, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import InvalidArgument
from federated_memory.service.key_schemas import MAX_SCHEMA_BYTES
from federated_memory.service.services import Services
from federated_memory.service.state import MOST_IN_A_BATCH, OnViolation, batch_of, told
from federated_memory.service.state_results import StateWritten
from federated_memory.store.shared_state import SchemasChanged, Write
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of, paging
from federated_memory.web.transfer import in_thread, integer, read_small

_BATCH_BYTES = 4 * 1024**2
_ROW = 200


class Operation(BaseModel):
    """One write of a batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: Annotated[str, Field(max_length=1_000)]
    value: Any = None
    delete: bool = False
    if_version: int | None = None
    ttl_seconds: float | None = None


class Batch(BaseModel):
    """The body of a batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    operations: Annotated[list[Operation], Field(min_length=1, max_length=MOST_IN_A_BATCH)]


class StateRoutes:
    def __init__(self, services: Services) -> None:
        self._state = services.state
        self._policy = services.core.policy
        self._has_noop = services.core.settings.bench_noop
        self._max_value_bytes = services.core.settings.max_state_bytes

    def all(self) -> list[Route]:
        noop = [Route("/api/v1/noop/{key:path}", self.noop, methods=["GET", "PUT"])] if self._has_noop else []
        key, schema = "/api/v1/state/keys/{key:path}", "/api/v1/state/schemas/{key:path}"
        return [
            *noop,
            Route("/api/v1/state/keys", self.list_state, methods=["GET"]),
            Route(key, self.get_state, methods=["GET"]),
            Route(key, self.set_state, methods=["PUT"]),
            Route(key, self.delete_state, methods=["DELETE"]),
            Route("/api/v1/state/batch", self.batch_state, methods=["POST"]),
            Route("/api/v1/state/history/{key:path}", self.state_history, methods=["GET"]),
            Route("/api/v1/state/schemas", self.list_schemas, methods=["GET"]),
            Route(schema, self.set_schema, methods=["PUT"]),
            Route(schema, self.remove_schema, methods=["DELETE"]),
        ]

    async def noop(self, request: Request) -> Response:
        """Takes and gives JSON as the others do, and nothing else, for benchmarks."""
        value = _json(await read_small(request, self._max_value_bytes)) if request.method == "PUT" else None
        return json_response({"key": request.path_params["key"], "exists": True, "value": value, "version": 1})

    async def get_state(self, request: Request) -> Response:
        # One row by its key: a thread would take longer than the look.
        return json_response(self._state.get_whole(caller_of(request), request.path_params["key"]))

    async def list_state(self, request: Request) -> Response:
        service = partial(self._state.values, prefix=request.query_params.get("prefix", ""), **paging(request))
        return json_response(await in_thread(service, caller_of(request)))

    async def state_history(self, request: Request) -> Response:
        service = partial(self._state.history, **paging(request))
        return json_response(await in_thread(service, caller_of(request), request.path_params["key"]))

    async def set_state(self, request: Request) -> Response:
        ttl_seconds = _seconds(request)
        write = self._state.parse_write(
            request.path_params["key"], b"", integer(request, "if_version"), ttl_seconds
        )  # the rights first, then the body
        self._ensure_may_write(request, write)
        value = _json(await read_small(request, self._max_value_bytes))
        data = self._state.parse_value(value)
        write = self._state.parse_write(write.key, data, write.if_version, ttl_seconds)
        (done,) = await self._write(request, [write])
        return json_response(done)

    async def delete_state(self, request: Request) -> Response:
        write = self._state.parse_write(request.path_params["key"], None, integer(request, "if_version"))
        (done,) = await self._write(request, [write])
        return json_response(done)

    async def batch_state(self, request: Request) -> Response:
        self._policy.writer(caller_of(request), request.headers.get("x-memory-binding"))
        body = _json(await read_small(request, _BATCH_BYTES))
        try:
            wanted = Batch.model_validate(body)
        except ValidationError as error:
            place = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
            raise InvalidArgument(
                f"Not a batch, at {place[:_ROW] or 'the top'}",
                hint=f'Send {{"operations": [{{"key", "value" or "delete", "if_version", "ttl_seconds"}}]}}, up to '
                f"{MOST_IN_A_BATCH}",
            ) from None
        done = await self._write(request, [self._parse(row) for row in wanted.operations])
        return json_response(batch_of(done))

    def _parse(self, row: Operation) -> Write:
        value = None if row.delete else self._state.parse_value(row.value)
        return self._state.parse_write(row.key, value, row.if_version, row.ttl_seconds)

    def _ensure_may_write(self, request: Request, write: Write) -> None:
        caller = caller_of(request)
        self._policy.writer(caller, request.headers.get("x-memory-binding"))
        self._policy.ensure_writes_key(caller, write.key)

    async def _write(self, request: Request, writes: list[Write]) -> list[StateWritten]:
        """As `State.write`, without a thread that would only wait for the commit."""
        state, caller = self._state, caller_of(request)
        author = state.author(caller, writes, request.headers.get("x-memory-binding"))
        while True:
            begin = partial(state.begin, author, writes, alone=False)  # others come meanwhile, and share the commit
            begun = await in_thread(begin) if state.is_looked_at(writes) else begin()
            try:
                return told(writes, begun.result() if begun.done() else await asyncio.wrap_future(begun))
            except SchemasChanged:
                continue

    # -- schemas

    async def list_schemas(self, request: Request) -> Response:
        service = partial(self._state.schemas_of, key=request.query_params.get("key", ""), **paging(request))
        return json_response(await in_thread(service, caller_of(request)))

    async def set_schema(self, request: Request) -> Response:
        caller, binding = caller_of(request), request.headers.get("x-memory-binding")
        self._policy.writer(caller, binding)
        asked = request.query_params.get("on_violation", "refuse")
        if asked not in get_args(OnViolation):
            raise InvalidArgument("on_violation is refuse or report", hint="Leave it out to refuse")
        on_violation: OnViolation = "report" if asked == "report" else "refuse"
        schema = _json(await read_small(request, 2 * MAX_SCHEMA_BYTES))
        service = partial(self._state.set_schema, on_violation=on_violation, binding=binding)
        return json_response(await in_thread(service, caller, request.path_params["key"], schema))

    async def remove_schema(self, request: Request) -> Response:
        service = partial(self._state.remove_schema, binding=request.headers.get("x-memory-binding"))
        return json_response(await in_thread(service, caller_of(request), request.path_params["key"]))


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        raise InvalidArgument("The body is not JSON", hint="Send the value itself as JSON, in UTF-8") from None


def _seconds(request: Request) -> float | None:
    text = request.query_params.get("ttl_seconds", "")
    if not text:
        return None
    try:
        found = float(text) if len(text) < 40 else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InvalidArgument("ttl_seconds is no number", hint="Such as 60 or 0.5")
    return found
