"""The HTTP routes of delegated tasks: the same services as the tools (SPEC: TASK-1)."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import InvalidArgument
from federated_memory.service.services import Services
from federated_memory.service.tasks import LEASE_SECONDS
from federated_memory.web.asking import Body, binding_of, read_body, waiting
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of
from federated_memory.web.transfer import in_thread, integer

_TASK = "/api/v1/tasks/{task_id}"


class Delegating(Body):
    room: str
    task: str
    to: str = ""
    timeout_seconds: float = 0


class Polling(Body):
    room: str = ""
    wait_seconds: float = 0
    limit: int = 1
    lease_seconds: float = LEASE_SECONDS


class Submitting(Body):
    success: bool
    output: str
    attempt: int | None = None


class Cancelling(Body):
    reason: str = ""


class TaskRoutes:
    """Handlers of one server. Waiting ends with the connection; what was not handed over stays."""

    def __init__(self, services: Services) -> None:
        self._tasks = services.collaboration.tasks

    def all(self) -> list[Route]:
        return [
            Route("/api/v1/tasks", self.delegate_task, methods=["POST"]),
            Route("/api/v1/tasks/poll", self.poll_tasks, methods=["POST"]),
            Route(_TASK, self.get_task, methods=["GET"]),
            Route(_TASK + "/result", self.submit_result, methods=["POST"]),
            Route(_TASK + "/cancel", self.cancel_task, methods=["POST"]),
        ]

    async def delegate_task(self, request: Request) -> Response:
        """201 with a task that waits, unless `timeout_seconds` asks to wait for its result."""
        body = await read_body(request, Delegating)
        async with waiting(request) as waiter:
            done = await self._tasks.delegate(
                caller_of(request), body.room, body.task, to=body.to, timeout_seconds=body.timeout_seconds,
                waiter=waiter, binding=binding_of(request),
            )  # fmt: skip
        return json_response(done, 201)

    async def poll_tasks(self, request: Request) -> Response:
        body = await read_body(request, Polling)
        async with waiting(request) as waiter:
            found = await self._tasks.poll(
                caller_of(request), **body.model_dump(), waiter=waiter, binding=binding_of(request)
            )
        return json_response(found)

    async def get_task(self, request: Request) -> Response:
        seconds = integer(request, "wait_seconds", 0) or 0
        async with waiting(request) as waiter:
            found = await self._tasks.get(
                caller_of(request), request.path_params["task_id"], wait_seconds=seconds, waiter=waiter,
                binding=binding_of(request),
            )  # fmt: skip
        return json_response(found)

    async def submit_result(self, request: Request) -> Response:
        body = await read_body(request, Submitting)
        if body.attempt is not None and not 1 <= body.attempt < 2**62:
            raise InvalidArgument("attempt is out of range", hint="Pass it as the poll gave it")
        done = await self._tasks.submit(
            caller_of(request), request.path_params["task_id"], **body.model_dump(), binding=binding_of(request)
        )
        return json_response(done)

    async def cancel_task(self, request: Request) -> Response:
        body = await read_body(request, Cancelling)
        cancel = partial(self._tasks.cancel, reason=body.reason, binding=binding_of(request))
        return json_response(await in_thread(cancel, caller_of(request), request.path_params["task_id"]))
