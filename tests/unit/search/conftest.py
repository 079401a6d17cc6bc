"""One root for all tests of a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from federated_memory.search import Search
from federated_memory.store.archive import Archives
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.registry import Registry
from federated_memory.store.root import Root
from federated_memory.transcripts.times import parse_time
from tests.unit.search.library import Library, Shelf


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    root = Root(tmp_path_factory.mktemp("library") / "memory")
    documents = Documents(root, Journal(root), max_bytes=1024**2)
    archives = Archives(root)
    search = Search(root, documents, archives, timeout_seconds=60)
    ticks = itertools.count(1_800_000_000_000)
    with pytest.MonkeyPatch.context() as patch:  # no two writes in one millisecond
        patch.setattr("federated_memory.store.documents.now", lambda: parse_time(next(ticks)))
        yield Library(root, Registry(root), documents, archives, search)
    search.close()
    root.close()


@pytest.fixture(autouse=True)
def nothing_is_too_small_for_ripgrep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_memory.search.knowledge._FEW_DOCUMENTS", -1)


@pytest.fixture
def shelf(library: Library) -> Shelf:
    return library.shelf()


@pytest.fixture(params=["ripgrep", "no ripgrep"])
def with_or_without_ripgrep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no ripgrep":
        monkeypatch.setattr("federated_memory.search.ripgrep.find_ripgrep", lambda: None)
    return str(request.param)
