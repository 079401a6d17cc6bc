"""Who an agent is, and when it was last heard of (SPEC: ROOM-5, ROOM-6).

An agent is its bound workspace; each registration of it is a session of its own, named by its binding's nonce. None of
it comes from arguments.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from federated_memory.auth.caller import Caller
from federated_memory.auth.policy import Policy
from federated_memory.names import glob_matches

Presence = Literal["online", "away", "offline"]
ONLINE_SECONDS = 90
AWAY_SECONDS = 900
_MOST_SESSIONS = 100
_ORDER: tuple[Presence, ...] = ("online", "away", "offline")


@dataclass(frozen=True, slots=True)
class Agent:
    workspace_id: str
    session: str
    user: str
    """The name of its token."""
    is_admin: bool = False
    rooms_read: tuple[str, ...] = ("*",)
    """Globs of the rooms that its token may be in, and speak and work in (SPEC: AUTH-12)."""
    rooms_written: tuple[str, ...] = ("*",)
    address: str = ""
    where: str = ""

    def reads_room(self, room: str) -> bool:
        return any(glob_matches(glob, room) for glob in self.rooms_read)

    def writes_room(self, room: str) -> bool:
        return any(glob_matches(glob, room) for glob in self.rooms_written)

    @property
    def name(self) -> str:
        return f"{self.workspace_id}/{self.session}"


def agent_of(policy: Policy, caller: Caller, binding: str | None) -> Agent:
    """The agent that calls.

    Raises:
        NotBound, Forbidden, Conflict: As for every write (`Policy.writer`).
    """
    workspace = policy.writer(caller, binding)
    session = policy.registration(caller, binding)
    grant = caller.grant
    return Agent(
        workspace.workspace_id, session, grant.name, caller.role == "admin", grant.room_globs_read,
        grant.room_globs_written, caller.address, caller.where,
    )  # fmt: skip


@dataclass(slots=True)
class _Heard:
    tick: float
    at: float


@dataclass(frozen=True, slots=True)
class Session:
    session: str
    presence: Presence
    seen_at: float


class Presences:
    """Who was heard of since the start; by a clock that nobody sets. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._heard: defaultdict[str, OrderedDict[str, _Heard]] = defaultdict(OrderedDict)
        self._connected: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._unsaved: dict[str, float] = {}

    def heard_of(self, agent: Agent) -> None:
        with self._lock:
            sessions = self._heard[agent.workspace_id]
            sessions[agent.session] = _Heard(self._clock(), time.time())
            sessions.move_to_end(agent.session)
            while len(sessions) > _MOST_SESSIONS:
                sessions.popitem(last=False)
            self._unsaved[agent.workspace_id] = time.time()

    @contextmanager
    def connected(self, agent: Agent) -> Iterator[None]:
        """While a call of it waits, or it follows a room's events."""
        self.heard_of(agent)
        with self._lock:
            self._connected[agent.workspace_id][agent.session] += 1
        try:
            yield
        finally:
            with self._lock:
                connected = self._connected[agent.workspace_id]
                connected[agent.session] -= 1
                if not connected[agent.session]:
                    del connected[agent.session]
            self.heard_of(agent)

    def is_connected(self, workspace_id: str, session: str = "") -> bool:
        with self._lock:
            connected: Mapping[str, int] = self._connected.get(workspace_id, {})
            return session in connected if session else bool(connected)

    def sessions(self, workspace_id: str) -> list[Session]:
        """Of one workspace, the one heard of last first; those that were silent for long are left out."""
        with self._lock:
            heard = reversed(list(self._heard.get(workspace_id, {}).items()))
            connected = set(self._connected.get(workspace_id, ()))
        found = [
            Session(name, _presence(self._clock() - last.tick, is_connected=name in connected), last.at)
            for name, last in heard
        ]
        return [session for session in found if session.presence != "offline"]

    def presence(self, workspace_id: str, saved_at: float) -> tuple[Presence, float]:
        """And when it was last heard of; `saved_at` is what is known from before the start."""
        sessions = self.sessions(workspace_id)
        if sessions:
            return min((session.presence for session in sessions), key=_ORDER.index), sessions[0].seen_at
        with self._lock:
            last = next(reversed(self._heard.get(workspace_id, OrderedDict()).values()), None)
        if last is not None:
            return "offline", last.at
        return _presence(max(0.0, time.time() - saved_at), is_connected=False), saved_at

    def take_unsaved(self) -> list[tuple[float, str]]:
        """(seconds since 1970, workspace) since the last time."""
        with self._lock:
            found = [(at, workspace_id) for workspace_id, at in self._unsaved.items()]
            self._unsaved.clear()
        return found


def _presence(silent_seconds: float, *, is_connected: bool) -> Presence:
    if is_connected or silent_seconds <= ONLINE_SECONDS:
        return "online"
    return "away" if silent_seconds <= AWAY_SECONDS else "offline"
