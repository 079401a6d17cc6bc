"""A root with a follower of its index, and what is in that index as values to compare."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from federated_memory.index import Follower, Index
from federated_memory.index.file import IndexFile
from federated_memory.names import SessionId, WorkspaceId, parse_document_path
from federated_memory.search import Found, Mode, Search, parse_query
from federated_memory.store.archive import Archives
from federated_memory.store.changes import Actor
from federated_memory.store.document import OVERVIEW, Key
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root
from federated_memory.store.scan import Scan

ACTOR = Actor("tester")
HOME = WorkspaceId("home")
AT = "2026-05-04T03:02:01.000Z"

Row = tuple[str, str, str, int, int, frozenset[str]]
"""Workspace, kind, key, line, shape, and the words that the row is found by."""


class Rig:
    """Everything of one root, reopened as often as wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()
        self.registry.register(new_workspace(HOME, "box", "claude", "demo", "", "", ACTOR), ACTOR)

    def open(self) -> None:
        self.root = Root(self.path)
        self.registry = Registry(self.root)
        self.journal = Journal(self.root)
        self.journal.recover()
        self.documents = Documents(self.root, self.journal, max_bytes=1024**2)
        self.archives = Archives(self.root)
        self.scan = Scan(self.root, self.documents)
        self.file = IndexFile(self.index_path)
        self.follower = Follower(self.root, self.documents, self.archives, self.file)
        self.search = Search(
            self.root, self.documents, self.archives, timeout_seconds=60, index=Index(self.file), follower=self.follower
        )

    @property
    def index_path(self) -> Path:
        return self.path / "_meta" / "index.sqlite3"

    def close(self) -> None:
        self.search.close()
        self.follower.close()
        self.journal.flush()
        self.root.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def catch_up(self) -> None:
        self.follower.catch_up()

    # -- writing

    def write(self, path: str, text: str) -> None:
        self.documents.write(Key(HOME, "knowledge", parse_document_path(path)), text.encode(), ACTOR)

    def write_overview(self, text: str) -> None:
        self.documents.write(Key(HOME, "overview", OVERVIEW), text.encode(), ACTOR)

    def delete(self, path: str) -> None:
        self.documents.delete(Key(HOME, "knowledge", parse_document_path(path)), ACTOR)

    def edit_by_hand(self, path: str, text: str | None) -> None:
        file = self.path / "workspaces" / HOME / "knowledge" / path
        if text is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def upload(self, session_id: str, raw: bytes) -> None:
        with self.archives.receive(HOME, SessionId(session_id), actor=ACTOR) as upload:
            upload.feed(raw)
            upload.finish()

    def append(self, session_id: str, raw: bytes) -> None:
        archive = self.archives.find(HOME, SessionId(session_id))
        with self.archives.append(HOME, SessionId(session_id), archive.raw_bytes, actor=ACTOR) as upload:
            upload.feed(raw)
            upload.finish()

    # -- searching

    def sessions(self, query: str, mode: Mode = "ranked", **options: object) -> Found:
        return self.search.sessions(parse_query(query, mode), [HOME], **options)  # type: ignore[arg-type]

    def knowledge(self, query: str, mode: Mode = "ranked", **options: object) -> Found:
        return self.search.knowledge(parse_query(query, mode), [HOME], **options)  # type: ignore[arg-type]

    def memory(self, query: str, mode: Mode = "ranked", **options: object) -> Found:
        return self.search.memory(parse_query(query, mode), [HOME], **options)  # type: ignore[arg-type]

    # -- the index itself

    def contents(self) -> tuple[set[tuple[str, ...]], dict[Row, int]]:
        """What the index says: sources with their heads, and rows with how often each is there."""
        return contents(self.index_path)

    def rebuilt(self) -> tuple[set[tuple[str, ...]], dict[Row, int]]:
        """The same of an index that is made anew from the files."""
        path = self.path / "rebuilt.sqlite3"
        path.unlink(missing_ok=True)
        file = IndexFile(path)
        follower = Follower(self.root, self.documents, self.archives, file)
        follower.catch_up()
        follower.close()
        return contents(path)

    def rows_written(self) -> int:
        """How many rows were ever given a number."""
        with closing(sqlite3.connect(self.index_path)) as connection:
            (found,) = connection.execute("SELECT value FROM meta WHERE key = 'next_row'").fetchone()
        return int(found) - 1


def contents(path: Path) -> tuple[set[tuple[str, ...]], dict[Row, int]]:
    with closing(sqlite3.connect(path)) as connection:
        for table in ("spoken", "noted", "written", "heads"):
            connection.execute(f"CREATE VIRTUAL TABLE temp.{table}_terms USING fts5vocab(main, {table}, instance)")
        words: defaultdict[int, set[str]] = defaultdict(set)
        for table in ("spoken", "noted", "written"):
            for term, row, place in connection.execute(f"SELECT term, doc, offset FROM {table}_terms"):
                words[row].add(f"{term} {place}")
        heads: defaultdict[int, set[str]] = defaultdict(set)
        for term, source, column, place in connection.execute("SELECT term, doc, col, offset FROM heads_terms"):
            heads[source].add(f"{column} {place} {term}")
        sources = connection.execute(
            "SELECT id, workspace_id, kind, key, etag, title, at, ended_at, agent FROM sources WHERE etag <> ''"
        ).fetchall()
        names = {source[0]: source[1:4] for source in sources}
        rows: defaultdict[Row, int] = defaultdict(int)
        for source, first, lines, shapes in connection.execute(
            "SELECT source, first_row, lines, shapes FROM segments WHERE source <> 0"
        ):
            assert source in names, "rows of a source that is gone go on to count"
            numbers = array("I")
            numbers.frombytes(lines)
            for at, (line, shape) in enumerate(zip(numbers, shapes, strict=True)):
                rows[(*names[source], line, shape, frozenset(words[first + at]))] += 1
        return {(*source[1:], " ".join(sorted(heads[source[0]]))) for source in sources}, dict(rows)


def turn(role: str, text: str, at: str = AT, **more: object) -> bytes:
    """One line of Claude Code; the role `tool` is the result of a call."""
    content: object = text
    if role == "tool":
        role, content = "user", [{"type": "tool_result", "tool_use_id": "t", "content": text}]
    record = {"type": role, "sessionId": "s", "timestamp": at, "message": {"role": role, "content": content}, **more}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def call(name: str, **arguments: object) -> bytes:
    """A call of a tool by the assistant."""
    block = {"type": "tool_use", "id": "t", "name": name, "input": arguments}
    record = {"type": "assistant", "sessionId": "s", "timestamp": AT,
              "message": {"role": "assistant", "content": [block]}}  # fmt: skip
    return json.dumps(record).encode() + b"\n"


def keys(found: Found) -> list[str]:
    return [hit.key for hit in found.hits]


def spans(found: Found) -> Sequence[tuple[str, int]]:
    return [(hit.key, hit.line) for hit in found.hits]
