"""`check --repair` moves what is in the way, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_memory.errors import Locked
from federated_memory.operate.repair import repair
from federated_memory.store.root import Root
from tests.unit.operate.conftest import Check


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "lock"
    }


@pytest.mark.spec("CHECK-9")
def test_what_is_in_the_way_is_moved_and_the_rest_is_as_it_was(memory: Path, space: Path, check: Check) -> None:
    before = contents(memory)
    (space / "knowledge" / "CON.md").write_text("illegal")
    (space / "knowledge" / "link.md").symlink_to("/etc/passwd")
    (space / "sessions" / "stray.txt").write_text("stray")
    copies = space / "knowledge" / ".versions" / "design" / "auth.md"
    (copies / "000099.md").write_text("orphan")

    moved = dict(repair(check()))

    top = f"workspaces/{space.name}"
    assert set(moved) == {
        f"{top}/knowledge/CON.md", f"{top}/knowledge/link.md", f"{top}/sessions/stray.txt",
        f"{top}/knowledge/.versions/design/auth.md/000099.md",
    }  # fmt: skip
    after = contents(memory)
    assert {name: data for name, data in after.items() if not name.startswith("_meta/quarantine")} == before
    assert sorted(data for name, data in after.items() if name.startswith("_meta/quarantine")) == [
        b"illegal", b"orphan", b"stray",
    ]  # fmt: skip
    assert check().is_clean
    assert repair(check()) == []


@pytest.mark.spec("CHECK-9")
def test_what_is_damaged_stays_where_it_is(memory: Path, space: Path, check: Check) -> None:
    (file,) = space.rglob("long.jsonl.gz")
    file.write_bytes(file.read_bytes()[:-100])
    before = contents(memory)

    report = check(read_data=True)

    assert report.count("error")
    assert repair(report) == []
    assert contents(memory) == before


@pytest.mark.spec("CHECK-9")
def test_beside_a_server_nothing_is_moved(memory: Path, space: Path, check: Check) -> None:
    (space / "knowledge" / "CON.md").write_text("illegal")
    report = check()
    server = Root(memory)
    try:
        with pytest.raises(Locked):
            repair(report)
    finally:
        server.close()
    assert (space / "knowledge" / "CON.md").exists()
