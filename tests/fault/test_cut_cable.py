"""A watcher whose cable is cut: nothing tells the server, and it is freed within the promised time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROMISED_SECONDS = 30
_ALONE = ["unshare", "--net", "--kill-child", "--fork"]


def cut(tmp_path: Path, module: str, seconds: float) -> dict[str, Any]:
    """What `cable.py` saw; skips where the kernel gives us no network of our own."""
    try:
        allowed = subprocess.run(
            [*_ALONE, "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        pytest.skip(f"no {error.filename} here")
    if allowed.returncode:
        pytest.skip(f"no network namespaces here: {allowed.stderr.decode()[:100]}")
    done = subprocess.run(
        [*_ALONE, sys.executable, "-m", "tests.fault.cable", str(tmp_path / "memory"), module, str(seconds)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds + 120, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(300)
@pytest.mark.spec("EVENT-4", "ROOM-9")
def test_watchers_whose_cable_is_cut_are_freed_within_30_seconds(tmp_path: Path) -> None:
    found = cut(tmp_path, "federated_memory", PROMISED_SECONDS)
    assert found["held"] == 3
    assert found["freed_after"] is not None, found
    assert found["left"] == 0


@pytest.mark.timeout(300)
@pytest.mark.spec("EVENT-4")
def test_a_server_that_waits_for_the_kernel_still_holds_them_then(tmp_path: Path) -> None:
    """The broken twin: without its limit the connections would live for a quarter of an hour."""
    found = cut(tmp_path, "tests.fault.deaf_server", PROMISED_SECONDS + 5)
    assert found["freed_after"] is None
    assert found["left"] == found["held"] == 3
