"""Several processes save and open one root at once, with a server and without: no row is missing at any moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import RunningServer, wait_until
from tests.e2e.test_cli import Serve, fedmem

ROUNDS, WORKERS = 3, 4
PATIENCE = 120.0
TRY_AGAIN = (14, 15)
"""Exit codes of a command that did nothing, and says so: `locked`, and `unavailable` while a server stops."""


class Ledger:
    """What was acknowledged, and whether those who asked later saw all of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._acknowledged: set[str] = set()
        self.reads = 0
        self.missing: list[str] = []
        self.failed: list[str] = []

    def __len__(self) -> int:
        return len(self._acknowledged)

    def acknowledge(self, memory_id: str) -> None:
        with self._lock:
            self._acknowledged.add(memory_id)

    def known(self) -> set[str]:
        with self._lock:
            return set(self._acknowledged)

    def read(self, known: set[str], seen: set[str]) -> None:
        """`known` was acknowledged before somebody asked, and was told of `seen`."""
        with self._lock:
            self.reads += 1
            self.missing += sorted(known - seen)


def test_a_reader_that_is_behind_is_found_out() -> None:
    ledger = Ledger()
    ledger.acknowledge("a")
    behind = ledger.known()
    ledger.acknowledge("b")

    ledger.read(behind, {"a"})
    assert ledger.missing == []
    ledger.read(ledger.known(), {"a"})
    assert ledger.missing == ["b"]


@pytest.mark.timeout(600)
@pytest.mark.spec("MEM-16")
def test_no_row_is_missing_while_processes_save_and_open(serve: Serve) -> None:
    server = serve()
    server.wait_until_ready()
    server.stop()
    ledger, over, going = Ledger(), threading.Event(), threading.Event()
    going.set()
    busy = threading.BoundedSemaphore(WORKERS)

    def run(*arguments: str) -> str | None:
        """What it printed; None when it did nothing."""
        going.wait()
        with busy:
            ran = fedmem(server, *arguments)
        if ran.code in TRY_AGAIN:
            return None
        if ran.code != 0:
            ledger.failed.append(f"{arguments}: {ran}")
        return ran.out

    def write(name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            saved = run("save", f"The zanzibar of {name} has number {number}")
            if saved:
                ledger.acknowledge(saved.strip())

    def look(*arguments: str) -> None:
        while not over.is_set():
            known = ledger.known()
            told = run(*arguments) if known else None
            if told is not None:
                ledger.read(known, {one for one in known if one in told})

    def more_rounds() -> None:
        reads, saved = ledger.reads, len(ledger)
        wait_until(
            lambda: bool(ledger.failed) or (ledger.reads >= reads + ROUNDS and len(ledger) >= saved + ROUNDS), PATIENCE
        )

    def start() -> RunningServer:
        """A server does not wait for a command that holds the root, so nobody begins one for the moment."""
        going.clear()
        for _ in range(WORKERS):
            busy.acquire()
        try:
            return serve()
        finally:
            for _ in range(WORKERS):
                busy.release()
            going.set()

    with ThreadPoolExecutor(WORKERS) as pool:
        work = [pool.submit(write, name) for name in ("one", "two")]
        work.append(pool.submit(look, "list", "--limit", "1000", "--json"))
        work.append(pool.submit(look, "search", "zanzibar", "--limit", "1000", "--json"))
        try:
            more_rounds()
            for _ in range(2):
                running = start()
                more_rounds()
                running.stop()
                more_rounds()
        finally:
            over.set()
            going.set()
        for one in work:
            one.result()

    assert ledger.failed == []
    assert ledger.missing == []
    assert ledger.known() <= {row["memory_id"] for row in fedmem(server, "list", "--limit", "1000", "--json").json}
