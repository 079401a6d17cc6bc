"""An older format brought up to this version's. Format 1 is the first there is: the older one is the test's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.cli.main import main
from federated_memory.errors import StorageFull, UnsupportedFormat
from federated_memory.operate import backup as backups
from federated_memory.operate import migrate as migrating
from federated_memory.operate.check import check_root
from federated_memory.operate.migrate import migrate
from federated_memory.operate.restore import restore
from federated_memory.settings import Settings
from tests.unit.operate.conftest import ADMIN, WORKSPACE


def to_format_0(root: Path) -> None:
    """As if an earlier version had called knowledge `notes`, and its registry been a plain list."""
    meta = root / "_meta"
    (root / "workspaces" / WORKSPACE / "knowledge").rename(root / "workspaces" / WORKSPACE / "notes")
    rows = json.loads((meta / "workspaces.json").read_bytes())["workspaces"]
    (meta / "workspaces.json").write_text(json.dumps(rows))
    (meta / "format.json").write_text('{"format": 0}')


def from_format_0(root: Path) -> None:
    registry = root / "_meta" / "workspaces.json"
    rows = json.loads(registry.read_bytes())
    if isinstance(rows, dict):
        rows = rows["workspaces"]
    for row in rows:
        notes = root / "workspaces" / row["workspace_id"] / "notes"
        if notes.exists():
            notes.rename(notes.with_name("knowledge"))
    registry.write_text(json.dumps({"workspaces": rows}))


@pytest.fixture
def older(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "memory"
    shutil.copytree(filled, root)
    to_format_0(root)
    monkeypatch.setattr(migrating, "STEPS", {0: from_format_0})
    return root


def interrupted_after(step: Callable[[Path], None]) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        step(root)
        raise KeyboardInterrupt

    return run


def half(root: Path) -> None:
    for notes in root.glob("workspaces/*/notes"):
        notes.rename(notes.with_name("knowledge"))
    raise KeyboardInterrupt


def opened(root: Path) -> bytes:
    services = open_services(Settings(root=root, mcp_token="a-token", sync_token="another"))  # type: ignore[arg-type]
    try:
        return services.knowledge.content(ADMIN, WORKSPACE, "design/auth.md", None)[2]
    finally:
        close_services(services)


def is_sound(root: Path) -> bool:
    return not check_root(root, read_data=True, pause_seconds=0).count("error")


@pytest.mark.spec("MIGRATE-1")
def test_an_older_root_is_backed_up_and_brought_up_when_it_is_opened(older: Path) -> None:
    assert not is_sound(older)  # the broken twin: as it is, this version cannot use it

    assert opened(older) == b"# Auth\n\nText 3\n"

    assert json.loads((older / "_meta" / "format.json").read_bytes()) == {"format": 1}
    assert is_sound(older)
    (archive,) = (older / "_meta" / "before-migration").glob("*.tar.zst")
    (known,) = backups.backups_in(archive.parent)
    assert known.is_verified
    with archive.open("rb") as raw:
        paths = backups.read_archive(raw, None).paths
    assert f"workspaces/{WORKSPACE}/notes/design/auth.md" in paths
    assert not {path for path in paths if "secret" in path or "token" in path} - {"_meta/tokens.json"}
    assert opened(older) == b"# Auth\n\nText 3\n"
    assert len(list(archive.parent.glob("*.tar.zst"))) == 1
    assert not (older / "_meta" / "migration-snapshot").exists()


@pytest.mark.spec("MIGRATE-1")
def test_the_command_puts_the_backup_where_it_is_told(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMORY_ROOT", str(older))

    assert main(["migrate", "--to", str(tmp_path / "backups"), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["was"], told["format"], Path(told["backup"]).parent) == (0, 1, tmp_path / "backups")
    assert main(["migrate"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert is_sound(older)


@pytest.mark.spec("MIGRATE-1")
@pytest.mark.parametrize("found", [2, -1, "1", None])
def test_a_format_that_nobody_knows_is_refused_and_left(
    filled: Path, tmp_path: Path, found: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "memory"
    shutil.copytree(filled, root)
    (root / "_meta" / "format.json").write_text(json.dumps({"format": found}))
    monkeypatch.setenv("MEMORY_ROOT", str(root))
    before = sorted(path for path in root.rglob("*") if path.name not in ("lock", "tmp"))

    with pytest.raises(UnsupportedFormat):
        opened(root)
    assert main(["migrate"]) == 11
    assert "format" in capsys.readouterr().err
    assert sorted(path for path in root.rglob("*") if path.name not in ("lock", "tmp")) == before


@pytest.mark.spec("MIGRATE-2")
@pytest.mark.parametrize("broken", [half, interrupted_after(from_format_0)])
def test_an_interrupted_migration_goes_on_with_the_backup_it_made(
    older: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], None]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "STEPS", {0: broken})
        with pytest.raises(KeyboardInterrupt):
            migrate(older)
    (archive,) = (older / "_meta" / "before-migration").glob("*.tar.zst")
    assert not (older / "workspaces" / WORKSPACE / "notes").exists()  # a second backup would hold this mixture

    assert opened(older) == b"# Auth\n\nText 3\n"

    assert list(archive.parent.glob("*.tar.zst")) == [archive]
    assert is_sound(older)


@pytest.mark.spec("MIGRATE-2")
def test_without_its_note_the_backup_would_be_of_a_mixture(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the test above."""
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "STEPS", {0: half})
        with pytest.raises(KeyboardInterrupt):
            migrate(older)
    (older / "_meta" / "migrating.json").unlink()

    migrate(older)

    newest = max((older / "_meta" / "before-migration").glob("*.tar.zst"))
    with newest.open("rb") as raw:
        assert f"workspaces/{WORKSPACE}/knowledge/design/auth.md" in backups.read_archive(raw, None).paths


@pytest.mark.spec("MIGRATE-1")
def test_without_a_backup_nothing_is_changed(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull("full", hint="")

    with monkeypatch.context() as patched:
        patched.setattr(backups, "write_backup", full)
        with pytest.raises(StorageFull):
            opened(older)

    assert json.loads((older / "_meta" / "format.json").read_bytes()) == {"format": 0}
    assert (older / "workspaces" / WORKSPACE / "notes" / "design" / "auth.md").exists()
    assert opened(older) == b"# Auth\n\nText 3\n"


@pytest.mark.spec("MIGRATE-3")
def test_a_backup_of_an_older_format_is_restored(older: Path, tmp_path: Path) -> None:
    done = migrate(older, to=tmp_path / "backups")
    assert done is not None

    restored = restore(done.backup, tmp_path / "again")

    assert not restored.report.count("error")
    assert opened(tmp_path / "again") == b"# Auth\n\nText 3\n"
