"""Finds what was edited, added or removed by hand: at start, periodically, and before a listing (SPEC: DOC-7)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import get_args

from federated_memory.errors import TooLarge
from federated_memory.fs import Folder, NotRegular
from federated_memory.names import DocumentPath, WorkspaceId, document_path_problem
from federated_memory.store.document import OVERVIEW, DocumentKind, Key, stamp_of
from federated_memory.store.documents import Documents
from federated_memory.store.memory_file import memory_id_of, tombstone_id_of
from federated_memory.store.root import Root

logger = logging.getLogger(__name__)

ALL_KINDS: tuple[DocumentKind, ...] = get_args(DocumentKind)
KNOWLEDGE: tuple[DocumentKind, ...] = ("knowledge",)


class Scan:
    def __init__(self, root: Root, documents: Documents) -> None:
        self._root = root
        self._documents = documents

    def workspace(self, workspace_id: WorkspaceId, kinds: Collection[DocumentKind] = ALL_KINDS) -> int:
        """Bring what is known of a workspace's documents up to its files; returns how many differed.

        One stat per file of these kinds (memories may be a million); only those whose size, time or inode changed are
        read.
        """
        known = {
            (document.key.kind, document.key.path): document.stamp
            for kind in kinds
            for document in self._documents.list(workspace_id, kind)
        }
        differing: list[Key] = []
        for key, stamp in files_of(self._root, workspace_id, kinds):
            if known.pop((key.kind, key.path), None) != stamp:
                differing.append(key)
        differing += [Key(workspace_id, kind, path) for kind, path in known]
        for key in differing:
            with suppress(TooLarge):  # not served; `check` reports it
                self._documents.observe(key)
        if differing:
            logger.info("files changed by hand", extra={"workspace_id": workspace_id, "files": len(differing)})
        return len(differing)


def files_of(
    root: Root, workspace_id: WorkspaceId, kinds: Collection[DocumentKind] = ALL_KINDS
) -> Iterator[tuple[Key, str]]:
    """Every document of these kinds that a workspace's files make, with the stamp of its file; names that are not legal
    are left out."""
    try:
        workspace = root.workspace_folder(workspace_id)
    except FileNotFoundError:
        return
    with workspace:
        if "overview" in kinds:
            with suppress(FileNotFoundError):
                yield Key(workspace_id, "overview", OVERVIEW), stamp_of(workspace.stat(OVERVIEW))
        if "knowledge" in kinds:
            with suppress(FileNotFoundError, NotRegular), workspace.folder("knowledge") as knowledge:
                for path, stamp in walk(knowledge):
                    if not document_path_problem(path):
                        yield Key(workspace_id, "knowledge", DocumentPath(path)), stamp
        if "memory" in kinds or "tombstone" in kinds:
            yield from _memories(workspace_id, workspace)


def _memories(workspace_id: WorkspaceId, workspace: Folder) -> Iterator[tuple[Key, str]]:
    """With what is left of those that were deleted."""
    with suppress(FileNotFoundError, NotRegular), workspace.folder("memories") as memories:
        for path, stamp in walk(memories):
            if memory_id_of(path):
                yield Key(workspace_id, "memory", DocumentPath(path)), stamp
        with suppress(FileNotFoundError, NotRegular), memories.folder(".tombstones") as tombstones:
            for path, stamp in walk(tombstones):
                if tombstone_id_of(path):
                    yield Key(workspace_id, "tombstone", DocumentPath(path)), stamp


def drop_unfinished(root: Root) -> int:
    """At start, once the journal is finished: remove new documents whose commit a crash prevented; returns how many.

    They were never acknowledged, and power loss may have taken any part of their bytes.
    """
    staged = {entry.name: entry.inode() for entry in root.temporary.entries() if entry.is_file(follow_symlinks=False)}
    dropped = 0
    # Without that note the rows may have been made anew, and know less than was acknowledged.
    workspaces = root.workspaces.entries() if staged and root.was_killed else []
    for workspace_id in (WorkspaceId(entry.name) for entry in workspaces if entry.is_dir(follow_symlinks=False)):
        for key, stamp in files_of(root, workspace_id):
            if int(stamp.rsplit(":", 1)[1]) in staged.values() and not _is_known(root, key):
                with root.workspace_folder(workspace_id) as folder, folder.folder(*key.folders) as place:
                    place.remove(key.name)
                    place.sync_names()
                dropped += 1
    for name in staged:
        root.temporary.remove(name)
    if dropped:
        logger.info("unfinished new documents removed", extra={"files": dropped})
    return dropped


def _is_known(root: Root, key: Key) -> bool:
    return root.database.row(
        "SELECT 1 FROM documents WHERE workspace_id = ? AND kind = ? AND path = ? AND deleted = 0",
        key.workspace_id, key.kind, key.path,
    ) is not None  # fmt: skip


def walk(folder: Folder, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Path and stamp of every regular file below `folder`, hidden ones left out, symlinks not followed."""
    for entry in folder.entries():
        if entry.name.startswith("."):
            continue
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError, NotRegular), folder.folder(entry.name) as inner:
                yield from walk(inner, path + "/")
        elif entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield path, stamp_of(entry.stat(follow_symlinks=False))
