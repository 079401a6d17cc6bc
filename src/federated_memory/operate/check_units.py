"""The parts of a root that are checked one by one, so that each can be looked at again (SPEC: CHECK-1)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar, cast

from federated_memory.fs import Folder, NotRegular
from federated_memory.names import DocumentPath, WorkspaceId
from federated_memory.operate.check_documents import DocumentCheck, Facts
from federated_memory.operate.check_meta import check_identity, check_meta, check_workspace_names, read_registry
from federated_memory.operate.check_sessions import Reading, SessionCheck
from federated_memory.operate.check_shared import BACKUP, WHERE
from federated_memory.operate.check_state import check_state
from federated_memory.operate.findings import Finding, error
from federated_memory.operate.serving import is_served
from federated_memory.operate.state_file import History, StateFile, open_state
from federated_memory.operate.tree import Tree, kind_of, read_tree
from federated_memory.store.document import DocumentKind, Key

_WEIGHT = 20_000
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Unit:
    """`name` is a document's path or a session's id; `weight` about the bytes that are to be read."""

    kind: Literal["meta", "state", "workspaces", "workspace", "knowledge", "overview", "memory", "tombstone", "session"]
    workspace_id: str = ""
    name: str = ""
    weight: int = _WEIGHT


class Look:
    """One look at a root: every part as it is at that moment. Use it as a context manager."""

    def __init__(
        self, root: Path, folder: Folder, counts: Counter[str], *, read_data: bool, max_document_bytes: int
    ) -> None:
        self._root = root
        self._folder = folder
        self._counts = counts
        self._max_document_bytes = max_document_bytes
        self._reading = Reading(read_data, is_served(root), counts)
        self._cleanup = ExitStack()
        self._state: StateFile | None = None
        self._state_problem: Finding | None = None
        self._trees: dict[str, Tree] = {}
        self._histories: dict[str, History] = {}

    def __enter__(self) -> Look:
        with self._folder.folder("_meta") as meta:
            self._registered = read_registry(meta).workspaces
        try:
            self._state = self._cleanup.enter_context(open_state(self._root))
            self._state.row("SELECT count(*) FROM node")
        except FileNotFoundError:
            self._give_up_state("is missing: the change feed and what is known of sessions are lost")
        except sqlite3.Error as problem:
            self._give_up_state(f"cannot be read: {problem}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def _give_up_state(self, problem: str) -> None:
        self._state = None
        self._state_problem = error(WHERE, problem, BACKUP)

    def _ask(self, question: Callable[[StateFile], _Answer]) -> _Answer | None:
        """An answer of the state database. When it cannot give one, it is left alone from then on, and this is None."""
        if self._state is not None:
            try:
                return question(self._state)
            except sqlite3.Error as problem:
                self._give_up_state(f"cannot be read: {problem}")
        return None

    # -- which parts there are

    def units(self) -> list[Unit]:
        """Every part; small things first."""
        found = [Unit("meta"), Unit("state"), Unit("workspaces")]
        for workspace_id in self._workspace_ids():
            try:
                tree = self._tree(workspace_id)
            except (FileNotFoundError, NotRegular):
                continue
            self._counts["workspaces"] += 1
            found.append(Unit("workspace", workspace_id))
            found += self._document_units(workspace_id, tree)
            found += self._session_units(workspace_id, tree)
        return found

    def _workspace_ids(self) -> list[str]:
        if self._registered is not None:
            return sorted(self._registered)
        with self._folder.folder("workspaces") as folder:
            return [entry.name for entry in folder.entries() if kind_of(entry) == "folder"]

    def _document_units(self, workspace_id: str, tree: Tree) -> Iterator[Unit]:
        known = self._ask(lambda state: state.document_names(workspace_id)) or []
        for kind, path in sorted({*tree.documents, *tree.versions, *known}):
            yield Unit(cast(DocumentKind, kind), workspace_id, path)

    def _session_units(self, workspace_id: str, tree: Tree) -> Iterator[Unit]:
        sizes = self._ask(lambda state: state.session_sizes(workspace_id)) or {}
        for session_id in sorted(tree.sessions.keys() | sizes.keys()):
            size = sizes.get(session_id, 0) if self._reading.read_data else 0
            yield Unit("session", workspace_id, session_id, _WEIGHT + size)

    def _tree(self, workspace_id: str) -> Tree:
        if workspace_id not in self._trees:
            with self._open(workspace_id) as folder:
                self._trees[workspace_id] = read_tree(folder, f"workspaces/{workspace_id}")
        return self._trees[workspace_id]

    def _open(self, workspace_id: str) -> Folder:
        return self._folder.folder("workspaces", workspace_id)

    # -- what is wrong with one of them

    def check(self, unit: Unit) -> list[Finding]:
        """What is wrong with it; nothing when it is gone meanwhile."""
        try:
            found = list(self._check(unit))
        except FileNotFoundError:
            found = []
        except OSError as problem:
            where = f"workspaces/{unit.workspace_id}/{unit.name}" if unit.workspace_id else f"_meta ({unit.kind})"
            found = [error(where, f"cannot be read: {problem.strerror or problem}", "Check owners, modes and the disk")]
        return found

    def _check(self, unit: Unit) -> Iterable[Finding]:
        match unit.kind:
            case "meta":
                with self._folder.folder("_meta") as meta:
                    return check_meta(self._root, meta)
            case "state":
                found = self._ask(lambda state: list(check_state(state, self._registered))) or []
                return [*found, *([self._state_problem] if self._state_problem else [])]
            case "workspaces":
                with self._folder.folder("workspaces") as folder:
                    return [] if self._registered is None else check_workspace_names(folder, self._registered)
            case "workspace":
                with self._open(unit.workspace_id) as folder:
                    known = (self._registered or {}).get(unit.workspace_id)
                    identity = check_identity(folder, known) if known else []
                    return [*identity, *self._tree(unit.workspace_id).findings]
            case "session":
                return self._session(unit)
            case "knowledge" | "overview" | "memory" | "tombstone":
                return self._document(unit, unit.kind)

    def _document(self, unit: Unit, kind: DocumentKind) -> list[Finding]:
        key = Key(WorkspaceId(unit.workspace_id), kind, DocumentPath(unit.name))
        with self._open(unit.workspace_id) as folder:
            row, pending = self._ask(lambda state: state.document(key)) or (None, [])
            history = self._history(unit.workspace_id)
            facts = Facts(row, pending, None if history is None else history.get((kind, unit.name), []))
            return DocumentCheck(
                key, f"workspaces/{unit.workspace_id}", facts, self._max_document_bytes, self._counts
            ).run(folder)

    def _history(self, workspace_id: str) -> History | None:
        if workspace_id not in self._histories:
            self._histories = {}  # one at a time is enough, they are large
            found = self._ask(lambda state: state.histories(workspace_id))
            if found is None:
                return None
            self._histories[workspace_id] = found
        return self._histories[workspace_id]

    def _session(self, unit: Unit) -> list[Finding]:
        with self._open(unit.workspace_id) as folder:
            rows = self._ask(lambda state: state.archives(unit.workspace_id, unit.name))
            files = self._tree(unit.workspace_id).sessions.get(unit.name, [])
            return list(
                SessionCheck(unit.name, f"workspaces/{unit.workspace_id}", files, rows, self._reading).run(folder)
            )
