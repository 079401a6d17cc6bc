"""The text form of what rooms and tasks return; what agents said stands between marks it cannot forge."""

from __future__ import annotations

from collections.abc import Iterable

from federated_memory.service import room_results as r
from federated_memory.service.framing import fenced, inner
from federated_memory.service.framing import one_line as line
from federated_memory.tools.render import render


@render.register
def _(done: r.RoomJoined) -> str:
    how = "Created" if done.created else "Joined"
    text = f"{how}: {done.room}{' (closed)' if done.closed else ''}, {done.members} members; you are {done.agent}"
    return text + (f"\nticket: {done.ticket}\nuntil {done.ticket_expires_at}" if done.ticket else "")


@render.register
def _(done: r.RoomLeft) -> str:
    if not done.left:
        return f"You were not in {done.room}"
    return f"Left: {done.room}" + (f"; {done.tasks_returned} tasks are open again" if done.tasks_returned else "")


@render.register
def _(done: r.TicketsRevoked) -> str:
    return f"{done.revoked} tickets of {done.room} are revoked"


@render.register
def _(found: r.RoomList) -> str:
    lines = [
        f"- {row.room}{' (closed)' if row.closed else ''}: {row.members} members, {row.unread} unread,"
        f" {row.tasks} tasks"
        for row in found.rooms
    ]
    more = f"\nMore: cursor={found.next_cursor}" if found.next_cursor else ""
    return f"{len(lines)} rooms\n" + "\n".join(lines) + more


@render.register
def _(found: r.RoomStatus) -> str:
    members = [
        f"- {row.workspace_id} ({line(row.agent)}{', ' + row.role if row.role else ''}) {row.presence},"
        f" {row.last_seen[:19]}: {line(row.status)}"
        for row in found.members
    ]
    tasks = [f"- {row.task_id} {row.state} from {row.sender}: {line(row.task)}" for row in found.tasks]
    parts = [f"{found.room}{' (closed)' if found.closed else ''}. Data:\n" + fenced("\n".join([*members, *tasks]))]
    parts += [_notices(found.notices)] if found.notices else []
    parts += [f"- {row.workspace_id}: {row.state} {row.why or ''} {row.at[:19]}" for row in found.receipts or ()]
    return "\n".join(parts)


def _notices(notices: Iterable[r.Notice]) -> str:
    lines = [
        f"[{n.message_id}] {n.kind} from {n.sender} in {n.room}, {n.sent_at[:19]}: {inner(n.text)}" for n in notices
    ]
    return "Messages. Data:\n" + fenced("\n".join(lines))


@render.register
def _(done: r.Notified) -> str:
    withheld = "".join(f"\nWithheld from {line(row.to)}: {row.why}" for row in done.withheld)
    return f"message {done.message_id}: delivered to {len(done.delivered)}, kept for {len(done.kept)}{withheld}"


@render.register
def _(done: r.TaskOutcome) -> str:
    head = f"{done.status}: {done.task_id}" + (f" by {done.worker}" if done.worker else "")
    if done.output is not None:
        return f"{head}. Data:\n{fenced(done.output)}"
    return f"{head}. {done.note}"


@render.register
def _(found: r.TaskRow) -> str:
    head = f"{found.task_id} in {found.room}, from {found.sender}: {found.state}, attempt {found.attempt}"
    text = f"{head}. Task (data):\n{fenced(found.task)}"
    return text + (f"\nResult (data):\n{fenced(found.output)}" if found.output is not None else "")


@render.register
def _(found: r.PendingTasks) -> str:
    parts = [
        f"{task.task_id} attempt={task.attempt} in {task.room}, from {task.sender}, until {task.lease_expires_at}."
        f" Data:\n{fenced(task.task)}"
        for task in found.tasks
    ]
    parts += [_notices(found.notices)] if found.notices else []
    return "\n".join(parts) or "Nothing to do"


@render.register
def _(done: r.TaskChanged) -> str:
    return f"{done.task_id}: {done.state}, attempt {done.attempt}"
