"""Servers for the contract tests: a new one for a test, or one that a module's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.contract.harness import Server


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """The event loop that all servers of this process run in."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture
def server(portal: BlockingPortal, tmp_path: Path) -> Iterator[Server]:
    """A server of its own. What it logs as an error fails the test, unless the test takes it from `errors`."""
    with Server(portal, tmp_path / "memory") as opened:
        yield opened
    assert not opened.errors


@pytest.fixture(scope="module")
def shared(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module that only add to it."""
    with Server(portal, tmp_path_factory.mktemp("shared") / "memory") as opened:
        yield opened
    assert not opened.errors
