"""The caller of one request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

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

    def reads(self, workspace_id: str) -> bool:
        return self.role == "admin" or any(fnmatchcase(workspace_id, glob) for glob in self.read)

    def writes(self, workspace_id: str) -> bool:
        return self.role == "admin" or any(fnmatchcase(workspace_id, glob) for glob in self.write)

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
