"""Bodies and answers that the routes take and give as plain dictionaries: their shapes, for the description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from federated_memory.service.results import InvitationRow, TokenRow
from federated_memory.service.room_results import Notice


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    reasons: list[str]


class Registration(BaseModel):
    model_config = ConfigDict(extra="forbid")

    machine: str | None = None
    tool: str | None = None
    project: str | None = None
    description: str | None = None
    workspace_id: str | None = None
    project_key: str | None = None


class Held(BaseModel):
    bytes: int
    sha256: str


class Plan(BaseModel):
    """What a client has."""

    model_config = ConfigDict(extra="forbid")

    knowledge: dict[str, str] = Field(default_factory=dict, description="Path -> SHA-256.")
    sessions: dict[str, Held] = Field(default_factory=dict)


class Wanted(BaseModel):
    offset: int = Field(description="Send from here; 0: the whole transcript.")
    etag: str | None = Field(default=None, description="Of what is held: the `If-Match` of the PATCH.")


class Planned(BaseModel):
    """What is missing here."""

    knowledge: list[str]
    sessions: dict[str, Wanted]


class WhichVersion(BaseModel):
    version: int


class TokenList(BaseModel):
    tokens: list[TokenRow]


class InvitationList(BaseModel):
    invitations: list[InvitationRow]


class Aliases(BaseModel):
    aliases: dict[str, str] = Field(description="Another name -> the project's own.")


class RoomMessages(BaseModel):
    messages: list[Notice]
    next_after: int


class Problem(BaseModel):
    """RFC 9457, with a stable `code`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    hint: str | None = None


class Done(BaseModel):
    """What an action did; the fields are those of its verb on the command line."""

    model_config = ConfigDict(extra="allow")

    notes: Any = None
