"""What an importer reads, before anything is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from federated_memory.names import document_path_problem


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """A note. `kind` may be one that there is not here; `supersedes` names sources.

    `others` is what has no field of ours, under its own names.
    """

    source: str
    content: str
    kind: str = "note"
    subject: str = ""
    summary: str = ""
    project: str = ""
    importance: int = 3
    tags: Sequence[str] = ()
    files: Sequence[str] = ()
    references: Sequence[str] = ()
    supersedes: Sequence[str] = ()
    created_at: str = ""
    expires_at: str = ""
    visibility: str = "all"
    room: str = ""
    user: str = ""
    agent: str = ""
    machine: str = ""
    session: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentItem:
    """A text that is kept whole. `path` may be any; `document_path` makes it one that a workspace takes."""

    source: str
    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SessionItem:
    """A transcript, as JSONL."""

    source: str
    session_id: str
    data: bytes
    agent: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is not taken in, and why. `is_meant`: because it was deleted or had expired there."""

    source: str
    why: str
    is_meant: bool = False


Item = MemoryItem | DocumentItem | SessionItem | LeftOut


def document_path(text: str) -> str:
    """A document path for a file of another tool: the same if it can be, else one that tells it from all others."""
    if not document_path_problem(text):
        return text
    parts = text.removesuffix(".md").split("/")
    made = "/".join(filter(None, (_part(part) for part in parts))) or "document"
    return f"{made[:300]}-{short_digest(text)}.md"


def short_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def session_id(prefix: str, native_id: str) -> str:
    """An id for a session of another tool; its own is kept beside it."""
    made = f"{prefix}-{native_id}".lower()
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789._-"
    if len(made) <= 64 and all(letter in allowed for letter in made) and not made.endswith("."):
        return made
    plain = "".join(letter if letter in allowed else "-" for letter in made).strip("-.")
    return f"{plain[:55].rstrip('-.')}-{short_digest(native_id)}"


def _part(part: str) -> str:
    """A folder or file name without what a path may not hold."""
    plain = "".join(letter if letter.isalnum() or letter in " ._-" else "-" for letter in part)
    return plain.strip(" .-")[:80].strip(" .-")
