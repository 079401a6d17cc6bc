"""Which workspace a session belongs to, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


class Machine:
    """A home with projects, and the client's answer for a session in one of them."""

    def __init__(self, sync: ModuleType, home: Path) -> None:
        self.sync, self.home = sync, home
        self.config = sync.Config(machine="Box", redaction="off")
        self.state = sync.open_state()

    def project(self, name: str, remote: str = "") -> Path:
        folder = self.home / "work" / name
        (folder / ".git").mkdir(parents=True)
        (folder / ".git" / "config").write_text(f'[remote "origin"]\nurl = {remote or f"https://x.org/me/{name}"}\n')
        return folder

    def session(self, name: str, cwd: Path | str, parent: str = "") -> Any:
        path = self.home / f"{name}.jsonl"
        path.write_text(json.dumps({"cwd": str(cwd)}) + "\n")
        found = self.sync.transcript_at("claude-code", path)
        return self.sync.dataclasses.replace(found, parent_id=parent)

    def sent(self, transcript: Any, workspace_id: str) -> None:
        self.sync._put_row(self.state, transcript, workspace_id, size=1, mtime_ns=1)

    def which(self, cwd: Path | str = "", transcript: Any = None) -> Any:
        self.sync._known_projects.clear()
        return self.sync.which(self.state, self.config, tool="claude-code", cwd=str(cwd), transcript=transcript)

    def manifest(self, workspace_id: str, project: str, *cwd: str) -> None:
        self.sync.save_manifest(self.sync.Manifest(workspace_id, "box", "claude-code", project, cwd=list(cwd)))


@pytest.fixture
def machine(sync: ModuleType, home: Path) -> Iterator[Machine]:
    found = Machine(sync, home)
    yield found
    found.state.close()


@pytest.mark.spec("SYNC-6")
def test_the_first_that_tells_decides(machine: Machine) -> None:
    shop, blog = machine.project("shop"), machine.project("blog")
    session = machine.session("s", blog)
    asked = []

    def ask() -> None:
        found = machine.which(shop, session)
        asked.append((found.workspace_id, found.why))

    asked.append((machine.which("", session).workspace_id, ""))
    ask()
    machine.manifest("by-manifest", "other", "~/work")
    ask()
    (shop / ".memory-workspace").write_text("by-file\n")
    ask()
    machine.sent(session, "uploaded-before")
    ask()

    ids, reasons = zip(*asked, strict=True)
    assert ids == ("box-claude-code-blog", "box-claude-code-shop", "by-manifest", "by-file", "uploaded-before")
    assert "the hook's directory" in reasons[1]
    assert "manifest by-manifest.json" in reasons[2]
    assert str(shop / ".memory-workspace") in reasons[3]
    assert reasons[4] == "it was uploaded there before"


@pytest.mark.spec("SYNC-6")
def test_a_session_never_changes_workspace(machine: Machine) -> None:
    shop = machine.project("shop")
    session, child = machine.session("s", shop), machine.session("agent-1", "/elsewhere", parent="s")
    machine.sent(session, "first")
    copied = machine.sync.dataclasses.replace(
        session, path=machine.home / "copy.jsonl", cwd=str(machine.project("blog"))
    )

    assert machine.which("", copied).workspace_id == "box-claude-code-blog"
    moved = machine.sync.dataclasses.replace(session, path=session.path.rename(machine.home / "moved.jsonl"))
    assert machine.which("", moved).workspace_id == "first"
    assert machine.which("", child).why == "its parent session is there"


@pytest.mark.spec("SYNC-6")
def test_a_workspace_file_counts_up_to_the_projects_top(machine: Machine) -> None:
    shop = machine.project("shop")
    (shop / "src").mkdir()
    (shop.parent / ".memory-workspace").write_text("outside")
    plain = shop.parent / "plain" / "deep"
    plain.mkdir(parents=True)

    assert machine.which(shop / "src").workspace_id == "box-claude-code-shop"
    assert machine.which(plain).workspace_id == "outside"
    (shop / ".memory-workspace").write_text('{"project": "Shop & Co"}')
    found = machine.which(shop / "src")
    assert (found.workspace_id, found.project.name) == (
        machine.sync.workspace_id_of("Box", "claude-code", "Shop & Co"), "Shop & Co"
    )  # fmt: skip


@pytest.mark.spec("SYNC-6")
@pytest.mark.parametrize("text", ["", "Two Words", "../up", '{"workspace_id": 7}', '{"project": ""}', "{", "a\nb"])
def test_a_workspace_file_that_names_nothing_is_an_error(machine: Machine, text: str) -> None:
    shop = machine.project("shop")
    (shop / ".memory-workspace").write_text(text)

    with pytest.raises(machine.sync.UsageError, match="names no workspace"):
        machine.which(shop)


@pytest.mark.spec("SYNC-6")
def test_a_manifest_of_the_project_matches_wherever_the_clone_is(machine: Machine) -> None:
    machine.manifest("chosen", "shop")

    assert machine.which(machine.project("shop")).workspace_id == "chosen"
    assert machine.which(machine.project("blog")).workspace_id == "box-claude-code-blog"


@pytest.mark.spec("SYNC-6")
def test_two_projects_of_one_name_are_told_apart_and_one_that_moved_is_not(machine: Machine) -> None:
    first, second = machine.project("api"), machine.project("other/api", "https://x.org/them/api")
    machine.sync.claim_project(machine.state, machine.which(first))

    assert machine.which(first).workspace_id == "box-claude-code-api"
    key = machine.which(second).project.key
    assert machine.which(second).project.name == f"api-{key[:6]}"
    (first / ".git" / "config").write_text('[remote "origin"]\nurl = https://new.org/me/api\n')
    assert machine.which(first).workspace_id == "box-claude-code-api"


@pytest.mark.spec("SYNC-9")
@pytest.mark.parametrize("glob", ["shop", "SH*", "~/work/shop", "~/work/*", "~/work"])
def test_an_excluded_project_has_no_workspace_also_if_it_was_sent_before(machine: Machine, glob: str) -> None:
    shop = machine.project("shop")
    (shop / "src").mkdir()
    session = machine.session("s", shop / "src")
    machine.sent(session, "first")
    machine.config.exclude_projects = [glob]

    found = machine.which("", session)

    assert (found.workspace_id, found.why) == ("", f"exclude_projects: {glob}")


@pytest.mark.spec("SYNC-6")
def test_without_any_directory_there_is_no_answer(machine: Machine) -> None:
    path = machine.home / "s.jsonl"
    path.write_text("{}\n")

    assert machine.which("", machine.sync.transcript_at("claude-code", path)) is None
