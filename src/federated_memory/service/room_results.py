"""What the services of rooms and tasks return."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from federated_memory.service.results import Result

# As in `service.agents`, `store.rooms` and `store.tasks`: the SDK reads these results too, and imports none of those.
Presence = Literal["online", "away", "offline"]
MessageKind = Literal["notice", "memory", "memory_deleted", "cancel"]
State = Literal["open", "claimed", "completed", "failed", "cancelled"]


class RoomJoined(Result):
    room: str
    created: bool
    closed: bool
    agent: str = Field(description="What others address: your workspace, `/`, this session.")
    members: int
    ticket: str | None = Field(default=None, description="For those you want in the room; shown this once.")
    ticket_expires_at: str | None = None


class RoomLeft(Result):
    room: str
    left: bool
    tasks_returned: int = Field(default=0, description="Tasks that you had claimed and that are open again.")


class TicketsRevoked(Result):
    room: str
    revoked: int


class SessionRow(Result):
    session: str
    presence: Presence
    last_seen: str


class MemberRow(Result):
    workspace_id: str
    user: str = Field(description="The name of its token.")
    agent: str
    machine: str
    project: str
    role: str
    status: str
    presence: Presence
    last_seen: str
    joined_at: str
    sessions: list[SessionRow] = Field(description="Heard of since the server started.")


class Notice(Result):
    message_id: int
    room: str
    kind: MessageKind
    sender: str
    to: str = Field(description="Empty: everybody in the room.")
    text: str
    sent_at: str
    expires_at: str
    about: str | None = Field(default=None, description="The task or memory that it tells of.")


class ReceiptRow(Result):
    workspace_id: str
    state: Literal["kept", "pushed", "read", "withheld"]
    why: str | None = Field(default=None, description="Why it was withheld.")
    at: str


class OpenTaskRow(Result):
    task_id: str
    state: State
    sender: str
    to: str
    worker: str
    task: str = Field(description="Its beginning.")


class RoomStatus(Result):
    room: str
    closed: bool
    owner: str
    members: list[MemberRow]
    notices: list[Notice] = Field(description="What you have not acknowledged yet, or (with `after`) the history.")
    tasks: list[OpenTaskRow] = Field(description="The oldest that are not finished.")
    acknowledged: int = 0
    receipts: list[ReceiptRow] | None = None

    @property
    def is_change(self) -> bool:
        return self.acknowledged > 0


class RoomRow(Result):
    room: str
    closed: bool
    members: int
    unread: int
    tasks: int = Field(description="Not finished yet.")


class RoomList(Result):
    rooms: list[RoomRow]
    next_cursor: str | None = None


class Withheld(Result):
    to: str
    why: str


class Notified(Result):
    message_id: int | None = None
    delivered: list[str] = Field(description="Connected: pushed at once.")
    kept: list[str] = Field(description="Away: kept until they read it, or it expires.")
    withheld: list[Withheld]
    expires_at: str


class TaskOutcome(Result):
    task_id: str
    status: Literal["completed", "failed", "cancelled", "timeout"]
    output: str | None = None
    worker: str | None = None
    attempt: int
    note: str | None = None


class TaskRow(Result):
    task_id: str
    room: str
    state: State
    sender: str
    to: str
    attempt: int
    task: str
    output: str | None = None
    worker: str | None = None
    created_at: str
    updated_at: str
    lease_expires_at: str | None = None


class ClaimedTask(Result):
    task_id: str
    task: str
    sender: str
    room: str
    attempt: int = Field(description="Pass it to submit_task_result.")
    lease_expires_at: str = Field(description="Before then submit, or call get_task to keep it.")


class PendingTasks(Result):
    tasks: list[ClaimedTask] = Field(description="Yours from now on.")
    notices: list[Notice] = Field(description="New ones; acknowledge with get_room_status.")

    @property
    def is_change(self) -> bool:
        return bool(self.tasks or self.notices)


class TaskChanged(Result):
    task_id: str
    state: State
    attempt: int
