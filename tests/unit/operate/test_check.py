"""`check`: says exactly what is wrong with a root, and nothing about a root that is well."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.errors import NotFound
from federated_memory.operate.check import check_root
from federated_memory.operate.findings import Finding
from federated_memory.settings import Settings
from tests.unit.operate.conftest import ADMIN, WORKSPACE, Check, fill, only, to_act_on, transcript, upload

SPACE = f"workspaces/{WORKSPACE}"
SESSIONS = "sessions/2026/11"


def flip(path: Path, at: int, mask: int) -> bytes:
    """Change the bits of `mask` in one byte; returns what was there."""
    before = path.read_bytes()
    changed = bytearray(before)
    changed[at] ^= mask
    path.write_bytes(changed)
    return before


def snapshot(root: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# -- a root that is well


@pytest.mark.spec("CHECK-1")
@pytest.mark.parametrize("read_data", [False, True])
def test_a_root_that_is_well_has_no_findings(check: Check, read_data: bool) -> None:
    report = check(read_data=read_data)

    assert report.findings == []
    counts = report.counts
    assert [counts[what] for what in ("workspaces", "documents", "versions", "sessions")] == [1, 3, 6, 4]
    assert counts["members"] > 5


@pytest.mark.spec("CHECK-1")
def test_checking_changes_nothing_and_leaves_nothing_behind(memory: Path, check: Check) -> None:
    before = snapshot(memory)

    check(read_data=True)

    assert snapshot(memory) == before


@pytest.mark.spec("CHECK-1")
def test_a_root_that_is_open_is_checked_without_its_lock(tmp_path: Path) -> None:
    root = tmp_path / "memory"
    fill(root)
    services = open_services(Settings(root=root))
    try:
        services.knowledge.put(ADMIN, services.core.registry.get(WORKSPACE), "new.md", b"# New\n", None)

        report = check_root(root, pause_seconds=0, read_data=True)

        assert to_act_on(report) == []
        assert "1 acknowledged writes wait" in only(report).problem  # the journal, flushed a second later
    finally:
        close_services(services)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """A root with a writer that never rests."""
    root = tmp_path / "memory"
    fill(root)
    services = open_services(Settings(root=root))
    workspace = services.core.registry.get(WORKSPACE)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            services.knowledge.put(ADMIN, workspace, "hot.md", f"# Hot {number}\n".encode(), None)
            upload(services, workspace, "hot", transcript(200 + number, "hot"))
            if number % 20 == 0:
                services.core.journal.flush()

    writer = threading.Thread(target=write)
    writer.start()
    yield root
    stop.set()
    writer.join()
    close_services(services)


@pytest.mark.spec("CHECK-1")
def test_writes_under_way_are_no_findings(busy: Path) -> None:
    reports = [check_root(busy, pause_seconds=0.05, read_data=True) for _ in range(10)]

    assert [to_act_on(report) for report in reports] == [[]] * 10


@pytest.mark.spec("CHECK-1")
def test_it_is_the_second_look_that_tells_them_apart(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(_: object, suspects: dict[object, list[Finding]]) -> list[Finding]:
        return [finding for found in suspects.values() for finding in found]

    monkeypatch.setattr("federated_memory.operate.check._confirmed", believe)

    assert any(to_act_on(check_root(busy, pause_seconds=0, read_data=True)) for _ in range(300))


@pytest.mark.spec("CHECK-1")
def test_a_folder_without_a_root_is_not_found_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_root(tmp_path)
    with pytest.raises(NotFound):
        check_root(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


# -- documents


@pytest.mark.spec("CHECK-2")
def test_a_text_changed_by_hand_is_not_recorded_yet(space: Path, check: Check) -> None:
    (space / "knowledge/design/auth.md").write_text("# Mine\n")

    found = only(check())

    assert (found.severity, found.path) == ("warning", f"{SPACE}/knowledge/design/auth.md")
    assert found.problem.startswith("edited by hand, not yet recorded")
    assert "000003.md" in found.advice


@pytest.mark.spec("CHECK-2")
def test_a_text_that_changed_although_its_time_did_not_is_damage(tmp_path: Path) -> None:
    root = tmp_path / "memory"
    fill(root)  # its own, not a copy: the inode counts
    file = root / SPACE / "overview.md"
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"%")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    found = only(check_root(root, pause_seconds=0))

    assert (found.severity, found.path) == ("error", f"{SPACE}/overview.md")
    assert "but not its time" in found.problem


@pytest.mark.spec("CHECK-2")
def test_documents_removed_and_made_by_hand_are_told_apart(space: Path, check: Check) -> None:
    (space / "knowledge/Über uns.md").unlink()
    (space / "knowledge/new.md").write_text("# New\n")
    (space / "knowledge/gone.md").write_text("# Back\n")

    found = {finding.path: finding for finding in check().findings}

    assert found[f"{SPACE}/knowledge/Über uns.md"].severity == "warning"
    assert "removed by hand, not yet recorded" in found[f"{SPACE}/knowledge/Über uns.md"].problem
    for name in ("new.md", "gone.md"):
        assert found[f"{SPACE}/knowledge/{name}"].severity == "info"
        assert "made by hand, not yet recorded" in found[f"{SPACE}/knowledge/{name}"].problem


@pytest.mark.spec("CHECK-2")
def test_what_a_server_has_taken_in_is_no_finding_any_more(memory: Path, space: Path, check: Check) -> None:
    (space / "knowledge/design/auth.md").write_text("# Mine\n")
    (space / "knowledge/Über uns.md").unlink()
    (space / "knowledge/new.md").write_text("# New\n")
    services = open_services(Settings(root=memory))
    services.core.scan.workspace(services.core.registry.get(WORKSPACE).workspace_id)
    close_services(services)

    assert check(read_data=True).findings == []


@pytest.mark.spec("CHECK-2")
def test_texts_that_are_too_long_or_no_utf8_are_named(space: Path, check: Check) -> None:
    (space / "knowledge/long.md").write_bytes(b"x" * (1024**2 + 1))
    (space / "knowledge/latin.md").write_bytes(b"# Caf\xe9\n")

    report = check()

    assert to_act_on(report) == [
        ("warning", f"{SPACE}/knowledge/latin.md"),
        ("warning", f"{SPACE}/knowledge/long.md"),
    ]
    assert "not UTF-8 at byte 5" in report.findings[0].problem
    assert "1,048,577 bytes" in report.findings[1].problem


# -- versions


@pytest.mark.spec("CHECK-3")
def test_a_damaged_copy_of_a_version_is_an_error(space: Path, check: Check) -> None:
    (space / "knowledge/.versions/design/auth.md/000002.md").write_text("# Other\n")

    found = only(check())

    assert (found.severity, found.path) == ("error", f"{SPACE}/knowledge/.versions/design/auth.md/000002.md")
    assert found.problem.startswith("version 2 is damaged: SHA-256")


@pytest.mark.spec("CHECK-3")
def test_a_missing_copy_of_the_current_text_can_be_made_from_it(space: Path, check: Check) -> None:
    (space / ".versions/overview.md/000001.md").unlink()

    found = only(check())

    assert (found.severity, found.path) == ("error", f"{SPACE}/.versions/overview.md/000001.md")
    assert "Copy the document itself" in found.advice


@pytest.mark.spec("CHECK-3")
def test_a_copy_that_no_line_names_is_an_orphan(space: Path, check: Check) -> None:
    (space / "knowledge/.versions/gone.md/000007.md").write_text("?")

    assert to_act_on(check()) == [("warning", f"{SPACE}/knowledge/.versions/gone.md/000007.md")]


@pytest.mark.spec("CHECK-3")
@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_line_missing_from_a_log_is_named(space: Path, check: Check, line: int) -> None:
    log = space / "knowledge/.versions/design/auth.md/log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    del lines[line]
    log.write_bytes(b"".join(lines))

    problems = [finding.problem for finding in check().findings if finding.path.endswith("log.jsonl")]

    assert any(problem.startswith(f"lacks the line of version {line + 1}") for problem in problems)


@pytest.mark.spec("CHECK-3")
def test_every_byte_of_a_log_is_verified(space: Path, check: Check) -> None:
    log = space / "knowledge/.versions/gone.md/log.jsonl"
    for at in range(0, log.stat().st_size, 7):
        before = flip(log, at, 0x01)
        assert ("error", f"{SPACE}/knowledge/.versions/gone.md/log.jsonl") in to_act_on(check()), at
        log.write_bytes(before)


@pytest.mark.spec("CHECK-3")
def test_a_line_that_a_power_cut_tore_and_that_was_written_again_is_well(space: Path, check: Check) -> None:
    log = space / ".versions/overview.md/log.jsonl"
    line = log.read_bytes()
    log.write_bytes(line[:40] + b"\0" * 8 + b"\n" + line)

    assert check().findings == []

    log.write_bytes(line[:40] + b"\n" + b"x" + line)
    problems = [finding.problem for finding in check().findings]
    assert "line 1 cannot be read: that version is not listed any more" in problems


# -- sessions


def archive(space: Path, name: str = "long") -> Path:
    return space / SESSIONS / f"{name}.jsonl.gz"


@pytest.mark.spec("CHECK-4")
def test_damage_in_a_transcript_is_found_by_reading_it(space: Path, check: Check) -> None:
    flip(archive(space), archive(space).stat().st_size // 2, 0x40)

    found = only(check(read_data=True))

    assert (found.severity, found.path) == ("error", f"{SPACE}/{SESSIONS}/long.jsonl.gz")
    assert "cannot be inflated, or fails its CRC" in found.problem
    assert "lines " in found.problem
    assert check().findings == []  # what is not read is not found: --read-data is what makes the difference


@pytest.mark.spec("CHECK-4")
def test_without_reading_a_transcript_that_is_cut_short_is_found(space: Path, check: Check) -> None:
    size = archive(space).stat().st_size
    os.truncate(archive(space), size - 100)

    found = only(check())

    assert found.severity == "error"
    assert f"is cut short: {size - 100:,} of {size:,} bytes; lost from line" in found.problem


@pytest.mark.spec("CHECK-4")
def test_without_reading_members_at_the_wrong_place_are_found(space: Path, check: Check) -> None:
    data = archive(space).read_bytes()
    archive(space).write_bytes(data[:-20] + data[:20])

    assert "holds something else at its edges" in only(check()).problem


@pytest.mark.spec("CHECK-4")
def test_what_an_interrupted_append_leaves_is_a_warning(space: Path, check: Check) -> None:
    with archive(space).open("ab") as opened:
        opened.write(b"\x1f\x8b torn")

    for read_data in (False, True):
        found = only(check(read_data=read_data))
        assert (found.severity, found.path) == ("warning", f"{SPACE}/{SESSIONS}/long.jsonl.gz")
        assert "has 7 bytes behind" in found.problem


@pytest.mark.spec("CHECK-4")
def test_missing_and_unknown_transcripts_are_named(space: Path, check: Check) -> None:
    archive(space).unlink()
    (space / SESSIONS / ".revisions/changed/1.jsonl.gz").unlink()
    archive(space, "stranger").write_bytes(gzip.compress(b"{}\n"))
    archive(space, "noise").write_bytes(b"no gzip")

    found = {finding.path: (finding.severity, finding.problem) for finding in check(read_data=True).findings[::-1]}

    assert found[f"{SPACE}/{SESSIONS}/long.jsonl.gz"] == ("error", "is missing: the transcript is lost")
    assert found[f"{SPACE}/{SESSIONS}/.revisions/changed/1.jsonl.gz"][0] == "error"
    assert found[f"{SPACE}/{SESSIONS}/stranger.jsonl.gz"][0] == "warning"
    assert found[f"{SPACE}/{SESSIONS}/noise.jsonl.gz"][0] == "error"


@pytest.mark.spec("CHECK-4")
def test_where_a_transcript_came_from_must_be_told_and_must_agree(space: Path, check: Check) -> None:
    (space / SESSIONS / "twin.json").unlink()
    (space / SESSIONS / "long.json").write_text("{")
    told = json.loads((space / SESSIONS / "changed.json").read_text())
    (space / SESSIONS / "changed.json").write_text(json.dumps({**told, "title": "Else", "lines": 3}))
    (space / SESSIONS / "stray.json").write_text(json.dumps({**told, "session_id": "stray"}))

    found = {finding.path.rsplit("/", 1)[1]: finding for finding in check().findings}

    assert found.keys() == {"twin.jsonl.gz", "long.json", "changed.json", "stray.json"}
    assert found["twin.jsonl.gz"].severity == found["long.json"].severity == "error"
    assert "in lines, title:" in found["changed.json"].problem
    assert found["stray.json"].problem == "belongs to no transcript"


@pytest.mark.spec("CHECK-4")
@pytest.mark.parametrize("read_data", [False, True])
def test_a_crash_between_the_files_and_the_commit_has_lost_nothing(
    memory: Path, space: Path, check: Check, read_data: bool
) -> None:
    aside = space / SESSIONS / ".revisions/long/1.jsonl.gz"
    aside.parent.mkdir()
    archive(space).rename(aside)  # what an upload of another transcript does before it commits
    archive(space).write_bytes(gzip.compress(transcript(30, "other")))

    found = only(check(read_data=read_data))

    assert (found.severity, found.path) == ("warning", f"{SPACE}/{SESSIONS}/long.jsonl.gz")
    assert "whole, at 2026/11/.revisions/long/1.jsonl.gz" in found.problem
    services = open_services(Settings(root=memory))
    services.core.archives.recover()
    close_services(services)
    assert check(read_data=True).findings == []


@pytest.mark.spec("CHECK-4")
def test_a_transcript_packed_by_another_program_is_well(memory: Path, space: Path, check: Check) -> None:
    archive(space, "foreign").write_bytes(gzip.compress(transcript(30, "foreign"), mtime=1_700_000_000))
    services = open_services(Settings(root=memory))
    services.core.archives.recover()
    close_services(services)

    assert check(read_data=True).findings == []


@pytest.mark.spec("CHECK-4")
def test_a_hundred_random_flips_are_all_found(memory: Path, space: Path, check: Check) -> None:
    chance = random.Random(7444)
    files = [
        path
        for path in sorted(space.rglob("*"))
        if path.name.endswith((".gz", ".md")) and path.stat().st_size * path.is_file()
    ]
    texts = ("edited by hand, not yet recorded", "not UTF-8")
    kinds = set()
    for _ in range(100):
        path = chance.choice(files)
        at, mask = chance.randrange(path.stat().st_size), chance.randrange(1, 256)
        before = flip(path, at, mask)
        report = check(read_data=True)
        where = str(path.relative_to(memory))
        found = [finding for finding in report.findings if finding.path == where and finding.severity != "info"]
        assert found, (where, at, mask, report.findings)
        if path.suffix == ".md" and ".versions" not in where:
            assert any(finding.problem.startswith(texts[0]) for finding in found)
        kinds.add(where.split("/")[2] + path.suffix)
        path.write_bytes(before)
    assert kinds >= {"knowledge.md", "overview.md.md", "sessions.gz", ".versions.md"}
    assert check(read_data=True).findings == []


@pytest.mark.spec("CHECK-4")
def test_every_single_bit_of_a_transcript_is_verified(memory: Path, space: Path) -> None:
    """Header, filling bits and all: also where gzip itself looks away."""
    from collections import Counter

    from federated_memory.operate.check_archive import ArchiveFile
    from federated_memory.operate.state_file import open_state

    with open_state(memory) as state:
        stored, members = state.archives(WORKSPACE, "changed")[-1]
    path = space / "sessions" / stored.file
    unseen = []
    with path.open("r+b") as opened:
        data = opened.read()
        for bit in range(len(data) * 8):
            os.pwrite(opened.fileno(), bytes([data[bit // 8] ^ 1 << bit % 8]), bit // 8)
            if not list(
                ArchiveFile(opened.fileno(), stored, members, Counter()).problems(read_data=True, is_served=False)
            ):
                unseen.append(bit)
            os.pwrite(opened.fileno(), data[bit // 8 : bit // 8 + 1], bit // 8)
    assert unseen == []


# -- names


@pytest.mark.spec("CHECK-5")
@pytest.mark.parametrize(
    "name",
    ["CON.md", "a:b.md", "notes.txt", ".hidden.md", "a\u202eb.md", "trailing .md ", "Cafe\u0301.md", "x" * 130 + ".md"],
)
def test_names_that_no_document_may_have_are_warned_of(space: Path, check: Check, name: str) -> None:
    (space / "knowledge" / name).write_text("x")

    found = only(check())

    assert found.severity == "warning"
    assert found.path.isprintable()


@pytest.mark.spec("CHECK-5")
def test_names_that_are_no_unicode_are_shown_in_ascii(space: Path, check: Check) -> None:
    (space / "knowledge" / os.fsdecode(b"caf\xe9.md")).write_text("x")

    assert only(check()).path.encode("ascii").endswith(b"caf\\udce9.md")


@pytest.mark.spec("CHECK-5")
def test_names_that_differ_only_in_case_are_warned_of(space: Path, check: Check) -> None:
    (space / "knowledge/Design").mkdir()
    (space / "knowledge/Design/other.md").write_text("x")
    (space / "knowledge/ÜBER UNS.md").write_text("x")

    found = [finding.problem for finding in check().findings if finding.severity == "warning"]

    assert len(found) == 2
    assert all("only in case" in problem for problem in found)


@pytest.mark.spec("CHECK-5")
def test_symlinks_and_fifos_are_never_opened(memory: Path, space: Path, check: Check) -> None:
    secret = memory.parent / "secret.md"
    secret.write_text("outside")
    (space / "knowledge/link.md").symlink_to(secret)
    (space / "knowledge/folder").symlink_to(memory.parent)
    os.mkfifo(space / "knowledge/pipe.md")
    os.mkfifo(space / SESSIONS / "pipe.jsonl.gz")
    archive(space).unlink()
    archive(space).symlink_to(secret)
    copy = space / ".versions/overview.md/000001.md"
    copy.unlink()
    copy.symlink_to(secret)

    found = {finding.path: finding for finding in check(read_data=True).findings}

    kinds = {
        "knowledge/link.md": "symlink", "knowledge/folder": "symlink", "knowledge/pipe.md": "FIFO",
        f"{SESSIONS}/pipe.jsonl.gz": "FIFO",
    }  # fmt: skip
    for name, kind in kinds.items():
        assert found[f"{SPACE}/{name}"].problem.startswith(f"a {kind}: never followed")
    assert found[f"{SPACE}/{SESSIONS}/long.jsonl.gz"].severity in ("warning", "error")
    assert found[f"{SPACE}/.versions/overview.md/000001.md"].severity == "error"


@pytest.mark.spec("CHECK-5")
def test_registry_and_folders_must_agree(memory: Path, space: Path, check: Check) -> None:
    for name in ("stranger", "Not An Id"):
        (memory / "workspaces" / name).mkdir()
    (memory / "workspaces/file").write_text("x")
    registry = memory / "_meta/workspaces.json"
    told = json.loads(registry.read_text())
    told["workspaces"].append({**told["workspaces"][0], "workspace_id": "lost"})
    registry.write_text(json.dumps(told))
    identity = json.loads((space / "identity.json").read_text())
    (space / "identity.json").write_text(json.dumps({**identity, "machine": "elsewhere"}))

    found = {finding.path: finding for finding in check().findings}

    assert found["workspaces/lost"].severity == "error"
    assert "its folder is missing" in found["workspaces/lost"].problem
    assert "not in the registry" in found["workspaces/stranger"].problem
    assert "not a name" in found["workspaces/Not An Id"].problem
    assert "a file, where only folders" in found["workspaces/file"].problem
    assert found[f"{SPACE}/identity.json"].problem == "differs from the registry in machine"


@pytest.mark.spec("CHECK-5")
def test_what_interrupted_writes_leave_beside_our_files_is_named(memory: Path, space: Path, check: Check) -> None:
    name = ".tokens.json.0123456789ab.tmp"
    places = [memory / "_meta", space, space / "knowledge", space / SESSIONS, space / ".versions/overview.md"]
    for place in places:
        (place / name).write_text("x")
    (space / "knowledge/.obsidian").mkdir()
    (space / "knowledge/.DS_Store").write_text("x")

    report = check()

    assert to_act_on(report) == sorted(("warning", str((place / name).relative_to(memory))) for place in places)
    assert report.count("info") == 2


# -- the state database and `_meta`


@pytest.mark.spec("CHECK-6")
def test_a_damaged_state_database_is_an_error_and_the_rest_is_checked(memory: Path, space: Path, check: Check) -> None:
    state = memory / "_meta/state.sqlite3"
    with state.open("r+b") as opened:
        opened.seek(state.stat().st_size // 2)
        opened.write(os.urandom(state.stat().st_size // 2))
    (space / "knowledge/.versions/design/auth.md/000002.md").write_text("# Other\n")

    found = to_act_on(check())

    assert ("error", "_meta/state.sqlite3") in found
    assert ("error", f"{SPACE}/knowledge/.versions/design/auth.md/000002.md") in found


@pytest.mark.spec("CHECK-6")
def test_without_a_state_database_the_files_are_checked_by_themselves(memory: Path, space: Path, check: Check) -> None:
    (memory / "_meta/state.sqlite3").unlink()
    (space / "overview.md").write_text("# Mine\n")
    flip(archive(space), archive(space).stat().st_size // 2, 0x40)
    archive(space, "changed").write_bytes(gzip.compress(b"{}\n"))

    assert to_act_on(check(read_data=True)) == [
        ("error", "_meta/state.sqlite3"),
        ("error", f"{SPACE}/{SESSIONS}/changed.jsonl.gz"),
        ("error", f"{SPACE}/{SESSIONS}/long.jsonl.gz"),
        ("warning", f"{SPACE}/overview.md"),
    ]


@pytest.mark.spec("CHECK-6")
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM changes WHERE number = 3", "the change feed lacks the numbers 3 to 3"),
        ("DELETE FROM changes WHERE number = (SELECT max(number) FROM changes)", "numbers were given"),
        ("UPDATE changes SET sequence = sequence + 100 WHERE number = 12", "lack the sequence numbers"),
        ("UPDATE counts SET documents = 99", "shows wrong counts"),
        ("UPDATE documents SET version = 9 WHERE path = 'design/auth.md'", "for its newest version"),
        ("UPDATE archives SET raw_bytes = raw_bytes + 1", "describes its members otherwise"),
        ("DELETE FROM members WHERE number = 1", "has no place for its member"),
        ("UPDATE archives SET current = 0 WHERE session_id = 'long'", "is not the current one"),
    ],
)
def test_what_the_state_database_says_must_hold_together(
    memory: Path, check: Check, statement: str, problem: str
) -> None:
    connection = sqlite3.connect(memory / "_meta/state.sqlite3")
    with connection:
        connection.execute(statement)
    connection.close()

    report = check()

    assert not report.is_clean
    assert any(problem in finding.problem for finding in report.findings), report.findings


@pytest.mark.spec("CHECK-6")
@pytest.mark.parametrize("name", ["workspaces.json", "tokens.json", "secret.key", "format.json"])
def test_damaged_files_of_meta_are_errors(memory: Path, check: Check, name: str) -> None:
    (memory / "_meta" / name).write_text('{"torn')

    assert to_act_on(check()) == [("error", f"_meta/{name}")]


@pytest.mark.spec("CHECK-6")
def test_a_root_of_another_format_is_looked_at_no_further(memory: Path, space: Path, check: Check) -> None:
    (memory / "_meta/format.json").write_text('{"format": 2}')
    shutil.rmtree(space)

    assert "has format 2, this version reads format 1" in only(check()).problem


@pytest.mark.spec("CHECK-7")
def test_secrets_that_others_can_open_are_warned_of(memory: Path, check: Check) -> None:
    memory.chmod(0o755)
    (memory / "_meta/secret.key").chmod(0o640)

    report = check()

    assert to_act_on(report) == [("warning", "."), ("warning", "_meta/secret.key")]
    assert report.findings[1].advice == f"chmod 600 {memory}/_meta/secret.key"


@pytest.mark.spec("CHECK-7")
def test_old_temporary_files_are_warned_of_and_new_ones_are_not(memory: Path, check: Check) -> None:
    (memory / "_meta/tmp/.archive.0123456789ab.tmp").write_text("x")

    assert (only(check()).severity, check().is_clean) == ("info", True)
