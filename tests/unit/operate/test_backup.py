"""Backups of a root: whole, verified, without secrets, and pruned only when a newer one is good."""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import zstandard

from federated_memory.app import close_services, open_services
from federated_memory.errors import Conflict, FederatedMemoryError, InvalidArgument, Locked, StorageFull
from federated_memory.operate import backup
from federated_memory.operate.backup import BackupFile, backups_in, target_folder, to_prune, write_backup
from federated_memory.operate.check import check_root
from federated_memory.operate.manifest import MANIFEST, Manifest, parse_manifest
from federated_memory.operate.restore import restore
from federated_memory.service.services import Services
from federated_memory.settings import Settings
from federated_memory.store.snapshot import Snapshots
from tests.unit.operate.conftest import ADMIN, WORKSPACE, transcript, upload

DAY = datetime(2026, 11, 21, 3, tzinfo=timezone.utc)


@pytest.fixture
def services(memory: Path) -> Iterator[Services]:
    found = open_services(Settings(root=memory, mcp_token="a-token", sync_token="another"))  # type: ignore[arg-type]
    yield found
    close_services(found)


def snapshots(services: Services) -> Snapshots:
    core = services.core
    return Snapshots(core.root, core.registry, core.journal, core.archives)


def back_up(services: Services, to: Path, at: datetime = DAY, keep_days: int = 14) -> backup.Done:
    made = services.operations.run(ADMIN, "snapshot", {})
    try:
        with target_folder(to, services.core.root.path) as target:
            return write_backup(Path(made["path"]), target, to, keep_days=keep_days, at=at)
    finally:
        services.operations.run(ADMIN, "release", {"name": made["name"]})


def stored(root: Path) -> dict[str, bytes]:
    """Every file of the workspaces."""
    top = root / "workspaces"
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def plain(archive: Path) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(archive.read_bytes()).read()


@pytest.mark.spec("BACKUP-1")
@pytest.mark.spec("BACKUP-6")
def test_a_restored_backup_equals_the_root(services: Services, tmp_path: Path) -> None:
    services.core.journal.flush()
    before = stored(services.core.root.path)

    done = back_up(services, tmp_path / "to")
    restored = restore(done.path, tmp_path / "new", read_data=True)

    assert stored(tmp_path / "new") == before
    assert restored.report.count("error") == 0
    assert not (services.core.root.path / "_meta" / "snapshots" / "x").exists()
    assert not list((services.core.root.path / "_meta" / "snapshots").iterdir())


@pytest.mark.spec("BACKUP-6")
def test_a_restored_root_opens_with_a_new_epoch_and_everything_in_it(services: Services, tmp_path: Path) -> None:
    done = back_up(services, tmp_path / "to")
    first = restore(done.path, tmp_path / "one")
    second = open_services(Settings(root=tmp_path / "one", mcp_token="a-token"))  # type: ignore[arg-type]
    try:
        assert second.core.root.feed.epoch == first.epoch > services.core.root.feed.epoch
        assert second.core.root.feed.origin == services.core.root.feed.origin
        assert second.core.archives.recover().adopted == 0
        assert second.core.scan.workspace(second.core.registry.all()[0].workspace_id) >= 0
        assert second.knowledge.content(ADMIN, WORKSPACE, "design/auth.md", 1)[2] == b"# Auth\n\nText 1\n"
        assert second.core.root.feed.head() == services.core.root.feed.head()
    finally:
        close_services(second)


@pytest.mark.spec("BACKUP-3")
def test_no_secret_is_in_a_backup(services: Services, tmp_path: Path) -> None:
    meta = services.core.root.path / "_meta"
    (meta / "control.json").write_text('{"token": "fm_control_canary"}')
    secrets = [(meta / "secret.key").read_bytes(), b"fm_control_canary"]
    secrets += [
        line.split(b"=", 1)[1] for line in (meta / "generated-tokens.env").read_bytes().splitlines() if b"=" in line
    ]

    done = back_up(services, tmp_path / "to")

    data = plain(done.path)
    assert b"Sells things" in data
    assert not [secret for secret in secrets if secret.strip() in data]
    names = {file.path for file in done.manifest.files}
    assert not names & {"_meta/secret.key", "_meta/generated-tokens.env", "_meta/control.json", "_meta/index.sqlite3"}


def write_once(services: Services) -> None:
    workspace = services.core.registry.get(WORKSPACE)
    services.knowledge.put(ADMIN, workspace, "design/auth.md", b"# Auth\n\nwritten meanwhile\n", None)
    upload(services, workspace, "long", transcript(9_000, "long") + transcript(90, "grown"))


def is_sound(root: Path) -> bool:
    return not check_root(root, read_data=True, pause_seconds=0).count("error")


@pytest.mark.spec("BACKUP-1")
def test_what_is_written_meanwhile_is_in_it_whole_or_not_at_all(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, started = Snapshots._live, threading.Event()
    writer = threading.Thread(target=lambda: (started.set(), write_once(services)))

    def with_a_writer(*arguments: object) -> int:
        if not started.is_set():
            writer.start()
            started.wait()
        return live(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Snapshots, "_live", with_a_writer)
    made = services.operations.run(ADMIN, "snapshot", {})
    writer.join()
    copy = Path(shutil.copytree(made["path"], tmp_path / "copy"))

    assert is_sound(copy)
    text = (copy / "workspaces" / WORKSPACE / "knowledge" / "design" / "auth.md").read_bytes()
    assert text in (b"# Auth\n\nText 3\n", b"# Auth\n\nwritten meanwhile\n")


@pytest.mark.spec("BACKUP-1")
def test_the_broken_twin_that_copies_file_by_file_is_found_out(services: Services, tmp_path: Path) -> None:
    root, copy = services.core.root.path, tmp_path / "copy"
    shutil.copytree(root / "workspaces", copy / "workspaces")
    write_once(services)
    services.core.journal.flush()
    (copy / "_meta").mkdir()
    for name in ("format.json", "workspaces.json", "tokens.json"):
        shutil.copy(root / "_meta" / name, copy / "_meta" / name)
    with services.core.root.database.pinned() as pinned:
        pinned.copy_to(copy / "_meta" / "state.sqlite3")

    assert not is_sound(copy)


@pytest.mark.spec("BACKUP-1")
def test_an_append_after_the_snapshot_leaves_it_alone(services: Services, tmp_path: Path) -> None:
    made = services.operations.run(ADMIN, "snapshot", {})
    (file,) = Path(made["path"]).rglob("long.jsonl.gz")
    before = file.read_bytes()

    write_once(services)
    services.core.journal.flush()

    assert file.read_bytes() == before
    assert is_sound(Path(shutil.copytree(made["path"], tmp_path / "copy")))


@pytest.mark.spec("BACKUP-4")
@pytest.mark.parametrize(
    ("keep_days", "verified", "kept"),
    [(14, 40, 14), (1, 40, 3), (14, 2, 40), (14, 3, 17), (100, 40, 40)],
)
def test_forty_daily_backups_are_pruned_by_the_dates_in_their_names(keep_days: int, verified: int, kept: int) -> None:
    today = date(2026, 11, 21)
    good = Manifest("", (), verified_at="2026-11-21T00:00:00Z")
    # With few verified ones, these are the oldest.
    backups = [
        BackupFile(f"federated-memory-{day}T030000Z.tar.zst", day, good if 39 - number < verified else None)
        for number in range(40)
        for day in [today - timedelta(days=number)]
    ]

    pruned = to_prune(backups, today, keep_days)

    assert len(backups) - len(pruned) == kept
    left = [item for item in backups if item not in pruned]
    assert sum(item.is_verified for item in left) >= min(3, verified)


@pytest.mark.spec("BACKUP-4")
def test_pruning_touches_only_our_files(services: Services, tmp_path: Path) -> None:
    to = tmp_path / "to"
    for days in (40, 39, 38, 37, 1):
        back_up(services, to, DAY - timedelta(days=days), keep_days=1000)
    (to / "federated-memory-2020-01-01T000000Z.tar.zst.txt").write_text("mine")
    (to / "notes.md").write_text("mine")

    done = back_up(services, to)

    left = sorted(path.name for path in to.iterdir() if not path.name.startswith("."))
    assert [backup_file.day for backup_file in backups_in(to)] == [
        DAY.date(), DAY.date() - timedelta(days=1), DAY.date() - timedelta(days=37),
    ]  # fmt: skip
    assert len(done.pruned) == 3
    assert {"notes.md", "federated-memory-2020-01-01T000000Z.tar.zst.txt"} <= set(left)
    assert len(left) == 2 + 2 * 3


@pytest.mark.spec("BACKUP-2")
@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_any_damage_is_found_and_nothing_is_restored(services: Services, tmp_path: Path, where: float) -> None:
    done = back_up(services, tmp_path / "to")
    data = bytearray(done.path.read_bytes())
    data[int(where * (len(data) - 1))] ^= 0x10
    done.path.write_bytes(data)

    with pytest.raises(FederatedMemoryError):
        restore(done.path, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "to"]


@pytest.mark.spec("BACKUP-2")
@pytest.mark.parametrize("length", [0, 10, 0.3, 0.99])
def test_a_cut_off_archive_is_refused(services: Services, tmp_path: Path, length: float) -> None:
    done = back_up(services, tmp_path / "to")
    data = done.path.read_bytes()
    done.path.write_bytes(data[: int(length * len(data)) if length < 1 else int(length)])

    with pytest.raises(InvalidArgument, match=r"damaged|cut off|no backup"):
        restore(done.path, tmp_path / "new")


@pytest.mark.spec("BACKUP-6")
@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "workspaces/./evil"])
def test_an_archive_reaches_no_file_outside(tmp_path: Path, name: str) -> None:
    data, manifest = io.BytesIO(), Manifest("", ())
    with (
        zstandard.ZstdCompressor().stream_writer(data, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for path, text in ((name, b"evil"), (MANIFEST, manifest.to_bytes())):
            member = tarfile.TarInfo(path)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    archive = tmp_path / "evil.tar.zst"
    archive.write_bytes(data.getvalue())

    with pytest.raises(InvalidArgument, match="outside"):
        restore(archive, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar.zst"]


@pytest.mark.spec("BACKUP-2")
def test_a_disk_that_loses_a_byte_keeps_the_older_backups(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    for days in (40, 39, 38, 37):
        back_up(services, to, DAY - timedelta(days=days), keep_days=1000)
    before = sorted(path.name for path in to.iterdir())
    archive = backup._archive

    def losing(*arguments: object) -> Manifest:
        manifest = archive(*arguments)  # type: ignore[arg-type]
        partial = to / str(arguments[2])
        data = bytearray(partial.read_bytes())
        data[len(data) // 2] ^= 1
        partial.write_bytes(data)
        return manifest

    monkeypatch.setattr(backup, "_archive", losing)
    with pytest.raises(FederatedMemoryError):
        back_up(services, to)
    assert sorted(path.name for path in to.iterdir()) == before

    # The broken twin: one that does not read again takes the damaged one for good, and prunes.
    monkeypatch.setattr(backup, "_verified", lambda _target, _name, manifest: manifest)
    back_up(services, to)
    assert sorted(path.name for path in to.iterdir()) != before


@pytest.mark.spec("BACKUP-5")
def test_a_full_target_leaves_the_older_backups(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    back_up(services, to, DAY - timedelta(days=40))
    before = sorted(path.name for path in to.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "_add", full)
    with pytest.raises(StorageFull, match="older ones are as they were"):
        back_up(services, to)
    assert sorted(path.name for path in to.iterdir()) == before


@pytest.mark.spec("BACKUP-5")
def test_a_killed_backup_s_rest_is_removed_by_the_next(services: Services, tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (to / "federated-memory-2026-11-20T030000Z.tar.zst.partial").write_bytes(b"half")

    back_up(services, to)

    assert not list(to.glob("*.partial"))


@pytest.mark.spec("BACKUP-5")
def test_bad_targets_are_refused(services: Services, tmp_path: Path) -> None:
    root = services.core.root.path
    with pytest.raises(InvalidArgument, match="inside the memory root"):
        back_up(services, root / "backups")
    with (
        target_folder(tmp_path / "to", root),
        pytest.raises(Locked, match="Another backup"),
        target_folder(tmp_path / "to", root),
    ):
        pass


@pytest.mark.spec("BACKUP-6")
def test_restoring_over_something_takes_a_word_and_keeps_it(services: Services, tmp_path: Path) -> None:
    done = back_up(services, tmp_path / "to")
    old = tmp_path / "old"
    shutil.copytree(services.core.root.path, old, ignore=shutil.ignore_patterns("lock"))
    (old / "_meta" / "secret.key").write_text("ab" * 32)
    before = stored(old)

    with pytest.raises(Conflict, match="memory root already"):
        restore(done.path, old)
    with pytest.raises(Locked):
        restore(done.path, services.core.root.path, replace=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(Conflict, match="no memory root"):
        restore(done.path, tmp_path / "other", replace=True)
    assert stored(old) == before

    restored = restore(done.path, old, replace=True)

    assert restored.before is not None
    assert stored(restored.before) == before
    assert (old / "_meta" / "secret.key").read_text() == "ab" * 32


@pytest.mark.spec("BACKUP-6")
def test_a_backup_of_a_newer_version_says_so(services: Services, tmp_path: Path) -> None:
    done = back_up(services, tmp_path / "to")
    with pytest.raises(FederatedMemoryError, match="format 2"):
        parse_manifest(done.manifest.to_bytes().replace(b'"format": 1', b'"format": 2'))


@pytest.mark.spec("BACKUP-8")
def test_a_root_that_was_copied_half_way_says_what_to_do(memory: Path) -> None:
    state = memory / "_meta" / "state.sqlite3"
    data = state.read_bytes()
    state.write_bytes(data[:4096] + b"\xff" * 4096 + data[8192 : len(data) // 2])

    with pytest.raises(FederatedMemoryError, match="copied while its server runs"):
        open_services(Settings(root=memory, mcp_token="a-token"))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.DatabaseError):  # the broken twin: SQLite's own words
        sqlite3.connect(state).execute("SELECT count(*) FROM changes").fetchall()
