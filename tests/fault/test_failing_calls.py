"""Every fsync of a write fails once, and every call that changes files is once the last one of the process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import wait_until
from tests.fault.injection import FILE_CALLS, SYNC_CALLS, Injection, Traced, ensure_strace
from tests.fault.ledger import Ledger, digest
from tests.fault.rig import check, leftovers
from tests.fault.victim import (
    JOURNALLED,
    KINDS,
    SYNCED,
    Kind,
    Victim,
    create_document,
    grow_session,
    replace_document,
    set_state,
    store_memory,
)

FULL = os.environ.get("FAULT_FULL") == "1"

pytestmark = pytest.mark.timeout(3_600 if FULL else 600)

MOST = 60  # no write has so many calls of one kind in one thread
REFUSED = ((503, "unavailable"), (507, "storage_full"))
UNEXPECTED = "The server failed unexpectedly"


def for_each_kind(folder: Path, kinds: list[Kind], work: Callable[[Victim, Kind], str]) -> None:
    """Two kinds at a time, each with a root and a server of its own."""

    def one(kind: Kind) -> str:
        name, started = getattr(kind, "__name__", ""), time.monotonic()
        (folder / name).mkdir()
        victim = Victim(folder / name / "memory")
        try:
            return f"{name}: {work(victim, kind)}; {time.monotonic() - started:.0f} s"
        finally:
            victim.server.stop(signal.SIGKILL)

    ensure_strace()
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(one, kinds):
            print(line)


def ready(victim: Victim) -> None:
    with victim.server.api("") as api:
        wait_until(lambda: api.call("GET", "/readyz").status == 200)


def quiet(victim: Victim) -> None:
    """Wait until every write is in its files and the server writes nothing any more."""
    victim.settle()
    io = Path(f"/proc/{victim.server.process.pid}/io")
    before = ""
    while (now := re.sub(r"(?m)^(?!syscw).*\n?", "", io.read_text())) != before:
        before = now
        time.sleep(0.02)


@pytest.mark.spec("STORE-3", "STORE-5", "HTTP-7")
def test_an_fsync_that_fails_fails_the_write_and_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    def sweep(victim: Victim, kind: Kind) -> str:
        refused = 0
        for n in range(1, MOST):
            write = kind(victim)
            quiet(victim)
            trace = victim.root.parent / "trace"
            with Injection(victim.server.process.pid, trace, SYNC_CALLS, "error=EIO", n) as injection:
                answer = victim.send(write)
                failed = injection.failed()
            assert answer is not None, victim.server.shown()
            victim.look()
            if not failed:
                assert answer.status < 300, (n, answer)
                break
            assert (answer.status, answer.code) == (503, "unavailable"), (n, failed, answer)
            assert answer.json["message"] != UNEXPECTED, (n, failed, victim.server.shown())
            refused += 1
            again = victim.send(kind(victim))  # without a restart
            assert again is not None
            assert again.status < 300, (n, failed, again, victim.server.shown())
            victim.restart()
            assert leftovers(victim.root) == [], (n, failed)
            victim.look()
        assert refused
        assert check(victim.root, victim.server.env) == []
        return f"{refused} failing fsyncs, each refused the write; old or new, nothing left over"

    for_each_kind(tmp_path, SYNCED if FULL else [replace_document, grow_session, store_memory, set_state], sweep)


@pytest.mark.spec("STORE-2", "STORE-5", "HTTP-7")
@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_any_call_of_a_write_that_fails_refuses_it_in_words_and_leaves_the_old_or_the_new_state(
    tmp_path: Path, fault: str
) -> None:
    def sweep(victim: Victim, kind: Kind) -> str:
        trace = victim.root.parent / "trace"
        calls = tuple(call for call in FILE_CALLS if call != "write")  # the event loop's own wake-ups are writes
        write = kind(victim)
        quiet(victim)
        with Traced(victim.server.process.pid, trace, calls) as dry_run:
            assert victim.send(write) is not None
        refused = failures = 0
        for call, count in sorted(dry_run.counts().items()):
            for n in crash_points(call, count):
                write = kind(victim)
                quiet(victim)
                with Injection(victim.server.process.pid, trace, (call,), f"error={fault}", n) as injection:
                    answer = victim.send(write)
                    failures += bool(injection.failed())
                assert answer is not None, (call, n, victim.server.shown())
                if answer.status >= 300:
                    refused += 1
                    assert (answer.status, answer.code) in REFUSED, (call, n, answer)
                    assert answer.json["message"] != UNEXPECTED, (call, n, victim.server.shown())
                victim.look()
                again = victim.send(kind(victim))  # without a restart
                assert again is not None
                assert again.status < 300, (call, n, again, victim.server.shown())
        assert failures
        quiet(victim)
        victim.restart()
        assert leftovers(victim.root) == []
        victim.look()
        assert check(victim.root, victim.server.env) == []
        return f"{failures} calls failed with {fault}, {refused} refused the write; old or new, nothing left over"

    for_each_kind(tmp_path, KINDS if FULL else [replace_document, store_memory], sweep)


@pytest.mark.spec("STORE-3", "STORE-4")
def test_a_file_whose_fsync_failed_later_is_written_anew_before_the_journal_forgets_it(tmp_path: Path) -> None:
    """A second fsync of the same file proves nothing: the kernel has dropped what it could not write."""
    ensure_strace()
    victim = Victim(tmp_path / "memory")
    trace = tmp_path / "trace"
    anew: list[str] = []
    try:
        for n in range(1, MOST):
            write = replace_document(victim)
            quiet(victim)
            assert victim.send(write) is not None
            with Injection(victim.server.process.pid, trace, ("fsync",), "error=EIO", n) as injection:
                wait_until(lambda found=injection: bool(found.failed()) or victim.is_settled())
                if not injection.failed():
                    break
                path = Path(re.findall(r"fsync\(\d+<(.+)>\)", injection.failed()[0])[0])
                inode = path.stat().st_ino
            victim.settle()
            victim.look()
            ready(victim)
            if path.is_dir():
                continue
            assert path.stat().st_ino != inode, f"{path} was only fsynced again"
            anew.append(path.name)
            if path.name == "old.md":  # the file itself is the last
                break
    finally:
        victim.server.stop(signal.SIGKILL)
    print(f"written anew after a failed fsync: {', '.join(anew)}")
    assert len(anew) == 3  # the version's copy, the log, the file


@pytest.mark.spec("STORE-2", "STORE-3", "HTTP-7")
def test_a_crash_at_any_call_of_a_write_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    def sweep(victim: Victim, kind: Kind) -> str:
        trace = victim.root.parent / "trace"
        has_journal = kind in JOURNALLED
        write = kind(victim)
        quiet(victim)
        with Traced(victim.server.process.pid, trace, FILE_CALLS) as dry_run:
            assert victim.send(write) is not None
            if has_journal:
                victim.settle()
        points = [(call, n) for call, count in sorted(dry_run.counts().items()) for n in crash_points(call, count)]
        crashes = 0
        for call, n in points:
            write = kind(victim)
            with Injection(victim.server.process.pid, trace, (call,), "signal=KILL", n):
                answer = victim.send(write)
                assert answer is None or answer.status < 300, (call, n, answer)
                if answer is not None and has_journal:
                    wait_until(lambda: victim.is_dead() or victim.is_settled())
            if answer is not None and not victim.is_dead():
                continue
            crashes += 1
            victim.restart()
            assert leftovers(victim.root) == [], (call, n)
            victim.look()
        assert crashes > len(points) // 2, points
        assert check(victim.root, victim.server.env) == []
        return f"{crashes} crashes, one at each call: old or new, nothing left over"

    for_each_kind(tmp_path, KINDS if FULL else [create_document, grow_session, store_memory], sweep)


def crash_points(call: str, count: int) -> Iterable[int]:
    """Which of `count` calls to crash at: every one, but of the database's many writes of pages only some."""
    if call != "pwrite64" or FULL:
        return range(1, count + 1)
    return sorted({1, 2, *range(3, count, 7), count})


NAIVE = """
import os, sys
path, text = sys.argv[1], sys.argv[2].encode()
try:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(file, text[:10])
    os.write(file, text[10:])
    os.fsync(file)
except OSError:
    pass
print("stored", flush=True)
"""


def naive(path: Path, state: bytes, *strace: str) -> bool:
    """Write as the broken twin does, under strace; was it acknowledged?"""
    ensure_strace()
    done = subprocess.run(
        ["strace", "--follow-forks", f"--output={path}.trace", f"--trace-path={path}", *strace,
         sys.executable, "-S", "-c", NAIVE, str(path), state.decode()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "stored" in done.stdout


@pytest.mark.spec("STORE-3")
def test_the_broken_twin_that_overlooks_a_failed_fsync_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "naive.md"

    is_acknowledged = naive(path, b"new" * 10, "--inject=fsync:error=EIO:when=1")

    # What the sweep demands of each n: a call has failed, so the write must have been refused.
    assert (tmp_path / "naive.md.trace").read_text().count("(INJECTED)") == 1
    assert is_acknowledged


@pytest.mark.spec("STORE-2")
def test_the_broken_twin_that_writes_in_place_is_torn_at_some_call(tmp_path: Path) -> None:
    torn = []
    for n in range(1, 4):
        path = tmp_path / f"{n}.md"
        ledger = Ledger()
        for state in (b"old" * 10, b"new" * 10):
            ledger.sends("naive", digest(state))
        path.write_bytes(b"old" * 10)
        ledger.is_acknowledged("naive", digest(b"old" * 10))
        naive(path, b"new" * 10, f"--inject=write,fsync:signal=KILL:when={n}")
        torn += ledger.judge({"naive": digest(path.read_bytes())}).torn
    assert torn
