"""What a document is: its key, its state as last seen, its title."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from federated_memory.names import DocumentPath, ETag, WorkspaceId

DocumentKind = Literal["knowledge", "overview"]
ANY = "*"
"""As `if_match`: whatever the text is, but there must be one."""
OVERVIEW = DocumentPath("overview.md")


@dataclass(frozen=True, slots=True)
class Key:
    """Which document: `knowledge` at a path, or the one `overview` of a workspace."""

    workspace_id: WorkspaceId
    kind: DocumentKind
    path: DocumentPath

    @property
    def folders(self) -> list[str]:
        """The folders from the workspace down to the file."""
        return ["knowledge", *self.path.split("/")[:-1]] if self.kind == "knowledge" else []

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def version_folders(self) -> list[str]:
        inside = [".versions", *self.path.split("/")]
        return ["knowledge", *inside] if self.kind == "knowledge" else inside


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


def title_of(text: bytes, key: Key) -> str:
    """The first heading, else the front matter's `title`, else (overviews) the first line, else the file's name."""
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
