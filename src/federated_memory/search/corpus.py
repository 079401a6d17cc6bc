"""Documents as their files are at this moment, for one search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from types import TracebackType

from federated_memory.errors import FederatedMemoryError
from federated_memory.fs import Folder
from federated_memory.names import DocumentPath, WorkspaceId, document_path_problem
from federated_memory.search.query import plain
from federated_memory.store.document import OVERVIEW, Document, Key, stamp_of
from federated_memory.store.documents import Documents
from federated_memory.store.root import Root
from federated_memory.store.scan import walk

_MAX_OPEN_FOLDERS = 64
_MAX_TEXT_BYTES = 64 * 1024**2  # a bound for files put there by hand while the search goes on


class Corpus:
    """The documents of some workspaces. A context manager: it keeps folders open while it is used.

    What is on disk counts: an edit by hand is recorded when a search comes across it, as every reading does.
    """

    def __init__(self, root: Root, documents: Documents, workspace_ids: Sequence[WorkspaceId]) -> None:
        self._root = root
        self._documents = documents
        self.workspace_ids = tuple(dict.fromkeys(workspace_ids))
        self._folders: dict[tuple[str, ...], Folder] = {}
        self._known: dict[Key, Document] = {}
        for workspace_id in self.workspace_ids:
            for document in (*documents.list(workspace_id), *documents.list(workspace_id, "overview")):
                self._known[document.key] = document

    def __enter__(self) -> Corpus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_folders()

    @property
    def folder(self) -> Path:
        """The folder of all workspaces."""
        return self._root.path / "workspaces"

    def known(self) -> Iterable[Document]:
        """The documents as they were last seen."""
        return self._known.values()

    def names(self) -> list[str]:
        """The folders of knowledge, and the overviews, that there are; below `folder`."""
        found: list[str] = []
        for workspace_id in self.workspace_ids:
            with suppress(OSError), self._root.workspace_folder(workspace_id) as workspace:
                with suppress(OSError), workspace.folder("knowledge"):
                    found.append(f"{workspace_id}/knowledge")
                with suppress(OSError), suppress(OSError):
                    os_file = workspace.open_file(OVERVIEW)
        return found
