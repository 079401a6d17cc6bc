"""Power loss: an ext4 of its own is shut down under uploaders, mounted anew, and holds what was acknowledged.

The shutdown is the file system's own (what `xfs_io -c shutdown` asks for): from one moment on nothing reaches the disk
any more, with or without what its log still had in memory. Killing a process cannot show a missing fsync; this does.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Api, RunningServer
from tests.fault.ledger import Ledger
from tests.fault.more_uploaders import MemoryUploader
from tests.fault.rig import Outcome, Target, check, crash_loop, leftovers
from tests.fault.tally import tally
from tests.fault.test_kill import four_uploaders
from tests.fault.uploaders import Uploader

FULL = os.environ.get("FAULT_FULL") == "1"
TRIALS = 100 if FULL else 10
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITH_LOG, WITHOUT_LOG = 1, 2
"""Whether the log that is in memory still goes to the disk: then a rename without an fsync is there, its bytes not."""
IMAGE_BYTES = 8 * 1024**3  # sparse
REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(7_200 if FULL else 600)


@dataclass
class Disk:
    """An ext4 in a file, that can lose its power."""

    image: Path
    path: Path

    def mount(self) -> None:
        """Raises: CalledProcessError."""
        run("mount", "-o", "loop", str(self.image), str(self.path))

    def lose_power(self, mode: int) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", mode))
        finally:
            os.close(descriptor)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "image", tmp_path / "disk")
    found.path.mkdir()
    with found.image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    try:
        run("mkfs.ext4", "-q", "-F", str(found.image))
        found.mount()
        found.lose_power(WITHOUT_LOG)
        run("umount", str(found.path))
        found.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", "") or error
        with suppress(OSError, subprocess.CalledProcessError):
            run("umount", "--lazy", str(found.path))
        pytest.skip(f"no ext4 can be mounted and shut down here: {told}")
    yield found
    run("umount", "--lazy", str(found.path))
    found.image.unlink()


def cut_off(disk: Disk, serve: Callable[..., RunningServer], seed: int, trials: int, **options: str) -> Outcome:
    """The crash loop with power loss in place of a kill, in both modes by turns; and what `check` says at last."""
    started: list[RunningServer] = []
    losses = 0

    def start() -> Api:
        server = serve(root="disk/memory", MEMORY_MAX_DOCUMENT_BYTES="4000000", **options)
        started.append(server)
        server.wait_until_ready()
        return server.api()

    def lose_power() -> None:
        nonlocal losses
        if started[-1].process.poll() is not None:
            return
        disk.lose_power(WITH_LOG if losses % 2 else WITHOUT_LOG)
        losses += 1
        started[-1].process.kill()
        started[-1].wait()
        run("umount", str(disk.path))
        disk.mount()

    def look() -> list[str]:
        found = leftovers(started[-1].root)
        return [name for name in found if not name.startswith("_meta/") or name.startswith("_meta/tmp/")]

    ledger = Ledger()
    with start() as api:
        one, two = api.register("one"), api.register("two")
    uploaders: list[Uploader] = [
        *four_uploaders(one, two, ledger, seed), MemoryUploader(one, ledger, random.Random(seed))
    ]  # fmt: skip
    for uploader in uploaders:
        uploader.is_refusal_the_end = True
    started[-1].stop()
    os.sync()  # also what the broken twin has made

    target = Target(start, lambda: started[-1].api(), lose_power, look)
    outcome = crash_loop(target, uploaders, ledger, trials, random.Random(seed))
    print(f"{losses} power losses, {ledger.acknowledgements} acknowledged, {len(outcome.lost)} lost,"
          f" {len(outcome.torn)} torn, {len(outcome.leftovers)} left over; {outcome.seconds:.0f} s")  # fmt: skip
    if outcome.is_clean:
        with start():
            outcome.problems += [str(finding) for finding in check(started[-1].root, started[-1].env)]
        assert started[-1].stop() == 0
        outcome.problems += [str(finding) for finding in check(started[-1].root, started[-1].env)]
        outcome.problems += [str(item) for uploader in uploaders for item in uploader.unexpected]
    return outcome


@pytest.mark.spec("STORE-2", "STORE-3", "STORE-4", "ARCH-6", "MEM-12")
def test_power_loss_loses_and_tears_nothing(disk: Disk, serve: Callable[..., RunningServer]) -> None:
    outcome = cut_off(disk, serve, int(os.environ.get("FAULT_SEED", "1")), TRIALS)

    found = {"lost": len(outcome.lost), "torn": len(outcome.torn), "leaks": len(outcome.leftovers)}
    tally("power loss", trials=outcome.cycles, **found)
    assert outcome.is_clean, outcome


@pytest.mark.spec("STORE-3")
def test_the_broken_twin_that_never_asks_the_disk_is_caught(disk: Disk, serve: Callable[..., RunningServer]) -> None:
    for seed in range(3):
        try:
            outcome = cut_off(
                disk, serve, seed, 3, module="tests.fault.forgetful_disk", PYTHONPATH=str(REPOSITORY)
            )  # fmt: skip
        except (AssertionError, pytest.fail.Exception) as error:  # it may not even start again
            print(f"the twin's root cannot be opened: {str(error)[:200]}")
            return
        if outcome.lost or outcome.torn or outcome.problems:
            return
    raise AssertionError("the twin lost nothing")
