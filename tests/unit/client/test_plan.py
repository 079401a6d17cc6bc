"""The plan itself, case by case, and what `sync` makes of folders that are odd."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

A, B, C = "a" * 64, "b" * 64, "c" * 64
P = "auto/x.md"


def one(sync: ModuleType, local: str, server: str, last: str, *, mirror: bool = False, detached: bool = False) -> str:
    """The action of one path among others that are equal everywhere, as text."""
    rest = {f"auto/{n}.md": C for n in range(9)}

    def side(text: str) -> dict[str, str]:
        return rest | ({P: text} if text else {})

    found = sync.plan(side(local), side(server), side(last), mirror=mirror, detached={P} if detached else set())
    assert len(found) <= 1
    return "".join(map(shown, found))


def shown(action: Any) -> str:
    names = {A: "a", B: "b", C: "c", "": "-"}
    return " ".join([type(action).__name__, *(names.get(value, "") for value in vars(action).values() if value != P)])


@pytest.mark.spec("SYNC-10", "SYNC-11")
@pytest.mark.parametrize(
    ("local", "server", "last", "expected"),
    [
        (A, A, A, ""),
        (A, A, "", "Record a"),
        (A, A, B, "Record a"),
        (A, "", "", "Upload a -"),
        (B, A, A, "Upload b a"),
        ("", A, "", "Download a -"),
        (A, B, A, "Download b a"),
        (A, B, C, "Conflict a b"),
        (A, B, "", "Conflict a b"),
        ("", A, A, "Detach a"),
        ("", B, A, "Download b -"),
        (A, "", A, ""),
        (B, "", A, "Upload b -"),
        ("", "", A, "Forget"),
    ],
)
def test_three_states_of_a_document_give_one_action(
    sync: ModuleType, local: str, server: str, last: str, expected: str
) -> None:
    assert one(sync, local, server, last) == expected


@pytest.mark.spec("SYNC-11")
@pytest.mark.parametrize(
    ("local", "server", "last", "expected"),
    [("", A, A, "Delete a"), ("", B, A, "Download b -"), (A, "", A, "Upload a -"), ("", A, "", "Download a -")],
)
def test_a_mirror_deletes_only_what_was_deleted_here_and_not_changed_there(
    sync: ModuleType, local: str, server: str, last: str, expected: str
) -> None:
    assert one(sync, local, server, last, mirror=True) == expected


@pytest.mark.spec("SYNC-11")
def test_a_detached_document_stays_away_until_the_server_changes_it(sync: ModuleType) -> None:
    assert one(sync, "", A, A, detached=True) == ""
    assert one(sync, "", B, A, detached=True) == "Download b -"
    assert one(sync, A, A, A, detached=True) == "Record a"


@pytest.mark.spec("SYNC-12")
@pytest.mark.parametrize(
    ("kept", "known", "mirror", "stops"),
    [
        (0, 1, True, True), (0, 9, True, True), (4, 9, True, True), (5, 9, True, False), (2, 4, True, False),
        (0, 9, False, True), (0, 3, False, False), (1, 9, False, False),
    ],
)  # fmt: skip
def test_an_emptied_folder_stops_the_run(sync: ModuleType, kept: int, known: int, mirror: bool, stops: bool) -> None:
    last = {f"auto/{n}.md": A for n in range(known)}
    local = dict(list(last.items())[:kept])

    found = sync.plan(local, last, last, mirror=mirror)
    allowed = sync.plan(local, last, last, mirror=mirror, allow_deletes=True)

    assert ([type(action).__name__ for action in found] == ["Stop"]) is stops
    assert [type(action).__name__ for action in allowed] == ["Delete" if mirror else "Detach"] * (known - kept)


@pytest.mark.spec("SYNC-12")
def test_a_mirror_stops_when_the_server_is_suddenly_empty(sync: ModuleType) -> None:
    last = {f"auto/{n}.md": A for n in range(5)}

    assert [type(action).__name__ for action in sync.plan(last, {}, last, mirror=True)] == ["Stop"]
    assert sync.plan(last, {}, last, mirror=False) == []


@pytest.mark.spec("SYNC-13")
@pytest.mark.parametrize(
    "path", ["a.md", "auto/Über uns.md", "auto/" + "é" * 57 + ".md", "d/" * 150 + "x" * 90 + ".md"]
)
def test_a_conflicts_copy_has_a_legal_name_of_its_own(sync: ModuleType, path: str) -> None:
    found = sync.conflict_path(path, "My Laptop", A)

    assert sync.document_problem(found) == ""
    assert found.startswith(path.rpartition("/")[0])
    assert ".conflict-my-laptop-" in found
    assert found == sync.conflict_path(path, "My Laptop", A) != sync.conflict_path(path, "My Laptop", B)


@pytest.mark.spec("SYNC-14")
def test_secrets_stay_in_place_when_the_server_changes_the_text_around_them(sync: ModuleType) -> None:
    class Redactor:
        def text(self, text: str) -> tuple[str, Counter[str]]:
            return text.replace("hunter2", "[REDACTED:password]"), Counter()

    raw, held = "a hunter2 b\n", "a [REDACTED:password] b\n"
    restored = sync.with_secrets(raw, held, "new a [REDACTED:password] b and more\n", Redactor())

    assert restored == "new a hunter2 b and more\n"
    assert sync.with_secrets(raw, held, "nothing left\n", Redactor()) is None
    assert sync.with_secrets(raw, held, "[REDACTED:password][REDACTED:password]", Redactor()) is None
    assert sync.with_secrets(raw, held, "[REDACTED:other]", Redactor()) is None


def place(sync: ModuleType, folder: Path, **options: Any) -> Any:
    return sync.Place("box-claude-code-shop", "notes", root=folder, prefix="auto/", **options)


@pytest.mark.spec("SYNC-15")
def test_a_glob_never_leaves_its_folder(sync: ModuleType, home: Path) -> None:
    notes, outside = home / "notes", home / "outside"
    (notes / "deep").mkdir(parents=True)
    outside.mkdir()
    for path in (notes / "a.md", notes / "deep" / "b.md", notes / "c.txt", notes / ".hidden.md", outside / "s.md"):
        path.write_text("text")
    os.symlink(outside, notes / "linked")
    os.symlink(outside / "s.md", notes / "s.md")
    (notes / "q?.md").write_text("text")
    problems: list[Any] = []

    found = sync._files_of(place(sync, notes), sync.Config(), problems)

    assert sorted(found) == ["auto/a.md", "auto/deep/b.md"]
    assert sorted(str(problem).split(": ")[0].split(" is ")[0] for problem in problems) == [
        str(notes / "q?.md"), str(notes / "s.md")]  # fmt: skip


@pytest.mark.spec("SYNC-15")
def test_what_cannot_be_read_is_not_taken_for_deleted(sync: ModuleType, home: Path) -> None:
    notes = home / "notes"
    notes.mkdir()
    (notes / "latin.md").write_bytes(b"\xff")
    (notes / "long.md").write_bytes(b"x" * (1024 * 1024 + 1))
    (notes / "good.md").write_text("good")
    problems: list[Any] = []
    files = sync._files_of(place(sync, notes), sync.Config(), problems)

    texts, unknown = sync._local_texts(files, {}, sync.NO_REDACTION, problems)

    assert set(texts) == {"auto/good.md"}
    assert unknown == {"auto/latin.md", "auto/long.md"}
    assert ["not UTF-8" in str(problems[0]), "over 1 MiB" in str(problems[1])] == [True, True]


@pytest.mark.spec("SYNC-15")
@pytest.mark.parametrize(
    ("path", "glob", "matches"),
    [
        ("a.md", "**/*.md", True), ("d/e/a.md", "**/*.md", True), ("d/a.md", "*.md", False), ("a.md", "*.md", True),
        ("d/x/a.md", "d/**/a.md", True), ("d/a.md", "d/**/a.md", True), ("a[1].md", "a[1].md", True),
        ("ab.md", "a?.md", True), ("a/.md", "a?.md", False),
    ],
)  # fmt: skip
def test_a_star_stays_within_one_name(sync: ModuleType, path: str, glob: str, matches: bool) -> None:
    assert sync._matches_glob(path, glob) is matches


@pytest.mark.spec("SYNC-15")
def test_nothing_is_written_through_a_link(sync: ModuleType, home: Path) -> None:
    notes, outside = home / "notes", home / "outside"
    notes.mkdir()
    outside.mkdir()
    (outside / "s.md").write_text("mine")
    os.symlink(outside, notes / "linked")
    os.symlink(outside / "s.md", notes / "s.md")

    for name in ("linked/new.md", "s.md"):
        with pytest.raises(sync.SyncError):
            sync._replace_local(place(sync, notes), notes / name, b"theirs", "", sync.NO_REDACTION)

    assert [file.name for file in outside.iterdir()] == ["s.md"]
    assert (outside / "s.md").read_text() == "mine"


@pytest.mark.spec("SYNC-15")
def test_a_download_keeps_the_files_mode(sync: ModuleType, home: Path) -> None:
    notes = home / "notes"
    notes.mkdir()
    file = notes / "a.md"
    file.write_text("old")
    file.chmod(0o640)
    sha = sync.hashlib.sha256(b"old").hexdigest()

    sync._replace_local(place(sync, notes), file, b"new", sha, sync.NO_REDACTION)
    with pytest.raises(sync.Stale, match="changed"):
        sync._replace_local(place(sync, notes), file, b"newer", sha, sync.NO_REDACTION)

    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640


class Nowhere:
    """A server that is not to be asked."""

    def request(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("no request is needed")


@pytest.mark.spec("SYNC-15")
def test_a_tracked_file_whose_folder_is_gone_is_not_taken_for_deleted(sync: ModuleType, home: Path) -> None:
    here = sync.Place("box-claude-code-shop", "m.json", "mirror", {"x.md": home / "gone" / "x.md"})
    state, report = sync.open_state(), sync.SyncReport()
    state.execute(
        "INSERT INTO documents VALUES (?, 'x.md', ?, ?, 1, 1)", (here.workspace_id, str(home / "gone/x.md"), A)
    )

    run = sync.KnowledgeRun(Nowhere(), state, sync.Config(), here, sync.NO_REDACTION, report)
    again = run.run({"x.md": A}, allow_deletes=False)
    rows = state.execute("SELECT * FROM documents").fetchall()
    state.close()

    assert (again, len(rows)) == (False, 1)
    assert "gone is gone" in report.errors[0]["message"]


@pytest.mark.spec("SYNC-18")
def test_the_notes_of_a_second_worktree_have_a_folder_of_their_own(sync: ModuleType, home: Path) -> None:
    for name in ("shop", "feature"):
        top = home / "work" / name
        (top / ".git").mkdir(parents=True)
        (top / ".git" / "config").write_text('[remote "origin"]\nurl = https://x.org/me/shop\n')
        folder = home / ".claude" / "projects" / f"-{name}"
        (folder / "memory").mkdir(parents=True)
        (folder / "memory" / "MEMORY.md").write_text(name)
        (folder / "s.jsonl").write_text(f'{{"cwd": "{top}"}}\n')
    state = sync.open_state()

    def found() -> dict[str, str]:
        places = sync.knowledge_places(state, sync.Config(machine="box"), [])
        return {place.prefix: str(place.local_of("auto/shop/MEMORY.md")) for place in places}

    first, again = found(), found()
    shutil.rmtree(home / ".claude" / "projects" / "-shop" / "memory")
    after = found()
    state.close()

    second = str(home / ".claude" / "projects" / "-shop" / "memory" / "MEMORY.md")
    assert first == again == {"auto/": "None", "auto/shop/": second}
    assert after == {"auto/": "None"}
