"""What goes where when a workspace is merged into another one (SPEC: WS-6).

One rule: what the target has no other text or transcript for keeps its name. Where it has, both are kept, and the
source's goes below `from-<source>/`, or (a session) gets an id of its own. What the target holds already goes. Memories
keep their ids; where both have one and differ, the merge is refused.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from federated_memory.fs import NotRegular
from federated_memory.names import DocumentPath, SessionId, WorkspaceId, document_path_problem, fold
from federated_memory.store import versions
from federated_memory.store.archives.files import REVISIONS, SUFFIX, provenance_name
from federated_memory.store.document import DocumentKind, Key
from federated_memory.store.journal import open_folder
from federated_memory.store.memory_file import memory_id_of, path_of, tombstone_id_of
from federated_memory.store.root import Root
from federated_memory.store.tombstones import Tombstones

_MAX_ID = 64


@dataclass(frozen=True, slots=True)
class DocumentMove:
    """`to` empty: the target has every text of it already."""

    kind: DocumentKind
    path: DocumentPath
    to_kind: DocumentKind
    to: DocumentPath

    def to_row(self) -> list[str]:
        return [self.kind, self.path, self.to_kind, self.to]

    @classmethod
    def of_row(cls, row: list[Any]) -> DocumentMove:
        return cls(row[0], DocumentPath(row[1]), row[2], DocumentPath(row[3]))


@dataclass(frozen=True, slots=True)
class SessionMove:
    """`files` are (from, to) below `sessions/`, of the transcript and what it replaced; `to` empty: it goes."""

    session_id: SessionId
    to: SessionId
    files: list[tuple[str, str]]
    provenances: list[str]

    def to_row(self) -> list[Any]:
        return [self.session_id, self.to, self.files, self.provenances]

    @classmethod
    def of_row(cls, row: list[Any]) -> SessionMove:
        return cls(SessionId(row[0]), SessionId(row[1]), [(a, b) for a, b in row[2]], list(row[3]))


@dataclass(slots=True)
class Plan:
    documents: list[DocumentMove] = field(default_factory=list)
    sessions: list[SessionMove] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What the target has purged and would get back, and memories of which there would be two."""

    @property
    def beside(self) -> list[tuple[str, str]]:
        """What gets another name, as (old, new)."""
        moved = [(str(move.path), str(move.to)) for move in self.documents if move.to and move.to != move.path]
        return moved + [(str(move.session_id), str(move.to)) for move in self.sessions if move.to and _is_other(move)]

    @property
    def known(self) -> int:
        """How much the target holds already."""
        return sum(not one.to for one in self.documents) + sum(not one.to for one in self.sessions)


def plan_merge(root: Root, tombstones: Tombstones, source: WorkspaceId, target: WorkspaceId) -> Plan:
    """Hold both workspaces. The journal holds nothing of them, and rows say what files say."""
    plan = Plan()
    _plan_documents(root, tombstones, source, target, plan)
    _plan_sessions(root, tombstones, source, target, plan)
    return plan


def _is_other(move: SessionMove) -> bool:
    return move.to != move.session_id


# -- documents


@dataclass(frozen=True, slots=True)
class _Known:
    etag: str
    is_deleted: bool
    texts: frozenset[str]
    """Of every version, the current one included."""


_Documents = dict[tuple[DocumentKind, DocumentPath], _Known]


class _Names:
    """The paths that a workspace's knowledge has, or had."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: dict[str, str] = {}

    def add(self, path: str) -> None:
        self._files.add(fold(path))
        for prefix in _prefixes(path):
            self._folders.setdefault(fold(prefix), prefix)

    def fits(self, path: str) -> bool:
        """Is it free, and no folder of it spelled differently?"""
        if fold(path) in self._files:
            return False
        return all(self._folders.get(fold(prefix), prefix) == prefix for prefix in _prefixes(path))


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _plan_documents(
    root: Root, tombstones: Tombstones, source: WorkspaceId, target: WorkspaceId, plan: Plan
) -> None:  # fmt: skip
    mine, theirs = _documents(root, source), _documents(root, target)
    names = _Names()
    for kind, path in theirs:
        if kind == "knowledge":
            names.add(path)
    for (kind, path), document in mine.items():
        if kind in ("memory", "tombstone"):
            _plan_memory(tombstones, target, Key(source, kind, path), document, theirs, plan)
            continue
        if any(tombstones.has(target, "text", text) for text in document.texts):
            plan.problems.append(f"{target} has purged a text of {path}")
        known = theirs.get((kind, path))
        if known is not None and document.texts <= known.texts and (document.is_deleted or not known.is_deleted):
            plan.documents.append(DocumentMove(kind, path, kind, DocumentPath("")))
        elif kind == "overview" and known is None:
            plan.documents.append(DocumentMove(kind, path, kind, path))
        else:
            to = path if kind == "knowledge" and names.fits(path) else _beside(names, source, path)
            names.add(to)
            plan.documents.append(DocumentMove(kind, path, "knowledge", to))


def _plan_memory(
    tombstones: Tombstones, target: WorkspaceId, key: Key, document: _Known, theirs: _Documents, plan: Plan
) -> None:
    """A memory keeps its id, which others name: where both workspaces have it, they must not differ."""
    memory_id = memory_id_of(key.path) if key.kind == "memory" else tombstone_id_of(key.path)
    known = theirs.get((key.kind, key.path))
    other: tuple[DocumentKind, DocumentPath] = (
        ("tombstone", DocumentPath(f"{memory_id}.md")) if key.kind == "memory"
        else ("memory", DocumentPath(path_of(memory_id or "")))
    )  # fmt: skip
    twin = theirs.get(other)
    is_known = known is not None and (document.is_deleted or known.etag == document.etag or key.kind == "tombstone")
    if not document.is_deleted and memory_id:
        if tombstones.has(target, "memory", memory_id):
            plan.problems.append(f"{target} has purged or collected memory {memory_id}")
        elif twin is not None and not twin.is_deleted:
            plan.problems.append(f"memory {memory_id} is deleted in one of the two, and not in the other")
        elif known is not None and not known.is_deleted and not is_known:
            plan.problems.append(f"memory {memory_id} is another one in {target}")
    to = DocumentPath("") if is_known and not (known and known.is_deleted and not document.is_deleted) else key.path
    plan.documents.append(DocumentMove(key.kind, key.path, key.kind, to))


def _beside(names: _Names, source: WorkspaceId, path: str) -> DocumentPath:
    digest = hashlib.sha256(path.encode()).hexdigest()
    number = 1
    while True:
        top = f"from-{source}" + (f"-{number}" if number > 1 else "")
        for name in (path, f"{digest[:12]}.md"):  # a path may be too long for one more folder
            wanted = f"{top}/{name}"
            if not document_path_problem(wanted) and names.fits(wanted):
                return DocumentPath(wanted)
        number += 1


def _documents(root: Root, workspace_id: WorkspaceId) -> _Documents:
    found: _Documents = {}
    rows = root.database.rows(
        "SELECT kind, path, etag, deleted FROM documents WHERE workspace_id = ? ORDER BY kind, path", workspace_id
    )
    for kind, path, etag, is_deleted in rows:
        key = Key(workspace_id, kind, DocumentPath(path))
        texts = set() if is_deleted else {etag}
        with suppress(FileNotFoundError, NotRegular), open_folder(root, key, key.version_folders) as folder:
            texts |= {entry.etag for entry in versions.read_log(folder) if entry.operation != "delete"}
        found[kind, key.path] = _Known(etag, bool(is_deleted), frozenset(texts))
    return found


# -- sessions


def _plan_sessions(
    root: Root, tombstones: Tombstones, source: WorkspaceId, target: WorkspaceId, plan: Plan
) -> None:  # fmt: skip
    mine, theirs = _transcripts(root, source), _transcripts(root, target)
    taken = {fold(session_id) for session_id in theirs} | {fold(session_id) for session_id in mine}
    for session_id, files in mine.items():
        if tombstones.has(target, "session", session_id):
            plan.problems.append(f"{target} has purged session {session_id}")
        known = theirs.get(session_id)
        if known is None:
            to = session_id
        elif set(files.values()) <= set(known.values()):
            to = SessionId("")
        else:
            to = _other_id(session_id, source, taken)
            taken.add(fold(to))
        plan.sessions.append(_session_move(session_id, to, list(files)))


def _session_move(session_id: SessionId, to: SessionId, files: list[str]) -> SessionMove:
    moves: list[tuple[str, str]] = []
    months: set[str] = set()
    for file in files:
        year, month, *_, name = file.split("/")
        months.add(f"{year}/{month}")
        if not to:
            moves.append((file, ""))
        elif f"/{REVISIONS}/" in file:
            moves.append((file, f"{year}/{month}/{REVISIONS}/{to}/{name}"))
        else:
            moves.append((file, f"{year}/{month}/{to}{SUFFIX}"))
    return SessionMove(session_id, to, moves, [f"{month}/{provenance_name(session_id)}" for month in sorted(months)])


def _other_id(session_id: str, source: str, taken: set[str]) -> SessionId:
    number = 0
    while True:
        digest = hashlib.sha256(f"{source} {number}".encode()).hexdigest()[:6]
        wanted = f"{session_id[: _MAX_ID - 7].rstrip('.-')}-{digest}"
        if fold(wanted) not in taken:
            return SessionId(wanted)
        number += 1


def _transcripts(root: Root, workspace_id: WorkspaceId) -> dict[SessionId, dict[str, str]]:
    """Of each session the files and their SHA-256, the current one and those that it replaced."""
    found: defaultdict[SessionId, dict[str, str]] = defaultdict(dict)
    rows = root.database.rows(
        "SELECT session_id, file, sha256 FROM archives WHERE workspace_id = ? ORDER BY session_id, revision",
        workspace_id,
    )
    for session_id, file, sha256 in rows:
        found[SessionId(session_id)][file] = sha256
    return dict(found)
