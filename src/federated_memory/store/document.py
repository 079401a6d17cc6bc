"""What a document is: its key, its state as last seen, its title."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from federated_memory.errors import NotFound
from federated_memory.names import DocumentPath, ETag, WorkspaceId
from federated_memory.store.memory_file import MOST_TITLE, memory_title

DocumentKind = Literal["knowledge", "overview", "memory", "tombstone"]
DOCUMENT_KINDS: frozenset[str] = frozenset(get_args(DocumentKind))
VERSIONED: frozenset[str] = frozenset({"knowledge", "overview"})
"""Kinds of which every version is kept. A memory is never rewritten, but superseded or deleted."""
_FOLDERS: dict[str, tuple[str, ...]] = {
    "knowledge": ("knowledge",), "overview": (), "memory": ("memories",), "tombstone": ("memories", ".tombstones"),
}  # fmt: skip
ANY = "*"
"""As `if_match`: whatever the text is, but there must be one."""
OVERVIEW = DocumentPath("overview.md")


@dataclass(frozen=True, slots=True)
class Key:
    """Which document: `knowledge` at a path, the one `overview` of a workspace, a `memory`, or what is left of one."""

    workspace_id: WorkspaceId
    kind: DocumentKind
    path: DocumentPath

    @property
    def folders(self) -> list[str]:
        """The folders from the workspace down to the file."""
        return [*_FOLDERS[self.kind], *self.path.split("/")[:-1]]

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def version_folders(self) -> list[str]:
        return [*_FOLDERS[self.kind], ".versions", *self.path.split("/")]

    @property
    def is_versioned(self) -> bool:
        return self.kind in VERSIONED


@dataclass(frozen=True, slots=True)
class Document:
    """What is known of a document. `stamp` is the file's size, modification time and inode."""

    key: Key
    version: int
    etag: ETag
    bytes: int
    title: str
    updated_at: str
    stamp: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    document: Document
    outcome: Literal["created", "replaced", "unchanged"]


def stamp_of(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"


def titled(document: Document, subjects: Mapping[str, str]) -> Document:
    """A memory with its subject, of those by memory id: its own table keeps it."""
    memory_id = document.key.name.removesuffix(".md")
    return replace(document, title=subjects.get(memory_id, "")[:MOST_TITLE] or memory_id)


def title_of(text: bytes, key: Key) -> str:
    """The first heading, else the front matter's `title`, else (overviews) the first line, else the file's name."""
    if key.kind in ("memory", "tombstone"):
        return memory_title(text, key.name.removesuffix(".md"))
    head = text[:4096].decode("utf-8", "replace").splitlines()
    if head and head[0].strip() == "---":
        for number, line in enumerate(head[1:], 1):
            if line.strip() == "---":
                head = head[number + 1 :]
                break
            if line.startswith("title:") and line[6:].strip(" \"'"):
                return line[6:].strip(" \"'")[:120]
    heading = next((line.lstrip("#").strip() for line in head if line.startswith("#") and line.strip("# ")), "")
    if key.kind == "overview":
        body = (line.strip() for line in head if line.strip() and not line.startswith("#"))
        return " — ".join(part for part in (heading, next(body, "")) if part)[:200]
    return heading[:120] or key.name.removesuffix(".md")


def missing(key: Key) -> NotFound:
    """There is no such document: what to do instead."""
    if key.kind == "overview":
        return NotFound(f"Workspace {key.workspace_id} has no overview yet", hint="Write one with write_overview")
    if not key.is_versioned:
        return NotFound(f"No memory {key.name.removesuffix('.md')} in {key.workspace_id}", hint="See list_memories")
    return NotFound(f"No document {key.path} in {key.workspace_id}", hint="See list_knowledge")
