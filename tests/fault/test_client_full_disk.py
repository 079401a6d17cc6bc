"""The client's home on a full disk: no agent is stopped, no order is lost, and all is sent once there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.e2e.test_client_uploads import Laptop
from tests.fault.test_full_disk import Disk, mount  # noqa: F401

NOBODY = "http://127.0.0.1:9"
TAKES_BACK = "        _take_back_claims()\n"


class Full(Laptop):
    """Its client's home is a file system of its own; the agents' is not."""

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        (self.home / ".memory-sync").symlink_to(self.disk.path)
        super().__post_init__()

    disk: Disk


@pytest.fixture
def laptop(tmp_path: Path, serve: Callable[..., RunningServer], mount: Callable[[str], Disk]) -> Full:  # noqa: F811
    Full.disk = mount("size=4m")
    found = Full(tmp_path / "home", serve())
    assert found.run("status").returncode == 0  # made once, while there is room
    return found


def put_back_on_a_full_disk(laptop: Full) -> None:
    """Orders that cannot be sent now, nor written down again; with ever more room, so that each step fails once."""
    for room in range(0, 30, 2):
        session = f"S{room}"
        path = laptop.say("hello", session)
        laptop.hook(session, MEMORY_SYNC_FOREGROUND="1", MCP_MEMORY_URL=NOBODY)
        laptop.disk.fill(room)
        laptop.run("drain", MCP_MEMORY_URL=NOBODY)
        laptop.disk.free()
        laptop.run("drain")
        assert laptop.holds(path, session), "the order is lost"


@pytest.mark.spec("SEND-12")
def test_an_order_that_cannot_be_put_back_is_not_lost(laptop: Full) -> None:
    put_back_on_a_full_disk(laptop)
    assert laptop.waiting == []


def test_without_taking_back_what_a_failed_run_had_in_its_hands_an_order_is_lost(laptop: Full) -> None:
    whole = laptop.own / "bin" / "memory_sync_full.py"
    text = whole.read_text()
    assert text.count(TAKES_BACK) == 1
    whole.write_text(text.replace(TAKES_BACK, ""))
    with pytest.raises(AssertionError, match="the order is lost"):
        put_back_on_a_full_disk(laptop)


@pytest.mark.spec("SEND-11", "SEND-12")
@pytest.mark.parametrize("room", [0, 1, 2, 4, 16])
def test_with_any_room_left_no_agent_is_stopped_and_all_is_sent_when_there_is_more(laptop: Full, room: int) -> None:
    path = laptop.say("hello")
    laptop.disk.fill(room)
    laptop.hook(MEMORY_SYNC_FOREGROUND="1")  # 0, and nothing on standard error
    done = laptop.run("sync")
    assert "Traceback" not in done.stderr
    laptop.disk.free()
    assert laptop.run("sync").returncode == 0
    assert laptop.holds(path)
    assert laptop.held().headers["x-revision"] == "1"
    laptop.run("drain")
    assert laptop.waiting == []
