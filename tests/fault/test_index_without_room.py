"""No room for the index: writes go on, searches read the files, the server says so, and goes on by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from scripts.bench.wire import McpClient
from tests.e2e.conftest import wait_until
from tests.fault.test_full_disk import PAGE, Disk, mount, serving

__all__ = ["mount"]

FLOOR = 4 * 1024**2


@pytest.mark.spec("INDEX-9")
def test_without_room_for_the_index_all_else_goes_on(mount: Callable[[str], Disk]) -> None:
    with contextlib.contextmanager(serving)(mount("size=48m"), MEMORY_MIN_FREE_BYTES=str(FLOOR)) as on_disk:
        server, api = on_disk.server, on_disk.mine.api
        on_disk.disk.fill(room=FLOOR * 3 // 2 // PAGE)  # enough to write, too little to index

        assert on_disk.write("knowledge/late.md", b"about zeppelins\n").status == 201
        assert (
            on_disk.write("sessions/late", b'{"type":"user","message":{"content":"zeppelins, again"}}\n').status == 201
        )
        wait_until(lambda: api.call("GET", "/readyz").status == 503)
        reasons = api.call("GET", "/readyz").json["reasons"]
        assert [reason.partition(":")[0] for reason in reasons] == ["index"]
        with server.api(server.admin_token) as admin:
            assert admin.call("GET", "/api/v1/status").json["index"]["state"] == "failing"
        with contextlib.closing(McpClient(server.url, server.ai_token, "2026-07-28")) as client:
            found = client.call("search_memory", query="zeppelin")
            assert {hit["kind"] for hit in found["hits"]} == {"knowledge", "session"}
            assert "searched directly" in found["note"]
            on_disk.disk.free()
            wait_until(lambda: api.call("GET", "/readyz").status == 200)
            found = client.call("search_memory", query="zeppelin")
            assert {hit["kind"] for hit in found["hits"]} == {"knowledge", "session"}
            assert "note" not in found
        on_disk.assert_reads()
