"""Lists of memories take what they show, and not what there is (SPEC: MEM-4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_memory.store.database import Database
from federated_memory.store.memory_query import MemoryFilter, Viewer, condition, replaced_condition
from federated_memory.store.memory_rows import MemoryRows

NOW = "2026-11-21T00:00:00.000Z"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "state.sqlite3")


def plan(database: Database, where: str, values: list[object], order: str = "") -> str:
    rows = database.rows(f"EXPLAIN QUERY PLAN SELECT 1 FROM memories m WHERE {where} {order}", *values)
    return "\n".join(row[3] for row in rows)


@pytest.mark.spec("MEM-4")
def test_each_filter_is_answered_by_an_index(database: Database) -> None:
    MemoryRows(database)
    order = "ORDER BY m.created_at DESC, m.memory_id DESC LIMIT 20"
    many = [f"w{number}" for number in range(200)]
    for workspaces, projects, index in (
        (many, (), "SCAN m USING INDEX memories_newest"),
        (["w1"], (), "SEARCH m USING INDEX memories_workspace (workspace_id=?"),
        (many, ("shop",), "SEARCH m USING INDEX memories_project (project=?"),
    ):
        where, values = condition(MemoryFilter(workspaces, Viewer("w1", frozenset(["w1"])), NOW, projects=projects))
        found = plan(database, where, values, order)
        assert index in found
        assert "SEARCH n USING PRIMARY KEY" in found, "what supersedes it is looked up by its id"
    assert "SEARCH n USING PRIMARY KEY" in plan(database, *replaced_condition())


@pytest.mark.spec("MEM-4")
def test_a_root_of_before_gets_the_indexes(database: Database) -> None:
    MemoryRows(database)
    with database.transaction() as transaction:
        transaction.execute("DROP INDEX memories_project")
    MemoryRows(database)
    assert database.row("SELECT 1 FROM sqlite_master WHERE name = 'memories_project'")
