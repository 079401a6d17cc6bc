"""Tools of rooms: offered when MEMORY_TOOLSETS has `rooms` (SPEC: ROOM-1 to ROOM-8, TOOL-8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from federated_memory.service.messages import MESSAGE_SECONDS, MOST_MESSAGE_SECONDS
from federated_memory.service.room_results import (
    Notified,
    RoomJoined,
    RoomLeft,
    RoomList,
    RoomStatus,
    TicketsRevoked,
)
from federated_memory.tools import parameters as p
from federated_memory.tools import render_rooms as render_rooms  # the texts of these results
from federated_memory.tools.toolkit import Call, ToolSpec, spec

Room = Annotated[str, Field(max_length=200)]
Ticket = Annotated[str, Field(max_length=200)]
To = Annotated[
    str, Field(max_length=300, description="Default: everybody; or a workspace_id, workspace_id/session, role:NAME.")
]
Number = Annotated[int, Field(ge=0, le=2**62)]


def join_room(
    call: Call,
    room: Annotated[
        str, Field(max_length=200, description="Such as `checkout-redesign`; the same name, the same room.")
    ],
    ticket: Annotated[Ticket, Field(description="Of a closed room.")] = "",
    closed: Annotated[bool, Field(description="Create it closed; as its owner, make another ticket.")] = False,
    ticket_expires_at: Annotated[str, Field(max_length=40, description="RFC 3339; default: in 30 days.")] = "",
    status: Annotated[str, Field(max_length=1_000, description="What you are doing, one line.")] = "",
    role: Annotated[str, Field(max_length=200, description="Such as `reviewer`: tasks are addressed to it.")] = "",
    binding: p.Binding = None,
) -> RoomJoined:
    """Join a room to work with other agents; it is created when it is new. Call it again to change status or role.

    A closed room takes a ticket, which `closed` gives you when you create it: hand it to those who may come in.
    """
    return call.services.rooms.join(
        call.caller, room, ticket=ticket, closed=closed, ticket_expires_at=ticket_expires_at, status=status, role=role,
        binding=binding,
    )  # fmt: skip


def leave_room(call: Call, room: Room, binding: p.Binding = None) -> RoomLeft:
    """Leave a room. Tasks that you had claimed there are open again."""
    return call.services.rooms.leave(call.caller, room, binding=binding)


def get_room_status(
    call: Call,
    room: Room,
    read: Annotated[list[Number] | None, Field(max_length=500, description="message_ids that you have read.")] = None,
    after: Annotated[
        Number | None, Field(description="Show the history after this message_id; 0: from the start.")
    ] = None,
    message_id: Annotated[Number | None, Field(description="Of a message of yours: who has read it.")] = None,
    binding: p.Binding = None,
) -> RoomStatus:
    """Who is in the room, online or away, and doing what; messages you have not acknowledged; unfinished tasks."""
    return call.services.rooms.status(
        call.caller, room, read=read or (), after=after, message_id=message_id, binding=binding
    )


def list_rooms(
    call: Call, limit: p.Limit = 50, cursor: p.Cursor = None, max_bytes: p.MaxBytes = p.BYTES, binding: p.Binding = None
) -> RoomList:
    """The rooms that you are in, with what is unread and unfinished there."""
    return call.services.rooms.list(call.caller, limit=limit, cursor=cursor, max_bytes=max_bytes, binding=binding)


def revoke_ticket(
    call: Call,
    room: Room,
    ticket: Annotated[Ticket, Field(description="Default: all of the room.")] = "",
    binding: p.Binding = None,
) -> TicketsRevoked:
    """End tickets of a closed room of yours at once. Who has joined stays."""
    return call.services.rooms.revoke_ticket(call.caller, room, ticket=ticket, binding=binding)


def notify_peers(
    call: Call,
    room: Room,
    message: Annotated[str, Field(description="At most 16 KiB.")],
    to: To = "",
    ttl_seconds: Annotated[int, Field(ge=1, le=MOST_MESSAGE_SECONDS)] = MESSAGE_SECONDS,
    binding: p.Binding = None,
) -> Notified:
    """Tell others in a room something: pushed to those who wait in poll_pending_tasks, kept for the rest until read."""
    return call.services.collaboration.messages.notify(
        call.caller, room, message, to=to, ttl_seconds=ttl_seconds, binding=binding
    )


TOOLS: tuple[ToolSpec, ...] = (
    spec(join_room, "Join a room", "ai", "admin", writes=True),
    spec(leave_room, "Leave a room", "ai", "admin", writes=True),
    spec(get_room_status, "Who is in a room", "ai", "admin", writes=True),
    spec(list_rooms, "Your rooms", "ai", "admin"),
    spec(revoke_ticket, "Revoke tickets", "ai", "admin", writes=True, destroys=True),
    spec(notify_peers, "Notify peers", "ai", "admin", writes=True, idempotent=False),
)
