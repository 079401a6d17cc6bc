"""The HTTP routes of rooms: the same services as the tools; the agent is that of `X-Memory-Binding` (SPEC: ROOM-1)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.errors import FederatedMemoryError, InvalidArgument
from federated_memory.service.agents import Agent
from federated_memory.service.collaboration import Collaboration
from federated_memory.service.messages import MESSAGE_SECONDS, notice_of, topic_of_room
from federated_memory.service.services import Services
from federated_memory.web import live_stream
from federated_memory.web.asking import Body, binding_of, read_body
from federated_memory.web.live_stream import LiveStream, OpenStreams
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of, paging
from federated_memory.web.transfer import in_thread, integer

_ROOM = "/api/v1/rooms/{room}"
_BATCH = 50


class Joining(Body):
    room: str
    ticket: str = ""
    closed: bool = False
    ticket_expires_at: str = ""
    status: str = ""
    role: str = ""


class Revoking(Body):
    ticket: str = ""


class Acknowledging(Body):
    read: list[int]


class Notifying(Body):
    message: str
    to: str = ""
    ttl_seconds: int = MESSAGE_SECONDS


class RoomRoutes:
    """Handlers of one server."""

    def __init__(self, services: Services, streams: OpenStreams) -> None:
        self._rooms = services.rooms
        self._collaboration = services.collaboration
        self._messages = services.collaboration.messages
        self._streams = streams

    def all(self) -> list[Route]:
        return [
            Route("/api/v1/rooms", self.list_rooms, methods=["GET"]),
            Route("/api/v1/rooms", self.join_room, methods=["POST"]),
            Route(_ROOM, self.room_status, methods=["GET"]),
            Route(_ROOM + "/leave", self.leave_room, methods=["POST"]),
            Route(_ROOM + "/revoke", self.revoke_ticket, methods=["POST"]),
            Route(_ROOM + "/messages", self.room_messages, methods=["GET"]),
            Route(_ROOM + "/messages", self.notify_peers, methods=["POST"]),
            Route(_ROOM + "/read", self.acknowledge, methods=["POST"]),
            Route(_ROOM + "/events", self.room_events, methods=["GET"]),
        ]

    async def list_rooms(self, request: Request) -> Response:
        service = partial(self._rooms.list, **paging(request), binding=binding_of(request))
        return json_response(await in_thread(service, caller_of(request)))

    async def join_room(self, request: Request) -> Response:
        body = await read_body(request, Joining)
        join = partial(self._rooms.join, **body.model_dump(), binding=binding_of(request))
        done = await in_thread(join, caller_of(request))
        return json_response(done, 201 if done.created else 200)

    async def room_status(self, request: Request) -> Response:
        """`message_id` adds how a message of the caller's own reached everybody."""
        status = partial(self._rooms.status, message_id=integer(request, "message_id"), binding=binding_of(request))
        return json_response(await in_thread(status, caller_of(request), request.path_params["room"]))

    async def leave_room(self, request: Request) -> Response:
        leave = partial(self._rooms.leave, binding=binding_of(request))
        return json_response(await in_thread(leave, caller_of(request), request.path_params["room"]))

    async def revoke_ticket(self, request: Request) -> Response:
        body = await read_body(request, Revoking)
        revoke = partial(self._rooms.revoke_ticket, ticket=body.ticket, binding=binding_of(request))
        return json_response(await in_thread(revoke, caller_of(request), request.path_params["room"]))

    async def room_messages(self, request: Request) -> Response:
        """The history after a message's number, oldest first."""
        after, limit = _within(request, "after", 0, 0, 2**62), _within(request, "limit", 100, 1, 500)

        def read() -> list[dict[str, object]]:
            agent = self._messages.agent(caller_of(request), binding_of(request))
            found = self._messages.history(agent, request.path_params["room"], after, limit)
            return [notice_of(message).as_dict() for message in found]

        rows = await in_thread(read)
        return json_response({"messages": rows, "next_after": rows[-1]["message_id"] if rows else after})

    async def notify_peers(self, request: Request) -> Response:
        body = await read_body(request, Notifying)
        notify = partial(self._messages.notify, to=body.to, ttl_seconds=body.ttl_seconds, binding=binding_of(request))
        return json_response(
            await in_thread(notify, caller_of(request), request.path_params["room"], body.message), 201
        )

    async def acknowledge(self, request: Request) -> Response:
        body = await read_body(request, Acknowledging)
        status = partial(self._rooms.status, read=body.read, binding=binding_of(request))
        return json_response(await in_thread(status, caller_of(request), request.path_params["room"]))

    async def room_events(self, request: Request) -> Response:
        """Server-sent events: each message of the room, from now on or after `Last-Event-ID`."""
        room = request.path_params["room"]
        after = integer(request, "last-event-id", header=True)

        def begin() -> tuple[Agent, int]:
            agent = self._messages.agent(caller_of(request), binding_of(request))
            self._messages.ensure_member(agent, room)
            return agent, self._messages.last_number() if after is None else max(0, after)

        fingerprint = caller_of(request).grant.fingerprint
        self._streams.ensure_free(fingerprint)
        agent, start = await in_thread(begin)
        return RoomStream(self._collaboration, agent, room, start, self._streams, fingerprint)


class RoomStream(LiveStream):
    """A room's messages to one member. `ready` comes first: after its id nothing is missed, also over reconnects."""

    name = "room"

    def __init__(
        self, collaboration: Collaboration, agent: Agent, room: str, after: int, streams: OpenStreams, fingerprint: str
    ) -> None:
        super().__init__(streams, fingerprint)
        self._messages = collaboration.messages
        self._waiting = collaboration.waiting
        self._presences = collaboration.presences
        self._agent = agent
        self._room = room
        self._after = after

    async def parts(self) -> AsyncGenerator[bytes, None]:
        agent, room, after = self._agent, self._room, self._after
        # Whoever leaves the room wakes this too, and is told nothing more.
        with self._presences.connected(agent), self._waiting.listening(
            topic_of_room(room), agent.workspace_id
        ) as wake:  # fmt: skip
            yield _frame(b"ready", after, orjson.dumps({"id": after}))
            while not self._waiting.is_stopping:
                wake.clear()
                try:
                    found = await in_thread(self._messages.history, agent, room, after, _BATCH)
                except FederatedMemoryError:
                    return
                for message in found:
                    after = message.number
                    yield _frame(message.kind.encode(), after, orjson.dumps(notice_of(message).as_dict()))
                if not found:
                    with anyio.move_on_after(live_stream.HEARTBEAT_SECONDS) as scope:
                        await wake.wait()
                    if scope.cancelled_caught:
                        yield b": heartbeat\n\n"


def _frame(kind: bytes, number: int, data: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind, data)


def _within(request: Request, name: str, default: int, least: int, most: int) -> int:
    found = integer(request, name, default)
    assert found is not None
    if not least <= found <= most:
        raise InvalidArgument(f"{name} is out of range", hint=f"Pass {least} to {most}")
    return found
