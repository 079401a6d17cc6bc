"""What the routes of rooms and tasks share: bodies with known fields, and callers that may go away while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from federated_memory.service.waiting import Waiter
from federated_memory.web.requests import json_body, parsed_body

B = TypeVar("B", bound="Body")
_MAX_BODY_BYTES = 1024**2


class Body(BaseModel):
    """A JSON object; unknown fields are refused, null is absent."""

    model_config = ConfigDict(extra="forbid", strict=True)


def binding_of(request: Request) -> str | None:
    return request.headers.get("x-memory-binding")


async def read_body(request: Request, kind: type[B]) -> B:
    """Raises: InvalidArgument: no JSON object, or a field that is unknown, missing or of another type. TooLarge."""
    found = await json_body(request, _MAX_BODY_BYTES)
    return parsed_body(kind, {name: value for name, value in found.items() if value is not None})


@asynccontextmanager
async def waiting(request: Request) -> AsyncIterator[Waiter]:
    """Whoever waits for the answer; its waiting ends when the connection does. The body must have been read."""
    waiter = Waiter()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        waiter.leave()

    watching = asyncio.ensure_future(watch())  # in a task group, errors of the call would come out in groups
    try:
        yield waiter
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
