"""Memories: small typed notes, one file each; deleting one leaves a tombstone (SPEC: MEM-1 to MEM-8)."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace

from federated_memory.errors import NotFound
from federated_memory.names import DocumentPath, WorkspaceId
from federated_memory.store.changes import Actor, now
from federated_memory.store.document import Document, Key
from federated_memory.store.documents import Documents
from federated_memory.store.memory_file import Memory, format_memory, parse_memory, path_of
from federated_memory.store.memory_query import (
    SPECIAL,
    MemoryFilter,
    Viewer,
    condition,
    hidden_condition,
    replaced_condition,
    seen_condition,
)
from federated_memory.store.memory_rows import MemoryRow, mark_of_source
from federated_memory.store.tombstones import Tombstones
from federated_memory.transcripts.times import parse_time

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32, which divide a byte evenly
_RANDOM_CHARACTERS = 8
MOST_COUNTED = 10_000
"""A list says how many there are, and a million take a second to count."""


def new_memory_id(created_at: str, suffix: str = "") -> str:
    """Such as `20261121-101502-k3f9x2ma`: sorts by time. `suffix` in place of the random end."""
    digits = "".join(character for character in created_at[:19] if character.isdigit())
    end = suffix or "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in secrets.token_bytes(_RANDOM_CHARACTERS))
    return f"{digits[:8]}-{digits[8:14]}-{end}"


def imported_id(workspace_id: str, source: str, created_at: str) -> str:
    """The id of what an import makes of a source: the same each time."""
    digest = hashlib.sha256(f"{workspace_id}\n{source}".encode()).hexdigest()[:12]
    return new_memory_id(parse_time(created_at) or now(), digest)


@dataclass(frozen=True, slots=True)
class Stored:
    """A memory as it is kept; `row` tells its place and state."""

    row: MemoryRow
    memory: Memory
    etag: str


class Memories:
    """Blocking: call from a worker thread. Thread-safe."""

    def __init__(self, documents: Documents, tombstones: Tombstones) -> None:
        self._documents = documents
        self._tombstones = tombstones
        self.rows = documents.memories

    def collect(self, workspace_id: WorkspaceId, before: str, actor: Actor, *, is_dry: bool) -> int:
        """Remove for good what was deleted, or has expired, before that time; returns how many. No sync brings it
        back."""
        rows = self.rows.select(
            f"m.workspace_id = ? AND {SPECIAL}"
            " AND ((m.deleted_at <> '' AND m.deleted_at < ?) OR (m.expires_at <> '' AND m.expires_at < ?))",
            (workspace_id, before, before),
        )
        for row in () if is_dry else rows:
            self._tombstones.add(workspace_id, "memory", row.marks, actor)
            for key in (row.file_key, row.tombstone_key):
                with suppress(NotFound):
                    self._documents.drop(key, actor)
        return len(rows)

    def was_removed(self, workspace_id: WorkspaceId, source: str, memory_id: str = "") -> bool:
        """Whether what was imported from there, or had that id, was purged or collected: it is not to come back."""
        marks = [mark for mark in (source and mark_of_source(source), memory_id) if mark]
        return any(self._tombstones.has(workspace_id, "memory", mark) for mark in marks)

    def add(self, workspace_id: WorkspaceId, memory: Memory, actor: Actor, operation: str = "store") -> Document:
        """Keep a new memory.

        Raises:
            Conflict: There is one of that id.
            TooLarge, StorageFull: Nothing was stored.
        """
        self._tombstones.ensure_none(workspace_id, "memory", memory.memory_id)
        key = Key(workspace_id, "memory", DocumentPath(path_of(memory.memory_id)))
        data = format_memory(memory)
        return self._documents.write(key, data, actor, if_match="", operation=operation).document

    def read(self, row: MemoryRow) -> Stored:
        """Raises: NotFound: it has gone meanwhile."""
        document, data = self._documents.read(key_of(row))
        return Stored(row, parse_memory(row.memory_id, data), document.etag)

    def select(
        self, wanted: MemoryFilter, *, after: tuple[str, str] | None = None, limit: int | None = None
    ) -> list[MemoryRow]:
        """Newest first; `after` is time and id of the last one of the page before."""
        sql, values = condition(wanted)
        if after:
            sql += " AND (m.created_at, m.memory_id) < (?, ?)"
            values += after
        sql += " ORDER BY m.created_at DESC, m.memory_id DESC"
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        return self.rows.select(sql, values)

    def count(self, wanted: MemoryFilter) -> int:
        """How many it lets through; counted to `MOST_COUNTED`."""
        return self.rows.count(*condition(wanted), MOST_COUNTED)

    def total(self) -> int:
        """How many there are, superseded and expired ones included."""
        return self.rows.count("m.deleted_at = ''", ())

    def hidden(self, wanted: MemoryFilter) -> list[MemoryRow]:
        """What a filter that asks for nothing in particular leaves out: mostly little."""
        found = self.rows.select(*hidden_condition(wanted))
        if not wanted.include_superseded:
            found += self.rows.select(*replaced_condition())
        return found

    def is_seen(self, row: MemoryRow, viewer: Viewer) -> bool:
        """Whether the viewer may see it at all, be it live or not."""
        sql, values = seen_condition(viewer)
        where = f"m.memory_id = ? AND m.workspace_id = ? AND {sql}"
        return bool(self.rows.count(where, [row.memory_id, row.workspace_id, *values]))

    def delete(self, row: MemoryRow, reason: str, actor: Actor) -> str:
        """Hide a memory at once and keep it as a tombstone; returns since when. Doing so again finishes or is nothing.

        The tombstone comes first, and hides: after a crash in between the memory is deleted all the same.
        """
        deleted_at = row.deleted_at
        if not deleted_at:
            deleted_at = now()
            memory = self.read(row).memory
            left = replace(memory, deleted_at=deleted_at, deleted_by=actor.name, reason=reason)
            self._documents.write(row.tombstone_key, format_memory(left), actor, operation="delete")
        with suppress(NotFound):
            self._documents.delete(row.file_key, actor)
        return deleted_at


def key_of(row: MemoryRow) -> Key:
    """Where the text of a memory is: in its file, or in its tombstone."""
    return row.tombstone_key if row.deleted_at else row.file_key
