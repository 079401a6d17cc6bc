"""A disk that turned read-only, no file descriptors left, files that may not grow: clear errors, and well again without
a restart (SPEC: STORE-5)."""

from __future__ import annotations

import http.client
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Answer, RunningServer, Workspace, wait_until
from tests.fault.injection import FILE_CALLS, Injection, ensure_strace
from tests.fault.rig import check, leftovers

pytestmark = pytest.mark.timeout(600)

LINE = b'{"type":"user","message":{"role":"user","content":"zebra"},"timestamp":"2026-11-20T08:00:00Z"}\n'
REFUSED = ((503, "unavailable"), (507, "storage_full"))
KILLS = 50 if os.environ.get("FAULT_FULL") == "1" else 3
PLACES = ("knowledge/a.md", "knowledge/new/b.md", "overview", "sessions/s1", "sessions/s2")


def body_of(place: str, number: int) -> bytes:
    return LINE * number if place.startswith("sessions") else b"# zebra %d of %s\n" % (number, place.encode())


def filled(api: object, server: RunningServer) -> Workspace:
    mine: Workspace = api.register()  # type: ignore[attr-defined]
    for place in ("knowledge/a.md", "overview", "sessions/s1"):
        assert mine.call("PUT", place, body_of(place, 1)).status == 201
    wait_until(lambda: b"zebra" in mine.api.call("GET", "/api/v1/search?query=zebra").body)
    assert server.process.poll() is None
    return mine


def assert_well(mine: Workspace, server: RunningServer, number: int) -> None:
    """Everything can be written and read, by the same process, and nothing is left of what was refused."""
    for place in PLACES:
        assert mine.call("PUT", place, body_of(place, number)).status in (200, 201), place
        assert mine.call("GET", place).body == body_of(place, number)
    assert server.process.poll() is None
    assert check(server.root, server.env) == []
    assert server.stop() == 0
    # What could not even be unlinked on the read-only disk goes at the next start.
    assert [name for name in leftovers(server.root) if not name.startswith("_meta/tmp/")] == []
    assert check(server.root, server.env) == []


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.code) in REFUSED, answer
    assert b"Traceback" not in answer.body


@contextmanager
def limited(server: RunningServer, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(server.process.pid, what)
    resource.prlimit(server.process.pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, what, before)


@pytest.mark.spec("STORE-5", "ARCH-6")
def test_on_a_disk_that_turned_read_only_reads_go_on(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    """A file system with open files cannot be made so on demand: its calls answer as they would then."""
    ensure_strace()
    server = serve()
    server.wait_until_ready()
    with server.api() as api:
        mine = filled(api, server)
        calls = tuple(call for call in FILE_CALLS if call != "write")  # the event loop's own wake-ups are writes
        with Injection(server.process.pid, tmp_path / "trace", calls, "error=EROFS", "1+") as injection:  # type: ignore[arg-type]
            for place in PLACES:
                assert_refused(mine.call("PUT", place, body_of(place, 2)))
            assert_refused(mine.call("DELETE", "knowledge/a.md"))
            for place in ("knowledge/a.md", "overview", "sessions/s1"):
                assert mine.call("GET", place).body == body_of(place, 1), place
            assert mine.call("GET", "knowledge/new/b.md").status == 404
            assert b"a.md" in mine.api.call("GET", "/api/v1/search?query=zebra").body
            assert injection.failed(), "the broken twin: nothing was refused by the system"
        assert_well(mine, server, 3)


@pytest.mark.spec("STORE-5")
def test_without_file_descriptors_requests_are_refused_in_words(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()
    with server.api() as api:
        mine = filled(api, server)
        used = max(int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd"))
        with limited(server, resource.RLIMIT_NOFILE, used + 1):
            answers = [mine.call("PUT", place, body_of(place, 2)) for place in PLACES]
            answers += [mine.call("GET", place) for place in PLACES[:3]]
            assert [answer for answer in answers if answer.status >= 400], "the broken twin: there were enough"
            for answer in answers:
                if answer.status >= 400:
                    assert_refused(answer)
            assert api.call("GET", "/healthz").status == 200
        assert_well(mine, server, 3)


@pytest.mark.spec("STORE-5", "ARCH-6")
def test_where_files_may_not_grow_small_ones_are_still_written(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()
    with server.api() as api:
        mine = filled(api, server)
        # Not packed well, and larger than the limit.
        large = b"".join(LINE.replace(b"zebra", os.urandom(2_000).hex().encode()) for _ in range(2_000))
        most = max(path.stat().st_size for path in (server.root / "_meta").glob("*.sqlite3*")) + 1_500_000
        with limited(server, resource.RLIMIT_FSIZE, most):
            assert_refused(mine.call("PUT", "sessions/large", large))
            assert mine.call("GET", "sessions/large").status == 404
            assert mine.call("PUT", "knowledge/a.md", b"# zebra small").status == 200
            assert mine.call("GET", "sessions/s1").body == LINE
        assert mine.call("PUT", "sessions/large", large).status == 201
        assert mine.call("GET", "sessions/large").body == large
        assert_well(mine, server, 3)


@pytest.mark.spec("STORE-1", "ARCH-8")
def test_locks_that_a_killed_server_held_hold_nobody_up(serve: Callable[..., RunningServer]) -> None:
    """The root's lock, and that of a session whose upload was under way; a second server is refused all the while."""
    left: list[bool] = []
    for number in range(KILLS):
        server = serve()
        server.wait_until_ready()
        with server.api() as api:
            mine = api.register(f"p{number}")
            connection = http.client.HTTPConnection(*server.address, timeout=30)
            connection.putrequest("PUT", f"{mine.url}/sessions/half")
            for name, value in (
                ("Authorization", f"Bearer {server.sync_token}"), ("X-Write-Token", mine.write_token),
                ("Content-Length", str(1_000_000)),
            ):  # fmt: skip
                connection.putheader(name, value)
            connection.endheaders(LINE * 1_000)  # and never the rest
            beside = subprocess.run(
                [sys.executable, "-m", "federated_memory", "serve"], env=server.env, cwd=server.root.parent,
                capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
            assert beside.returncode == 14, beside.stderr
            pid_file = server.root.parent / "naive.pid"
            pid_file.write_text(str(server.process.pid))
            server.process.kill()
            server.wait()
            connection.close()
        left.append(pid_file.exists())  # the broken twin: what such a lock would still say
        again = serve()
        again.wait_until_ready()
        with again.api() as api:
            answer = mine.by(api).call("PUT", "sessions/half", LINE)
            assert answer.status == 201, answer
        assert again.stop() == 0
    assert all(left)
    assert check(again.root, again.env) == []
