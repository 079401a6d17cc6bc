"""Purge, gc, rename, export and import by the real command, beside a real server and without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.e2e.test_backup import fedmem

CANARY = b"zanzibarcanary"
LINE = b'{"type":"user","message":{"role":"user","content":"%s"},"timestamp":"2026-11-20T08:00:00Z"}\n' % CANARY


@pytest.mark.spec("PURGE-3", "OPS-1")
@pytest.mark.parametrize("is_running", [True, False])
def test_purge_names_the_backups_that_still_hold_it(
    serve: Callable[..., RunningServer], tmp_path: Path, is_running: bool
) -> None:
    server = serve()
    with server.api() as api:
        home = api.register()
        assert home.call("PUT", "sessions/s1", LINE).status == 201
    if not is_running:
        assert server.stop() == 0
    to = tmp_path / "to"
    assert fedmem(server, "backup", "--to", str(to)).returncode == 0

    refused = fedmem(server, "purge", "session", home.workspace_id, "s1")
    ran = fedmem(server, "purge", "session", home.workspace_id, "s1", "--yes", "--json")

    assert (refused.returncode, "--yes" in refused.stderr) == (9, True)
    assert ran.returncode == 0, ran.stderr
    done = json.loads(ran.stdout)
    assert done["backups"] == [str(path) for path in to.glob("*.zst")]
    assert done["unknown"] == []
    holding = [
        path for path in server.root.rglob("*") if path.is_file() and CANARY in path.read_bytes()
    ]  # fmt: skip
    assert holding == []
    assert fedmem(server, "purge", "session", home.workspace_id, "nothing", "--yes").returncode == 4
    audit = (server.root / "_meta" / "audit.jsonl").read_text()
    assert "purge" in audit
    assert CANARY.decode() not in audit


@pytest.mark.spec("EXPORT-1", "EXPORT-2", "WS-4", "WS-6", "GC-1")
def test_a_workspace_goes_to_another_root(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    server, other = serve(), serve("other")
    with server.api() as api:
        home = api.register()
        for number in (1, 2):
            assert home.call("PUT", "knowledge/a.md", b"# %d" % number).status in (200, 201)
        assert home.call("PUT", "sessions/s1", LINE).status == 201
    out = tmp_path / "out"
    other.wait_until_ready()

    assert fedmem(server, "export", home.workspace_id, str(out)).returncode == 0
    assert fedmem(server, "export", home.workspace_id, str(out)).returncode == 5
    ran = fedmem(other, "import", str(out))

    assert ran.returncode == 0, ran.stderr
    for root in (server.root, other.root):
        place = root / "workspaces" / home.workspace_id
        assert (place / "knowledge" / "a.md").read_bytes() == b"# 2"
    with other.api(other.admin_token) as api:
        assert api.call("GET", f"/api/v1/workspaces/{home.workspace_id}/knowledge/a.md?version=1").body == b"# 1"
        assert api.call("GET", f"/api/v1/workspaces/{home.workspace_id}/sessions/s1").body == LINE
    assert fedmem(other, "import", str(tmp_path)).returncode == 9  # nothing that any reader knows
    assert fedmem(other, "workspace", "rename", home.workspace_id, "new-name").returncode == 0
    assert fedmem(other, "workspace", "show", home.workspace_id, "--json").returncode == 0
    with other.api() as api:
        second = api.register("second").workspace_id
    assert "Nothing was changed" in fedmem(other, "workspace", "merge", second, "new-name").stdout
    assert f"{second} leads to new-name" in fedmem(other, "workspace", "merge", second, "new-name", "--apply").stdout
    assert "Would remove 1 version" in fedmem(other, "gc", "--keep-versions", "1", "--keep-days", "0").stdout
    assert fedmem(other, "workspace", "archive", "new-name").returncode == 0
    assert json.loads(fedmem(other, "workspace", "list", "--json").stdout) == []
