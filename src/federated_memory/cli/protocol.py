"""What the verbs ask, and whom: a server or the root itself, which of the two they need not know (SPEC: CLI-22)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from federated_memory.service.results import (
    IndexStatus,
    InvitationRow,
    Invited,
    Registered,
    Result,
    Status,
    TokenCreated,
    TokenRow,
    WorkspaceRow,
)

if TYPE_CHECKING:
    from federated_memory.auth.caller import Caller
    from federated_memory.service.services import Services

R = TypeVar("R", bound=Result)
Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    method: str
    path: str
    """Of the route below `/api/v1`; `{name}` stands for an argument."""
    result: type[R]
    here: Callable[[Services, Caller, Given], R]
    """The same, on a root that no server holds."""
    needs_index: bool = False
    is_long: bool = False
    """It takes as long as what is sent, or meant, is large."""


class Backend(Protocol):
    """What the verbs ask of a memory root, whoever holds it."""

    url: str
    """Of the server; empty when none runs."""
    pid: int
    """Of the server's process; 0 when unknown."""

    def status(self) -> Status: ...

    def reindex(self, progress: Callable[[int, int], None]) -> IndexStatus:
        """Make the index anew; returns when it is, or cannot be now."""
        ...

    def workspaces(self, *, machine: str, tool: str, project: str) -> list[WorkspaceRow]: ...

    def workspace(self, workspace_id: str) -> WorkspaceRow: ...

    def reissue(self, workspace_id: str) -> Registered: ...

    def tokens(self) -> list[TokenRow]: ...

    def create_token(
        self,
        name: str,
        role: str,
        *,
        read: list[str],
        write: list[str],
        machine: str,
        expires: str,
        scopes: dict[str, list[str]],
    ) -> TokenCreated: ...

    def revoke_token(self, name: str) -> TokenRow: ...

    def invite(self, machine: str, *, read: list[str], expires: str, pin: bool) -> Invited: ...

    def invitations(self) -> list[InvitationRow]: ...

    def withdraw(self, invitation_id: str) -> InvitationRow: ...

    def operate(self, action: str, **arguments: object) -> dict[str, Any]:
        """One of `service.operations`; paths in its answer are of the machine that holds the root."""
        ...

    def ask(self, call: Call[R], **given: object) -> R:
        """One of `cli.calls`; arguments that are None or empty count as absent."""
        ...

    def content(self, workspace_id: str, path: str | None, version: int | None) -> tuple[str, int, bytes]:
        """Etag, version and bytes of a document, or (path None) of the overview."""
        ...

    def transcript(self, workspace_id: str, session_id: str) -> Iterator[bytes]:
        """The JSONL of a session, as it was uploaded."""
        ...

    def put_document(self, workspace_id: str, path: str | None, data: bytes, binding: str) -> None: ...

    def put_session(self, workspace_id: str, session_id: str, data: bytes, agent: str, binding: str) -> str:
        """Store a whole transcript; returns the status of the upload."""
        ...

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
