"""Aliases of projects, edited by several admins at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from federated_memory.store.aliases import ProjectAliases
from federated_memory.store.root import Root


@pytest.mark.spec("MEM-14")
def test_admins_who_edit_at_once_lose_none_of_their_aliases(tmp_path: Path) -> None:
    root = Root(tmp_path / "memory")
    try:
        aliases = ProjectAliases(root)
        with ThreadPoolExecutor(8) as admins:
            list(admins.map(lambda number: aliases.set(f"alias{number}", "project"), range(40)))
        assert len(aliases.all()) == 40
        assert len(aliases.names_of("project")) == 41
    finally:
        root.close()
