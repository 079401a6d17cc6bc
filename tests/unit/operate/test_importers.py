"""Readers of other memory tools, on what those tools wrote (tests/vectors/importers)."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.names import document_path_problem
from federated_memory.operate.importers.formats import FORMATS, format_of
from federated_memory.operate.importers.items import (
    DocumentItem,
    Item,
    LeftOut,
    MemoryItem,
    SessionItem,
    document_path,
    session_id,
)
from tests.unit.operate.samples import VECTORS, sample


def memories(items: list[Item]) -> list[MemoryItem]:
    return [item for item in items if isinstance(item, MemoryItem)]


@pytest.mark.spec("IMPORT-1")
@pytest.mark.parametrize("name", [form.name for form in FORMATS if form.name != "jsonl"])
def test_each_format_is_known_by_what_it_is_and_reads_the_same_twice(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path, name)

    form = format_of(path)
    first, second = list(form.read(path)), list(form.read(path))

    assert form.name == name
    assert first == second
    assert len({item.source for item in first}) == len(first)


@pytest.mark.spec("IMPORT-1")
def test_what_is_no_format_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")

    with pytest.raises(InvalidArgument, match="nothing that is known"):
        format_of(tmp_path / "a.txt")
    with pytest.raises(NotFound, match="nothing at"):
        format_of(tmp_path / "none")


@pytest.mark.spec("IMPORT-2")
def test_kioku_mesh_keeps_every_field_and_leaves_out_what_was_deleted(tmp_path: Path) -> None:
    path = sample(tmp_path, "kioku-mesh")

    items = list(format_of(path).read(path))

    newer = next(item for item in memories(items) if item.importance == 5)
    assert newer.source == "kioku-mesh:b00f13c8c9d64fce9de7be1ce36e9a82"
    assert (newer.kind, newer.project, newer.subject) == ("decision", "shop", "Queue for mail")
    assert newer.supersedes == ["kioku-mesh:3579934ad6644b52b766d6ee511d56b9"]
    assert (newer.agent, newer.machine, newer.session) == ("claude", "ann@laptop", "20261121T181438Z-58cd93d0")
    assert (newer.visibility, newer.others["visibility"], newer.others["scope_id"]) == ("workspace", "user", "ann")
    assert newer.created_at == "2026-11-21T18:14:38.124262Z"
    older = next(item for item in memories(items) if item.importance == 4)
    assert (older.tags, older.files, older.references) == (
        ["mail", "outbox"],
        ["src/mail.py", "src/outbox.py"],
        ["#67"],
    )
    assert older.content.endswith("\nA failed send is tried again after 5 minutes.")
    assert [item for item in items if isinstance(item, LeftOut)] == [
        LeftOut("kioku-mesh:f39aa60c6a2f404ab010da7383b01950", "deleted there", is_meant=True)
    ]


@pytest.mark.spec("IMPORT-2")
def test_kioku_meshs_search_output_gives_the_same_notes_as_its_database(tmp_path: Path) -> None:
    database, printed = sample(tmp_path, "kioku-mesh"), VECTORS / "kioku-search.json"

    searched = memories(list(format_of(printed).read(printed)))
    whole = {item.source: item for item in memories(list(format_of(database).read(database)))}

    assert len(searched) == 2
    assert all(whole[item.source] == item for item in searched)


@pytest.mark.spec("IMPORT-2")
def test_kioku_mesh_of_a_later_version_loses_no_field(tmp_path: Path) -> None:
    row: dict[str, Any] = {"observation_id": "a" * 32, "content": "x", "memory_type": "insight", "mood": "sure"}
    (tmp_path / "found.json").write_text(json.dumps([row, {**row, "expires_at": "2020-01-01T00:00:00Z"}, {"a": 1}]))

    first, expired, broken = format_of(tmp_path / "found.json").read(tmp_path / "found.json")

    assert isinstance(first, MemoryItem)
    assert (first.kind, first.others) == ("insight", {"mood": "sure"})
    assert isinstance(expired, LeftOut) and expired.is_meant  # noqa: PT018
    assert isinstance(broken, LeftOut) and not broken.is_meant  # noqa: PT018


@pytest.mark.spec("IMPORT-3")
def test_server_memory_gives_a_note_for_each_observation_and_relation(tmp_path: Path) -> None:
    path = sample(tmp_path, "server-memory")

    items = memories(list(format_of(path).read(path)))

    assert [item.content for item in items] == [
        "Ann Smith: Prefers tabs", "Ann Smith: Works on the shop", "shop: Uses PostgreSQL 16",
        "Empty (idea): known, nothing more", "Ann Smith works on shop", "Bob owns shop",
    ]  # fmt: skip
    assert items[0].tags == ["person"]
    assert items[0].others == {"entity": "Ann Smith", "entity_type": "person", "observation": "Prefers tabs"}
    assert items[5].others == {"from": "Bob", "to": "shop", "relationType": "owns"}


@pytest.mark.spec("IMPORT-3")
def test_an_observation_that_is_added_later_changes_no_other_source(tmp_path: Path) -> None:
    path = sample(tmp_path, "server-memory")
    before = {item.source for item in format_of(path).read(path)}

    path.write_text(path.read_text().replace('"Prefers tabs"', '"Prefers tabs","Reads mail at noon"'))

    assert len({item.source for item in format_of(path).read(path)} - before) == 1
    path.write_text(path.read_text() + "\nnot json\n")
    assert isinstance(list(format_of(path).read(path))[-1], LeftOut)


@pytest.mark.spec("IMPORT-4")
def test_claude_mem_loses_no_column_of_any_table(tmp_path: Path) -> None:
    path = sample(tmp_path, "claude-mem")

    items = list(format_of(path).read(path))

    bug, old, summary, directive = memories(items)
    assert (bug.kind, bug.subject, bug.project, bug.agent) == ("bug", "Mails were sent twice", "shop", "claude")
    assert "- Sending lasts up to 20 s" in bug.content
    assert bug.files == ["src/mail.py", "src/worker.py"]
    assert bug.tags == ["bugfix", "gotcha", "problem-solution"]
    assert bug.session == "3F2504E0-4F89-11D3-9A0C-0305E82C3301"
    assert (bug.others["discovery_tokens"], bug.others["content_hash"]) == (812, "a1b2c3")
    assert (old.content, old.kind) == ("Old style text", "context")
    assert summary.kind == "summary" and "Next steps: Watch the log" in summary.content  # noqa: PT018
    assert (directive.kind, directive.content) == ("config", "Answer in German")
    sessions = [item for item in items if isinstance(item, SessionItem)]
    assert [item.session_id for item in sessions] == [
        "claude-mem-3f2504e0-4f89-11d3-9a0c-0305e82c3301", "claude-mem-lost-session",
        "claude-mem-table-observation_feedback",
    ]  # fmt: skip
    everything = json.dumps([repr(item) for item in items], ensure_ascii=False)
    with closing(sqlite3.connect(path)) as database:
        for table in ("observations", "session_summaries", "user_prompts", "directives", "sdk_sessions"):
            for row in database.execute(f"SELECT * FROM {table}"):
                texts = [value for value in row if isinstance(value, str) and not value.startswith("[")]
                assert [text for text in texts if text not in everything] == []


@pytest.mark.spec("IMPORT-4")
def test_a_database_in_use_is_read_and_not_written(tmp_path: Path) -> None:
    path = sample(tmp_path, "claude-mem")
    with closing(sqlite3.connect(path)) as owner:
        owner.execute("PRAGMA journal_mode=WAL")
        owner.execute("INSERT INTO directives VALUES (2,'global',NULL,'Late','active','manual','2026-05-02',1,1)")
        owner.commit()
        before = path.read_bytes()

        assert "Late" in [item.content for item in memories(list(format_of(path).read(path)))]

        assert path.read_bytes() == before


@pytest.mark.spec("IMPORT-5")
def test_basic_memory_notes_are_kept_byte_for_byte(tmp_path: Path) -> None:
    path = sample(tmp_path, "basic-memory")

    items = list(format_of(path).read(path))

    documents = {item.path: item.data for item in items if isinstance(item, DocumentItem)}
    assert documents == {
        "basic-memory/Plain.md": (path / "Plain.md").read_bytes(),
        "basic-memory/projects/Coffee Brewing.md": (path / "projects" / "Coffee Brewing.md").read_bytes(),
    }
    assert [item.source for item in items if isinstance(item, LeftOut)] == ["basic-memory:board.canvas"]


@pytest.mark.spec("IMPORT-6")
def test_the_turns_of_a_specstory_session_are_its_file(tmp_path: Path) -> None:
    path = sample(tmp_path, "specstory")
    history = path / ".specstory" / "history"

    old, new = (item for item in format_of(path).read(path) if isinstance(item, SessionItem))

    for item, file in zip((old, new), sorted(history.iterdir()), strict=True):
        lines = [json.loads(line) for line in item.data.decode().splitlines()]
        assert "".join(line["text"] for line in lines).encode() == file.read_bytes()
    turns = [json.loads(line) for line in new.data.decode().splitlines()]
    assert new.session_id == "specstory-b6cadb96-7c60-4b08-8750-8c51510cf3cc"
    assert [turn.get("role") for turn in turns] == [None, "user", "assistant", "assistant", "user"]
    assert [turn.get("timestamp") for turn in turns[:3]] == [
        "2026-03-06T20:10:28Z", "2026-03-06T20:10:28Z", "2026-03-06T20:10:33Z",
    ]  # fmt: skip
    assert (old.session_id, json.loads(old.data.splitlines()[0])["timestamp"]) == (
        "specstory-2025-05-01_10-00-old-session", "2025-05-01T10:00:00Z",
    )  # fmt: skip


@pytest.mark.spec("IMPORT-7")
def test_instructions_are_found_anywhere_in_a_project(tmp_path: Path) -> None:
    path = sample(tmp_path, "instructions")

    items = list(format_of(path).read(path))

    assert [item.path for item in items if isinstance(item, DocumentItem)] == [
        "instructions/AGENTS.md", "instructions/CLAUDE.md", "instructions/claude/rules/style.md",
        "instructions/web/CLAUDE.md",
    ]  # fmt: skip
    assert format_of(path / "CLAUDE.md").name == "instructions"


@pytest.mark.spec("IMPORT-1")
@pytest.mark.parametrize(
    "name",
    ["a.md", "Über uns.md", "a/./b.md", "CON.md", "x" * 500 + ".md", "a:b?.md", ".hidden/a.md", "../up.md", "é.md"],
)
def test_any_file_name_becomes_a_path_that_a_workspace_takes(name: str) -> None:
    made = document_path(name)

    assert document_path_problem(made) == ""
    assert (made == name) == (document_path_problem(name) == "")
    assert document_path(name + "x.md") != made


@pytest.mark.spec("IMPORT-1")
def test_any_session_name_becomes_an_id() -> None:
    assert session_id("specstory", "ABC-1") == "specstory-abc-1"
    long = session_id("specstory", "x" * 100)
    assert len(long) <= 64
    assert session_id("specstory", "x" * 101) != long
    assert shutil.which("git") or session_id("a", "b/c") != session_id("a", "b c")
