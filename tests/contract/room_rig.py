"""Agents that work together through one of three doors: MCP of either era, or HTTP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from tests.contract.harness import AI_TOKEN, Reply, Server

Door = Literal["legacy", "2026-07-28", "http"]
DOORS: tuple[Door, ...] = ("legacy", "2026-07-28", "http")
ROUTES = {
    "list_rooms": ("GET", "/rooms"),
    "join_room": ("POST", "/rooms"),
    "get_room_status": ("GET", "/rooms/{room}"),
    "leave_room": ("POST", "/rooms/{room}/leave"),
    "revoke_ticket": ("POST", "/rooms/{room}/revoke"),
    "notify_peers": ("POST", "/rooms/{room}/messages"),
    "delegate_task": ("POST", "/tasks"),
    "poll_pending_tasks": ("POST", "/tasks/poll"),
    "get_task": ("GET", "/tasks/{task_id}"),
    "submit_task_result": ("POST", "/tasks/{task_id}/result"),
    "cancel_task": ("POST", "/tasks/{task_id}/cancel"),
}


class Peer:
    """An agent with a workspace of its own. Over HTTP the tools' names stand for their routes."""

    def __init__(self, server: Server, door: Door, name: str, token: str = AI_TOKEN) -> None:
        self._server = server
        self._door = door
        names = {"machine": "box", "tool": "claude", "project": name}
        if door == "http":
            self.binding = str(server.http(token).post("/api/v1/workspaces", names).json["binding"])
            self._http = server.http(token, x_memory_binding=self.binding)
        else:
            self._agent = server.agent(token, door)
            self.binding = str(self._agent.ok("register_workspace", **names)["binding"])
        self.workspace_id = f"box-claude-{name}"

    def result(self, tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
        """`ok` or the error's code, and the answer or the error."""
        if self._door == "http":
            reply = self._request(tool, arguments)
            return reply.code, reply.json
        answer = self._agent.call(tool, **arguments, binding=self.binding)
        if answer.is_error:
            error = answer.structured["error"]
            return str(error["code"]), error
        return "ok", answer.structured

    def _request(self, tool: str, arguments: dict[str, Any]) -> Reply:
        method, path = ROUTES[tool]
        if tool == "get_room_status" and "read" in arguments:
            method, path = "POST", "/rooms/{room}/read"
        if tool == "get_room_status" and "after" in arguments:
            path += "/messages"
        url = "/api/v1" + path.format(**arguments)
        rest = {name: value for name, value in arguments.items() if "{" + name + "}" not in path}
        if method == "GET":
            return self._http.get(url + "?" + "&".join(f"{name}={value}" for name, value in rest.items()))
        return self._http.post(url, rest)

    def ok(self, tool: str, **arguments: Any) -> dict[str, Any]:
        code, found = self.result(tool, **arguments)
        assert code == "ok", found
        return found

    def code(self, tool: str, **arguments: Any) -> str:
        return self.result(tool, **arguments)[0]

    def history(self, room: str) -> list[str]:
        """What it may see of what was said there."""
        found = self.ok("get_room_status", room=room, after=0)
        return [message["text"] for message in found.get("messages", found.get("notices", []))]

    def unread(self, room: str) -> dict[int, str]:
        notices = self.ok("get_room_status", room=room)["notices"]
        return {notice["message_id"]: notice["text"] for notice in notices}

    def claim(self, **arguments: Any) -> dict[str, Any]:
        """The one task that there is for it."""
        (task,) = self.ok("poll_pending_tasks", **arguments)["tasks"]
        found: dict[str, Any] = task
        return found


class Peers:
    """Makes agents, and lets them do things at the same time."""

    def __init__(self, server: Server, door: Door, threads: ThreadPoolExecutor) -> None:
        self.server = server
        self.door: Door = door
        self._threads = threads
        self._made = 0

    def __call__(self, name: str, *rooms: str, token: str = AI_TOKEN, **joining: Any) -> Peer:
        self._made += 1
        peer = Peer(self.server, self.door, name, token)
        for room in rooms:
            peer.ok("join_room", room=room, **joining)
        return peer

    def start(self, peer: Peer, tool: str, **arguments: Any) -> Future[dict[str, Any]]:
        return self._threads.submit(peer.ok, tool, **arguments)

    def wait_until_waiting(self, calls: int) -> None:
        """Until so many calls wait in the server."""
        waiting = self.server.services.collaboration.waiting
        deadline = time.monotonic() + 30
        while waiting.count < calls:
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.002)


@contextlib.contextmanager
def peers_of(server: Server, door: Door) -> Iterator[Peers]:
    with ThreadPoolExecutor(80) as threads:
        yield Peers(server, door, threads)
