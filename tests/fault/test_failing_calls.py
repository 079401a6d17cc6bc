"""Every fsync of a write fails once, and every call that changes files is once the last one of the process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import Answer, Api, RunningServer, Workspace, start_server, wait_until
from tests.fault.injection import FILE_CALLS, SYNC_CALLS, Injection, Traced, ensure_strace
from tests.fault.ledger import Ledger, digest
from tests.fault.rig import check, leftovers
from tests.fault.uploaders import state_of

pytestmark = pytest.mark.timeout(600)

FULL = os.environ.get("FAULT_FULL") == "1"
MOST = 60  # no write has so many calls of one kind in one thread
GONE = digest(b"")  # the state of a document that was deleted
REFUSED = ((503, "unavailable"), (507, "storage_full"))
UNEXPECTED = "The server failed unexpectedly"


def text(size: int = 300) -> bytes:
    return b'{"type":"user","message":{"role":"user","content":"' + os.urandom(size // 2).hex().encode() + b'"}}\n'


@dataclass(frozen=True)
class Write:
    """One request, and what its name holds when it has been done."""

    method: str
    name: str
    body: bytes | None
    state: bytes
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    """Where it goes if not to `name` of the workspace; by an agent then, which holds the binding."""


@dataclass
class Victim:
    """A server, one workspace, and what it should hold; killed and started again as often as it takes."""

    root: Path
    server: RunningServer = field(init=False)
    mine: Workspace = field(init=False)
    binding: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    count: int = 0

    def __post_init__(self) -> None:
        self.start()
        try:
            with self.server.api() as api:
                self.mine = api.register()
            with self.server.api(self.server.ai_token) as api:
                self.binding = api.register().binding
                self.as_agent(api, "POST", "/api/v1/rooms", b'{"room": "r"}')
        except BaseException:
            self.server.stop(signal.SIGKILL)
            raise

    def start(self) -> None:
        self.server = start_server(self.root)
        self.server.wait_until_ready()

    def restart(self) -> None:
        self.server.stop(signal.SIGKILL)
        self.start()

    def send(self, write: Write) -> Answer | None:
        """None when the server did not survive it."""
        self.ledger.sends(write.name, digest(write.state))
        try:
            with self.server.api(self.server.ai_token if write.path else None) as api:
                if write.path:
                    answer = self.as_agent(api, write.method, write.path, write.body)
                else:
                    answer = self.mine.by(api).call(write.method, write.name, write.body, **write.headers)
        except (OSError, http.client.HTTPException):
            return None
        if answer.status < 300:
            self.ledger.is_acknowledged(write.name, digest(write.state))
            self.ids[write.name] = str(answer.json.get("memory_id", "")) if write.path else ""
        return answer

    def as_agent(self, api: Api, method: str, path: str, body: bytes | None = None) -> Answer:
        return api.call(method, path, body, X_Memory_Binding=self.binding)

    def state(self, name: str) -> str | None:
        """The state of a name: a document, a transcript, `state/KEY`, `memories/TAG` or `messages/TEXT`."""
        kind, _, rest = name.partition("/")
        with self.server.api(self.server.ai_token) as api:
            if kind == "state":
                found = self.as_agent(api, "GET", f"/api/v1/state/keys/{rest}").json
                return digest(json.dumps(found["value"]).encode()) if found["exists"] else None
            if kind == "memories":
                rows = self.as_agent(api, "GET", f"/api/v1/memories?tags={rest}").json["memories"]
                assert len(rows) < 2
                content = [self.as_agent(api, "GET", f"/api/v1/memories/{row['memory_id']}").json for row in rows]
                return digest(content[0]["content"].encode()) if content else None
            if kind == "messages":
                found = self.as_agent(api, "GET", "/api/v1/rooms/r/messages?after=0").json
                texts = [message["text"] for message in found["messages"]]
                assert texts.count(rest) < 2
                return digest(rest.encode()) if rest in texts else None
            return state_of(api, f"{self.mine.url}/{name}")

    def held(self, name: str) -> bytes:
        """What `name` holds; written now if there is nothing."""
        with self.server.api() as api:
            found = self.mine.by(api).call("GET", name)
        if found.status == 200:
            return found.body
        body = text()
        answer = self.send(Write("PUT", name, body, body))
        assert answer is not None
        assert answer.status == 201
        return body

    def look(self) -> None:
        """Everything holds its old or its new state, and from now on that is the old one."""
        found = {name: self.state(name) for name in self.ledger.names()}
        for name, state in found.items():
            if state is None and self.ledger.was_sent(name, GONE):
                found[name] = GONE
        verdict = self.ledger.judge(found)
        assert (verdict.lost, verdict.torn) == ([], [])
        for name, state in found.items():
            if state is not None:
                self.ledger.is_acknowledged(name, state)

    def is_settled(self) -> bool:
        """Is every acknowledged write in its files, durably?"""
        with contextlib.closing(sqlite3.connect(f"file:{self.root}/_meta/state.sqlite3?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM journal").fetchone() == (0,)

    def is_dead(self) -> bool:
        """Also before anybody has noticed: strace is the first to be told."""
        if self.server.process.poll() is not None:
            return True
        return re.search(r"(?m)^State:\tZ", Path(f"/proc/{self.server.process.pid}/status").read_text()) is not None

    def settle(self) -> None:
        wait_until(self.is_settled)

    def next(self) -> int:
        self.count += 1
        return self.count


def create_document(victim: Victim) -> Write:
    body = text()
    return Write("PUT", f"knowledge/new/{victim.next()}.md", body, body)


def replace_document(victim: Victim) -> Write:
    victim.held("knowledge/old.md")
    body = text()
    return Write("PUT", "knowledge/old.md", body, body)


def replace_overview(victim: Victim) -> Write:
    victim.held("overview")
    body = text()
    return Write("PUT", "overview", body, body)


def delete_document(victim: Victim) -> Write:
    victim.held("knowledge/gone.md")
    return Write("DELETE", "knowledge/gone.md", None, b"")


def create_session(victim: Victim) -> Write:
    body = text(3_000)
    return Write("PUT", f"sessions/new{victim.next()}", body, body)


def replace_session(victim: Victim) -> Write:
    victim.held("sessions/old")
    body = text(3_000)
    return Write("PUT", "sessions/old", body, body)


def grow_session(victim: Victim) -> Write:
    held, more = victim.held("sessions/patch"), text(3_000)
    return Write("PATCH", "sessions/patch", more, held + more, {"Upload_Offset": str(len(held))})


def store_memory(victim: Victim) -> Write:
    tag, content = f"m{victim.next()}", text().decode()
    body = json.dumps({"content": content, "tags": [tag]}).encode()
    return Write("POST", f"memories/{tag}", body, content.encode(), path="/api/v1/memories")


def delete_memory(victim: Victim) -> Write:
    write = store_memory(victim)
    answer = victim.send(write)
    assert answer is not None
    assert answer.status == 201, answer
    path = f"/api/v1/memories/{answer.json['memory_id']}"
    return Write("DELETE", write.name, None, b"", path=f"{path}?workspace_id={victim.mine.workspace_id}")


def set_state(victim: Victim) -> Write:
    body = json.dumps({"count": victim.next(), "filler": os.urandom(2_000).hex()}).encode()
    return Write("PUT", "state/key", body, body, path="/api/v1/state/keys/key")


def say_in_room(victim: Victim) -> Write:
    message = f"message {victim.next()}"
    body = json.dumps({"message": message}).encode()
    return Write("POST", f"messages/{message}", body, message.encode(), path="/api/v1/rooms/r/messages")


Kind = Callable[[Victim], Write]
KINDS: list[Kind] = [
    create_document, replace_document, replace_overview, delete_document, create_session, replace_session, grow_session,
    store_memory, delete_memory, set_state, say_in_room,
]  # fmt: skip
JOURNALLED = (create_document, store_memory)
"""The others of their kind share its second half, which comes about a second later."""
SYNCED: list[Kind] = [
    replace_document, create_session, replace_session, grow_session, store_memory, delete_memory, set_state,
    say_in_room,
]  # fmt: skip


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

    for_each_kind(tmp_path, SYNCED, sweep)


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

    for_each_kind(tmp_path, KINDS if FULL else [*KINDS[:7], store_memory, set_state], sweep)


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
