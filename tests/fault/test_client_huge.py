"""A transcript of 2 GB, from the disk of one machine to the server's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.e2e.test_client_uploads import Laptop

SIZE = 2 << 30
LINE = 1 << 20


@pytest.mark.spec("SEND-6", "SEND-14")
@pytest.mark.timeout(600)
def test_a_transcript_of_2_gb_arrives_and_is_not_sent_again(
    tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    """Mostly holes, so that it takes no room here."""
    laptop = Laptop(tmp_path / "home", serve())
    path = laptop.say("hello")
    with open(path, "r+b") as file:
        for end in range(LINE, SIZE + 1, LINE):
            file.seek(end - 1)
            file.write(b"\n")
    assert path.stat().st_blocks * 512 < SIZE / 50

    done = laptop.run("sync", seconds=500)

    assert done.returncode == 0, done.stderr
    assert held_bytes(laptop) == SIZE
    assert laptop.run("sync").returncode == 0


def held_bytes(laptop: Laptop) -> int:
    with laptop.server.api() as api:
        answer = api.call("HEAD", "/api/v1/workspaces/laptop-claude-code-shop/sessions/s1")
    return int(answer.headers["upload-offset"])
