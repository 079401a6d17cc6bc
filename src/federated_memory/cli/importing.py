"""Taking items of another tool into a workspace; again, it changes nothing (SPEC: IMPORT-10, IMPORT-11)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from federated_memory.cli.calls import HISTORY, IMPORT, PLAN, every
from federated_memory.cli.fitting import Row, fitted, memory_ids
from federated_memory.cli.output import Progress
from federated_memory.errors import FederatedMemoryError, NotFound
from federated_memory.operate.importers.items import DocumentItem, Item, LeftOut, MemoryItem, SessionItem, document_path

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend

_BATCH, _BATCH_BYTES = 250, 4 * 1024**2
OVERVIEW = "overview.md"


@dataclass(slots=True)
class Done:
    """What came of an import, or (a dry run) what would: counts of `created`, `updated`, `unchanged`, `deleted`."""

    memories: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    sessions: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Importing:
    """Into one workspace. It may not be there yet in a dry run: then everything is new."""

    def __init__(self, backend: Backend, workspace_id: str, binding: str, *, is_dry: bool, exists: bool = True) -> None:
        self._backend = backend
        self._workspace_id = workspace_id
        self._binding = binding
        self._is_dry = is_dry
        self._exists = exists
        self.done = Done()

    def run(self, items: Iterable[Item]) -> Done:
        """Raises: FederatedMemoryError: the server refused, or went away; what was stored before stays."""
        notes: list[MemoryItem] = []
        documents: list[DocumentItem] = []
        sessions: list[SessionItem] = []
        for item in items:
            match item:
                case MemoryItem():
                    notes.append(item)
                case DocumentItem():
                    documents.append(item)
                case SessionItem():
                    sessions.append(item)
                case LeftOut():
                    self.done.left_out.append(item)
        notes.sort(key=lambda item: item.created_at)
        rows: list[Row] = []
        ids = memory_ids(self._workspace_id, notes)
        for note in notes:
            made = fitted(note, ids)
            if isinstance(made, DocumentItem):
                documents.append(made)
            elif isinstance(made, LeftOut):
                self.done.left_out.append(made)
            else:
                rows.append(made)
        total = len(rows) + len(documents) + len(sessions)
        with Progress("importing", is_shown=not self._is_dry) as bar:
            finished = 0
            for batch in _batches(rows):
                self._memories(batch)
                finished += len(batch)
                bar.show(finished, total)
            for number, _ in enumerate(self._documents(documents), finished + 1):
                bar.show(number, total)
            for number, _ in enumerate(self._sessions(sessions), finished + len(documents) + 1):
                bar.show(number, total)
        return self.done

    # -- memories

    def _memories(self, rows: list[Row]) -> None:
        if not self._exists:
            self.done.memories["created"] += len(rows)
            return
        found = self._backend.ask(
            IMPORT, workspace_id=self._workspace_id, memories=rows, dry_run=self._is_dry, binding=self._binding
        )
        self.done.memories.update(created=found.created, unchanged=found.unchanged, deleted=found.deleted)
        self.done.warnings += found.warnings

    # -- documents

    def _documents(self, items: list[DocumentItem]) -> Iterator[None]:
        wanted: dict[str, DocumentItem] = {}
        taken: set[str] = set()
        for item in items:
            path = OVERVIEW if item.path == OVERVIEW else document_path(item.path)
            if path.casefold() in taken:  # two names that differ only in case
                path = document_path(f"{item.path.removesuffix('.md')}: {item.source}.md")
            taken.add(path.casefold())
            wanted[path] = item
        digests = {path: hashlib.sha256(item.data).hexdigest() for path, item in wanted.items()}
        plain = {path: digest for path, digest in digests.items() if path != OVERVIEW}
        differing = self._missing("knowledge", plain) | ({OVERVIEW} & wanted.keys())
        for path, item in wanted.items():
            outcome = self._document(path, item, digests[path]) if path in differing else "unchanged"
            if outcome:
                self.done.documents[outcome] += 1
            yield

    def _document(self, path: str, item: DocumentItem, digest: str) -> str:
        """What came of it; a text that was here before is not brought back over what it became."""
        place = None if path == OVERVIEW else path
        known = self._versions(place)
        if digest in known:
            return "unchanged"
        if known and place is None:
            self.done.left_out.append(LeftOut(item.source, "the workspace has an overview of its own"))
            return ""
        if not self._is_dry:
            try:
                self._backend.put_document(self._workspace_id, place, item.data, self._binding)
            except FederatedMemoryError as error:
                if error.code not in ("conflict", "too_large", "invalid_argument", "invalid_name", "forbidden"):
                    raise
                self.done.left_out.append(LeftOut(item.source, error.message))
                return ""
        return "updated" if known else "created"

    def _versions(self, path: str | None) -> set[str]:
        if not self._exists:
            return set()
        try:
            if path is None:
                etag, _, _ = self._backend.content(self._workspace_id, None, None)
                return {etag}
            rows = every(self._backend, HISTORY, "versions", workspace_id=self._workspace_id, path=path)
        except NotFound:
            return set()
        return {row.etag for row in rows}

    # -- sessions

    def _sessions(self, items: list[SessionItem]) -> Iterator[None]:
        told = {
            item.session_id: {"bytes": len(item.data), "sha256": hashlib.sha256(item.data).hexdigest()}
            for item in items
        }
        differing = self._missing("sessions", told)
        for item in items:
            if item.session_id not in differing:
                self.done.sessions["unchanged"] += 1
            elif self._is_dry:
                self.done.sessions["updated" if differing[item.session_id] else "created"] += 1
            else:
                status = self._backend.put_session(
                    self._workspace_id, item.session_id, item.data, item.agent, self._binding
                )
                outcome = {"created": "created", "unchanged": "unchanged"}.get(status, "updated")
                self.done.sessions[outcome] += 1
            yield

    def _missing(self, kind: str, told: dict[str, Any]) -> Any:
        """Of those documents or sessions, the ones that are not here as they are there."""
        if not self._exists:
            return set(told) if kind == "knowledge" else dict.fromkeys(told, False)
        if not told:
            return set() if kind == "knowledge" else {}
        found = self._backend.ask(PLAN, workspace_id=self._workspace_id, **{kind: told})
        if kind == "knowledge":
            return set(found.knowledge)
        return {session_id: "etag" in wanted for session_id, wanted in found.sessions.items()}


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        size += len(row["content"]) * 4 + 2_000
        if batch and (len(batch) >= _BATCH or size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
    if batch:
        yield batch
