"""Backups of a real server under write load, made by the real command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer, start_server

LINE = (
    b'{"type":"user","message":{"role":"user","content":"line %d of the night"},"timestamp":"2026-11-20T08:00:00Z"}\n'
)


def fedmem(server: RunningServer, *arguments: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**server.env, **({"MEMORY_ROOT": str(root)} if root else {})}
    return subprocess.run(
        [sys.executable, "-m", "federated_memory", *arguments], env=env, cwd=server.root.parent,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


class Load:
    """Writers that go on until told to stop; `acknowledged` is what each of them knows to be stored."""

    def __init__(self, server: RunningServer, writers: int) -> None:
        self.stopping = threading.Event()
        self.acknowledged: list[dict[str, int]] = [{} for _ in range(writers)]
        self.threads = [threading.Thread(target=self._write, args=(server, number)) for number in range(writers)]

    def _write(self, server: RunningServer, number: int) -> None:
        with server.api() as api:
            home = api.register(f"project{number}", machine=f"box{number}")
            transcript, done = b"", 0
            while not self.stopping.is_set():
                done += 1
                assert home.call("PUT", f"knowledge/n{done % 7}.md", b"# N\n\n%d\n" % done).status in (200, 201)
                transcript += b"".join(LINE % line for line in range(50))
                assert home.call("PUT", "sessions/night", transcript).status in (200, 201)
                self.acknowledged[number] = {"documents": done, "bytes": len(transcript)}

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.spec("BACKUP-1")
@pytest.mark.spec("BACKUP-6")
@pytest.mark.spec("BACKUP-7")
def test_backups_under_write_load_restore_clean_and_hold_what_was_acknowledged(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = serve()
    server.wait_until_ready()
    with Load(server, 3) as load:
        for number in range(4):
            before = [dict(known) for known in load.acknowledged]
            ran = fedmem(server, "backup", "--to", str(tmp_path / f"to{number}"), "--json")
            assert ran.returncode == 0, ran.stderr + server.shown()
            made = json.loads(ran.stdout)
            into = tmp_path / f"restored{number}"
            ran = fedmem(server, "restore", made["backup"], "--into", str(into), "--read-data", "--json")
            assert ran.returncode == 0, ran.stderr
            check = fedmem(server, "check", "--read-data", "--json", root=into)
            bad = [row for row in json.loads(check.stdout)["findings"] if row["severity"] == "error"]
            assert not bad
            second = start_server(into, MCP_TOKEN=server.ai_token, SYNC_TOKEN=server.sync_token)
            try:
                second.wait_until_ready()
                with second.api(second.admin_token) as api:
                    for writer, known in enumerate(before):
                        if known:
                            url = f"/api/v1/workspaces/box{writer}-claude-project{writer}/sessions/night"
                            assert int(api.call("HEAD", url).headers["upload-offset"]) >= known["bytes"]
            finally:
                assert second.stop() == 0
            shutil.rmtree(into)
    noted = json.loads((server.root / "_meta" / "backups.json").read_text())["backups"]
    assert len(noted) == 4
    assert all(row["verified_at"] for row in noted)
    assert not list((server.root / "_meta" / "snapshots").iterdir())
    assert not server.problems()


@pytest.mark.spec("BACKUP-1")
def test_a_stopped_root_is_backed_up_too(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    server = serve()
    with server.api() as api:
        assert api.register().call("PUT", "knowledge/a.md", b"# A\n").status == 201
    assert server.stop() == 0

    ran = fedmem(server, "backup", "--to", str(tmp_path / "to"))

    assert ran.returncode == 0, ran.stderr
    assert "verified" in ran.stdout
    assert (
        fedmem(server, "restore", str(next((tmp_path / "to").glob("*.zst"))), "--into", str(tmp_path / "n")).returncode
        == 0
    )
    assert (tmp_path / "n" / "workspaces" / "box-claude-shop" / "knowledge" / "a.md").read_bytes() == b"# A\n"


@pytest.mark.spec("BACKUP-8")
def test_a_copied_root_never_speaks_to_the_original_s_server(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = serve()
    server.wait_until_ready()
    copy = Path(shutil.copytree(server.root, tmp_path / "copy"))

    ran = fedmem(server, "status", "--json", root=copy)

    assert json.loads(ran.stdout)["running"] is False
    assert json.loads(ran.stdout)["root"] == str(copy)
