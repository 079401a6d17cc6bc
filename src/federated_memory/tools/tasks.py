"""Tools of delegated tasks: offered when MEMORY_TOOLSETS has `rooms` (SPEC: TASK-1 to TASK-9, TOOL-8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from federated_memory.service.room_results import PendingTasks, TaskChanged, TaskOutcome, TaskRow
from federated_memory.service.tasks import LEASE_SECONDS, MOST_LEASE_SECONDS, MOST_WAIT_SECONDS
from federated_memory.tools import parameters as p
from federated_memory.tools.rooms import Room, To
from federated_memory.tools.toolkit import INLINE, WAITS, Call, ToolSpec, spec

TaskId = Annotated[str, Field(max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=MOST_WAIT_SECONDS)]


async def delegate_task(
    call: Call,
    room: Room,
    task: Annotated[str, Field(description="All that a peer needs to do it; at most 64 KiB.")],
    to: To = "",
    timeout_seconds: Seconds = 300,
    binding: p.Binding = None,
) -> TaskOutcome:
    """Have a peer in the room do a task, and wait for its result.

    `timeout` means it is not done yet: the task stays, and get_task with its task_id fetches the result later.
    """
    return await call.services.collaboration.tasks.delegate(
        call.caller, room, task, to=to, timeout_seconds=timeout_seconds, waiter=call.waiter, binding=binding
    )


async def poll_pending_tasks(
    call: Call,
    room: Annotated[Room, Field(description="Default: all of yours.")] = "",
    wait_seconds: Seconds = 0,
    limit: Annotated[int, Field(ge=1, le=20)] = 1,
    lease_seconds: Annotated[
        float,
        Field(ge=1, le=MOST_LEASE_SECONDS, description="Others get the task after so long without a word of yours."),
    ] = LEASE_SECONDS,
    binding: p.Binding = None,
) -> PendingTasks:
    """Take over tasks that peers delegate, and get new messages; waits up to `wait_seconds` when there are none.

    What it returns is yours: do it, then submit_task_result. When it takes long, get_task prolongs your lease.
    """
    return await call.services.collaboration.tasks.poll(
        call.caller, room=room, wait_seconds=wait_seconds, limit=limit, lease_seconds=lease_seconds,
        waiter=call.waiter, binding=binding,
    )  # fmt: skip


async def submit_task_result(
    call: Call,
    task_id: TaskId,
    success: bool,
    output: Annotated[str, Field(description="Given to the requester as it is; at most 256 KiB.")],
    attempt: Annotated[int | None, Field(ge=1, le=2**62, description="As poll_pending_tasks gave it.")] = None,
    binding: p.Binding = None,
) -> TaskChanged:
    """The result of a task that you have claimed, done or not. `conflict`: it is no longer yours, or was cancelled."""
    return await call.services.collaboration.tasks.submit(
        call.caller, task_id, success=success, output=output, attempt=attempt, binding=binding
    )


def cancel_task(
    call: Call,
    task_id: TaskId,
    reason: Annotated[str, Field(max_length=4_000)] = "",
    binding: p.Binding = None,
) -> TaskChanged:
    """Cancel a task that you have delegated. Whoever works on it is told, and its result is refused."""
    return call.services.collaboration.tasks.cancel(call.caller, task_id, reason=reason, binding=binding)


async def get_task(call: Call, task_id: TaskId, wait_seconds: Seconds = 0, binding: p.Binding = None) -> TaskRow:
    """A task, and its result once there is one; waits up to `wait_seconds` for that. As its worker: keep your lease."""
    return await call.services.collaboration.tasks.get(
        call.caller, task_id, wait_seconds=wait_seconds, waiter=call.waiter, binding=binding
    )


TOOLS: tuple[ToolSpec, ...] = (
    spec(delegate_task, "Delegate a task", "ai", "admin", writes=True, idempotent=False, lane=WAITS),
    spec(poll_pending_tasks, "Take over tasks", "ai", "admin", writes=True, idempotent=False, lane=WAITS),
    spec(submit_task_result, "Submit a result", "ai", "admin", writes=True, idempotent=False, lane=INLINE),
    spec(cancel_task, "Cancel a task", "ai", "admin", writes=True, destroys=True),
    spec(get_task, "Look at a task", "ai", "admin", lane=WAITS),
)
"""`delegate_task`, `poll_pending_tasks` and `get_task` may take long: `web.long_calls` streams their answers."""
