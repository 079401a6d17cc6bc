"""What is said in rooms: kept until it is read, pushed to those who wait (SPEC: ROOM-4, ROOM-7)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from federated_memory.auth.caller import Caller
from federated_memory.auth.events import auth_deny
from federated_memory.errors import FederatedMemoryError, Forbidden, InvalidArgument, NotFound
from federated_memory.names import parse_room_name, shown
from federated_memory.service.addressing import Addressee, parse_addressee
from federated_memory.service.agents import Agent, Presences, agent_of
from federated_memory.service.core import Core
from federated_memory.service.room_results import Notice, Notified, ReceiptRow, Withheld
from federated_memory.service.texts import ensure_text
from federated_memory.service.waiting import Waiting
from federated_memory.store.changes import now
from federated_memory.store.rooms import Draft, Member, Message, MessageKind, Receipt, Rooms, rfc3339

logger = logging.getLogger(__name__)

MOST_UNREAD = 500
"""Messages of one room that wait for one workspace."""
MAX_MESSAGE_BYTES = 16 * 1024
MESSAGE_SECONDS, MOST_MESSAGE_SECONDS = 7 * 86_400, 30 * 86_400
_SUMMARY_CHARACTERS = 200


class Messages:
    """Blocking; thread-safe."""

    def __init__(self, core: Core, rooms: Rooms, waiting: Waiting, presences: Presences) -> None:
        self._core = core
        self._rooms = rooms
        self._waiting = waiting
        self._presences = presences

    def agent(self, caller: Caller, binding: str | None) -> Agent:
        """Who calls; it counts as heard of. Raises: NotBound, Forbidden, Conflict: as for every write."""
        agent = agent_of(self._core.policy, caller, binding)
        self._presences.heard_of(agent)
        return agent

    def ensure_member(self, agent: Agent, room: str, *, writes: bool = False) -> Member:
        """Raises: NotFound: not in that room, whether it exists or not. InvalidName: no name of a room.
        Forbidden: outside of the token's globs of rooms."""
        self.ensure_may(agent, parse_room_name(room), writes=writes)
        member = self._rooms.member(parse_room_name(room), agent.workspace_id)
        if member is None:
            raise NotFound(f"You are in no room {shown(room)}", hint="See list_rooms, or join_room first")
        return member

    @staticmethod
    def ensure_may(agent: Agent, room: str, *, writes: bool) -> None:
        """Raises: Forbidden: the token's globs of rooms leave this one out."""
        if not agent.reads_room(room):
            auth_deny(agent.address, "room_glob", agent.where)
            raise Forbidden(f"This token may not be in room {shown(room)}", hint="Ask for --read-rooms")
        if writes and not agent.writes_room(room):
            auth_deny(agent.address, "room_glob", agent.where)
            raise Forbidden(f"This token may not write in room {shown(room)}", hint="Ask for --write-rooms")

    def notify(
        self, caller: Caller, room: str, message: str, *, to: str = "", ttl_seconds: int = MESSAGE_SECONDS,
        binding: str | None = None,
    ) -> Notified:  # fmt: skip
        """A message to everybody else in a room, to a role, to one agent, or to one of its sessions.

        Raises:
            NotFound: Not in that room.
            TooLarge: The message is too long.
            InvalidArgument: Nothing is said, or `to` is no address.
        """
        agent = self.agent(caller, binding)
        name = self.ensure_member(agent, room, writes=True).room
        ensure_text("message", message, MAX_MESSAGE_BYTES)
        addressee = parse_addressee(to)
        if not 1 <= ttl_seconds <= MOST_MESSAGE_SECONDS:
            raise InvalidArgument("ttl_seconds is out of range", hint=f"Pass 1 to {MOST_MESSAGE_SECONDS}")
        self._core.root.ensure_space()
        draft = Draft(
            name, "notice", agent.workspace_id, agent.session, addressee.text if to else "", message,
            time.time() + ttl_seconds,
        )  # fmt: skip
        with self._rooms.transaction() as transaction:
            receipts = self._receivers(agent, name, addressee)
            self._rooms.remove_expired(transaction)
            number = self._rooms.send(transaction, draft, receipts)
        kept = [receipt for receipt in receipts if receipt.state == "kept"]
        connected = {r.workspace_id for r in kept if self._presences.is_connected(r.workspace_id, r.session)}
        self._waiting.signal(topic_of_room(name), *(receipt.workspace_id for receipt in kept))
        return Notified(
            message_id=number,
            delivered=sorted(connected),
            kept=[receipt.workspace_id for receipt in kept if receipt.workspace_id not in connected],
            withheld=[Withheld(to=r.workspace_id, why=r.why) for r in receipts if r.state == "withheld"]
            + ([Withheld(to=to, why="nobody else is in the room" if not to else "nobody in the room has that role")]
               if not receipts else []),
            expires_at=rfc3339(draft.expires_at),
        )  # fmt: skip

    def _receivers(self, agent: Agent, room: str, addressee: Addressee) -> list[Receipt]:
        """A receipt for each that a message is for; `withheld` where it cannot reach them, and why."""
        waiting = self._rooms.count_waiting(room)
        members = {member.workspace_id: member for member in self._rooms.members(room)}
        at = now()
        if addressee.kind in ("agent", "session"):
            if addressee.name not in members:
                return [Receipt(addressee.name, addressee.session, "withheld", "not in the room", at)]
            wanted = [addressee.name]
        else:
            wanted = [
                member.workspace_id
                for member in members.values()
                if member.workspace_id != agent.workspace_id
                and (addressee.kind == "any" or member.role == addressee.name)
            ]
        return [
            Receipt(one, addressee.session, "withheld", f"has {MOST_UNREAD} unread messages", at)
            if waiting.get(one, 0) >= MOST_UNREAD
            else Receipt(one, addressee.session, "kept", "", at)
            for one in wanted
        ]

    def tell_worker(self, agent: Agent, room: str, task_id: str, worker: tuple[str, str], text: str) -> None:
        """A message about a task, for the session that has claimed it."""
        workspace_id, session = worker
        draft = Draft(
            room, "cancel", agent.workspace_id, agent.session, f"{workspace_id}/{session}", text,
            time.time() + MESSAGE_SECONDS, task_id,
        )  # fmt: skip
        with self._rooms.transaction() as transaction:
            self._rooms.send(transaction, draft, [Receipt(workspace_id, session, "kept", "", now())])
        self._waiting.signal(workspace_id)

    def take_new(self, agent: Agent, room: str = "") -> list[Message]:
        """Messages that were handed to nobody yet; from now on they count as pushed, until they are acknowledged."""
        messages = self._rooms.unread(agent.workspace_id, agent.session, room=room, only_new=True)
        if messages:
            with self._rooms.transaction() as transaction:
                numbers = [message.number for message in messages]
                self._rooms.mark(transaction, numbers, agent.workspace_id, agent.session, "pushed")
        return messages

    def history(self, agent: Agent, room: str, after: int, limit: int) -> list[Message]:
        """What follows a number, oldest first. Raises: NotFound: not in that room (any more)."""
        name = self.ensure_member(agent, room).room
        return self._rooms.history(name, agent.workspace_id, after, limit)

    def last_number(self) -> int:
        return self._rooms.last_number()

    def announce_memory(
        self, agent: Agent, room: str, memory_id: str, summary: str, kind: MessageKind = "memory"
    ) -> None:
        """Tell those who follow a room of a memory that was just stored for it, or deleted: an event, no notice.

        It is done: whatever the disk says of the event is logged, and raises nothing.
        """
        draft = Draft(
            room, kind, agent.workspace_id, agent.session, "", summary[:_SUMMARY_CHARACTERS],
            time.time() + MESSAGE_SECONDS, memory_id,
        )  # fmt: skip
        try:
            with self._rooms.transaction() as transaction:
                self._rooms.send(transaction, draft, ())
        except FederatedMemoryError as error:
            logger.warning("a room was not told of a memory", extra={"error": error.code})
            return
        self._waiting.signal(topic_of_room(room))

    def unread(self, agent: Agent, room: str, *, read: Iterable[int] = ()) -> tuple[list[Message], int]:
        """What the agent has not acknowledged, once `read` is; and how many of these were news."""
        acknowledged = 0
        if numbers := [number for number in read if 0 < number < 2**63]:
            with self._rooms.transaction() as transaction:
                acknowledged = self._rooms.mark(transaction, numbers, agent.workspace_id, agent.session, "read")
        return self._rooms.unread(agent.workspace_id, agent.session, room=room), acknowledged

    def receipts(self, agent: Agent, room: str, message_id: int) -> list[ReceiptRow]:
        message = self._rooms.message(room, message_id) if 0 < message_id < 2**63 else None
        if message is None or message.sender != agent.workspace_id:
            raise NotFound(f"You sent no message {message_id} to {room}", hint="It may have expired")
        return [
            ReceiptRow.model_validate(
                {"workspace_id": found.workspace_id, "at": found.at}
                | ({"state": "withheld", "why": "it expired"} if _has_expired(message, found)
                   else {"state": found.state, "why": found.why or None})
            )
            for found in self._rooms.receipts(message_id)
        ]  # fmt: skip


def topic_of_room(room: str) -> str:
    return f"room {room}"


def notice_of(message: Message) -> Notice:
    return Notice(
        message_id=message.number,
        room=message.room,
        kind=message.kind,
        sender=f"{message.sender}/{message.sender_session}",
        to=message.addressee,
        text=message.text,
        sent_at=message.sent_at,
        expires_at=rfc3339(message.expires_at),
        about=message.about or None,
    )


def _has_expired(message: Message, receipt: Receipt) -> bool:
    return receipt.state in ("kept", "pushed") and message.expires_at <= time.time()
