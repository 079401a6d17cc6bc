"""nginx as shipped, with real TLS: what must pass passes, what must stop stops (SPEC: DEPLOY-4 to DEPLOY-6).

Each promise has a broken twin: the same site with the one line undone, which the same look must find broken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import ssl
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer, wait_until
from tests.e2e.hosts import free_port
from tests.e2e.shipped import DEPLOY, Proxy, shipped_nginx
from tests.e2e.upstream import EVENTS, Upstream

UPLOAD_BYTES = 200 * 1024**2
BOTH_ERAS = {
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "search_memory",
    "Mcp-Session-Id": "0123456789abcdef",
    "Last-Event-ID": "42",
    "Accept": "application/json, text/event-stream",
    "Authorization": "Bearer one",
    "X-Memory-Binding": "b" * 900,
    "X-Write-Token": "w",
    "Upload-Offset": "7",
    "If-Match": '"etag"',
}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def public_port() -> int:
    return free_port("127.0.0.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, public_port: int) -> Iterator[RunningServer]:
    """A real server that is set up as the installer does it."""
    from tests.e2e.conftest import start_server

    running = start_server(
        tmp_path_factory.mktemp("server") / "memory",
        PUBLIC_URL=f"https://localhost:{public_port}",
        MEMORY_TRUSTED_PROXIES="127.0.0.1",
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def proxy(server: RunningServer, public_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The shipped site in front of `server`."""
    folder = tmp_path_factory.mktemp("nginx") / "site"
    with shipped_nginx(folder, f"127.0.0.1:{server.address[1]}", public_port) as running:
        yield running


def undone(line: str, instead: str = "") -> Callable[[str], str]:
    """The site with one of its lines undone."""

    def edit(site: str) -> str:
        assert line in site
        return site.replace(line, instead)

    return edit


@contextlib.contextmanager
def twin(folder: Path, upstream: str, line: str, instead: str = "") -> Iterator[Proxy]:
    with shipped_nginx(folder, upstream, free_port("127.0.0.1"), undone(line, instead)) as running:
        yield running


# -- what passes


def read_events(proxy: Proxy, upstream: Upstream) -> list[float]:
    """Each event's lag in ms. Every event is sent only when the one before it has been read."""
    lags: list[float] = []
    with contextlib.closing(proxy.connect()) as connection:
        connection.request("GET", "/events")
        with connection.getresponse() as answer:
            while line := answer.readline():
                if line.startswith(b"id:"):
                    number = int(line[3:])
                    if len(upstream.sent_at) > number + 1:
                        break
                    lags.append((time.monotonic() - upstream.sent_at[number]) * 1000)
                    upstream.may_go_on.release()
    return lags


@pytest.mark.spec("DEPLOY-4")
def test_events_are_not_held_back(upstream: Upstream, tmp_path: Path) -> None:
    with shipped_nginx(tmp_path / "site", upstream.address, free_port("127.0.0.1")) as proxy:
        lags = read_events(proxy, upstream)
    print(f"event lag through nginx: p50 {statistics.median(lags):.2f} ms, most {max(lags):.2f} ms")
    assert len(lags) == EVENTS

    upstream.sent_at.clear()
    with twin(tmp_path / "twin", upstream.address, "proxy_buffering off; ", "proxy_buffering on; ") as buffering:
        buffering.ask("GET", "/events")
    assert len(upstream.sent_at) == 1, "a buffering proxy showed the first event before the stream's end"


@pytest.mark.spec("DEPLOY-3", "DEPLOY-4")
def test_two_hundred_megabytes_pass_without_touching_the_disk(
    server: RunningServer, proxy: Proxy, tmp_path: Path
) -> None:
    line = json.dumps({"type": "user", "message": {"role": "user", "content": "x" * 65_000}}).encode() + b"\n"
    count = UPLOAD_BYTES // len(line) + 1
    size, digest = count * len(line), hashlib.sha256()
    for _ in range(count):
        digest.update(line)
    with server.api() as api:
        workspace = api.register(project="uploads")
    headers = {
        "Authorization": f"Bearer {server.sync_token}", "X-Write-Token": workspace.write_token,
        "Content-Length": str(size), "Content-Type": "application/jsonl",
    }  # fmt: skip

    with contextlib.closing(proxy.connect()) as connection:
        connection.request("PUT", f"{workspace.url}/sessions/long", (line for _ in range(count)), headers)
        with connection.getresponse() as answer:
            stored = json.loads(answer.read())
        assert (answer.status, stored["sha256"]) == (201, digest.hexdigest()), stored
        bearer = {"Authorization": headers["Authorization"]}
        connection.request("GET", f"{workspace.url}/sessions/long", headers=bearer)
        back = hashlib.sha256()
        with connection.getresponse() as answer:
            while part := answer.read(1024**2):
                back.update(part)
    assert back.hexdigest() == digest.hexdigest()
    assert proxy.spooled == []
    used, allowed = most_memory(server), memory_high()
    print(f"most memory of the server with a {UPLOAD_BYTES >> 20} MB transcript: {used >> 20} of {allowed >> 20} MB")
    assert used < allowed

    spools = "proxy_request_buffering off; ", "proxy_request_buffering on; "
    with twin(tmp_path / "twin", f"127.0.0.1:{server.address[1]}", *spools) as buffering:
        headers["Content-Length"] = str(40 * len(line))
        part = (line for _ in range(40))
        assert buffering.ask("PUT", f"{workspace.url}/sessions/short", part, headers)[0] == 201
        assert buffering.spooled != []


def most_memory(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def memory_high() -> int:
    """Past this the shipped unit is slowed."""
    return int(re.findall(r"^MemoryHigh=(\d+)M$", (DEPLOY / "mcp-memory.service").read_text(), re.MULTILINE)[0]) << 20


@pytest.mark.spec("DEPLOY-4")
def test_a_wrong_token_is_told_before_the_body_is_sent(proxy: Proxy) -> None:
    with contextlib.closing(proxy.connect()) as connection:
        connection.putrequest("PUT", "/api/v1/workspaces/any/sessions/one")
        connection.putheader("Authorization", "Bearer wrong")
        connection.putheader("Content-Length", str(UPLOAD_BYTES))
        connection.endheaders()
        with connection.getresponse() as answer:
            assert answer.status == 401
    assert proxy.spooled == []


@pytest.mark.spec("DEPLOY-4")
def test_the_headers_of_both_eras_pass_and_forged_ones_do_not(upstream: Upstream, tmp_path: Path) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    with shipped_nginx(tmp_path / "site", upstream.address, free_port("127.0.0.1")) as proxy:
        asked = "GET", "/mcp?a=b%20c", None, {**BOTH_ERAS, **forged}
        _, headers, body = proxy.ask(*asked, source="127.0.0.7")
        seen = json.loads(body)
        assert {name: seen.get(name.lower()) for name in BOTH_ERAS} == BOTH_ERAS
        assert seen["x-forwarded-for"] == "127.0.0.7"
        assert (seen["x-forwarded-proto"], seen["host"]) == ("https", f"localhost:{proxy.port}")
        assert not {"forwarded", "x-real-ip"} & seen.keys()
        assert headers["X-Path"] == "/mcp?a=b%20c"
        assert [headers[name] for name in ("Mcp-Session-Id", "ETag", "Upload-Offset")] == ["s", '"e"', "7"]
        wait_until(lambda: "GET /mcp" in proxy.log())
        assert "a=b" not in proxy.log()
        assert "Bearer" not in proxy.log()


# -- what stops


def statuses(proxy: Proxy, count: int, source: str, token: str = "") -> Counter[int]:
    """The answers to a burst, sent in one piece over one connection."""
    request = (
        f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{f'Authorization: Bearer {token}' if token else 'X: y'}\r\n\r\n"
    )
    found: Counter[int] = Counter()
    with (
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS, (source, 0)) as plain,
        proxy.context.wrap_socket(plain, server_hostname="localhost") as secure,
        secure.makefile("rb") as answers,
    ):
        secure.sendall(request.encode() * count)
        for _ in range(count):
            status, length = int(answers.readline().split()[1]), 0
            found[status] += 1
            while (line := answers.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            answers.read(length)
    return found


@pytest.mark.spec("DEPLOY-5")
def test_too_many_requests_from_an_address_or_with_a_token_are_answered_with_429(
    server: RunningServer, proxy: Proxy, tmp_path: Path
) -> None:
    by_address = statuses(proxy, 200, "127.0.0.21")
    assert set(by_address) == {200, 429}
    assert by_address[200] >= 41
    assert statuses(proxy, 10, "127.0.0.22") == {200: 10}, "another address paid for it"

    by_token = sum((statuses(proxy, 20, f"127.0.1.{number}", "one-token") for number in range(1, 11)), Counter())
    assert set(by_token) == {200, 429}
    other = sum((statuses(proxy, 20, f"127.0.2.{number}", f"token-{number}") for number in range(1, 11)), Counter())
    assert other == {200: 200}

    with twin(
        tmp_path / "twin", f"127.0.0.1:{server.address[1]}", "    limit_req zone=", "    # limit_req zone="
    ) as open_door:
        assert statuses(open_door, 200, "127.0.0.21") == {200: 200}


@pytest.mark.spec("DEPLOY-5")
def test_what_nginx_answers_itself_is_a_problem_in_json(proxy: Proxy, tmp_path: Path) -> None:
    status, headers, body = 200, None, b""
    with contextlib.closing(proxy.connect(source="127.0.0.23")) as connection:
        while status == 200:
            connection.request("GET", "/healthz")
            with connection.getresponse() as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
    assert status == 429
    assert headers is not None
    assert headers["Content-Type"] == "application/problem+json"
    assert int(headers["Retry-After"]) > 0
    assert json.loads(body)["code"] == "rate_limited"

    nobody = f"127.0.0.1:{free_port('127.0.0.1')}"
    with shipped_nginx(tmp_path / "down", nobody, free_port("127.0.0.1")) as down:
        status, _, body = down.ask("POST", "/mcp", b"{}")
        assert (status, json.loads(body)["code"]) == (503, "unavailable")


@pytest.mark.spec("DEPLOY-5")
def test_who_dawdles_is_closed(server: RunningServer, proxy: Proxy, tmp_path: Path) -> None:
    halves = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow:",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
        b"Accept: application/json, text/event-stream\r\nContent-Length: 100\r\n\r\n{" % server.ai_token.encode(),
    ]
    patient = undone("client_header_timeout 5s", "client_header_timeout 600s")

    def edit(site: str) -> str:
        return undone("client_body_timeout 10s", "client_body_timeout 600s")(patient(site))

    upstream = f"127.0.0.1:{server.address[1]}"
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(shipped_nginx(tmp_path / "twin", upstream, free_port("127.0.0.1"), edit))
        waiting = {}
        for running in (slow, proxy):
            for half in (b"", *halves):  # nothing at all: not even the TLS handshake goes on
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), PATIENCE_SECONDS))
                if half:
                    plain = stack.enter_context(running.context.wrap_socket(plain, server_hostname="localhost"))
                    plain.sendall(half)
                waiting[running.port, half[:4]] = plain
        for half in (b"", *halves):
            assert is_over(waiting[proxy.port, half[:4]]), half
        # The body of the twin meets the server's own limit later; the head is nginx's alone.
        for half in (b"", halves[0]):
            assert is_open(waiting[slow.port, half[:4]]), half


def is_open(connection: socket.socket) -> bool:
    """Whether nothing has come by now, nor the end."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
        connection.recv(1)
        return False
    return True


def is_over(connection: socket.socket) -> bool:
    """Whether the other side ends it, with an answer or without."""
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.spec("DEPLOY-5")
def test_a_forged_address_counts_for_nothing_and_the_log_has_the_real_one(
    server: RunningServer, proxy: Proxy, tmp_path: Path
) -> None:
    def fails(through: Proxy, source: str, path: str) -> str:
        forged = {"Authorization": "Bearer wrong", "X-Forwarded-For": "203.0.113.66, 127.0.0.1"}
        assert through.ask("GET", path, None, forged, source)[0] == 401
        wait_until(lambda: any(f'path="{path}"' in line for line in server.log))
        return next(line for line in server.log if f'path="{path}"' in line)

    assert " AUTH_FAIL ip=127.0.0.31 " in fails(proxy, "127.0.0.31", "/api/v1/search")
    wait_until(lambda: '127.0.0.31 "GET /api/v1/search" 401' in proxy.log())
    trusting = "proxy_set_header X-Forwarded-For $remote_addr", "proxy_set_header X-Forwarded-For $http_x_forwarded_for"
    with twin(tmp_path / "twin", f"127.0.0.1:{server.address[1]}", *trusting) as gullible:
        assert " AUTH_FAIL ip=203.0.113.66 " in fails(gullible, "127.0.0.32", "/api/v1/brief")


@pytest.mark.spec("DEPLOY-5")
@pytest.mark.parametrize("is_twin", [False, True], ids=["shipped", "twin"])
def test_metrics_are_for_this_machine_only(upstream: Upstream, tmp_path: Path, is_twin: bool) -> None:
    ways = ["/metrics", "/metrics/", "//metrics", "/./metrics", "/x/../metrics", "/%6Detrics", "/metrics?x=1"]
    edit = undone("location ^~ /metrics", "location ^~ /elsewhere") if is_twin else str
    with shipped_nginx(tmp_path / "site", upstream.address, free_port("127.0.0.1"), edit) as proxy:
        for way in ways:
            assert proxy.ask("GET", way)[0] == (200 if is_twin else 404), way
    assert len(upstream.paths) == (len(ways) if is_twin else 0)
