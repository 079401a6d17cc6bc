"""A state database of an older schema becomes one of this version's when it is opened (SPEC: MIGRATE-4)."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.operate.check import check_root
from federated_memory.service.memory_draft import MemoryDraft
from federated_memory.settings import Settings
from federated_memory.store.database import SCHEMA_VERSION

AI = Caller(Grant("ai", "ai", ""))
OLD_INDEX = "CREATE INDEX documents_folded ON documents (workspace_id, kind, folded) WHERE deleted = 0"


@pytest.fixture(scope="module")
def of_schema_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a document and two memories, one of them deleted, its state as schema 1 had it."""
    root = tmp_path_factory.mktemp("older") / "memory"
    services = open_services(Settings(root=root))
    binding = services.workspaces.register(AI, machine="m", tool="t", project="p").binding
    services.knowledge.write(AI, "Design/auth.md", "# Sign-in\n", binding=binding)
    for subject in ("One", "Two"):
        draft = MemoryDraft(content=f"What {subject} says", subject=subject)
        stored = services.memories.store(AI, draft, binding=binding)
    services.memories.delete(AI, stored.memory_id, binding=binding)
    close_services(services)
    with closing(sqlite3.connect(root / "_meta" / "state.sqlite3")) as state, state:
        state.execute("DROP INDEX documents_folded")
        state.execute(OLD_INDEX)
        state.execute(
            "UPDATE documents SET title ="
            " (SELECT subject FROM memories WHERE documents.path LIKE '%' || memory_id || '.md')"
            " WHERE kind IN ('memory', 'tombstone')"
        )
        state.execute("PRAGMA user_version = 1")
    return root


@pytest.fixture
def older(of_schema_1: Path, tmp_path: Path) -> Path:
    return shutil.copytree(of_schema_1, tmp_path / "memory")


def told(root: Path) -> dict[str, object]:
    """What callers see of it, and whether names that differ only in case are still refused."""
    services = open_services(Settings(root=root))
    try:
        row = services.workspaces.list(AI, machine="", tool="", project="", limit=9, cursor=None, max_bytes=9000)
        workspace_id = row.workspaces[0].workspace_id
        memories = services.memories.list(
            AI, include_hidden=True, limit=9, cursor=None, max_bytes=9000
        ).memories  # fmt: skip
        services.core.index.catch_up()
        hits = services.searching.memory(AI, "says", include_hidden=True).hits
        binding = services.workspaces.register(AI, machine="m", tool="t", project="p").binding
        refused = False
        try:
            services.knowledge.write(AI, "design/other.md", "x", binding=binding)
        except Exception as error:
            refused = "differs" in str(error)
        return {
            "memories": sorted((one.memory_id, one.subject) for one in memories),
            "hits": sorted((hit.memory_id or "", hit.title) for hit in hits),
            "document": services.knowledge.content(AI, workspace_id, "Design/auth.md", None)[2],
            "refused": refused,
        }
    finally:
        close_services(services)


def state_of(root: Path) -> tuple[int, str, set[str]]:
    with closing(sqlite3.connect(root / "_meta" / "state.sqlite3")) as state:
        (version,) = state.execute("PRAGMA user_version").fetchone()
        (sql,) = state.execute("SELECT sql FROM sqlite_master WHERE name = 'documents_folded'").fetchone()
        titles = {row[0] for row in state.execute("SELECT title FROM documents WHERE kind <> 'knowledge'")}
    return version, sql, titles


@pytest.mark.spec("MIGRATE-4")
def test_an_older_state_is_brought_up_and_tells_the_same(older: Path) -> None:
    assert state_of(older)[2] == {"One", "Two"}
    findings = check_root(older, read_data=True, pause_seconds=0)
    assert not findings.count("error")

    first = told(older)

    version, sql, titles = state_of(older)
    assert version == SCHEMA_VERSION
    assert "folded <> ''" in sql
    assert titles == {""}
    assert sorted(subject for _, subject in first["memories"]) == ["One", "Two"]  # type: ignore[attr-defined]
    assert sorted(title for _, title in first["hits"]) == ["One", "Two"]  # type: ignore[attr-defined]
    assert first["refused"]
    assert told(older) == first
    assert not check_root(older, read_data=True, pause_seconds=0).count("error")


@pytest.mark.spec("MIGRATE-4")
def test_a_full_disk_puts_it_off_and_the_older_state_serves(
    older: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from federated_memory.store import database

    wanted = told(shutil.copytree(older, older.with_name("copy")))

    def refuse(_: sqlite3.OperationalError) -> Exception:
        return database.StorageFull("The server's disk is full")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setitem(database._STEPS, 1, (*database._STEPS[1], "NOT SQL"))
        patched.setattr(database, "_explained", refuse)
        assert told(older) == wanted

    assert state_of(older)[0] == 1
    assert "not brought up to date yet" in caplog.text
    assert told(older) == wanted
    assert state_of(older)[0] == SCHEMA_VERSION
