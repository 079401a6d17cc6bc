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

EVERY_KIND: tuple[DocumentKind, ...] = get_args(DocumentKind)
_FOLDERS: tuple[tuple[DocumentKind, tuple[str, ...]], ...] = (
    ("knowledge", ("knowledge",)), ("memory", ("memories",)), ("tombstone", ("memories", ".tombstones")),
)  # fmt: skip


class Scan:
    def __init__(self, root: Root, documents: Documents) -> None:
        self._root = root
        self._documents = documents

    def workspace(self, workspace_id: WorkspaceId, kinds: Collection[DocumentKind] = EVERY_KIND) -> int:
        """Bring what is known of a workspace's documents, or those of some kinds, up to its files; returns how many
        differed.

        One stat per file; only files whose size, time or inode changed are read.
        """
        known = self._documents.stamps(workspace_id, kinds)
        differing: list[Key] = []
        for kind, path, stamp in _stamped(self._root, workspace_id, kinds):
            if known.pop((kind, path), None) != stamp and _is_legal(kind, path):
                differing.append(Key(workspace_id, kind, DocumentPath(path)))
        differing += [Key(workspace_id, kind, DocumentPath(path)) for kind, path in known]
        for key in differing:
            with suppress(TooLarge):  # not served; `check` reports it
                self._documents.observe(key)
        if differing:
            logger.info("files changed by hand", extra={"workspace_id": workspace_id, "files": len(differing)})
        return len(differing)


def files_of(root: Root, workspace_id: WorkspaceId) -> Iterator[tuple[Key, str]]:
    """Every document that a workspace's files make, with the stamp of its file; names that are not legal are left
    out."""
    for kind, path, stamp in _stamped(root, workspace_id, EVERY_KIND):
        if _is_legal(kind, path):
            yield Key(workspace_id, kind, DocumentPath(path)), stamp


def _is_legal(kind: DocumentKind, path: str) -> bool:
    if kind == "knowledge":
        return not document_path_problem(path)
    if kind == "overview":
        return True
    return bool(memory_id_of(path) if kind == "memory" else tombstone_id_of(path))


def _stamped(
    root: Root, workspace_id: WorkspaceId, kinds: Collection[DocumentKind]
) -> Iterator[tuple[DocumentKind, str, str]]:
    """Kind, path and stamp of every file where documents of these kinds are, whatever its name."""
    try:
        workspace = root.workspace_folder(workspace_id)
    except FileNotFoundError:
        return
    with workspace:
        if "overview" in kinds:
            with suppress(FileNotFoundError):
                yield "overview", OVERVIEW, stamp_of(workspace.stat(OVERVIEW))
        for kind, names in _FOLDERS:
            if kind in kinds:
                with suppress(FileNotFoundError, NotRegular), workspace.folder(*names) as folder:
                    for path, stamp in walk(folder):
                        yield kind, path, stamp


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
