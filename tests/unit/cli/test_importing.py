"""`import` of what other tools keep, and `export` as JSONL and back, on roots that no server holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from federated_memory.cli.fitting import fitted
from federated_memory.operate.importers.items import DocumentItem, LeftOut, MemoryItem
from tests.unit.cli.conftest import Cli
from tests.unit.operate.samples import sample

FORMATS = {
    "kioku-mesh": (3, 0, 0), "claude-mem": (4, 0, 3), "server-memory": (6, 0, 0), "basic-memory": (0, 2, 0),
    "specstory": (0, 0, 2), "instructions": (0, 4, 0),
}  # fmt: skip
"""How many memories, documents and sessions each sample holds."""
KINDS = ("memories", "documents", "sessions")

pytestmark = pytest.mark.usefixtures("made")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / "workspaces").rglob("*")) if file.is_file()
    }  # fmt: skip


def created(told: dict[str, Any]) -> tuple[int, ...]:
    return tuple(told[kind]["created"] for kind in KINDS)


@pytest.mark.spec("IMPORT-10")
@pytest.mark.parametrize("name", FORMATS)
def test_a_dry_run_says_what_comes_and_a_second_run_changes_nothing(
    cli: Cli, memory: Path, tmp_path: Path, name: str
) -> None:
    path = str(sample(tmp_path, name))
    before = contents(memory)

    dry = cli("import", path, "--dry-run", "--json").json
    assert (created(dry), contents(memory)) == (FORMATS[name], before)

    first = cli("import", path, "--json").json
    assert (first["format"], created(first), first["warnings"]) == (name, FORMATS[name], [])
    assert first["left_out"] == dry["left_out"]
    after = contents(memory)

    second = cli("import", path, "--json").json
    assert created(second) == (0, 0, 0)
    assert tuple(second[kind]["unchanged"] for kind in KINDS) == FORMATS[name]
    assert contents(memory) == after
    assert created(cli("import", path, "--dry-run", "--json").json) == (0, 0, 0)


@pytest.mark.spec("IMPORT-2", "IMPORT-9")
def test_supersession_and_fields_without_a_place_of_ours_survive(cli: Cli, tmp_path: Path) -> None:
    cli("import", str(sample(tmp_path, "kioku-mesh")))

    live = {row["subject"]: row["memory_id"] for row in cli("list", "--json").json}
    assert live.keys() == {"Queue for mail", "Überlauf im Zähler"}
    newer = cli("get", live["Queue for mail"], "--json").json
    assert newer["summary"] == "Mails go through Redis streams"
    assert cli("get", newer["supersedes"][0], "--json").json["summary"] == "Mails go through the outbox table"
    exported = cli("export", "--format", "jsonl", newer["workspace_id"], "-").out
    assert '"pc_id": "a9888dbdb8054076b8337a87175e3fe3"' in exported


@pytest.mark.spec("IMPORT-11")
def test_what_was_deleted_or_changed_here_is_not_undone_by_another_import(cli: Cli, tmp_path: Path) -> None:
    notes, folder = str(sample(tmp_path, "server-memory")), sample(tmp_path, "basic-memory")
    cli("import", notes)
    workspace_id = cli("import", str(folder), "--json").json["workspace_id"]
    deleted = cli("list", "--json").json[0]["memory_id"]
    cli("delete", deleted)
    (tmp_path / "mine.md").write_text("# Mine\n")
    cli("import", str(folder), "--workspace", workspace_id)
    cli("delete", f"{workspace_id}/basic-memory/Plain.md")

    again = cli("import", notes, "--json").json
    documents = cli("import", str(folder), "--json").json

    assert (again["memories"]["created"], again["memories"]["deleted"]) == (0, 1)
    assert created(documents) == (0, 0, 0)
    assert "Plain.md" not in cli("list", "knowledge").out


@pytest.mark.spec("IMPORT-11")
def test_what_changed_there_since_comes_as_a_new_version(cli: Cli, tmp_path: Path) -> None:
    folder = sample(tmp_path, "basic-memory")
    workspace_id = cli("import", str(folder), "--json").json["workspace_id"]
    (folder / "Plain.md").write_text("---\npermalink: plain\n---\nNew text.\n")

    told = cli("import", str(folder), "--json").json

    assert told["documents"]["updated"] == 1
    assert [row["version"] for row in cli("history", f"{workspace_id}/basic-memory/Plain.md", "--json").json] == [2, 1]


@pytest.mark.spec("IMPORT-10", "CLI-1")
def test_what_cannot_be_taken_in_is_named_and_shows_in_the_exit_code(cli: Cli, tmp_path: Path) -> None:
    ran = cli("import", str(sample(tmp_path, "basic-memory")))

    assert ran.code == 1
    assert "board.canvas: it is no Markdown" in ran.err
    assert cli("import", str(sample(tmp_path, "kioku-mesh"))).code == 0
    assert cli("import", str(tmp_path / "none")).code == 4
    assert cli("import", str(tmp_path / "specstory"), "--from", "jsonl").code != 0


@pytest.mark.spec("IMPORT-9")
@pytest.mark.parametrize(
    "item",
    [
        MemoryItem("s:1", "a text", kind="insight", subject="n/a", summary="x" * 2_000, tags=["y" * 100, "ok"]),
        MemoryItem("s:2", "a text", subject="two\nlines", files=["f"] * 80, references=[" ", "r"], project="p" * 300),
        MemoryItem("s:3", "a text\0with", supersedes=["s:unknown"]),
    ],
)
def test_what_fits_no_field_is_kept_beside_the_note(item: MemoryItem) -> None:
    made = fitted(item, {})

    assert isinstance(made, dict)
    told = repr(made)
    for text in (item.kind, item.subject.split("\n")[0], item.summary, *item.tags, *item.references, item.project):
        assert text.strip() in told
    assert all(one in told for one in item.supersedes)


@pytest.mark.spec("IMPORT-9")
def test_a_note_that_is_none_becomes_a_document_or_is_named() -> None:
    long = fitted(MemoryItem("s:1", "long " * 20_000, subject="Long", tags=["a"]), {})
    markup = fitted(MemoryItem("s:2", "broken <parameter name='x'> call"), {})

    for made in (long, markup):
        assert isinstance(made, DocumentItem)
        assert made.path.startswith("imported/")
    assert isinstance(long, DocumentItem)
    assert b"long long" in long.data and b'subject: "Long"' in long.data  # noqa: PT018
    assert isinstance(fitted(MemoryItem("s:3", "  "), {}), LeftOut)


@pytest.mark.spec("EXPORT-3", "IMPORT-8")
def test_jsonl_goes_round_and_comes_back_equal(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kioku-mesh", "claude-mem", "basic-memory"):
        cli("import", str(sample(tmp_path, name)), "--workspace", workspace_of(cli))
    cli("save", "Expires later.", "--expires", "2090-01-01", "--workspace", workspace_of(cli), "--visibility", "team")
    file = tmp_path / "out.jsonl"

    assert cli("export", workspace_of(cli), str(file), "--format", "jsonl").code == 0
    assert cli("export", workspace_of(cli), str(file), "--format", "jsonl").code == 5
    monkeypatch.setenv("MEMORY_ROOT", str(tmp_path / "second"))
    assert cli("init").code == 0
    first = cli("import", str(file), "--json").json
    second = cli("import", str(file), "--json").json

    assert created(first) == (8, 2, 3)
    assert created(second) == (0, 0, 0)
    assert cli("export", workspace_of(cli), "-", "--format", "jsonl").out == file.read_text()


def workspace_of(cli: Cli) -> str:
    """One that is there, made if need be."""
    rows = cli("list", "workspaces", "--json").json
    if not rows:
        cli("delete", *cli("save", "To have a workspace.").out.split())
        rows = cli("list", "workspaces", "--json").json
    return str(rows[0]["workspace_id"])


@pytest.mark.spec("IMPORT-8")
def test_a_line_that_is_not_understood_is_named(cli: Cli, tmp_path: Path) -> None:
    head = {
        "format": "federated-memory",
        "version": 1,
        "type": "workspace",
        "machine": "m",
        "tool": "t",
        "project": "p",
    }
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join([json.dumps(head), '{"type":"later"}', "no json", '{"type":"memory"}']) + "\n")

    told = cli("import", str(file), "--json")

    assert told.code == 1
    assert [one["source"] for one in told.json["left_out"]] == ["line 2", "line 3", "line 4"]


@pytest.mark.spec("EXPORT-1", "EXPORT-2", "MEM-1")
def test_a_folder_of_markdown_goes_round_with_its_memories(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("import", str(sample(tmp_path, "kioku-mesh")), "--workspace", workspace_of(cli))
    deleted = cli("save", "Not for long.", "--workspace", workspace_of(cli)).out.strip()
    cli("delete", deleted, "--reason", "gone")
    folder, before = tmp_path / "folder", cli("list", "--all", "--json").json
    jsonl = cli("export", workspace_of(cli), "-", "--format", "jsonl").out

    assert cli("export", workspace_of(cli), str(folder)).code == 0
    assert len(list((folder / "memories").glob("[0-9]*/*/*.md"))) == 3
    monkeypatch.setenv("MEMORY_ROOT", str(tmp_path / "second"))
    assert cli("init").code == 0
    assert "3 memories" in cli("import", str(folder), "--dry-run").out
    assert cli("list", "workspaces", "--json").json == []
    assert cli("import", str(folder)).code == 0

    assert cli("list", "--all", "--json").json == before
    assert cli("export", workspace_of(cli), "-", "--format", "jsonl").out == jsonl
