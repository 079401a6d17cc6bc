"""Whom a message or a task is for: `to` in tools and routes (SPEC: ROOM-7, TASK-6)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from federated_memory.errors import InvalidArgument
from federated_memory.names import parse_room_name, parse_workspace_id
from federated_memory.store.tasks import AddresseeKind

_ROLE = "role:"
_SESSION = re.compile(r"[0-9a-f]{12}\Z")


@dataclass(frozen=True, slots=True)
class Addressee:
    """`name` is a workspace or a role, `session` one of that workspace's."""

    kind: AddresseeKind
    name: str = ""
    session: str = ""

    @property
    def text(self) -> str:
        """As it was given."""
        match self.kind:
            case "any":
                return ""
            case "role":
                return _ROLE + self.name
            case "session":
                return f"{self.name}/{self.session}"
            case "agent":
                return self.name


def parse_addressee(text: str) -> Addressee:
    """Empty: anybody. `role:NAME`, a workspace id, or `workspace/session` as get_room_status shows them.

    Raises:
        InvalidArgument, InvalidName: None of these.
    """
    if not text:
        return Addressee("any")
    if text.startswith(_ROLE):
        return Addressee("role", parse_room_name(text.removeprefix(_ROLE)))
    workspace_id, slash, session = text.partition("/")
    if not slash:
        return Addressee("agent", parse_workspace_id(workspace_id))
    if not _SESSION.match(session):
        raise InvalidArgument("`to` names no session", hint="Use workspace_id/session as get_room_status shows them")
    return Addressee("session", parse_workspace_id(workspace_id), session)
