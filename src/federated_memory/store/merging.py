"""All that a workspace holds goes to another one, and its id leads there from then on (SPEC: WS-6, WS-7).

As in `moving`: one transaction moves the rows and notes what is to be done with the files; a start finishes that.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

from federated_memory.errors import Conflict, Locked
from federated_memory.fs import Folder, NotRegular
from federated_memory.fs.folder import storage_errors
from federated_memory.names import SessionId, WorkspaceId
from federated_memory.store.archive import Archives
from federated_memory.store.archives.files import open_folder as session_folder
from federated_memory.store.archives.files import provenance_name, read_provenance
from federated_memory.store.changes import Actor, now
from federated_memory.store.document import Key
from federated_memory.store.journal import Journal, open_folder
from federated_memory.store.merge_plan import DocumentMove, Plan, SessionMove, plan_merge
from federated_memory.store.merge_rows import move_rows
from federated_memory.store.registry import Registry, Workspace
from federated_memory.store.root import Root
from federated_memory.store.tombstones import Tombstones

logger = logging.getLogger(__name__)

_INTENT = "merging"
_TRIES = 20
_QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class _Intent:
    """What is to be done with the files; the rows have moved."""

    source: WorkspaceId
    target: WorkspaceId
    at: str
    documents: list[DocumentMove]
    sessions: list[SessionMove]

    def to_text(self) -> str:
        return json.dumps(
            {
                "source": self.source,
                "target": self.target,
                "at": self.at,
                "documents": [move.to_row() for move in self.documents],
                "sessions": [move.to_row() for move in self.sessions],
            }
        )

    @classmethod
    def of_text(cls, text: str) -> _Intent:
        found: dict[str, Any] = json.loads(text)
        return cls(
            WorkspaceId(found["source"]), WorkspaceId(found["target"]), found["at"],
            [DocumentMove.of_row(row) for row in found["documents"]],
            [SessionMove.of_row(row) for row in found["sessions"]],
        )  # fmt: skip


class Merging:
    """Blocking; thread-safe."""

    def __init__(
        self, root: Root, registry: Registry, journal: Journal, archives: Archives, tombstones: Tombstones
    ) -> None:
        self._root = root
        self._registry = registry
        self._journal = journal
        self._archives = archives
        self._tombstones = tombstones

    def merge(self, source: WorkspaceId, target: WorkspaceId, actor: Actor, *, is_dry: bool) -> Plan:
        """Both ids as the registry has them now; what was edited by hand is in the rows.

        Raises:
            NotFound: One of them is missing.
            Conflict: They are the same, or the target is archived, or purged what the source holds.
            Locked: One is written to all the time; nothing was changed.
        """
        held, into = self._registry.get(source), self._registry.get(target)
        if held.workspace_id == into.workspace_id:
            raise Conflict(f"{source} is {target} already", hint="Name two workspaces")
        if into.archived_at:
            raise Conflict(f"{target} is archived", hint="Bring it back first: workspace archive --undo")
        for _ in range(_TRIES):
            self._journal.flush()
            plan = self._attempt(held, into, actor, is_dry=is_dry)
            if plan is not None:
                return plan
        raise Locked(f"{source} or {target} is being written to", hint="Retry when its agents rest")

    def _attempt(self, held: Workspace, into: Workspace, actor: Actor, *, is_dry: bool) -> Plan | None:
        """None: something was written meanwhile."""
        source, target = held.workspace_id, into.workspace_id
        with ExitStack() as stack:
            sessions = self._sessions(source) | self._sessions(target)
            stack.enter_context(self._archives.busy_with(sorted(sessions)))
            stack.enter_context(self._journal.paused())
            stack.enter_context(self._registry.unchanging())
            for workspace_id in sorted((source, target)):
                stack.enter_context(self._root.locked(workspace_id))
            stack.enter_context(self._archives.nothing_grows())
            plan = plan_merge(self._root, self._tombstones, source, target)
            if is_dry:
                return plan
            if plan.problems:
                told = f"{plan.problems[0]} ({len(plan.problems)} such in all)"
                raise Conflict(told, hint="Purge or delete it in one of the two first")
            pending = self._root.database.row("SELECT 1 FROM journal WHERE workspace_id = ? LIMIT 1", source)
            if pending or (self._sessions(source) | self._sessions(target)) - sessions:
                return None
            intent = _Intent(source, target, now(), plan.documents, plan.sessions)
            with storage_errors(), self._root.database.transaction() as transaction:
                move_rows(transaction, self._root.feed, source, target, plan, actor)
                self._tombstones.copy(transaction, source, target)
                transaction.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (_INTENT, intent.to_text()))
            self._finish(intent)
        self._tombstones.reload()
        return plan

    def _sessions(self, workspace_id: WorkspaceId) -> set[tuple[WorkspaceId, SessionId]]:
        rows = self._root.database.rows("SELECT DISTINCT session_id FROM archives WHERE workspace_id = ?", workspace_id)
        return {(workspace_id, SessionId(row[0])) for row in rows}

    def finish(self) -> None:
        """At start: do with the files what an interrupted merge has left."""
        row = self._root.database.row("SELECT value FROM node WHERE key = ?", _INTENT)
        if row:
            with self._registry.unchanging():
                self._finish(_Intent.of_text(row[0]))

    def _finish(self, intent: _Intent) -> None:
        with storage_errors():
            if self._root.workspaces.exists(intent.source):
                for document in intent.documents:
                    self._move_document(intent, document)
                for session in intent.sessions:
                    self._move_session(intent, session)
                self._root.workspaces.sync_file_system()
            self._registry.merge(intent.source, intent.target, intent.at)
            self._remove_folder(intent)
        with self._root.database.transaction() as transaction:
            transaction.execute("DELETE FROM node WHERE key = ?", (_INTENT,))

    def _move_document(self, intent: _Intent, move: DocumentMove) -> None:
        old = Key(intent.source, move.kind, move.path)
        places = [(old.version_folders[:-1], old.version_folders[-1]), (old.folders, old.name)]
        if not move.to:  # the target has every text of it
            for folders, name in places:
                with suppress(FileNotFoundError, NotRegular), open_folder(self._root, old, folders) as folder:
                    folder.remove_tree(name)
            return
        new = Key(intent.target, move.to_kind, move.to)
        targets = [(new.version_folders[:-1], new.version_folders[-1]), (new.folders, new.name)]
        for (folders, name), (to_folders, to_name) in zip(places, targets, strict=True):
            with (
                suppress(FileNotFoundError, NotRegular),
                open_folder(self._root, old, folders) as folder,
                open_folder(self._root, new, to_folders, create=True) as to_folder,
            ):
                _rename(folder, name, to_folder, to_name)

    def _move_session(self, intent: _Intent, move: SessionMove) -> None:
        for file, to in move.files:
            with (
                suppress(FileNotFoundError, NotRegular),
                session_folder(self._root, intent.source, file) as folder,
            ):
                name = file.rsplit("/", 1)[1]
                if not to:
                    folder.remove(name)
                    continue
                with session_folder(self._root, intent.target, to, create=True) as to_folder:
                    _rename(folder, name, to_folder, to.rsplit("/", 1)[1])
        for file in move.provenances:
            with (
                suppress(FileNotFoundError, NotRegular),
                session_folder(self._root, intent.source, file) as folder,
            ):
                name = file.rsplit("/", 1)[1]
                known = read_provenance(folder, move.session_id)
                if move.to and known is not None:
                    with session_folder(self._root, intent.target, file, create=True) as to_folder:
                        to_folder.replace(provenance_name(move.to), replace(known, session_id=move.to).to_bytes())
                folder.remove(name)

    def _remove_folder(self, intent: _Intent) -> None:
        """What is no document and no session of ours, such as notes that somebody put there, is put aside."""
        workspaces = self._root.workspaces
        with suppress(FileNotFoundError, NotRegular):
            with workspaces.folder(intent.source) as folder:
                is_empty = _holds_only(folder, "identity.json")
            if is_empty:
                workspaces.remove_tree(intent.source)
            else:
                stamp = "".join(character for character in intent.at if character.isalnum())
                with self._root.meta.folder(_QUARANTINE, stamp, "workspaces", create=True) as aside:
                    workspaces.rename(intent.source, aside, intent.source)
                    aside.sync_names()
                logger.warning("what a merged workspace held besides was put aside", extra={"folder": stamp})
            workspaces.sync_names()


def _rename(folder: Folder, name: str, to_folder: Folder, to_name: str) -> None:
    """Moves nothing over what stands there, which somebody has put there by hand."""
    if folder.exists(name) and not to_folder.exists(to_name):
        folder.rename(name, to_folder, to_name)


def _holds_only(folder: Folder, name: str) -> bool:
    for entry in folder.entries():
        if entry.is_dir(follow_symlinks=False):
            with folder.folder(entry.name) as inner:
                if not _holds_only(inner, ""):
                    return False
        elif entry.name != name:
            return False
    return True
