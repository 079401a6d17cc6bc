"""The runner: patterns are text, nothing outlives its search, and it can be done without."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from federated_memory.search import Mode
from federated_memory.search.hit import Budget
from federated_memory.search.ripgrep import Ripgrep, RipgrepFailed, find_ripgrep
from tests.unit.search.library import Shelf, keys

OPTIONS = [
    "-e", "--", "-", "-v", "--help", "--version", "-f/etc/passwd", "--file=/etc/passwd", "--pre=/bin/sh", "--pre",
    "-uuu", "--hidden", "--files", "--follow", "--debug", "--no-config", "-g*", "--type-list", "--json", "-z",
    "--regexp=x", "--hostname-bin=/bin/sh", "-A9",
]  # fmt: skip


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in the place of ripgrep."""

    def install(script: str) -> None:
        program = tmp_path / "rg"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr("federated_memory.search.ripgrep.find_ripgrep", lambda: str(program))

    return install


def has_children() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


@pytest.mark.spec("FIND-5")
@pytest.mark.parametrize("option", OPTIONS)
def test_what_looks_like_an_option_is_text(shelf: Shelf, option: str) -> None:
    shelf.write("with.md", f"a line with {option} in it")
    shelf.write("without.md", "a line with nothing")

    assert keys(shelf.knowledge(option, "literal")) == ["with.md"]


@pytest.mark.spec("FIND-5")
@pytest.mark.parametrize("mode", ["literal", "regex", "ranked"])
def test_no_program_runs(shelf: Shelf, tmp_path: Path, mode: Mode) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat $1\n")
    program.chmod(0o755)
    shelf.write("note.md", "needle")

    shelf.knowledge(f"--pre={program}", mode)
    assert not (tmp_path / "ran").exists()


@pytest.mark.spec("FIND-5")
def test_the_environment_and_its_configuration_do_not_count(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("--invert-match\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(tmp_path / "config"))
    shelf.write("a.md", "needle")
    shelf.write("b.md", "nothing")

    assert keys(shelf.knowledge("needle", "literal")) == ["a.md"]


@pytest.mark.spec("FIND-5")
def test_runs_that_are_left_early_leave_no_process(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.md").write_text("needle\n" * 2000)
    budget = Budget(60, None)

    for _ in range(200):
        with Ripgrep(["--only-matching"], "needle", tmp_path, ["."]) as ripgrep:
            assert next(ripgrep.records(b"\n", budget))
    assert not has_children()


@pytest.mark.spec("FIND-5")
@pytest.mark.spec("FIND-10")
def test_a_deadline_ends_a_run_that_hangs(shelf: Shelf, stand_in: Callable[[str], None]) -> None:
    shelf.write("a.md", "needle")
    stand_in(f"printf '{shelf.workspace_id}/knowledge/a.md\\0'; exec sleep 600")
    budget = Budget(0.3, None)

    with Ripgrep([], "needle", shelf.folder, ["."]) as ripgrep:
        records = list(ripgrep.records(b"\0", budget))

    assert records == [f"{shelf.workspace_id}/knowledge/a.md".encode()]
    assert "0.3 seconds" in ripgrep.problem
    assert budget.is_spent()
    assert not has_children()


@pytest.mark.spec("FIND-10")
@pytest.mark.parametrize("mode", ["literal", "ranked"])
def test_an_error_keeps_what_was_found_and_is_told(shelf: Shelf, stand_in: Callable[[str], None], mode: Mode) -> None:
    shelf.write("a.md", "needle")
    end = "1:needle\\n" if mode == "ranked" else ""
    stand_in(f"printf '{shelf.workspace_id}/knowledge/a.md\\000{end}'; exit 2")

    found = shelf.knowledge("needle", mode)

    assert keys(found) == ["a.md"]
    assert not found.is_complete
    assert found.note == "some files could not be read"


@pytest.mark.spec("FIND-5")
def test_names_it_reports_are_checked_like_any_other(shelf: Shelf, stand_in: Callable[[str], None]) -> None:
    shelf.write("a.md", "needle")
    (shelf.folder / "identity.md").write_text("needle")
    name = shelf.workspace_id
    stand_in(
        f"printf '../../_meta/secret.key\\0/etc/passwd\\0{name}/knowledge/../identity.md\\0{name}/identity.md\\0"
        f"\\377\\0{name}\\0\\0{name}/knowledge/a.md\\0'"
    )

    assert keys(shelf.knowledge("needle", "literal")) == ["a.md"]


@pytest.mark.spec("FIND-5")
def test_when_ripgrep_cannot_be_started_files_are_read_instead(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.write("a.md", "a needle")
    monkeypatch.setattr("federated_memory.search.ripgrep.find_ripgrep", lambda: "/nowhere/rg")

    assert keys(shelf.knowledge("needle", "literal")) == ["a.md"]
    assert keys(shelf.knowledge("needle", "ranked")) == ["a.md"]
    with pytest.raises(RipgrepFailed), Ripgrep([], "x", shelf.folder, ["."]):
        pass


@pytest.mark.spec("FIND-5")
def test_the_ripgrep_beside_python_is_found_and_an_old_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, version in ((old, "12.1.1"), (new, "13.0.0")):
        folder.mkdir()
        (folder / "rg").write_text(f"#!/bin/sh\necho 'ripgrep {version}'\n")
        (folder / "rg").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(old / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(old))
    monkeypatch.setenv("PATH", f"{new}:/usr/bin:/bin")

    assert find_ripgrep.__wrapped__() == str(new / "rg")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert find_ripgrep.__wrapped__() is None
