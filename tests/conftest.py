"""What every test shares: real roots in temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from federated_memory.names import WorkspaceId
from federated_memory.store.changes import Actor
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root

settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing
settings.load_profile("any machine")

ACTOR = Actor("tester", "192.0.2.1")
WORKSPACE = WorkspaceId("box-claude-demo")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    opened = Root(tmp_path / "memory")
    yield opened
    opened.close()


@pytest.fixture
def registry(root: Root) -> Registry:
    found = Registry(root)
    found.register(new_workspace(WORKSPACE, "box", "claude", "demo", "", "", ACTOR), ACTOR)
    return found


@pytest.fixture
def journal(root: Root) -> Journal:
    return Journal(root)


@pytest.fixture
def documents(root: Root, registry: Registry, journal: Journal) -> Documents:
    assert registry
    return Documents(root, journal, max_bytes=64 * 1024)
