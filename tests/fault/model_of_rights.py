"""Workspaces, versions, sessions, tokens and bindings as a few dictionaries: what a server must agree with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


def etag_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@dataclass
class Token:
    """A bearer. `writes` is the one workspace that it may write, or `*`."""

    name: str
    secret: str
    role: str
    writes: str = "*"
    is_revoked: bool = False


@dataclass
class Document:
    versions: list[bytes] = field(default_factory=list)
    is_live: bool = False

    @property
    def text(self) -> bytes | None:
        return self.versions[-1] if self.is_live else None

    def write(self, text: bytes) -> None:
        if self.text != text:
            self.versions.append(text)
            self.is_live = True


@dataclass
class Workspace:
    workspace_id: str
    project: str
    write_token: str = ""
    ended_write_tokens: list[str] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    sessions: dict[str, bytes] = field(default_factory=dict)

    def document(self, path: str) -> Document:
        return self.documents.get(path, Document())

    def collides(self, path: str) -> bool:
        """Whether another live document has this name but for its case."""
        return any(
            document.is_live and other != path and other.lower() == path.lower()
            for other, document in self.documents.items()
        )


@dataclass(frozen=True)
class Proof:
    """What somebody brings along: a bearer, and a binding (with the workspace and the token that it is of) or a write
    token."""

    token: str
    binding: str = ""
    bound_to: str = ""
    bound_by: str = ""
    write_token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        found = {"x_memory_binding": self.binding, "x_write_token": self.write_token}
        return {name: value for name, value in found.items() if value}


def may_write(token: Token, proof: Proof, workspace: Workspace) -> int:
    """200, or with what a write is refused."""
    if token.is_revoked:
        return 401
    match token.role:
        case "ai":
            is_implied = not proof.binding and token.writes == workspace.workspace_id
            is_bound = is_implied or (proof.bound_to == workspace.workspace_id and proof.bound_by == token.name)
            return 200 if is_bound and token.writes in ("*", workspace.workspace_id) else 403
        case "sync":
            is_proven = bool(workspace.write_token) and proof.write_token == workspace.write_token
            return 200 if is_proven and token.writes in ("*", workspace.workspace_id) else 403
    return 403
