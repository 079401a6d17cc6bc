"""Somebody swaps a folder and a file of a workspace for links to elsewhere, as fast as he can, while both are used."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from federated_memory.errors import FederatedMemoryError
from federated_memory.names import DocumentPath, WorkspaceId
from federated_memory.store.archive import Archives
from federated_memory.store.changes import Actor
from federated_memory.store.document import Key
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root
from federated_memory.store.scan import Scan
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
ROUNDS = 10_000 if FULL else 300
LEAST_READS = 50
FOREIGN = b"# somebody else's\n"
ACTOR = Actor("tester")
HOME = WorkspaceId("box-claude-home")

pytestmark = pytest.mark.timeout(1_800 if FULL else 240)


@contextmanager
def swapped(place: Path, elsewhere: Path) -> Iterator[Callable[[], int]]:
    """While the block runs, `place` is by turns itself and a link to `elsewhere`; gives how often."""
    aside, link = place.with_name(place.name + "-aside"), place.with_name(place.name + "-link")
    is_over, count = threading.Event(), [0]

    def swap() -> None:
        while not is_over.is_set():
            with suppress(OSError):  # a write may have made it anew meanwhile
                os.symlink(elsewhere, link)
                os.rename(place, aside)
                os.rename(link, place)
                count[0] += 1
                os.unlink(place)
                os.rename(aside, place)
            for left in (aside, link):
                if left.is_symlink() or left.is_file():
                    left.unlink()
                elif left.is_dir():
                    shutil.rmtree(left)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield lambda: count[0]
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a.md").write_bytes(FOREIGN)
    return folder


def read_foreign(read: Callable[[], bytes], swaps: Callable[[], int], rounds: int, *, only_one: bool = False) -> int:
    """Until so many links were swapped in, and on a busy machine until it was read often enough beside them."""
    found = reads = 0
    while (swaps() < rounds or reads <= LEAST_READS) and not (only_one and found):
        reads += 1
        with suppress(FederatedMemoryError, OSError):
            found += read() == FOREIGN
    return found


@pytest.mark.spec("STORE-6", "SEC-1")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_no_swapped_link_is_ever_read_or_written_through(tmp_path: Path, outside: Path, what: str) -> None:
    root = Root(tmp_path / "memory")
    try:
        registry = Registry(root)
        registry.register(new_workspace(HOME, "box", "claude", "home", "", "", ACTOR), ACTOR)
        journal = Journal(root)
        documents = Documents(root, journal, max_bytes=1 << 16)
        scan, archives = Scan(root, documents), Archives(root)
        key = Key(HOME, "knowledge", DocumentPath("d/a.md"))
        documents.write(key, b"# ours\n", ACTOR)
        place = root.path / "workspaces" / HOME / "knowledge" / "d"
        number = [0]

        def use() -> bytes:
            number[0] += 1
            if number[0] % 5 == 0:
                documents.write(key, b"# ours %d\n" % number[0], ACTOR)
            if number[0] % 40 == 0:
                scan.workspace(HOME)
                archives.recover_workspace(HOME)
                journal.flush()
            return documents.read(key)[1]

        with swapped(
            place if what == "folder" else place / "a.md", outside if what == "folder" else outside / "a.md"
        ) as swaps:
            escapes = read_foreign(use, swaps, ROUNDS)
            tally(f"links swapped in, {what}", trials=swaps(), escapes=escapes)
        assert escapes == 0
        assert number[0] > LEAST_READS
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"a.md": FOREIGN}
        versions = root.path / "workspaces" / HOME / "knowledge" / ".versions"
        assert not [path for path in versions.rglob("*.md") if path.is_file() and path.read_bytes() == FOREIGN]
    finally:
        root.close()


@pytest.mark.spec("STORE-6")
def test_the_broken_twin_that_looks_first_and_opens_then_is_caught(tmp_path: Path, outside: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    (place / "a.md").write_bytes(b"# ours\n")

    def naive() -> bytes:
        if place.is_symlink():
            raise OSError
        return (place / "a.md").read_bytes()

    with swapped(place, outside) as swaps:
        assert read_foreign(naive, swaps, 200_000, only_one=True) > 0
