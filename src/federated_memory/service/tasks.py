"""Tasks that agents hand to each other: asked, claimed, answered (SPEC: TASK-1 to TASK-9)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from federated_memory.auth.caller import Caller
from federated_memory.auth.events import auth_deny
from federated_memory.errors import Conflict, Forbidden, InvalidArgument, NotFound, TooLarge
from federated_memory.names import shown
from federated_memory.service.addressing import Addressee, parse_addressee
from federated_memory.service.agents import Agent, Presences
from federated_memory.service.core import Core
from federated_memory.service.leases import Leases
from federated_memory.service.messages import Messages, notice_of
from federated_memory.service.promptly import promptly
from federated_memory.service.room_results import ClaimedTask, PendingTasks, TaskChanged, TaskOutcome, TaskRow
from federated_memory.service.texts import ensure_text
from federated_memory.service.waiting import Waiter, Waiting
from federated_memory.store.rooms import Member, Message, Rooms, rfc3339
from federated_memory.store.tasks import State, Task
from federated_memory.store.tasks import Tasks as StoredTasks

T = TypeVar("T")
logger = logging.getLogger(__name__)
MAX_TASK_BYTES = 64 * 1024
MAX_OUTPUT_BYTES = 256 * 1024
MOST_UNFINISHED = 1_000
"""Tasks of one room."""
MOST_WAIT_SECONDS = 3_600
LEASE_SECONDS, MOST_LEASE_SECONDS = 600, 86_400
MOST_ATTEMPTS = 20
RESULT_DAYS = 30
"""How long a result waits for whoever asked."""
_LEASES = "leases"
_RETRY_SECONDS = 30.0


class TaskService:
    """Waits in the event loop, works there or in threads. Every acknowledged step is one durable commit."""

    def __init__(
        self, core: Core, tasks: StoredTasks, rooms: Rooms, messages: Messages, waiting: Waiting, presences: Presences
    ) -> None:
        self._core = core
        self._tasks = tasks
        self._rooms = rooms
        self._messages = messages
        self._waiting = waiting
        self._presences = presences
        self._leases = Leases(lambda: waiting.signal(_LEASES))

    # -- asking

    async def delegate(
        self, caller: Caller, room: str, task: str, *, to: str = "", timeout_seconds: float, waiter: Waiter,
        binding: str | None = None,
    ) -> TaskOutcome:  # fmt: skip
        """The result of a task that somebody else in the room has done; or `timeout`, with the task staying open.

        Raises:
            NotFound: Not in that room, or `to` is not.
            TooLarge: The task is too long, or too many are unfinished in the room.
            InvalidArgument: No task, no address, or an impossible time.
        """
        _ensure_seconds("timeout_seconds", timeout_seconds)
        started = anyio.current_time()
        agent = self._messages.agent(caller, binding)  # looks at no disk
        found: Task

        async def finished() -> Task | None:
            nonlocal found
            found = self._find(found)
            return found if found.is_finished else None

        # Refused, if at all, before there is a task: whoever is refused may send it again.
        with self._waiting.counted(agent.name, timeout_seconds), self._presences.connected(agent):
            found = await self._promptly(self._add, agent, room, task, to)
            done = await self._waiting.until(
                finished, found.task_id, waiter=waiter, told=lambda: _standing(found),
                seconds=timeout_seconds - (anyio.current_time() - started),
            )  # fmt: skip
        return _outcome(done or found)

    def _add(self, agent: Agent, room: str, task: str, to: str) -> Task:
        name = self._messages.ensure_member(agent, room, writes=True).room
        ensure_text("task", task, MAX_TASK_BYTES)
        addressee = parse_addressee(to)
        members = self._rooms.members(name)
        if addressee.kind in ("agent", "session") and addressee.name not in {m.workspace_id for m in members}:
            raise NotFound(f"No {shown(addressee.name)} in {name}", hint="get_room_status shows who is there")
        if self._tasks.count_unfinished(name) >= MOST_UNFINISHED:
            raise TooLarge(f"{name} has {MOST_UNFINISHED} unfinished tasks", hint="Cancel some, or use another room")
        self._core.root.ensure_space()
        done = self._tasks.add(
            name, task, requester=(agent.workspace_id, agent.session),
            addressee=(addressee.kind, addressee.name, addressee.session),
        )  # fmt: skip
        self._signal_open(done, members)
        return done

    def _signal_open(self, task: Task, members: list[Member]) -> None:
        """Wake those who may claim it."""
        if task.addressee_kind in ("agent", "session"):
            wanted = [task.addressee]
        else:
            wanted = [m.workspace_id for m in members if task.addressee_kind == "any" or m.role == task.addressee]
        self._waiting.signal(task.task_id, *wanted)

    async def get(
        self, caller: Caller, task_id: str, *, wait_seconds: float = 0, waiter: Waiter, binding: str | None = None
    ) -> TaskRow:
        """A task as it is; with `wait_seconds`, once it has finished, or then. The claimer's lease begins anew.

        Raises:
            NotFound: No such task, or neither asked for by the caller nor in one of its rooms.
        """
        _ensure_seconds("wait_seconds", wait_seconds)
        agent, task = await self._promptly(self._visible, caller, binding, task_id)

        async def finished() -> Task | None:
            nonlocal task
            task = self._find(task)
            return task if task.is_finished else None

        if wait_seconds and not task.is_finished:
            mine = task.state == "claimed" and task.worker_session == agent.session
            is_held = self._leases.held(task) if mine else nullcontext()
            with self._waiting.counted(agent.name, wait_seconds), self._presences.connected(agent), is_held:
                await self._waiting.until(
                    finished, task_id, waiter=waiter, told=lambda: _standing(task), seconds=wait_seconds
                )
        return self._row(task)

    def _find(self, task: Task) -> Task:
        """As it is now: one row that was just written, which no writer keeps from being read."""
        return self._tasks.find(task.task_id) or task

    def _visible(self, caller: Caller, binding: str | None, task_id: str) -> tuple[Agent, Task]:
        agent = self._messages.agent(caller, binding)
        task = self._tasks.find(task_id)
        if task is None or not (
            task.requester == agent.workspace_id or self._rooms.member(task.room, agent.workspace_id)
        ):
            raise NotFound(f"No task {shown(task_id)}", hint="Check its id; results are kept for 30 days")
        self._messages.ensure_may(agent, task.room, writes=False)
        if task.state == "claimed" and task.worker_session == agent.session:
            self._leases.renew(task)
        return agent, task

    def cancel(self, caller: Caller, task_id: str, *, reason: str = "", binding: str | None = None) -> TaskChanged:
        """Whoever works on it is told, and its result is refused.

        Raises:
            NotFound: No such task.
            Forbidden: Somebody else asked for it.
            Conflict: It has finished.
        """
        agent, task = self._visible(caller, binding, task_id)
        ensure_text("reason", reason, 1_000, may_be_empty=True)
        if task.requester != agent.workspace_id and not agent.is_admin:
            auth_deny(caller.address, "task_owner", caller.where)
            raise Forbidden("Only who asked for a task cancels it", hint=f"Ask {task.requester}")
        if not self._tasks.cancel(task_id, reason):
            raise self._finished(task_id, "It cannot be cancelled")
        now_is = self._tasks.find(task_id) or task
        self._leases.end(task_id)
        if now_is.worker and now_is.attempt:
            text = f"Stop working on {task_id}: it was cancelled" + (f". {reason}" if reason else "")
            self._messages.tell_worker(agent, task.room, task_id, (now_is.worker, now_is.worker_session), text)
        self._waiting.signal(task_id)
        return TaskChanged(task_id=task_id, state="cancelled", attempt=now_is.attempt)

    # -- working

    async def poll(
        self, caller: Caller, *, room: str = "", wait_seconds: float = 0, limit: int = 1,
        lease_seconds: float = LEASE_SECONDS, waiter: Waiter, binding: str | None = None,
    ) -> PendingTasks:  # fmt: skip
        """Tasks for the caller, which are its own from now on, and messages that are new; empty after `wait_seconds`.

        Raises:
            NotFound: Not in that room.
            InvalidArgument: A number is out of range.
        """
        _ensure_seconds("wait_seconds", wait_seconds)
        if not (1 <= limit <= 20 and 1 <= lease_seconds <= MOST_LEASE_SECONDS):
            raise InvalidArgument(
                "limit or lease_seconds is out of range",
                hint=f"limit is 1 to 20, lease_seconds 1 to {MOST_LEASE_SECONDS}",
            )
        agent = self._messages.agent(caller, binding)  # looks at no disk
        take = partial(self._take, agent, room, limit, lease_seconds)
        taken: tuple[list[Task], list[Message]] = ([], [])

        async def ready() -> tuple[list[Task], list[Message]] | None:
            nonlocal taken
            with anyio.CancelScope(shield=True):  # what is claimed must be handed over, or given back
                taken = await self._promptly(take)
            return taken if any(taken) else None

        try:
            with self._waiting.counted(agent.name, wait_seconds), self._presences.connected(agent):
                await self._waiting.until(
                    ready, agent.workspace_id, waiter=waiter, told=lambda: "waiting for a task", seconds=wait_seconds
                )
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await self._give_all_back(taken[0])
            raise
        if waiter.is_gone:
            await self._give_all_back(taken[0])
            return PendingTasks(tasks=[], notices=[])
        return PendingTasks(
            tasks=[self._claimed(task) for task in taken[0]], notices=[notice_of(message) for message in taken[1]]
        )

    def _take(self, agent: Agent, room: str, limit: int, lease_seconds: float) -> tuple[list[Task], list[Message]]:
        if room:
            self._messages.ensure_member(agent, room, writes=True)
        elif agent.rooms_read != ("*",) or agent.rooms_written != ("*",):
            auth_deny(agent.address, "room_glob", agent.where)
            raise Forbidden("This token may work in some rooms only", hint="Name the room")
        tasks = self._tasks.claim(
            agent.workspace_id, agent.session, room=room, limit=limit, lease_seconds=lease_seconds
        )
        for task in tasks:
            self._leases.begin(task)
        if tasks:
            self._waiting.signal(*(task.task_id for task in tasks))
        return tasks, self._messages.take_new(agent, room)

    async def _give_all_back(self, tasks: list[Task]) -> None:
        if tasks:
            with anyio.CancelScope(shield=True):
                await _in_thread(lambda: [self._give_back(task) for task in tasks])

    def _give_back(self, task: Task) -> bool:
        """Its claim has ended without a result."""
        self._leases.end(task.task_id, task.attempt)
        done = self._tasks.give_back(task.task_id, task.attempt)
        if done:
            self._signal_open(task, self._rooms.members(task.room))
        return done

    async def submit(
        self, caller: Caller, task_id: str, *, success: bool, output: str, attempt: int | None = None,
        binding: str | None = None,
    ) -> TaskChanged:  # fmt: skip
        """The result, exactly as it is given. Only the session that claimed the task, and only once.

        Raises:
            NotFound: No such task.
            Conflict: Claimed by another session or in another attempt, finished, or cancelled.
            TooLarge: The output is too long.
        """
        return await self._promptly(self._submit, caller, task_id, success, output, attempt, binding)

    def _submit(
        self, caller: Caller, task_id: str, success: bool, output: str, attempt: int | None, binding: str | None
    ) -> TaskChanged:
        agent, task = self._visible(caller, binding, task_id)
        ensure_text("output", output, MAX_OUTPUT_BYTES, may_be_empty=True)
        self._core.root.ensure_space()
        state: State = "completed" if success else "failed"
        done = self._tasks.finish(
            task_id, session=agent.session, attempt=task.attempt if attempt is None else attempt,
            state=state, output=output,
        )  # fmt: skip
        if not done:
            raise self._finished(task_id, "Its result is refused")
        self._leases.end(task_id)
        self._waiting.signal(task_id)
        return TaskChanged(task_id=task_id, state=state, attempt=task.attempt if attempt is None else attempt)

    def _finished(self, task_id: str, what: str) -> Conflict:
        task = self._tasks.find(task_id)
        state, attempt = (task.state, task.attempt) if task else ("cancelled", 0)
        why = {
            "open": "nobody has claimed it",
            "claimed": "another session, or a later attempt, has claimed it",
            "cancelled": "it was cancelled",
        }.get(state, f"it is {state} already")
        return Conflict(f"{what}: {why}", hint="Leave it, and poll for other work", state=state, attempt=attempt)

    def has_left(self, room: str, agent: Agent) -> int:
        """Whoever leaves a room gives back what it has claimed there; returns how many."""
        mine = [t for t in self._tasks.claimed() if t.room == room and t.worker == agent.workspace_id]
        return sum(self._give_back(task) for task in mine)

    # -- leases

    async def keep_leases(self) -> None:
        """For as long as the server runs: open again what was claimed by somebody who went silent.

        After a start every lease begins anew: who worked on while the server was away loses nothing.
        """
        for task in await _in_thread(self._tasks.claimed):
            self._leases.begin(task)
        with self._waiting.listening(_LEASES) as wake:
            while True:
                wake.clear()
                for task in self._leases.take_ended():
                    await _in_thread(self._lease_ended, task)
                with anyio.move_on_after(self._leases.next_seconds()):
                    await wake.wait()

    def _lease_ended(self, task: Task) -> None:
        try:
            if task.attempt < MOST_ATTEMPTS:
                self._give_back(task)
            else:
                note = f"No worker has answered in {task.attempt} attempts"
                self._tasks.finish(
                    task.task_id, session=task.worker_session, attempt=task.attempt, state="failed", output=note
                )
                self._waiting.signal(task.task_id)
        except Exception:  # such as a full disk: a task must not be lost to it
            logger.exception("a task could not be opened again")
            self._leases.begin(replace(task, lease_seconds=max(task.lease_seconds, _RETRY_SECONDS)))

    def remove_old(self) -> None:
        """Results that nobody has fetched for long."""
        before = datetime.now(timezone.utc) - timedelta(days=RESULT_DAYS)
        self._tasks.remove_finished(before.isoformat(timespec="milliseconds").replace("+00:00", "Z"))

    async def _promptly(self, function: Callable[..., T], *arguments: object) -> T:
        return await promptly(self._core.root.database, function, *arguments)

    # -- rows

    def _row(self, task: Task) -> TaskRow:
        lease = self._leases.left(task.task_id)
        return TaskRow(
            task_id=task.task_id, room=task.room, state=task.state,
            sender=f"{task.requester}/{task.requester_session}",
            to=Addressee(task.addressee_kind, task.addressee, task.addressee_session).text,
            attempt=task.attempt, task=task.task, output=task.output if task.is_finished else None,
            worker=f"{task.worker}/{task.worker_session}" if task.worker else None, created_at=task.created_at,
            updated_at=task.updated_at, lease_expires_at=rfc3339(time.time() + lease) if lease is not None else None,
        )  # fmt: skip

    def _claimed(self, task: Task) -> ClaimedTask:
        left = self._leases.left(task.task_id)
        return ClaimedTask(
            task_id=task.task_id, task=task.task, sender=f"{task.requester}/{task.requester_session}", room=task.room,
            attempt=task.attempt, lease_expires_at=rfc3339(time.time() + (left or 0)),
        )  # fmt: skip


def _ensure_seconds(name: str, seconds: float) -> None:
    if not 0 <= seconds <= MOST_WAIT_SECONDS:
        raise InvalidArgument(f"{name} is out of range", hint=f"Pass 0 to {MOST_WAIT_SECONDS}")


def _standing(task: Task) -> str:
    if task.state == "claimed":
        return f"{task.task_id}: {task.worker} works on it (attempt {task.attempt})"
    return f"{task.task_id}: waits for somebody to take it"


def _outcome(task: Task) -> TaskOutcome:
    worker = f"{task.worker}/{task.worker_session}" if task.worker else None
    match task.state:
        case "completed" | "failed" | "cancelled":
            return TaskOutcome(
                task_id=task.task_id, status=task.state, output=task.output, worker=worker, attempt=task.attempt
            )
    return TaskOutcome(
        task_id=task.task_id, status="timeout", worker=worker, attempt=task.attempt,
        note="It stays: get_task fetches the result later, cancel_task ends it",
    )  # fmt: skip


async def _in_thread(function: Callable[..., T], *arguments: object) -> T:
    return await anyio.to_thread.run_sync(function, *arguments)
