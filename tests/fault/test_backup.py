"""A backup disk that fills up: the older backups are as they were, and the server is not touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.e2e.test_backup import fedmem
from tests.fault.test_full_disk import Disk, mount, small

__all__ = ["mount", "small"]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.spec("BACKUP-5")
def test_a_full_backup_disk_costs_no_backup(serve: Callable[..., RunningServer], small: Disk) -> None:
    server = serve()
    server.wait_until_ready()
    to = small.path / "to"
    with server.api() as api:
        home = api.register()
        noise = b"".join(hashlib.sha512(b"%d" % number).hexdigest().encode() + b"\n" for number in range(4_000))
        assert home.call("PUT", "sessions/noise", noise).status == 201
    assert fedmem(server, "backup", "--to", str(to)).returncode == 0
    before = contents(to)

    for room in (0, 1, 8, 24):
        small.fill(room)
        ran = fedmem(server, "backup", "--to", str(to))
        assert ran.returncode == 13, ran.stderr
        assert "older ones are as they were" in ran.stderr or "full" in ran.stderr
        assert contents(to) == before

    # The broken twin: one that removes the old before the new is good has none left.
    twin = small.path / "twin"
    twin.mkdir()
    small.fill(2)
    (twin / "old.tar.zst").write_bytes(b"good")
    (twin / "old.tar.zst").unlink()
    with pytest.raises(OSError, match="space"):
        (twin / "new.tar.zst").write_bytes(bytes(1 << 20))
    assert (twin / "new.tar.zst").stat().st_size < 1 << 20

    small.free()
    assert fedmem(server, "backup", "--to", str(to)).returncode == 0
    assert contents(to).items() >= before.items()
