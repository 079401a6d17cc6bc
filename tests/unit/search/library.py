"""A memory to search in: real documents and archives, a workspace for each test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federated_memory.names import SessionId, WorkspaceId, parse_document_path
from federated_memory.search import Found, Hit, Mode, Search, parse_query
from federated_memory.store.archive import Archives
from federated_memory.store.changes import Actor
from federated_memory.store.document import OVERVIEW, Key
from federated_memory.store.documents import Documents
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root

ACTOR = Actor("tester")


@dataclass
class Library:
    """Everything of one root."""

    root: Root
    registry: Registry
    documents: Documents
    archives: Archives
    search: Search
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def shelf(self) -> Shelf:
        """A new, empty workspace."""
        workspace_id = WorkspaceId(f"w{next(self.numbers)}")
        self.registry.register(new_workspace(workspace_id, workspace_id, "claude", "demo", "", "", ACTOR), ACTOR)
        return Shelf(self, workspace_id)


@dataclass
class Shelf:
    """One workspace, and searches in it alone."""

    library: Library
    workspace_id: WorkspaceId

    @property
    def folder(self) -> Path:
        return self.library.root.path / "workspaces" / self.workspace_id

    def write(self, path: str, text: str | bytes) -> None:
        key = Key(self.workspace_id, "knowledge", parse_document_path(path))
        self.library.documents.write(key, text.encode() if isinstance(text, str) else text, ACTOR)

    def write_overview(self, text: str) -> None:
        self.library.documents.write(Key(self.workspace_id, "overview", OVERVIEW), text.encode(), ACTOR)

    def upload(self, session_id: str, raw: bytes, agent: str = "") -> None:
        source = {"agent": agent} if agent else None
        with self.library.archives.receive(
            self.workspace_id, SessionId(session_id), actor=ACTOR, source=source
        ) as upload:
            upload.feed(raw)
            upload.finish()

    def say(self, session_id: str, *turns: tuple[str, str], at: str = "2026-05-04T03:02:01.000Z") -> None:
        """Upload a transcript of Claude Code."""
        self.upload(session_id, jsonl(claude(role, text, at) for role, text in turns))

    def knowledge(self, query: str, mode: Mode = "ranked", **options: object) -> Found:
        return self.library.search.knowledge(parse_query(query, mode), [self.workspace_id], **options)  # type: ignore[arg-type]

    def sessions(self, query: str, mode: Mode = "ranked", **options: object) -> Found:
        return self.library.search.sessions(parse_query(query, mode), [self.workspace_id], **options)  # type: ignore[arg-type]


def claude(role: str, text: str, at: str = "2026-05-04T03:02:01.000Z") -> dict[str, object]:
    """One record; the role `tool` is the result of a call, as Claude Code keeps it."""
    content: object = text
    if role == "tool":
        role, content = "user", [{"type": "tool_result", "tool_use_id": "t", "content": text}]
    return {"type": role, "sessionId": "s", "timestamp": at, "message": {"role": role, "content": content}}


def jsonl(records: Iterator[Mapping[str, object]] | Sequence[Mapping[str, object]]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def places(found: Found) -> list[tuple[str, int]]:
    return [(hit.key, hit.line) for hit in found.hits]


def keys(found: Found) -> list[str]:
    return [hit.key for hit in found.hits]


def all_pages(search: object, limit: int) -> list[Hit]:
    """Every hit, page after page; `search(limit, after)` gives one, and cursors go through JSON."""
    hits: list[Hit] = []
    after = None
    while True:
        found = search(limit, after)  # type: ignore[operator]
        assert found.is_complete, found.note
        assert len(found.hits) <= limit
        hits += found.hits
        if found.next is None:
            return hits
        after = json.loads(json.dumps(found.next))
