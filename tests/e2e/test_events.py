"""Event streams of a real server: cut off and resumed, revoked, many at its end, and watchers that vanish."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import RunningServer, Workspace, wait_until
from tests.e2e.watching import Stream

WRITES = 2_000


def open_streams(server: RunningServer) -> int:
    with server.api(server.admin_token) as admin:
        text = admin.call("GET", "/metrics").body.decode()
    return int(
        float(next(line for line in text.splitlines() if line.startswith("federated_memory_open_streams ")).split()[1])
    )


def put(home: Workspace, key: str, value: int) -> int:
    answer = home.api.call("PUT", f"/api/v1/state/keys/{key}", b"%d" % value, X_Memory_Binding=home.binding)
    assert answer.status == 200, answer
    return int(answer.json["version"])


@pytest.mark.spec("EVENT-2")
def test_nothing_is_lost_or_told_twice_over_reconnects(server: RunningServer) -> None:
    written: list[int] = []
    heard: list[int] = []
    chance = random.Random(1)
    with server.api(server.ai_token) as api:
        home = api.register("home")
        with Stream(server) as first:
            last_id = first.until("ready")[-1]["id"]

        def write() -> None:
            written.extend(put(home, f"k{number % 7}", number) for number in range(WRITES))
            written.append(put(home, "end", 0))

        thread = threading.Thread(target=write)
        thread.start()
        reconnects, is_over = 0, False
        while not is_over:
            with Stream(server, last_id=last_id) as stream:
                reconnects += 1
                most = chance.randrange(1, 200)
                for event in stream.events():
                    last_id = event.get("id", last_id)
                    if event["event"] == "change":
                        heard.append(event["data"]["version"])
                        most -= 1
                        is_over = event["data"]["key"] == "end"
                    if is_over or not most:
                        break
        thread.join()

    assert heard == written
    assert reconnects > 5


@pytest.mark.spec("EVENT-4")
def test_watchers_that_vanish_are_freed(server: RunningServer) -> None:
    streams = [Stream(server) for _ in range(20)]
    for stream in streams:
        stream.until("ready")
    assert open_streams(server) == 20
    for number, stream in enumerate(streams):
        found = stream._connection.sock
        assert found is not None
        if number % 2:  # as when its process is killed with data unread
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        stream.close()
    wait_until(lambda: open_streams(server) == 0)


@pytest.mark.spec("EVENT-5", "AUTH-4")
def test_a_revoked_tokens_streams_end(server: RunningServer) -> None:
    with server.api(server.admin_token) as admin:
        made = admin.call("POST", "/api/v1/tokens", b'{"name": "watcher", "role": "read"}').json
        with Stream(server, token=made["token"]) as stream, Stream(server, "", made["token"]) as feed:
            stream.until("ready")
            feed.until("ready")
            assert admin.call("DELETE", "/api/v1/tokens/watcher").status == 200
            revoked = time.monotonic()
            assert list(stream.events()) == []
            assert list(feed.events()) == []
            took = time.monotonic() - revoked
        with Stream(server, token=made["token"]) as refused:
            assert refused.status == 401
    assert took < 1.0  # AUTH-4 promises a second


@pytest.mark.spec("EVENT-5", "RUN-4")
def test_a_server_with_100_streams_stops(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()
    streams = [Stream(server, "keys=*" if number % 2 else "") for number in range(100)]
    for stream in streams:
        stream.until("ready")
    started = time.monotonic()
    code = server.stop()
    took = time.monotonic() - started
    for stream in streams:
        assert list(stream.events()) == []
        stream.close()

    assert code == 0
    assert took < 5.0  # RUN-4 promises five seconds
    assert server.problems() == []


@pytest.mark.spec("EVENT-3")
def test_a_watcher_that_stops_reading_slows_nobody(server: RunningServer) -> None:
    with server.api(server.ai_token) as api, Stream(server) as stuck, Stream(server) as quick:
        home = api.register("home")
        stuck.until("ready")
        quick.until("ready")
        big = b'"' + b"x" * 50_000 + b'"'
        heard: list[int] = []

        def read() -> None:
            for event in quick.events():
                heard.append(event["data"]["version"])
                if len(heard) == 300:
                    return

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(300):  # more than the buffers on the way hold
            assert api.call("PUT", "/api/v1/state/keys/big", big, X_Memory_Binding=home.binding).status == 200
        reader.join()
        assert len(set(heard)) == 300
        told = list(stuck.events())
        assert told[-1]["event"] == "resume"
        with Stream(server, last_id=told[-1]["data"]["id"]) as again:
            rest = again.until("ready")
    changes = [event["data"]["version"] for event in (*told, *rest) if event["event"] == "change"]
    assert changes == heard


@pytest.mark.spec("EVENT-4")
def test_the_kernel_is_told_to_notice_a_peer_that_is_gone(server: RunningServer) -> None:
    """`tests/fault/test_cut_cable.py` pulls the cable; what is looked at here is the limit of the connection itself."""
    from federated_memory.web import live_stream, protocol

    class Transport:
        def __init__(self, found: socket.socket) -> None:
            self.found = found

        def get_extra_info(self, name: str) -> socket.socket:
            assert name == "socket"
            return self.found

    with socket.socket() as mine:
        live_stream._notice_silence({"type": "http", "extensions": {protocol.TRANSPORT: Transport(mine)}})
        assert mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 18_000
    assert live_stream.HEARTBEAT_SECONDS + live_stream.STALL_SECONDS < 30
    with Stream(server) as stream:  # and the real protocol hands its transport over
        assert stream.status == http.client.OK
