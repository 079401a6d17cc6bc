"""Archives after crashes, disk errors, restores and changes by hand."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from federated_memory.errors import Conflict, FederatedMemoryError, NotFound, StorageFull, Unavailable
from federated_memory.store.archives import placing, recovery, settling, staging
from federated_memory.store.archives.staging import Stage
from tests.conftest import ACTOR, WORKSPACE
from tests.unit.store.archive_rig import OTHER, SESSION, Crash, Interrupted, Rig, disk_error, fast_folder, small_members

OLD = b"".join(b'{"n":%d,"text":"the old transcript"}\n' % n for n in range(40))
MORE = b"".join(b'{"n":%d,"text":"what came later on"}\n' % n for n in range(30))
ANOTHER = OLD[:700] + b"#" + OLD[701:] + b"and more\n"


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_members():
        yield


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "memory", is_durable=False)


def with_nothing(_: Rig) -> None:
    pass


def with_old(rig: Rig) -> None:
    rig.put(OLD)


def with_a_small_last_member(rig: Rig) -> None:
    rig.put(OLD[:90])


def with_a_backup(rig: Rig) -> None:
    rig.put(OLD)
    (rig.root.path / "backup.gz").hardlink_to(rig.path())


def with_another_session(rig: Rig) -> None:
    rig.put(OLD + MORE, OTHER)


def with_a_twin_of_the_new(rig: Rig) -> None:
    rig.put(OLD)
    rig.put(ANOTHER, OTHER)


SCENES: dict[str, tuple[Callable[[Rig], None], bytes, bytes | None]] = {
    "created": (with_nothing, OLD, None),
    "created as a second name": (with_another_session, OLD + MORE, None),
    "appended in place": (with_old, OLD + MORE, OLD),
    "appended with the last member": (with_a_small_last_member, OLD, OLD[:90]),
    "appended behind a backup": (with_a_backup, OLD + MORE, OLD),
    "diverged": (with_old, ANOTHER, OLD),
    "diverged as a second name": (with_a_twin_of_the_new, ANOTHER, OLD),
}
scenes = pytest.mark.parametrize("scene", sorted(SCENES))


def held(rig: Rig) -> bytes | None:
    """What the session holds, if rows, files, zcat and pages agree about it."""
    try:
        found = rig.find()
    except NotFound:
        assert not list(rig.sessions.glob("*/*/s1.jsonl.gz"))
        return None
    raw = rig.raw()
    assert rig.zcat() == raw
    assert found.gzip_bytes == rig.path().stat().st_size
    assert rig.archives.problem(found) == ""
    assert len(rig.archives.read_lines(found, 0, 10**6, 10**9)) == found.lines == len(raw.splitlines())
    return raw


def state(rig: Rig) -> tuple[object, ...]:
    files = {name: (rig.root.path / name).read_bytes() for name in rig.files()}
    rows = rig.root.database.rows("SELECT * FROM archives ORDER BY id")
    return files, rows, rig.root.database.rows("SELECT * FROM members ORDER BY 1, 2"), rig.operations()


def sweep(tmp_path: Path, scene: str, error: Callable[[], BaseException]) -> Iterator[tuple[Rig, Interrupted]]:
    """The scene again and again, interrupted at its first step, its second, and so on until it comes to its end."""
    before, body, _ = SCENES[scene]
    template = Rig(tmp_path / "template", is_durable=False)
    before(template)
    template.abandon()
    for step in range(200):
        shutil.copytree(template.root.path, tmp_path / "memory")
        rig = Rig(tmp_path / "memory", is_durable=False)
        backup = rig.root.path / "backup.gz"
        if backup.exists():  # the copy is no second name
            backup.unlink()
            backup.hardlink_to(rig.path())
        rig.before = state(rig)  # type: ignore[attr-defined]
        interrupted = Interrupted(step, error)
        with interrupted, suppress(Crash, FederatedMemoryError):
            rig.put(body)
            interrupted.came_to_end = True  # type: ignore[attr-defined]
        yield rig, interrupted
        rig.abandon()
        shutil.rmtree(rig.root.path)
        if not interrupted.happened:
            assert step > 3
            return
    pytest.fail("never came to its end")


# -- crashes


@pytest.mark.thorough
@pytest.mark.spec("ARCH-12")
@scenes
@pytest.mark.parametrize("loses_database", [False, True])
def test_a_crash_at_any_step_leaves_old_or_new(tmp_path: Path, scene: str, loses_database: bool) -> None:
    _, body, old = SCENES[scene]
    for rig, interrupted in sweep(tmp_path, scene, Crash):
        backup = rig.root.path / "backup.gz"
        saved = backup.read_bytes() if backup.exists() else b""

        rig.__dict__.update(rig.reopened(without_database=loses_database).__dict__)

        found = held(rig)
        assert found in (old, body)
        assert interrupted.happened or found == body
        assert not [name for name in rig.files() if "/tmp/" in name]
        assert not backup.exists() or backup.read_bytes() == saved
        again = rig.archives.recover()
        assert (again.adopted, again.cut, again.removed, again.swept, again.problems) == (0, 0, 0, 0, [])
        assert rig.put(body).status == ("unchanged" if found == body else expected(old, body))
        assert held(rig) == body
        if old and not body.startswith(old):
            assert rig.raw(revision=rig.find().revision - 1) == old


def expected(old: bytes | None, body: bytes) -> str:
    if old is None:
        return "created"
    return "appended" if body.startswith(old) else "diverged"


@pytest.mark.spec("ARCH-12")
@pytest.mark.parametrize("scene", ["appended in place", "diverged", "created"])
def test_a_crash_in_the_recovery_is_recovered_from(tmp_path: Path, scene: str) -> None:
    _, body, old = SCENES[scene]
    for rig, _ in sweep(tmp_path, scene, Crash):
        rig.abandon()
        for step in range(0, 9, 3):
            rig.__dict__.update(Rig(rig.root.path, is_durable=False).__dict__)
            with Interrupted(step), suppress(Crash):
                rig.archives.recover()
            rig.abandon()
        rig.__dict__.update(Rig(rig.root.path, is_durable=False).__dict__)
        rig.archives.recover()
        assert held(rig) in (old, body)


@pytest.mark.spec("ARCH-12")
def test_the_broken_twin_that_appends_plainly_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the first byte not written last, a crash between two members would leave a part of the new transcript."""

    def plainly(stage: Stage, descriptor: int, *, start: int = 0) -> None:
        os.lseek(descriptor, -start, os.SEEK_CUR)
        for part in stage._parts:
            os.write(descriptor, part)

    monkeypatch.setattr(Stage, "append_to", plainly)
    found = []
    for rig, _ in sweep(tmp_path, "appended in place", Crash):
        rig.__dict__.update(rig.reopened().__dict__)
        found.append(held(rig))

    assert not set(found) <= {OLD, OLD + MORE}


@pytest.mark.spec("ARCH-12")
def test_the_broken_twin_that_puts_the_file_first_loses_its_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def file_only(switch: placing._Switch, old: object, staged: str) -> None:
        assert old is None
        switch._root.temporary.rename(staged, switch._folder, switch._name)
        switch._put_provenance()

    monkeypatch.setattr(placing._Switch, "_replace", file_only)
    natives = set()
    for rig, _ in sweep(tmp_path, "created", Crash):
        rig.__dict__.update(rig.reopened().__dict__)
        with suppress(NotFound):
            natives.add(rig.archives.provenance(rig.find()).uploaded_by)

    assert natives == {"tester", "scan"}


# -- disk errors


@pytest.mark.thorough
@pytest.mark.spec("ARCH-6")
@scenes
def test_a_disk_error_at_any_step_leaves_the_old_state(tmp_path: Path, scene: str) -> None:
    _, body, old = SCENES[scene]
    for rig, interrupted in sweep(tmp_path, scene, disk_error):
        if getattr(interrupted, "came_to_end", False):
            assert held(rig) == body  # it was only the tidying up that failed
        else:
            assert without_folders(state(rig)) == without_folders(rig.before)  # type: ignore[attr-defined]
            assert held(rig) == old
            assert rig.put(body).status == expected(old, body)  # without a restart
            assert held(rig) == body


def without_folders(found: tuple[object, ...]) -> tuple[object, ...]:
    files, *rest = found
    assert isinstance(files, dict)
    return ({name: data for name, data in files.items() if "/tmp/" not in name}, *rest)


@pytest.mark.spec("ARCH-6")
def test_the_broken_twin_that_undoes_nothing_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing._Switch, "_undo_by", lambda *_, **__: None)

    differing = [
        rig
        for rig, interrupted in sweep(tmp_path, "diverged", disk_error)
        if not hasattr(interrupted, "came_to_end") and without_folders(state(rig)) != without_folders(rig.before)  # type: ignore[attr-defined]
    ]

    assert differing


@pytest.mark.spec("ARCH-6")
@scenes
def test_a_failing_fsync_fails_the_upload(rig: Rig, scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, body, old = SCENES[scene]
    before(rig)

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "fsync")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(Unavailable):
            rig.put(body)
    assert held(rig) == old


@pytest.mark.spec("ARCH-6")
def test_a_full_disk_is_storage_full(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(OLD)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageFull):
            rig.put(OLD + MORE)
    assert held(rig) == OLD
    assert rig.put(OLD + MORE).status == "appended"


@pytest.mark.spec("ARCH-6")
@pytest.mark.parametrize("scene", ["appended behind a backup", "diverged", "appended with the last member"])
def test_a_file_system_without_kernel_copies_or_links_will_do(
    rig: Rig, scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, body, old = SCENES[scene]
    before(rig)

    def cannot(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "link", cannot)
    monkeypatch.setattr(os, "copy_file_range", cannot)
    monkeypatch.setattr(staging, "_COPY_BYTES", 100)

    assert rig.put(body).status == expected(old, body)
    assert held(rig) == body
    if scene == "diverged":
        assert rig.raw(revision=1) == OLD


# -- changes by hand


def put_by_hand(rig: Rig, name: str, data: bytes) -> Path:
    path = rig.sessions / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.spec("ARCH-13")
def test_a_file_put_there_by_hand_is_taken_in(rig: Rig) -> None:
    put_by_hand(rig, "2024/05/s1.jsonl.gz", gzip.compress(OLD))

    done = rig.archives.recover()

    assert (done.adopted, done.problems) == (1, [])
    assert held(rig) == OLD
    assert rig.find().file == "2024/05/s1.jsonl.gz"
    assert rig.operations() == ["external"]
    assert rig.archives.provenance(rig.find()).uploaded_by == "scan"
    assert len(rig.archives._rows.members(rig.find().id)) > 10  # written anew, in members of ours


@pytest.mark.spec("ARCH-13")
def test_an_upload_that_meets_a_file_put_there_by_hand_takes_it_in_first(rig: Rig) -> None:
    rig.put(OLD, OTHER)
    put_by_hand(rig, rig.find(OTHER).file.replace("s2", "s1"), gzip.compress(OLD))

    with pytest.raises(Unavailable, match="by hand"):
        rig.put(OLD + MORE)
    assert rig.put(OLD + MORE).status == "appended"


@pytest.mark.spec("ARCH-13")
def test_an_upload_puts_rubbish_in_its_way_aside(rig: Rig) -> None:
    rig.put(OLD, OTHER)
    put_by_hand(rig, rig.find(OTHER).file.replace("s2", "s1"), b"rubbish")

    with pytest.raises(Unavailable):
        rig.put(OLD)
    assert rig.put(OLD).status == "created"
    assert [path.read_bytes() for path in rig.sessions.glob("*/*/.revisions/s1/*")] == [b"rubbish"]
    assert rig.archives.recover().problems == []


@pytest.mark.spec("ARCH-13")
@pytest.mark.parametrize("is_found_by", ["recover", "upload"])
def test_a_longer_file_continues_the_revision(rig: Rig, is_found_by: str) -> None:
    rig.put(OLD)
    rig.path().write_bytes(gzip.compress(OLD + MORE))

    if is_found_by == "recover":
        assert rig.archives.recover().adopted == 1
    assert rig.put(OLD + MORE + MORE).status == "appended"

    assert (held(rig), rig.find().revision) == (OLD + MORE + MORE, 1)
    assert rig.operations() == ["created", "external", "appended"]


@pytest.mark.spec("ARCH-13")
@pytest.mark.parametrize("is_found_by", ["recover", "upload"])
def test_another_text_in_the_file_is_a_new_revision(rig: Rig, is_found_by: str) -> None:
    rig.put(OLD)
    rig.path().write_bytes(gzip.compress(MORE))

    if is_found_by == "recover":
        assert rig.archives.recover().adopted == 1
    assert rig.put(MORE + OLD).status == "appended"

    assert (held(rig), rig.find().revision) == (MORE + OLD, 2)
    assert rig.operations() == ["created", "external", "appended"]


@pytest.mark.spec("ARCH-13")
def test_the_same_text_packed_otherwise_is_no_change(rig: Rig) -> None:
    rig.put(OLD)
    rig.path().write_bytes(gzip.compress(OLD, 9))

    assert rig.archives.recover().adopted == 0
    assert held(rig) == OLD
    assert rig.operations() == ["created"]


@pytest.mark.spec("ARCH-13")
def test_a_removed_file_is_removed_from_the_rows(rig: Rig) -> None:
    rig.put(OLD)
    rig.put(ANOTHER)
    rig.path().unlink()

    done = rig.archives.recover()

    assert (done.removed, done.swept) == (1, 1)
    with pytest.raises(NotFound):
        rig.find()
    assert rig.operations() == ["created", "diverged", "removed"]
    assert rig.raw(revision=1) == OLD
    assert (rig.put(MORE).status, rig.find().revision) == ("created", 2)
    assert rig.raw(revision=1) == OLD


@pytest.mark.spec("ARCH-13")
def test_an_upload_finds_out_that_its_file_is_gone(rig: Rig) -> None:
    rig.put(OLD)
    rig.path().unlink()

    assert rig.put(OLD).status == "created"
    assert held(rig) == OLD


@pytest.mark.spec("ARCH-13")
def test_a_file_moved_to_another_month_is_followed(rig: Rig) -> None:
    rig.put(OLD)
    moved = put_by_hand(rig, "2020/01/s1.jsonl.gz", b"")
    rig.path().rename(moved)

    assert rig.archives.recover().problems == []
    assert rig.find().file == "2020/01/s1.jsonl.gz"
    assert held(rig) == OLD
    assert rig.put(OLD + MORE).status == "appended"


@pytest.mark.spec("ARCH-13")
def test_what_is_no_archive_is_left_alone(rig: Rig) -> None:
    rig.put(OLD)
    for name in (
        "2025/01/Upper.jsonl.gz",
        "2025/01/con.jsonl.gz",
        "2025/13/x.jsonl.gz",
        "x.jsonl.gz",
        "2025/01/notes.txt",
    ):
        put_by_hand(rig, name, gzip.compress(OLD))
    put_by_hand(rig, "2025/01/.revisions/s1/0.jsonl.gz", b"")
    put_by_hand(rig, "2025/01/other.json", b'{"something": "else"}')
    (rig.sessions / "2025/01/link.jsonl.gz").symlink_to(rig.path())
    (rig.sessions / "2025/01/folder.jsonl.gz").mkdir()
    (rig.sessions / "2025/02").symlink_to(rig.path().parent)
    before = rig.files()

    done = rig.archives.recover()

    assert (done.adopted, done.removed, done.swept, done.problems) == (0, 0, 0, [])
    assert rig.files() == before
    assert [row.session_id for row in rig.archives.newest(WORKSPACE)] == ["s1"]


@pytest.mark.spec("ARCH-13")
def test_a_session_stored_in_two_places_is_reported(rig: Rig) -> None:
    rig.put(OLD)
    put_by_hand(rig, "2020/01/s1.jsonl.gz", gzip.compress(MORE))

    assert rig.archives.recover().problems == [
        f"workspaces/{WORKSPACE}/sessions/2020/01/s1.jsonl.gz: the session is stored elsewhere too"
    ]
    assert held(rig) == OLD


# -- damage


def damage(path: Path) -> None:
    """Flip a bit of the last member's checksum."""
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


@pytest.mark.spec("ARCH-13")
def test_a_damaged_file_is_reported_once_read_and_its_rows_stay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(OLD)
    damage(rig.path())

    first = rig.archives.recover().problems
    monkeypatch.setattr(settling, "scan_members", None)
    again = rig.archives.recover().problems

    assert first == again
    assert "damaged" in first[0]
    assert rig.archives.read_lines(rig.find(), 0, 1, 100)[0].data == OLD.split(b"\n")[0]


@pytest.mark.spec("ARCH-13")
@pytest.mark.parametrize("body", [OLD, OLD + MORE, ANOTHER])
def test_a_whole_upload_heals_a_damaged_session(rig: Rig, body: bytes) -> None:
    rig.put(OLD)
    damage(rig.path())

    with pytest.raises(Conflict) as caught:
        rig.patch(len(OLD), MORE)
    assert caught.value.facts["offset"] == 0
    assert (rig.put(body).status, rig.find().revision) == ("diverged", 2)

    assert held(rig) == body
    lines = rig.archives.read_lines(rig.find(revision=1), 0, 1, 100)
    assert lines[0].data == OLD.split(b"\n")[0]  # what is intact of the old one stays readable


@pytest.mark.spec("ARCH-12")
@pytest.mark.parametrize("tail", [b"\x1f", b"\0" * 50, b"rubbish", gzip.compress(MORE)[:-4]])
def test_a_torn_tail_is_cut(rig: Rig, tail: bytes) -> None:
    rig.put(OLD)
    before = rig.path().read_bytes()
    with rig.path().open("ab") as file:
        file.write(tail)

    assert rig.raw() == OLD  # also before anything is recovered: readers trust committed lengths only
    assert rig.archives.recover().cut == 1
    assert rig.path().read_bytes() == before
    assert rig.archives.recover().cut == 0
    assert rig.operations() == ["created"]


@pytest.mark.spec("ARCH-12")
def test_a_torn_tail_that_a_backup_shares_is_cut_in_a_copy(rig: Rig) -> None:
    rig.put(OLD)
    with rig.path().open("ab") as file:
        file.write(b"torn")
    backup = rig.root.path / "backup.gz"
    backup.hardlink_to(rig.path())
    saved = backup.read_bytes()

    assert rig.archives.recover().cut == 1
    assert backup.read_bytes() == saved
    assert held(rig) == OLD
    assert rig.archives.recover().cut == 0


@pytest.mark.spec("ARCH-12")
def test_an_upload_cuts_a_torn_tail_itself(rig: Rig) -> None:
    rig.put(OLD)
    with rig.path().open("ab") as file:
        file.write(b"torn")

    assert rig.put(OLD + MORE).status == "appended"
    assert held(rig) == OLD + MORE


# -- rebuilding


@pytest.mark.spec("ARCH-13")
def test_everything_is_rebuilt_from_the_files(rig: Rig) -> None:
    rig.put(OLD, native_id="Native-1", source={"agent": "codex", "machine": "box", "cwd": "/home/dev"})
    rig.patch(len(OLD), MORE)
    rig.put(ANOTHER)
    rig.put(OLD + MORE)
    rig.put(b"", OTHER)
    sql = "SELECT * FROM archives ORDER BY session_id, revision"
    names = [column[1] for column in rig.root.database.rows("PRAGMA table_info(archives)")]
    rows = [dict(zip(names, row, strict=True)) for row in rig.root.database.rows(sql)]

    again = rig.reopened(without_database=True)

    found = [dict(zip(names, row, strict=True)) for row in again.root.database.rows(sql)]
    told = ("agent", "native_id", "title", "cwd", "started_at", "ended_at", "updated_at")
    for row, other in zip(rows, found, strict=True):
        ignored = ("id",) if row["current"] else ("id", *told)  # provenance is kept of the current one only
        assert {key: row[key] for key in names if key not in ignored} == {
            key: other[key] for key in names if key not in ignored
        }
    assert [again.raw(revision=n) for n in (1, 2, 3)] == [OLD + MORE, ANOTHER, OLD + MORE]
    assert again.operations() == ["external", "external"]


@pytest.mark.spec("ARCH-13")
def test_a_rebuild_reads_everything_and_changes_nothing(rig: Rig) -> None:
    rig.put(OLD)
    rig.put(ANOTHER)
    rig.put(OLD, OTHER)
    before = state(rig)
    with rig.root.database.transaction() as transaction:
        transaction.execute("UPDATE members SET first_line = 7")

    done = rig.archives.rebuild(WORKSPACE)

    assert (done.checked, done.adopted, done.problems) == (2, 0, [])
    assert state(rig) == before


@pytest.mark.spec("ARCH-12")
def test_a_recovery_without_news_reads_no_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(OLD)
    rig.put(ANOTHER)
    monkeypatch.setattr(settling, "scan_members", None)
    monkeypatch.setattr(recovery, "find_session", None)

    assert rig.archives.recover().checked == 1


@pytest.mark.spec("ARCH-12")
def test_a_restored_backup_is_recognised_by_size_and_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(OLD)
    rig.put(ANOTHER)
    kept = shutil.copytree(rig.sessions, rig.root.path / "kept")
    shutil.rmtree(rig.sessions)
    shutil.copytree(kept, rig.sessions)
    monkeypatch.setattr(settling, "scan_members", None)

    assert held(rig) == ANOTHER  # readers need no recovery
    rig.archives.recover()
    assert rig.find().inode == rig.path().stat().st_ino


@pytest.mark.spec("ARCH-12")
def test_a_session_that_is_being_uploaded_is_left_to_its_upload(rig: Rig) -> None:
    rig.put(OLD)
    with rig.archives.receive(WORKSPACE, SESSION, actor=ACTOR) as upload:
        rig.path().write_bytes(gzip.compress(MORE))

        assert rig.archives.recover().busy == 1
        upload.feed(OLD + MORE)
        with pytest.raises(Unavailable, match="changed by hand meanwhile"):
            upload.finish()
    assert rig.archives.recover().adopted == 1
    assert held(rig) == MORE


@pytest.mark.spec("ARCH-12")
def test_a_session_that_cannot_be_settled_does_not_keep_the_others_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.put(OLD)
    put_by_hand(rig, "2020/01/s2.jsonl.gz", gzip.compress(MORE))
    with rig.path().open("ab") as file:
        file.write(b"torn")
    real = settling.cut

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(settling, "cut", failing)
    done = rig.archives.recover()
    assert (done.adopted, done.cut, len(done.problems)) == (1, 0, 1)
    assert rig.raw(OTHER) == MORE

    monkeypatch.setattr(settling, "cut", real)
    assert (rig.archives.recover().cut, held(rig)) == (1, OLD)


@pytest.mark.spec("ARCH-14")
def test_a_check_is_not_misled_by_an_upload_meanwhile(rig: Rig) -> None:
    rig.put(OLD)
    found = rig.find()
    rig.put(OLD + MORE)
    assert rig.archives.problem(found) == ""
    rig.put(ANOTHER)

    assert rig.archives.problem(found) == ""
    assert [rig.archives.problem(row) for row in rig.archives.revisions(WORKSPACE, SESSION)] == ["", ""]


@pytest.mark.spec("ARCH-12")
def test_while_nothing_grows_a_second_name_is_a_snapshot(rig: Rig) -> None:
    rig.put(OLD)
    with rig.archives.nothing_grows():
        assert rig.path().stat().st_size == rig.find().gzip_bytes
        (rig.root.path / "snapshot.gz").hardlink_to(rig.path())
    rig.put(OLD + MORE)

    assert gzip.decompress((rig.root.path / "snapshot.gz").read_bytes()) == OLD


@pytest.mark.spec("ARCH-12")
def test_after_a_kill_the_provenance_tells_of_what_was_acknowledged(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "memory")
    rig.put(b'{"type":"user"}\n')
    (provenance,) = rig.sessions.rglob("*.json")
    told = provenance.read_text()
    provenance.write_text(told.replace('"revision": 1', '"revision": 2'))  # as an upload that came to no end leaves it

    rig = rig.reopened()
    rig.archives.recover()

    assert provenance.read_text() == told
    rig.abandon()
