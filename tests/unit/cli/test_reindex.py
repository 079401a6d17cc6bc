"""`reindex` without a server; on a running one it is the e2e suite's."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.settings import Settings
from tests.unit.cli.conftest import Cli

ADMIN = Caller(Grant("tester", "admin", "0" * 32))


@pytest.mark.spec("INDEX-10")
def test_reindex_without_a_server_makes_the_index_anew_at_once(cli: Cli, memory: Path) -> None:
    services = open_services(Settings(root=memory))
    where = services.workspaces.register(ADMIN, machine="box", tool="claude", project="demo").workspace_id
    services.knowledge.upload(ADMIN, where, None, "note.md", "a zebra", None)
    close_services(services)
    (memory / "_meta" / "index.sqlite3").write_bytes(b"garbage")

    plain, as_json = cli("reindex"), cli("reindex", "--json")

    assert (plain.code, plain.out) == (0, "The index is made anew.\n")
    assert as_json.code == 0
    assert as_json.json["ok"] is True
    assert as_json.json["state"] == "current"
    services = open_services(Settings(root=memory))
    found = services.searching.memory(ADMIN, "zebras")
    close_services(services)
    assert [(hit.path, hit.read_with) for hit in found.hits] == [("note.md", "read_knowledge")]
    assert found.note is None
