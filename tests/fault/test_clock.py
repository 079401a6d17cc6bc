"""Clocks that jump: versions keep their numbers and their order, and nothing is overwritten. Made with libfaketime."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.bench.wire import McpClient
from tests.e2e.conftest import RunningServer, Workspace
from tests.fault.ledger import digest
from tests.fault.rig import check, leftovers

JUMPS = ["+0", "-1d", "+3650d", "-1d", "+0"]
LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")

Serve = Callable[..., RunningServer]


def faketime() -> str:
    for pattern in LIBRARIES:
        for found in Path("/").glob(pattern.lstrip("/")):
            return str(found)
    pytest.skip("libfaketime is not installed (Debian: libfaketime)")


class Clock:
    """The wall clock of one server; timeouts go by another one, which stays as it is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")
        self.options = {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        self._file.write_text(offset + "\n")


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def write_all(workspace: Workspace, number: int) -> tuple[str, str]:
    """A version of a document, and a revision of a session; their digests."""
    document = f"# Number {number}\n".encode()
    session = json.dumps({"type": "user", "message": {"role": "user", "content": f"turn {number}"}}).encode() + b"\n"
    stored = workspace.call("PUT", "knowledge/a.md", document)
    assert stored.status in (200, 201), stored
    assert stored.json["version"] == number
    stored = workspace.call("PUT", "sessions/s", session)
    assert stored.status in (200, 201), stored
    assert stored.json["revision"] == number
    return digest(document), digest(session)


def assert_order(workspace: Workspace, written: list[tuple[str, str]]) -> list[str]:
    """Every version and revision, by number, is what was written then; the times that are shown, oldest first."""
    rows = workspace.call("GET", "versions/a.md").json["versions"]
    assert [row["version"] for row in rows] == list(range(len(written), 0, -1))
    assert [row["etag"] for row in reversed(rows)] == [document for document, _ in written]
    for number, (document, session) in enumerate(written, 1):
        assert digest(workspace.call("GET", f"knowledge/a.md?version={number}").body) == document
        assert digest(workspace.call("GET", f"sessions/s?revision={number}").body) == session
    assert digest(workspace.call("GET", "knowledge/a.md").body) == written[-1][0]
    assert digest(workspace.call("GET", "sessions/s").body) == written[-1][1]
    return [row["at"] for row in reversed(rows)]


@pytest.mark.spec("VER-1", "FEED-1")
@pytest.mark.parametrize("restarts", [True, False])
def test_a_clock_that_jumps_overwrites_nothing_and_order_goes_by_number(
    serve: Serve, clock: Clock, restarts: bool
) -> None:
    """A day back, ten years on, and back again; with the server stopped meanwhile, or running."""
    written: list[tuple[str, str]] = []
    workspace: Workspace | None = None
    server = serve(**clock.options)
    for offset in JUMPS:
        if restarts:
            server.stop()
            clock.set(offset)
            server = serve(**clock.options)
        else:
            clock.set(offset)
        server.wait_until_ready()
        with server.api() as api:
            workspace = workspace.by(api) if workspace else api.register()
            for _ in range(3):  # several within a second
                written.append(write_all(workspace, len(written) + 1))
            times = assert_order(workspace, written)
            assert len(api.call("GET", "/api/v1/workspaces").json["workspaces"]) == 1

    years = [int(at[:4]) for at in times]
    assert max(years) - min(years) in (9, 10), "the clock was not moved"
    assert times != sorted(times)  # time is for show: sorted by it, the order would be another
    assert server.problems() == [], server.shown()
    assert server.stop() == 0
    assert leftovers(server.root) == []
    assert check(server.root, {**server.env, "LD_PRELOAD": ""}) == []


@pytest.mark.spec("BIND-5", "AUTH-4")
def test_a_clock_that_jumps_ends_bindings_and_tokens_and_nothing_else(serve: Serve, clock: Clock) -> None:
    server = serve(**clock.options)
    with server.api(server.admin_token) as admin:
        made = admin.call("POST", "/api/v1/tokens", b'{"name": "short", "role": "ai", "expires": "90d"}').json["token"]
    with contextlib.closing(McpClient(server.url, server.ai_token, "2026-07-28")) as client, server.api(made) as short:
        binding = client.call("register_workspace", machine="box", tool="claude", project="shop")["binding"]
        client.call("write_knowledge", path="a.md", text="before", binding=binding)
        assert short.call("GET", "/api/v1/workspaces").status == 200

        clock.set("+3650d")
        _, body = client.answer(client.prepare("write_knowledge", path="a.md", text="late", binding=binding))
        assert json.loads(body)["result"]["structuredContent"]["error"]["code"] == "not_bound"
        assert short.call("GET", "/api/v1/workspaces").status == 401
        renewed = client.call("register_workspace", workspace_id="box-claude-shop")["binding"]
        assert client.call("write_knowledge", path="a.md", text="after", binding=renewed)["version"] == 2

        clock.set("-1d")
        assert client.call("write_knowledge", path="a.md", text="again", binding=binding)["version"] == 3
    assert server.problems() == [], server.shown()


@pytest.mark.spec("HTTP-6", "RUN-4")
def test_timeouts_do_not_go_by_the_clock_that_jumps(serve: Serve, clock: Clock) -> None:
    server = serve(MEMORY_BODY_TIMEOUT_SECONDS="20", MEMORY_SCAN_INTERVAL_SECONDS="0.2", **clock.options)
    server.wait_until_ready()
    with server.api() as api:
        workspace = api.register()
        for offset in JUMPS:
            clock.set(offset)
            file = server.root / "workspaces" / workspace.workspace_id / "knowledge" / f"hand{offset}.md"
            file.parent.mkdir(exist_ok=True)
            file.write_text("by hand")
            assert workspace.call("GET", f"knowledge/hand{offset}.md").body == b"by hand"
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 5


# -- the broken twin: versions named by the time of writing


def names_by_time(folder: Path, clock: Iterator[float]) -> list[str]:
    """Write three versions as one would at first; what they are in the order of their names."""
    for number in (1, 2, 3):
        name = time.strftime("%Y%m%dT%H%M%S", time.gmtime(next(clock)))
        (folder / f"a.md.{name}").write_text(str(number))
    return [file.read_text() for file in sorted(folder.iterdir())]


@pytest.mark.spec("VER-1")
@pytest.mark.parametrize(
    ("jumps", "fault"), [((0, -86_400, 10), "another order"), ((0, 0.1, 10), "one overwritten"), ((0, 10, 20), "")]
)
def test_the_broken_twin_that_names_versions_by_time_is_caught(
    tmp_path: Path, jumps: tuple[float, ...], fault: str
) -> None:
    found = names_by_time(tmp_path, iter([1_800_000_000 + jump for jump in jumps]))
    faults = {"another order": sorted(found) == ["1", "2", "3"] != found, "one overwritten": len(found) < 3}
    assert [name for name, is_so in faults.items() if is_so] == ([fault] if fault else [])
