"""The caller of one request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from federated_memory.names import glob_covers, glob_matches
from federated_memory.store.changes import Actor

Role = Literal["ai", "sync", "read", "admin"]
CALLER = "federated_memory.caller"
"""Key of the ASGI scope under which the gate leaves the caller of a request."""
ROLES: tuple[Role, ...] = ("ai", "sync", "read", "admin")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token gives. Globs are matched against workspace ids; `machine` limits writes to that machine's."""

    name: str
    role: Role
    fingerprint: str
    """First half of the token's SHA-256: ties bindings and sessions to the token, and is not secret."""
    read: tuple[str, ...] = ("*",)
    write: tuple[str, ...] = ("*",)
    machine: str = ""
    expires_at: float | None = None
    read_keys: tuple[str, ...] | None = None
    """Globs of keys of the shared state, and of rooms below; None: all, if the globs of workspaces are not limited
    either, else none (SPEC: AUTH-12)."""
    write_keys: tuple[str, ...] | None = None
    read_rooms: tuple[str, ...] | None = None
    write_rooms: tuple[str, ...] | None = None

    def reads(self, workspace_id: str) -> bool:
        return self.role == "admin" or any(fnmatchcase(workspace_id, glob) for glob in self.read)

    def writes(self, workspace_id: str) -> bool:
        return self.role == "admin" or any(fnmatchcase(workspace_id, glob) for glob in self.write)

    @property
    def key_globs_read(self) -> tuple[str, ...]:
        return self._effective(self.read_keys, self.read)

    @property
    def key_globs_written(self) -> tuple[str, ...]:
        return self._effective(self.write_keys, self.write)

    @property
    def room_globs_read(self) -> tuple[str, ...]:
        return self._effective(self.read_rooms, self.read)

    @property
    def room_globs_written(self) -> tuple[str, ...]:
        return self._effective(self.write_rooms, self.write)

    def reads_key(self, key: str) -> bool:
        return any(glob_matches(glob, key) for glob in self.key_globs_read)

    def writes_key(self, key: str) -> bool:
        return any(glob_matches(glob, key) for glob in self.key_globs_written)

    def reads_all_keys_of(self, glob: str) -> bool:
        """Whether it may read whatever the glob will ever match."""
        return any(glob_covers(held, glob) for held in self.key_globs_read)

    def writes_all_keys_of(self, glob: str) -> bool:
        return any(glob_covers(held, glob) for held in self.key_globs_written)

    def reads_room(self, room: str) -> bool:
        return any(glob_matches(glob, room) for glob in self.room_globs_read)

    def writes_room(self, room: str) -> bool:
        return any(glob_matches(glob, room) for glob in self.room_globs_written)

    def _effective(self, given: tuple[str, ...] | None, workspaces: tuple[str, ...]) -> tuple[str, ...]:
        if self.role == "admin":
            return ("*",)
        if given is not None:
            return given
        is_limited = self.read != ("*",) or self.write not in (("*",), ())
        return () if is_limited else workspaces

    @property
    def only_workspace(self) -> str | None:
        """The one workspace that the write globs can ever admit."""
        only = self.write[0] if len(self.write) == 1 else ""
        return only if only and not any(character in only for character in "*?[") else None


@dataclass(frozen=True, slots=True)
class Caller:
    grant: Grant
    address: str = ""
    where: str = ""
    """The route or tool, for the log."""
    session: str | None = None
    """The MCP session, in protocol versions that have one."""
    machine: str = ""
    tool: str = ""
    request_id: str = ""

    @property
    def role(self) -> Role:
        return self.grant.role

    @property
    def actor(self) -> Actor:
        return Actor(self.grant.name, self.address)

    def at(self, where: str) -> Caller:
        return replace(self, where=where)
