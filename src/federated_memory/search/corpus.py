"""Documents as their files are at this moment, for one search."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import get_args

from federated_memory.errors import FederatedMemoryError
from federated_memory.fs import Folder
from federated_memory.names import DocumentPath, WorkspaceId, document_path_problem
from federated_memory.search.hit import Budget
from federated_memory.search.query import plain
from federated_memory.search.ripgrep import Ripgrep, RipgrepFailed
from federated_memory.store.document import OVERVIEW, VERSIONED, Document, DocumentKind, Key, stamp_of
from federated_memory.store.documents import Documents
from federated_memory.store.memory_file import memory_id_of, searched_text, tombstone_id_of
from federated_memory.store.root import Root
from federated_memory.store.scan import files_of

_MAX_OPEN_FOLDERS = 64
_PLACES = (
    ("knowledge", "knowledge", stat.S_ISDIR),
    ("overview", OVERVIEW, stat.S_ISREG),
    ("memory", "memories", stat.S_ISDIR),
)
_TOMBSTONES = ".tombstones/"
_NAMES_PER_RUN = 500  # an argument list has its limits
_MAX_TEXT_BYTES = 8 * 1024**2  # no document is as large; a file put there by hand this very moment may be


class Corpus:
    """The knowledge and overviews of some workspaces. A context manager: it keeps folders open while it is used.

    Files count: an edit by hand is recorded when a search comes across it, as reading does. `problem` says what kept
    it from looking at all of them.
    """

    def __init__(
        self,
        root: Root,
        documents: Documents,
        workspace_ids: Sequence[WorkspaceId],
        budget: Budget,
        only: Collection[Key] | None = None,
        *,
        kinds: Collection[str] = VERSIONED,
        shows: Callable[[str, str, str], bool] | None = None,
    ) -> None:
        """`only`: of these documents, nothing else; they are read one by one. `shows` says of workspace, kind and path
        whether a document counts."""
        self._only = only
        self._kinds = [kind for kind in get_args(DocumentKind) if kind in kinds]
        self._shows = shows
        self.budget = budget
        self.problem = ""
        self._root = root
        self._documents = documents
        self._workspace_ids = tuple(dict.fromkeys(workspace_ids))
        self._folders: dict[tuple[str, ...], Folder] = {}
        self._known: dict[Key, Document] | None = None

    def __enter__(self) -> Corpus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_folders()

    def known(self) -> Collection[Document]:
        """The documents as they were last seen."""
        if self._known is None:
            self._known = {document.key: document for document in self._all_known()}
        return self._known.values()

    def _all_known(self) -> Iterator[Document]:
        if self._only is not None:
            yield from (document for document in map(self._find, self._only) if document is not None)
            return
        for workspace_id in self._workspace_ids:
            for kind in self._kinds:
                yield from filter(self._is_shown, self._documents.list(workspace_id, kind))

    def _is_shown(self, document: Document) -> bool:
        key = document.key
        return self._shows is None or self._shows(key.workspace_id, key.kind, key.path)

    def _find(self, key: Key) -> Document | None:
        if self._known is not None:
            return self._known.get(key)
        document = self._documents.find(key)
        return None if document is None or document.deleted else document

    def has_few(self, most: int) -> bool:
        """Whether there are at most so many."""
        if self._only is not None:
            return len(self._only) <= most
        return sum(self._documents.count(workspace_id, most + 1) for workspace_id in self._workspace_ids) <= most

    def ripgrep(self, options: Sequence[str], pattern: str, separator: bytes) -> Iterator[bytes]:
        """What ripgrep prints about the documents, piece by piece; `key_of` knows the names.

        Raises:
            RipgrepFailed: There is none, or it could not be started; what came until then is all there is.
        """
        if self._only is not None:
            raise RipgrepFailed
        names = self._names()
        for at in range(0, len(names), _NAMES_PER_RUN):
            folder = self._root.path / "workspaces"
            with Ripgrep(options, pattern, folder, names[at : at + _NAMES_PER_RUN]) as ripgrep:
                yield from ripgrep.records(separator, self.budget)
            if ripgrep.problem:
                self.problem = ripgrep.problem
                return

    def _names(self) -> list[str]:
        """The folders and files to search, those that are there and are no symlinks."""
        found: list[str] = []
        for workspace_id in self._workspace_ids:
            with suppress(OSError), self._root.workspace_folder(workspace_id) as workspace:
                for kind, name, is_right in _PLACES:
                    with suppress(FileNotFoundError):
                        if kind in self._kinds and is_right(workspace.stat(name).st_mode):
                            found.append(f"{workspace_id}/{name}")
                if "tombstone" in self._kinds:
                    with suppress(OSError), workspace.folder("memories") as memories:
                        if stat.S_ISDIR(memories.stat(".tombstones").st_mode):
                            found.append(f"{workspace_id}/memories/.tombstones")
        return found

    def files(self) -> Iterator[Key]:
        """Every document there is a file of; names that are not legal are left out."""
        if self._only is not None:
            yield from self._only
            return
        for workspace_id in self._workspace_ids:
            for key, _ in files_of(self._root, workspace_id):
                if key.kind in self._kinds and (self._shows is None or self._shows(workspace_id, key.kind, key.path)):
                    yield key

    def key_of(self, name: bytes) -> Key | None:
        """The document that a file ripgrep names holds, unless the name is not legal."""
        workspace_id, _, rest = name.decode("utf-8", "replace").partition("/")
        kind, _, path = rest.partition("/")
        if rest == OVERVIEW:
            key = Key(WorkspaceId(workspace_id), "overview", OVERVIEW)
        elif kind == "knowledge" and not document_path_problem(path):
            key = Key(WorkspaceId(workspace_id), "knowledge", DocumentPath(path))
        elif kind == "memories" and memory_id_of(path):
            key = Key(WorkspaceId(workspace_id), "memory", DocumentPath(path))
        elif kind == "memories" and tombstone_id_of(path.removeprefix(_TOMBSTONES)) and path.startswith(_TOMBSTONES):
            key = Key(WorkspaceId(workspace_id), "tombstone", DocumentPath(path.removeprefix(_TOMBSTONES)))
        else:
            return None
        return key if self._shows is None or self._shows(key.workspace_id, key.kind, key.path) else None

    def current(self, keys: Iterable[Key]) -> list[Document]:
        """What is known of these documents, brought up to their files; those that are gone are left out."""
        found: list[Document] = []
        for key in keys:
            document = self._find(key)
            if document is None or document.stamp != self._stamp(key):
                if self.budget.is_spent():
                    self.problem = self.budget.reason
                    continue
                try:
                    document = self._documents.observe(key)
                except (FederatedMemoryError, OSError):  # too large to be served, or the disk fails: `check` tells
                    document = None
            if document is not None:
                found.append(document)
        return found

    def text(self, key: Key) -> bytes:
        """The text as queries see it; empty when the file has gone meanwhile."""
        try:
            data = self._folder(key).read(key.name, _MAX_TEXT_BYTES)
            return plain(data if key.is_versioned else searched_text(key.name.removesuffix(".md"), data))
        except OSError:
            return b""

    def _stamp(self, key: Key) -> str | None:
        try:
            return stamp_of(self._folder(key).stat(key.name))
        except OSError:
            return None

    def _folder(self, key: Key) -> Folder:
        parts = (key.workspace_id, *key.folders)
        folder = self._folders.get(parts)
        if folder is None:
            if len(self._folders) == _MAX_OPEN_FOLDERS:
                self._close_folders()
            folder = self._folders[parts] = self._root.workspaces.folder(*parts)
        return folder

    def _close_folders(self) -> None:
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()
