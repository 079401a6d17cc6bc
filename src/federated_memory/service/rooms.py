"""Rooms: who is in, what was said, who is there (SPEC: ROOM-1 to ROOM-8)."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from federated_memory.auth.caller import Caller
from federated_memory.auth.events import auth_deny
from federated_memory.errors import Conflict, Forbidden, InvalidArgument, NotFound, TooLarge
from federated_memory.names import RoomName, parse_room_name
from federated_memory.service.addressing import Addressee
from federated_memory.service.agents import Agent, Presences
from federated_memory.service.core import Core
from federated_memory.service.messages import Messages, notice_of, topic_of_room
from federated_memory.service.pages import decode_cursor, encode_cursor, fit_rows
from federated_memory.service.room_results import (
    MemberRow,
    OpenTaskRow,
    RoomJoined,
    RoomLeft,
    RoomList,
    RoomRow,
    RoomStatus,
    SessionRow,
    TicketsRevoked,
)
from federated_memory.service.texts import ensure_line
from federated_memory.service.waiting import Waiting
from federated_memory.store.changes import now
from federated_memory.store.rooms import Member, Room, Rooms, rfc3339
from federated_memory.store.tasks import Tasks as StoredTasks
from federated_memory.transcripts.times import parse_time

MOST_MEMBERS = 200
MOST_ROOMS = 100
"""That one workspace is in."""
MOST_TICKETS = 100
MAX_STATUS_CHARACTERS = 200
TICKET_DAYS = 30
_TASKS_SHOWN = 10
_HISTORY = 50
_TASK_CHARACTERS = 200


class RoomService:
    def __init__(
        self, core: Core, rooms: Rooms, tasks: StoredTasks, messages: Messages, waiting: Waiting,
        presences: Presences, on_leave: Callable[[str, Agent], int],
    ) -> None:  # fmt: skip
        """`on_leave` is called when somebody has left a room; it returns how many tasks that gave back."""
        self._core = core
        self._rooms = rooms
        self._messages = messages
        self._tasks = tasks
        self._waiting = waiting
        self._presences = presences
        self._on_leave = on_leave

    # -- for other services

    def may_read(self, workspace_id: str, room: str) -> bool:
        """Whether what belongs to the room is shown to this workspace."""
        return self._rooms.member(room, workspace_id) is not None

    def members(self, room: str) -> list[str]:
        """The workspaces in a room, by id."""
        return [member.workspace_id for member in self._rooms.members(room)]

    def rooms_of(self, workspace_id: str) -> list[str]:
        return [room.room for room in self._rooms.rooms_of(workspace_id)]

    # -- joining and leaving

    def join(
        self, caller: Caller, room: str, *, ticket: str = "", closed: bool = False, ticket_expires_at: str = "",
        status: str = "", role: str = "", binding: str | None = None,
    ) -> RoomJoined:  # fmt: skip
        """Create the room or join it; joining again changes status and role, and (owner, `closed`) makes a ticket.

        Raises:
            NotFound: The ticket opens no such room.
            Forbidden: The name belongs to a room that takes a ticket.
            Conflict: A closed room is wanted, and an open one has the name.
            TooLarge: Too many members, rooms or tickets.
        """
        agent, name = self._messages.agent(caller, binding), parse_room_name(room)
        self._messages.ensure_may(agent, name, writes=closed or self._rooms.find(name) is None)
        ensure_line("status", status, MAX_STATUS_CHARACTERS)
        role = parse_room_name(role) if role else ""
        expires_at = _ticket_end(ticket_expires_at) if closed else 0.0
        self._core.root.ensure_space()
        secret = f"fmt1.{secrets.token_urlsafe(24)}" if closed else ""
        with self._rooms.transaction() as transaction:
            # Inside the transaction, whose lock every change takes: two that create a room at once make one.
            found = self._rooms.find(name)
            held = self._rooms.member(name, agent.workspace_id) if found else None
            try:
                self._ensure_may_join(agent, name, found, held, ticket=ticket, closed=closed)
            except (NotFound, Forbidden):
                auth_deny(caller.address, "bad_ticket" if ticket else "closed_room", caller.where)
                raise
            if found is None:
                self._rooms.create(transaction, name, closed=closed, owner=agent.workspace_id)
            if closed:
                if self._rooms.count_tickets(name) >= MOST_TICKETS:
                    raise TooLarge(f"{name} has {MOST_TICKETS} tickets already", hint="revoke_ticket ends them all")
                self._rooms.add_ticket(transaction, _digest(secret), name, expires_at)
            self._rooms.put_member(transaction, Member(
                name, agent.workspace_id, agent.user, role or (held.role if held else ""),
                status or (held.status if held else ""), now(), time.time(),
            ))  # fmt: skip
        self._waiting.signal(agent.workspace_id, topic_of_room(name))
        return RoomJoined(
            room=name,
            created=found is None,
            closed=found.closed if found else closed,
            agent=agent.name,
            members=len(self._rooms.members(name)),
            ticket=secret or None,
            ticket_expires_at=rfc3339(expires_at) if closed else None,
        )

    def _ensure_may_join(
        self, agent: Agent, room: RoomName, found: Room | None, held: Member | None, *, ticket: str, closed: bool
    ) -> None:
        opens = found is not None and (not found.closed or held or self._rooms.has_ticket(room, _digest(ticket)))
        if ticket and not opens:
            raise NotFound(f"That ticket opens no room {room}", hint="Ask for another: it may be revoked or expired")
        is_owner = found is not None and found.owner == agent.workspace_id
        if found and found.closed and not (ticket or held or is_owner or agent.is_admin):
            raise Forbidden(f"The name {room} is not open to you", hint="Pass a ticket, or choose another name")
        if found and closed and not found.closed:
            raise Conflict(f"{room} exists and is open", hint="Choose another name for a closed room")
        if found and closed and not (is_owner or agent.is_admin):
            raise Forbidden(f"Only the owner of {room} makes tickets", hint=f"Ask {found.owner}")
        if held is None and found and len(self._rooms.members(room)) >= MOST_MEMBERS:
            raise TooLarge(f"{room} has {MOST_MEMBERS} members", hint="Use another room")
        if held is None and len(self._rooms.rooms_of(agent.workspace_id)) >= MOST_ROOMS:
            raise TooLarge(f"You are in {MOST_ROOMS} rooms", hint="leave_room those you no longer need")

    def leave(self, caller: Caller, room: str, *, binding: str | None = None) -> RoomLeft:
        """Out of status and reach at once; what it had claimed is open again. Leaving twice changes nothing."""
        agent, name = self._messages.agent(caller, binding), parse_room_name(room)
        if self._rooms.member(name, agent.workspace_id) is None:
            return RoomLeft(room=name, left=False)
        with self._rooms.transaction() as transaction:
            self._rooms.remove_member(transaction, name, agent.workspace_id)
        returned = self._on_leave(name, agent)
        self._waiting.signal(agent.workspace_id, topic_of_room(name))
        return RoomLeft(room=name, left=True, tasks_returned=returned)

    def revoke_ticket(
        self, caller: Caller, room: str, *, ticket: str = "", binding: str | None = None
    ) -> TicketsRevoked:
        """One ticket, or all of a room. Who joined with it stays.

        Raises:
            Forbidden: Only the room's owner and an admin may.
            NotFound: Not in that room.
        """
        agent = self._messages.agent(caller, binding)
        found = self._rooms.find(parse_room_name(room))
        self._messages.ensure_may(agent, room, writes=True)
        if found is None or not (found.owner == agent.workspace_id or agent.is_admin):
            self._messages.ensure_member(agent, room)
            auth_deny(caller.address, "room_owner", caller.where)
            raise Forbidden(f"Only the owner of {room} revokes its tickets", hint="Ask the owner, or an admin")
        with self._rooms.transaction() as transaction:
            done = self._rooms.remove_tickets(transaction, found.room, _digest(ticket) if ticket else "")
        return TicketsRevoked(room=found.room, revoked=done)

    # -- looking

    def list(
        self, caller: Caller, *, limit: int, max_bytes: int, cursor: str | None = None, binding: str | None = None
    ) -> RoomList:
        """The rooms that the caller is in, by name."""
        agent = self._messages.agent(caller, binding)
        key = decode_cursor(cursor, "rooms", str)
        after = str(key[0]) if key else ""
        mine = (room for room in self._rooms.rooms_of(agent.workspace_id) if agent.reads_room(room.room))
        rooms = (room for room in mine if room.room > after)
        rows, more = fit_rows((self._row(agent, room) for room in rooms), limit, max_bytes)
        return RoomList(rooms=rows, next_cursor=encode_cursor("rooms", [rows[-1].room]) if more else None)

    def _row(self, agent: Agent, room: Room) -> RoomRow:
        return RoomRow(
            room=room.room,
            closed=room.closed,
            members=len(self._rooms.members(room.room)),
            unread=self._rooms.count_waiting(room.room).get(agent.workspace_id, 0),
            tasks=self._tasks.count_unfinished(room.room),
        )

    def status(
        self, caller: Caller, room: str, *, read: Iterable[int] = (), after: int | None = None,
        message_id: int | None = None, binding: str | None = None,
    ) -> RoomStatus:  # fmt: skip
        """Who is in a room, what the caller has not acknowledged, and what is being worked on.

        `read` acknowledges messages; `after` shows the history that follows a message's number instead of what is
        unread; `message_id` shows how a message of the caller's own reached everybody.
        """
        agent = self._messages.agent(caller, binding)
        name = self._messages.ensure_member(agent, room).room
        found = self._rooms.find(name)
        assert found is not None
        messages, acknowledged = self._messages.unread(agent, name, read=read)
        if after is not None:
            messages = self._messages.history(agent, name, after, _HISTORY)
        return RoomStatus(
            room=name,
            closed=found.closed,
            owner=found.owner,
            members=[self._member_row(member) for member in self._rooms.members(name)],
            notices=[notice_of(message) for message in messages],
            tasks=[
                OpenTaskRow(
                    task_id=task.task_id, state=task.state, sender=task.requester, worker=task.worker,
                    to=Addressee(task.addressee_kind, task.addressee, task.addressee_session).text,
                    task=task.task[:_TASK_CHARACTERS],
                )
                for task in self._tasks.unfinished(name, _TASKS_SHOWN)
            ],
            acknowledged=acknowledged,
            receipts=None if message_id is None else self._messages.receipts(agent, name, message_id),
        )  # fmt: skip

    def _member_row(self, member: Member) -> MemberRow:
        workspace = self._core.registry.find(member.workspace_id)
        presence, seen_at = self._presences.presence(member.workspace_id, member.seen_at)
        return MemberRow(
            workspace_id=member.workspace_id,
            user=member.user,
            agent=workspace.tool if workspace else "",
            machine=workspace.machine if workspace else "",
            project=workspace.project if workspace else "",
            role=member.role,
            status=member.status,
            presence=presence,
            last_seen=rfc3339(seen_at),
            joined_at=member.joined_at,
            sessions=[
                SessionRow(session=session.session, presence=session.presence, last_seen=rfc3339(session.seen_at))
                for session in self._presences.sessions(member.workspace_id)[:5]
            ],
        )

    def save_seen(self) -> None:
        """Let it be known after a restart when everybody was last heard of."""
        if seen := self._presences.take_unsaved():
            self._rooms.save_seen(seen)


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()


def _ticket_end(text: str) -> float:
    """Raises: InvalidArgument: no time, or not in the future."""
    if not text:
        return time.time() + TICKET_DAYS * 86_400
    wanted = parse_time(text)
    if wanted is None:
        raise InvalidArgument("ticket_expires_at is no time", hint="Such as 2026-12-01T18:00:00Z")
    seconds = datetime.fromisoformat(wanted.replace("Z", "+00:00")).timestamp()
    if seconds <= time.time():
        raise InvalidArgument("ticket_expires_at is over", hint="Pass a time to come, or none: 30 days")
    return seconds
