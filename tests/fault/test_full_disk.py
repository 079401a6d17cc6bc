"""Full file systems, made with tmpfs: refused as `storage_full`, nothing half-written, and all well again by itself."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.bench.wire import McpClient
from tests.e2e.conftest import Answer, RunningServer, Workspace, start_server, wait_until
from tests.fault.ledger import Ledger, digest
from tests.fault.rig import check, leftovers

PAGE = 4096


class Disk:
    """A small file system with a ballast that leaves as much room as a test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"
        self.crumbs = path / "crumbs"

    def fill(self, room: int = 0) -> None:
        """Leave so many pages free."""
        self.free()
        with self.ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(PAGE))
        os.truncate(self.ballast, max(0, self.ballast.stat().st_size - room * PAGE))

    def fill_inodes(self, room: int = 0) -> None:
        """Leave so many inodes free."""
        self.free()
        self.crumbs.mkdir(exist_ok=True)
        made: list[Path] = []
        with contextlib.suppress(OSError):
            while True:
                made.append(self.crumbs / str(len(made)))
                made[-1].touch()
        for crumb in made[-1 - room : -1]:
            crumb.unlink()

    def free(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.ballast.unlink()
        for crumb in self.crumbs.glob("*"):
            crumb.unlink()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    mounted: list[Path] = []

    def make(options: str) -> Disk:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted.append(path)
        return Disk(path)

    yield make
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small(mount: Callable[[str], Disk]) -> Disk:
    return mount("size=16m")


@dataclass
class OnDisk:
    """A server whose root is on a small disk, with one workspace that holds one of each kind."""

    server: RunningServer
    disk: Disk
    mine: Workspace
    states: dict[str, bytes]

    def write(self, place: str, body: bytes) -> Answer:
        """Send a new state of one place; remembered when it is stored. A session is appended to by PATCH."""
        old = self.states.get(place, b"")
        if place == "sessions/patch":
            answer = self.mine.call("PATCH", place, body, Upload_Offset=str(len(old)))
            body = old + body
        else:
            answer = self.mine.call("PUT", place, body)
        if answer.status in (200, 201):
            self.states[place] = body
        else:
            # `unavailable`: an earlier write of the same document waits for room to be finished.
            assert (answer.status, answer.code) in ((507, "storage_full"), (503, "unavailable")), answer
        return answer

    def assert_reads(self, *places: str) -> None:
        """These places, or all, are readable, and exactly what was acknowledged; nothing else is there."""
        ledger = Ledger()
        found = {}
        for place in places or self.states:
            body = self.states.get(place)
            if body is None:
                assert self.mine.call("GET", place).status == 404
                continue
            ledger.sends(place, digest(body))
            ledger.is_acknowledged(place, digest(body))
            answer = self.mine.call("GET", place)
            found[place] = digest(answer.body) if answer.status == 200 else None
        verdict = ledger.judge(found)
        assert (verdict.lost, verdict.torn) == ([], [])
        listed = {f"knowledge/{row['path']}" for row in self.mine.call("GET", "knowledge?limit=1000").json["documents"]}
        assert listed == {place for place in self.states if place.startswith("knowledge/")}
        listed = {
            f"sessions/{row['session_id']}" for row in self.mine.call("GET", "sessions?limit=1000").json["sessions"]
        }
        assert listed == {place for place in self.states if place.startswith("sessions/")}


@pytest.fixture
def on_disk(small: Disk) -> Iterator[OnDisk]:
    yield from serving(small)


def serving(disk: Disk, **options: str) -> Iterator[OnDisk]:
    server = start_server(disk.path / "memory", **options)
    server.wait_until_ready()
    with server.api() as api:
        found = OnDisk(server, disk, api.register(), {})
        for place in ("knowledge/old.md", "knowledge/a/b.md", "overview", "sessions/put", "sessions/patch"):
            assert found.write(place, line(1)).status == 201
        yield found
    server.stop()


def line(number: int, size: int = 100) -> bytes:
    return json.dumps({"type": "user", "n": number, "content": os.urandom(size // 2).hex()}).encode() + b"\n"


WRITES = {
    "a new document": lambda n: (f"knowledge/new{n}.md", line(n, 9_000)),
    "a document in a new folder": lambda n: (f"knowledge/f{n}/g/h.md", line(n, 500)),
    "a document": lambda n: ("knowledge/old.md", line(n, 9_000)),
    "the overview": lambda n: ("overview", line(n, 2_000)),
    "a new session": lambda n: (f"sessions/new{n}", line(n, 30_000)),
    "a session that diverges": lambda n: ("sessions/put", line(n, 30_000)),
    "a session that grows": lambda n: ("sessions/patch", line(n, 30_000)),
}


@pytest.mark.spec("STORE-5", "STORE-2", "HTTP-7")
def test_a_disk_that_fills_at_any_page_of_a_write_leaves_the_old_or_the_new_state(on_disk: OnDisk) -> None:
    rooms = [*range(24), *range(24, 120, 6)]
    sweep(on_disk, "full disk", on_disk.disk.fill, rooms)


@pytest.mark.spec("STORE-5", "STORE-2", "HTTP-7")
def test_running_out_of_inodes_leaves_the_old_or_the_new_state(mount: Callable[[str], Disk]) -> None:
    with contextlib.contextmanager(serving)(mount("size=24m,nr_inodes=500")) as on_disk:
        sweep(on_disk, "no inodes", on_disk.disk.fill_inodes, range(10))


def sweep(on_disk: OnDisk, name: str, fill: Callable[[int], None], rooms: Iterable[int]) -> None:
    """Every kind of write with every amount of room; then, without a restart, with enough of it."""
    for kind, make in WRITES.items():
        outcomes = []
        for room in rooms:
            fill(room)
            place, body = make(room)
            outcomes.append(on_disk.write(place, body).status)
            on_disk.assert_reads(place, "knowledge/old.md", "sessions/patch")
        on_disk.disk.free()
        assert on_disk.write(*make(1_000)).status in (200, 201)
        on_disk.assert_reads()
        stored = outcomes.count(200) + outcomes.count(201)
        print(f"{name}, {kind}: {len(outcomes) - stored} refused, {stored} stored, all whole")
        assert 0 < stored < len(outcomes)
    wait_until(lambda: on_disk.mine.api.call("GET", "/readyz").status == 200)
    assert_whole_after_a_stop(on_disk)


def assert_whole_after_a_stop(on_disk: OnDisk) -> None:
    """Nothing lies around, `check` is clean, and another start finds the same."""
    server = on_disk.server
    assert server.stop() == 0
    assert leftovers(server.root) == []
    assert check(server.root, server.env) == []
    again = start_server(server.root)
    try:
        again.wait_until_ready()
        with again.api() as api:
            OnDisk(again, on_disk.disk, on_disk.mine.by(api), on_disk.states).assert_reads()
    finally:
        again.stop()


@pytest.mark.spec("STORE-5")
def test_a_full_disk_is_a_tool_error_too_and_reads_and_searches_go_on(on_disk: OnDisk) -> None:
    on_disk.write("knowledge/find.md", b"a needle in a haystack\n")
    server = on_disk.server
    with contextlib.closing(McpClient(server.url, server.ai_token, "2026-07-28")) as client:
        binding = client.call("register_workspace", workspace_id=on_disk.mine.workspace_id)["binding"]
        on_disk.disk.fill()

        def error_of(name: str, /, **arguments: object) -> str:
            _, body = client.answer(client.prepare(name, **arguments))
            return str(json.loads(body)["result"]["structuredContent"]["error"]["code"])

        big = "x" * 200_000
        assert error_of("write_knowledge", path="big.md", text=big, binding=binding) == "storage_full"
        assert error_of("write_overview", text=big, binding=binding) == "storage_full"
        assert error_of("register_workspace", machine="box", tool="claude", project="another") == "storage_full"
        for mode in ("ranked", "literal", "regex"):
            hits = client.call("search_knowledge", query="needle", mode=mode)["hits"]
            assert [hit["path"] for hit in hits] == ["find.md"]
        assert client.call("read_knowledge", workspace_id=on_disk.mine.workspace_id, path="find.md")["text"]
        assert len(client.call("list_workspaces")["workspaces"]) == 1
    with server.api(server.admin_token) as admin:
        made = admin.call("POST", "/api/v1/tokens", b'{"name": "late", "role": "read"}')
        assert (made.status, made.code) == (507, "storage_full")
        on_disk.disk.free()
        assert admin.call("POST", "/api/v1/tokens", b'{"name": "late", "role": "read"}').status == 201
    on_disk.assert_reads()


@pytest.mark.spec("STORE-5")
def test_a_deletion_on_a_full_disk_is_done_or_refused_whole(on_disk: OnDisk) -> None:
    deleted = refused = 0
    for room in range(20):
        place = f"knowledge/d{room}.md"
        on_disk.disk.free()
        assert on_disk.write(place, line(room)).status == 201
        on_disk.disk.fill(room)
        answer = on_disk.mine.call("DELETE", place)
        assert answer.status in (200, 507), answer
        deleted += answer.status == 200
        refused += answer.status == 507
        if answer.status == 200:
            del on_disk.states[place]
        on_disk.assert_reads()
    print(f"full disk: {deleted} deletions done, {refused} refused")
    assert deleted


@pytest.mark.spec("STORE-5")
def test_below_the_floor_writes_are_refused_while_reads_and_deletions_work(mount: Callable[[str], Disk]) -> None:
    floor = 4 * 1024**2
    with contextlib.contextmanager(serving)(mount("size=16m"), MEMORY_MIN_FREE_BYTES=str(floor)) as on_disk:
        on_disk.disk.fill(room=floor // PAGE // 2)
        for kind in WRITES:
            assert on_disk.write(*WRITES[kind](1)).status == 507, kind
        ready = on_disk.mine.api.call("GET", "/readyz")
        assert ready.status == 503
        assert any("MEMORY_MIN_FREE_BYTES" in reason for reason in ready.json["reasons"])
        on_disk.assert_reads()
        assert on_disk.mine.call("DELETE", "knowledge/old.md").status == 200
        del on_disk.states["knowledge/old.md"]
        on_disk.assert_reads()

        on_disk.disk.free()

        for kind in WRITES:
            assert on_disk.write(*WRITES[kind](2)).status in (200, 201), kind
        wait_until(lambda: on_disk.mine.api.call("GET", "/readyz").status == 200)  # the index tries again by itself
        assert_whole_after_a_stop(on_disk)


@pytest.mark.spec("STORE-5")
def test_the_journal_is_emptied_once_there_is_room_again(on_disk: OnDisk) -> None:
    """A write that was let in by the last page is acknowledged, durable, and finished without a restart."""
    on_disk.disk.fill(room=40)
    for number in range(60):
        on_disk.write(f"knowledge/j{number}.md", line(number, 2_000))
    on_disk.disk.fill()
    on_disk.assert_reads()

    on_disk.disk.free()

    wait_until(lambda: on_disk.mine.api.call("GET", "/readyz").status == 200)
    on_disk.assert_reads()
    assert_whole_after_a_stop(on_disk)


@pytest.mark.spec("STORE-5")
def test_the_broken_twin_that_writes_in_place_loses_both_states(small: Disk) -> None:
    file = small.path / "naive.md"
    ledger = Ledger()
    for state in (b"old" * 10_000, b"new" * 10_000):
        ledger.sends("naive.md", digest(state))
    file.write_bytes(b"old" * 10_000)
    ledger.is_acknowledged("naive.md", digest(b"old" * 10_000))
    small.fill()

    with pytest.raises(OSError, match="No space left"):
        file.write_bytes(b"new" * 10_000 + bytes(PAGE * 8))

    assert ledger.judge({"naive.md": digest(file.read_bytes())}).torn
