"""Clients that are broken or mean: what they send is refused early, costs little, and nobody else notices."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from scripts.bench.wire import Connection, McpClient
from tests.e2e.conftest import PATIENCE_SECONDS, Answer, RunningServer, Workspace, start_server, wait_until

MIB = 1024**2
BODY_TIMEOUT_SECONDS = 1
OLD = b'{"type":"user","message":{"role":"user","content":"kept"}}\n'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that drops stalled bodies after a second, and that nothing in this module may upset."""
    running = start_server(
        tmp_path_factory.mktemp("hostile") / "memory", MEMORY_BODY_TIMEOUT_SECONDS=str(BODY_TIMEOUT_SECONDS)
    )
    running.wait_until_ready()
    yield running
    assert running.stop() == 0
    assert running.problems() == [], running.shown()


@pytest.fixture
def workspace(hostile: RunningServer, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    """A workspace of the test's own, with one document, one overview and one session in it; nothing of it changes."""
    with hostile.api() as api:
        mine = api.register(f"p{zlib.crc32(request.node.name.encode()):08x}")
        for place in ("knowledge/kept.md", "overview", "sessions/kept"):
            assert mine.call("PUT", place, OLD).status == 201
        yield mine
        for place in ("knowledge/kept.md", "overview", "sessions/kept"):
            assert mine.call("GET", place).body == OLD
        assert list((hostile.root / "_meta" / "tmp").iterdir()) == []


def head_of(server: RunningServer, method: str, path: str, token: str, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {server.address[0]}", f"Authorization: Bearer {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(server.address, timeout=PATIENCE_SECONDS)


def answer_of(connection: socket.socket) -> bytes:
    """Everything until the server has closed the connection, or has nothing more to say for now."""
    received = b""
    while b"\r\n\r\n" not in received or not is_whole(received):
        data = connection.recv(65_536)
        if not data:
            break
        received += data
    return received


def is_whole(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length:")
    return len(body) >= int(length.split(b"\r\n")[0] or 0)


def is_closed(connection: socket.socket) -> bool:
    """Has the server ended the connection?"""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


UPLOADS = [
    ("PUT", "{ws}/knowledge/a.md", "1048577"),
    ("PUT", "{ws}/overview", "1048577"),
    ("PUT", "{ws}/sessions/big", str(4 * 1024**3 + 1)),
    ("PATCH", "{ws}/sessions/kept", str(4 * 1024**3 + 1)),
    ("POST", "{ws}/plan", "99999999"),
    ("POST", "/api/v1/workspaces", "99999999"),
    ("POST", "/mcp", "4194305"),
]


# -- too much


@pytest.mark.spec("HTTP-6")
@pytest.mark.parametrize(("method", "path", "length"), UPLOADS)
def test_a_body_over_its_cap_is_refused_before_a_byte_of_it_is_sent(
    hostile: RunningServer, workspace: Workspace, method: str, path: str, length: str
) -> None:
    token = hostile.ai_token if path == "/mcp" else hostile.sync_token
    more = {"Accept": "application/json, text/event-stream", "Content_Type": "application/json"}
    if path != "/mcp":
        more = {"X_Write_Token": workspace.write_token, "Upload_Offset": str(len(OLD))}
    head = head_of(hostile, method, path.format(ws=workspace.url), token, Content_Length=length, **more)

    with connect(hostile) as connection:
        started = time.monotonic()
        connection.sendall(head)
        answer = answer_of(connection)
        elapsed = time.monotonic() - started

    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert elapsed < BODY_TIMEOUT_SECONDS  # not because it stalled


@pytest.mark.spec("HTTP-6")
@pytest.mark.parametrize("expects", [False, True])
def test_a_body_of_untold_length_is_refused_once_it_is_over_its_cap(
    hostile: RunningServer, workspace: Workspace, expects: bool
) -> None:
    chunk = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    for method, path, token in (
        ("PUT", f"{workspace.url}/knowledge/a.md", hostile.sync_token),
        ("POST", "/mcp", hostile.ai_token),
    ):
        head = head_of(
            hostile, method, path, token, Transfer_Encoding="chunked", X_Write_Token=workspace.write_token,
            Accept="application/json, text/event-stream", Content_Type="application/json",
            **({"Expect": "100-continue"} if expects else {}),
        )  # fmt: skip
        with connect(hostile) as connection:
            connection.sendall(head)
            if expects:
                assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            for _ in range(5):
                connection.sendall(chunk)
            assert answer_of(connection).startswith(b"HTTP/1.1 413 ")
    assert workspace.call("GET", "knowledge/a.md").status == 404


@pytest.mark.spec("AUTH-1")
@pytest.mark.parametrize(("method", "path", "length"), UPLOADS)
def test_a_wrong_token_is_refused_before_a_byte_of_the_body_is_sent(
    hostile: RunningServer, workspace: Workspace, method: str, path: str, length: str
) -> None:
    head = head_of(hostile, method, path.format(ws=workspace.url), "wrong", Content_Length=length)
    with connect(hostile) as connection:
        started = time.monotonic()
        connection.sendall(head)
        assert answer_of(connection).startswith(b"HTTP/1.1 401 ")
        assert is_closed(connection)
        assert time.monotonic() - started < BODY_TIMEOUT_SECONDS


@pytest.mark.spec("AUTH-8")
def test_a_wrong_write_token_is_refused_before_the_body_is_read(hostile: RunningServer, workspace: Workspace) -> None:
    for place in ("knowledge/a.md", "overview", "sessions/kept"):
        head = head_of(
            hostile, "PUT", f"{workspace.url}/{place}", hostile.sync_token, Content_Length="500", X_Write_Token="wrong"
        )
        with connect(hostile) as connection:
            started = time.monotonic()
            connection.sendall(head)
            assert answer_of(connection).startswith(b"HTTP/1.1 403 ")
            assert time.monotonic() - started < BODY_TIMEOUT_SECONDS


# -- too slow


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in UPLOADS])
@pytest.mark.parametrize("sent", [0, 20])
def test_a_body_that_stalls_is_dropped(
    hostile: RunningServer, workspace: Workspace, method: str, path: str, sent: int
) -> None:
    token = hostile.ai_token if path == "/mcp" else hostile.sync_token
    head = head_of(
        hostile, method, path.format(ws=workspace.url), token, Content_Length="1000", Upload_Offset=str(len(OLD)),
        X_Write_Token=workspace.write_token, Accept="application/json, text/event-stream",
        Content_Type="application/json",
    )  # fmt: skip
    with connect(hostile) as connection:
        connection.sendall(head + b'{"jsonrpc":"2.0","id":1,"method":"ping"}'[:sent])
        answer = answer_of(connection)
        assert is_closed(connection)

    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"unavailable"' in answer
    assert workspace.call("GET", "knowledge/a.md").status == 404
    assert workspace.call("HEAD", "sessions/big").status == 404


@pytest.mark.spec("HTTP-6")
def test_a_slow_body_that_keeps_coming_is_taken(hostile: RunningServer, workspace: Workspace) -> None:
    body = b"# Slow\n"
    head = head_of(
        hostile, "PUT", f"{workspace.url}/knowledge/slow.md", hostile.sync_token, Content_Length=str(len(body)),
        X_Write_Token=workspace.write_token, Expect="100-continue",
    )  # fmt: skip
    with connect(hostile) as connection:
        connection.sendall(head)
        connection.recv(100)
        for byte in body:
            time.sleep(BODY_TIMEOUT_SECONDS / 4)  # slowness is what is tested
            connection.sendall(bytes([byte]))
        assert answer_of(connection).startswith(b"HTTP/1.1 201 ")


# -- too dense


@dataclass(frozen=True)
class Bomb:
    name: str
    encoding: str
    data: bytes
    inflated: int


def gzip_bomb() -> Bomb:
    """One member, 1,029:1."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(MIB)
    data = b"".join(squeeze.compress(zeros) for _ in range(256)) + squeeze.flush()
    return Bomb("gzip", "gzip", data, 256 * MIB)


def zstd_bomb() -> Bomb:
    """One frame, over 30,000:1."""
    squeeze = zstandard.ZstdCompressor(level=19).compressobj(size=256 * MIB)
    zeros = bytes(MIB)
    data = b"".join(squeeze.compress(zeros) for _ in range(256)) + squeeze.flush()
    return Bomb("zstd", "zstd", data, 256 * MIB)


def empty_members() -> Bomb:
    return Bomb("50,000 empty members", "gzip", gzip.compress(b"", mtime=0) * 50_000, 0)


def many_frames() -> Bomb:
    frame = zstandard.ZstdCompressor().compress(b"")
    return Bomb("50,000 empty frames", "zstd", frame * 50_000, 0)


BOMBS: list[Callable[[], Bomb]] = [gzip_bomb, zstd_bomb, empty_members, many_frames]


class Memory:
    """How much more a server's process holds at its worst, while the block runs."""

    def __init__(self, server: RunningServer) -> None:
        self._status = Path(f"/proc/{server.process.pid}/status")
        self._forget = Path(f"/proc/{server.process.pid}/clear_refs")
        self.more_bytes = 0

    def __enter__(self) -> Memory:
        self._before = self._read("VmRSS")
        self._forget.write_text("5")  # VmHWM starts anew
        return self

    def __exit__(self, *_: object) -> None:
        self.more_bytes = self._read("VmHWM") - self._before

    def _read(self, name: str) -> int:
        line = next(line for line in self._status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize("make", BOMBS)
def test_a_bomb_is_refused_with_little_memory_and_nothing_stored(
    hostile: RunningServer, workspace: Workspace, make: Callable[[], Bomb]
) -> None:
    bomb = make()
    honest = gzip.compress(random.Random(1).randbytes(2 * MIB).hex().encode())  # warm: what any upload takes, once
    assert workspace.call("PUT", "sessions/honest", honest, Content_Encoding="gzip").status == 201

    with Memory(hostile) as memory:
        started = time.monotonic()
        new = workspace.call("PUT", "sessions/new", bomb.data, Content_Encoding=bomb.encoding)
        elapsed = time.monotonic() - started
        old = workspace.call("PUT", "sessions/kept", bomb.data, Content_Encoding=bomb.encoding)
        grown = workspace.call(
            "PATCH", "sessions/kept", bomb.data, Content_Encoding=bomb.encoding, Upload_Offset=str(len(OLD))
        )

    print(
        f"{bomb.name}: {len(bomb.data):,} bytes, {bomb.inflated // max(1, len(bomb.data)):,}:1, refused in"
        f" {elapsed * 1000:.0f} ms with {memory.more_bytes / MIB:.1f} MiB more"
    )
    assert [answer.code for answer in (new, old, grown)] == ["too_large"] * 3
    assert memory.more_bytes < 32 * MIB
    assert workspace.call("HEAD", "sessions/new").status == 404


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize("make", [gzip_bomb, zstd_bomb])
def test_a_bomb_inside_a_tool_call_is_refused_as_well(
    hostile: RunningServer, workspace: Workspace, make: Callable[[], Bomb]
) -> None:
    bomb = make()
    with contextlib.closing(McpClient(hostile.url, hostile.sync_token, "2026-07-28")) as client:
        call = client.prepare(
            "upload_session", workspace_id=workspace.workspace_id, write_token=workspace.write_token,
            session_id="new", content_base64=base64.b64encode(bomb.data).decode(), encoding=bomb.encoding,
        )  # fmt: skip
        with Memory(hostile) as memory:
            _, body = client.answer(call)

    assert json.loads(body)["result"]["structuredContent"]["error"]["code"] == "too_large"
    assert memory.more_bytes < 32 * MIB
    assert workspace.call("HEAD", "sessions/new").status == 404


@pytest.mark.spec("HTTP-7")
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_that_are_cut_or_go_on_are_refused(
    hostile: RunningServer, workspace: Workspace, encoding: str
) -> None:
    assert hostile
    whole = gzip.compress(OLD * 99) if encoding == "gzip" else zstandard.ZstdCompressor().compress(OLD * 99)
    broken = [whole[:-1], whole[: len(whole) // 2], whole + b"more", whole + b"\0", b"", b"\x1f\x8b", whole[1:]]

    for body in broken:
        for place in ("sessions/kept", "sessions/new"):
            answer = workspace.call("PUT", place, body, Content_Encoding=encoding)
            assert answer.code == "invalid_argument", (body[-8:], answer)

    assert workspace.call("HEAD", "sessions/new").status == 404
    assert workspace.call("PUT", "sessions/new", whole, Content_Encoding=encoding).status == 201
    assert workspace.call("GET", "sessions/new").body == OLD * 99


# -- too clever


EVIL = [
    "(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){20}$", "([a-zA-Z]+)*$", "(a*)*b", "((a*)*)*b", "(a?){40}a{40}", "^(a+)+b",
    "(x+x+)+y", "(.*)*$", "(.+)+z", "(a|b|ab)*c", "(\\w+\\s?)*$", "(\\d+)+x", "(([a-z])+.)+[A-Z]([a-z])+$", "a{1000}b",
    "(a{0,100}){0,10}b", "(?:a(?:a(?:a(?:a)*)*)*)*b", "^(([a-z])+.)+[A-Z]", "(.|\\n)*?z$", "[^b]*b[^b]*b[^b]*b[^b]*b",
    "(a+a+)+b", "(ab|a)(bc|c)*d", "\\b(a+\\b)+c", "(?i)(a+)+B", "(\\S+\\s+)*end", "(a|a?)+b", ".*.*.*.*.*.*.*x",
    "(?=a+)b", "(a)\\1+b", "(?<!a)b", "(((((((((((((((((((((a*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*b",
]  # fmt: skip


@pytest.mark.spec("SEC-3", "TOOL-6")
def test_evil_patterns_cost_little_and_hold_up_nobody(hostile: RunningServer, workspace: Workspace) -> None:
    victim = ("a" * 5_000 + " " + "ab" * 2_000 + "x" * 4_000 + "!\n").encode()
    line = json.dumps({"type": "user", "message": {"role": "user", "content": victim.decode()}}).encode() + b"\n"
    assert workspace.call("PUT", "knowledge/victim.md", victim).status == 201
    assert workspace.call("PUT", "sessions/victim", line * 20).status == 201
    done = threading.Event()
    waits: list[float] = []

    def other_calls() -> None:
        with contextlib.closing(McpClient(hostile.url, hostile.ai_token, "2026-07-28")) as client:
            call = client.prepare("read_knowledge", workspace_id=workspace.workspace_id, path="kept.md")
            while not done.is_set():
                started = time.monotonic()
                client.send(call)
                waits.append(time.monotonic() - started)

    def search(pattern: str) -> list[float]:
        took = []
        with contextlib.closing(McpClient(hostile.url, hostile.ai_token, "2026-07-28")) as client:
            for tool in ("search_knowledge", "search_sessions"):
                call = client.prepare(tool, query=pattern, mode="regex", workspace_id=workspace.workspace_id)
                started = time.monotonic()
                _, body = client.answer(call)
                took.append(time.monotonic() - started)
                result = json.loads(body)["result"]
                if result.get("isError"):
                    assert result["structuredContent"]["error"]["code"] == "invalid_argument", (pattern, result)
        return took

    with ThreadPoolExecutor(4) as others:
        asked = [others.submit(other_calls) for _ in range(2)]
        alone = [seconds for pattern in EVIL for seconds in search(pattern)]
        together = [seconds for found in others.map(search, EVIL[:10]) for seconds in found]
        done.set()
        for call in asked:
            call.result()

    waits.sort()
    print(
        f"{len(EVIL)} patterns: slowest {max(alone) * 1000:.0f} ms one by one, {max(together) * 1000:.0f} ms together;"
        f" {len(waits)} other calls: p99 {waits[len(waits) * 99 // 100] * 1000:.0f} ms, most {waits[-1] * 1000:.0f} ms"
    )
    assert max(alone) < 2  # a backtracking engine takes hours
    assert waits[-1] < 2


# -- too strange


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 500_000 + b"\r\n",
    b"GET /%00%ff%2e%2e/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/workspaces HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    b"GET /api/v1/workspaces HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"\r\n" * 10_000,
    b"\0" * 100_000,
]


@pytest.mark.spec("HTTP-6")
def test_half_open_slow_and_garbage_requests_hurt_nobody_else(hostile: RunningServer, workspace: Workspace) -> None:
    chance = random.Random(7)
    upload = head_of(
        hostile, "PUT", f"{workspace.url}/sessions/half", hostile.sync_token, Content_Length="99999",
        X_Write_Token=workspace.write_token,
    )  # fmt: skip
    beginnings = [b"", b"G", upload[:40], upload[:-2], upload, upload + b"x" * 100]
    with contextlib.ExitStack() as stack:
        half_open = [stack.enter_context(connect(hostile)) for _ in range(300)]
        for number, connection in enumerate(half_open):
            connection.sendall(beginnings[number % len(beginnings)])
        waits = []
        for number in range(100):
            for garbage in (GARBAGE[number % len(GARBAGE)], chance.randbytes(chance.randrange(5_000))):
                with connect(hostile) as connection, contextlib.suppress(OSError):
                    connection.sendall(garbage)
            with contextlib.suppress(ConnectionError):  # one more byte, now and then; its body may have stalled
                half_open[number].send(b"x")
            started = time.monotonic()
            assert workspace.call("PUT", "knowledge/others.md", b"%d" % number).status in (200, 201)
            assert workspace.call("GET", "knowledge/others.md").body == b"%d" % number
            waits.append(time.monotonic() - started)

    waits.sort()
    print(f"beside 300 half-open and 200 garbage requests: write and read p50 {waits[50] * 1000:.0f} ms, "
          f"most {waits[-1] * 1000:.0f} ms")  # fmt: skip
    assert waits[-1] < 2
    assert workspace.call("HEAD", "sessions/half").status == 404


@pytest.mark.spec("HTTP-6", "HTTP-8")
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_or_dropped_and_never_a_server_error(hostile: RunningServer, garbage: bytes) -> None:
    with connect(hostile) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65_536)
        except ConnectionResetError:
            answer = b""
    assert answer[:10] in (b"", b"HTTP/1.1 4"), answer
    with hostile.api("") as api:
        assert api.call("GET", "/healthz").status == 200


ENDLESS = {
    "header lines": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"X: yyyyyyyy\r\n"),
    "one header": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"y"),
    "a target": (b"GET /", b"y"),
    "trailers": (
        b"PUT /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: yyyyyyyy\r\n",
    ),
}


@pytest.mark.spec("HTTP-8")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_without_end_is_cut_off_before_it_fills_the_memory(hostile: RunningServer, name: str) -> None:
    beginning, more = ENDLESS[name]
    megabyte = more * (MIB // len(more))
    with Memory(hostile) as memory, connect(hostile) as connection:
        connection.sendall(beginning)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50:
                connection.sendall(megabyte)
                sent += 1
    print(f"endless {name}: cut off within {sent + 1} MiB, {memory.more_bytes / MIB:.1f} MiB more")
    assert sent < 50
    assert memory.more_bytes < 32 * MIB


@pytest.mark.spec("HTTP-7", "TOOL-6")
def test_many_half_open_uploads_of_one_session_hold_up_no_other_request(
    hostile: RunningServer, workspace: Workspace
) -> None:
    """One has the session and the others wait for it: not in the threads that everybody needs."""
    head = head_of(
        hostile, "PUT", f"{workspace.url}/sessions/wanted", hostile.sync_token, Content_Length="99999",
        X_Write_Token=workspace.write_token,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(hostile)).sendall(head)
        started = time.monotonic()
        for number in range(20):
            assert workspace.call("PUT", "knowledge/others.md", b"%d" % number).status in (200, 201)
        elapsed = time.monotonic() - started
    print(f"beside 100 half-open uploads of one session: 20 writes in {elapsed * 1000:.0f} ms")
    assert elapsed < 5
    assert workspace.call("PUT", "sessions/wanted", OLD).status == 201


# -- gone


RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close without a goodbye


@pytest.mark.spec("HTTP-7")
@pytest.mark.parametrize("goodbye", ["close", "reset"])
@pytest.mark.parametrize(
    ("method", "place"),
    [("PUT", "knowledge/kept.md"), ("PUT", "overview"), ("PUT", "sessions/kept"), ("PATCH", "sessions/kept")],
)
def test_a_client_that_goes_away_in_mid_upload_leaves_the_old_state(
    hostile: RunningServer, workspace: Workspace, method: str, place: str, goodbye: str
) -> None:
    body = OLD + b'{"type":"assistant"}\n' * 40_000
    head = head_of(
        hostile, method, f"{workspace.url}/{place}", hostile.sync_token, Content_Length=str(len(body)),
        X_Write_Token=workspace.write_token, Upload_Offset=str(len(OLD)), Expect="100-continue",
    )  # fmt: skip
    for part in (0, 10, len(body) // 2, len(body) - 1):
        with connect(hostile) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            connection.sendall(body[:part])
            if goodbye == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    assert workspace.call("GET", place).body == OLD
    # Nothing is held by the one who went away: the same write goes through at once.
    if place.startswith("sessions/"):
        answer = workspace.call("PATCH", place, b"", Upload_Offset=str(len(OLD)))
    else:
        answer = workspace.call("PUT", place, OLD)
    assert answer.status == 200, answer
    wait_until(lambda: list((hostile.root / "_meta" / "tmp").iterdir()) == [])


@pytest.mark.spec("HTTP-6")
@pytest.mark.parametrize("era", [{}, {"MCP_Protocol_Version": "2025-11-25"}, {"MCP_Protocol_Version": "2026-07-28"}])
def test_a_client_that_goes_away_in_the_middle_of_a_call_is_not_missed(
    hostile: RunningServer, era: dict[str, str]
) -> None:
    head = head_of(
        hostile, "POST", "/mcp", hostile.ai_token, Content_Length="1000", Content_Type="application/json",
        Accept="application/json, text/event-stream", Expect="100-continue", **era,
    )  # fmt: skip
    for size in (0, 20, 999):
        with connect(hostile) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"{" * size)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with contextlib.closing(McpClient(hostile.url, hostile.ai_token, "2026-07-28")) as client:
        client.call("list_workspaces")


@pytest.mark.spec("HTTP-5")
def test_a_client_that_goes_away_in_mid_download_is_not_missed(hostile: RunningServer, workspace: Workspace) -> None:
    body = random.Random(3).randbytes(6_000).hex().encode() + b"\n"
    assert workspace.call("PUT", "sessions/long", body * 2_000).status == 201
    for size in (1, 100, 100_000):
        with connect(hostile) as connection:
            connection.sendall(head_of(hostile, "GET", f"{workspace.url}/sessions/long", hostile.ai_token))
            connection.recv(size)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert workspace.call("GET", "sessions/long").body == body * 2_000


# -- one connection, many requests


def refusals(server: RunningServer, workspace: Workspace) -> dict[str, tuple[bytes, bytes]]:
    """By name: the status, and the head of a request that is refused before its body is read."""
    path = f"{workspace.url}/knowledge/a.md"
    long = {"Content_Length": str(3 * MIB), "X_Write_Token": workspace.write_token}
    wrong_host = head_of(server, "PUT", path, server.sync_token, **long)
    return {
        "too large": (b"413", head_of(server, "PUT", path, server.sync_token, **long)),
        "wrong token": (b"401", head_of(server, "PUT", path, "wrong", **long)),
        "wrong host": (b"421", wrong_host.replace(b"Host: 127.0.0.1", b"Host: evil.example")),
        "wrong write token": (b"403", head_of(server, "PUT", path, server.sync_token, **long | {"X_Write_Token": "x"})),
        "wrong route": (b"404", head_of(server, "PUT", "/api/v1/nothing", server.sync_token, **long)),
        "wrong method": (b"405", head_of(server, "PUT", "/api/v1/workspaces", server.sync_token, **long)),
    }


@pytest.mark.spec("HTTP-6", "AUTH-1")
@pytest.mark.parametrize(
    "name", ["too large", "wrong token", "wrong host", "wrong write token", "wrong route", "wrong method"]
)
def test_a_refused_body_is_never_taken_for_the_next_request(
    hostile: RunningServer, workspace: Workspace, name: str
) -> None:
    """The body is made of requests that would delete a document, if anything ever took them for such."""
    status, head = refusals(hostile, workspace)[name]
    attack = head_of(
        hostile, "DELETE", f"{workspace.url}/knowledge/kept.md", hostile.sync_token, X_Write_Token=workspace.write_token
    )
    body = (attack * (3 * MIB // len(attack) + 1))[: 3 * MIB]
    following = head_of(hostile, "GET", f"{workspace.url}/knowledge/kept.md", hostile.sync_token)

    with connect(hostile) as connection:
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(answer_of(connection)))
        reader.start()  # a client that behaves reads while it sends
        try:
            connection.sendall(head)
            connection.sendall(body)
            is_open = True
        except OSError:
            is_open = False
        reader.join(PATIENCE_SECONDS)
        first = answers[0]
        assert first.split(b" ")[1] == status, first[:200]
        assert first.count(b"HTTP/1.1 ") == 1
        if b"connection: close" in first.lower():
            assert is_closed(connection)
        else:
            assert is_open
            connection.sendall(following)
            second = answer_of(connection)
            assert second.startswith(b"HTTP/1.1 200 "), second[:200]
            assert second.endswith(OLD)


@pytest.mark.spec("HTTP-6", "AUTH-1")
def test_a_keep_alive_client_gets_each_of_its_answers(hostile: RunningServer, workspace: Workspace) -> None:
    """Refusals with large bodies and good requests in turn, over whatever connection the client has."""
    body = b"x" * (2 * MIB)
    with hostile.api("wrong") as stranger:
        for number in range(5):
            for answer in (
                workspace.call("PUT", "knowledge/a.md", body),
                workspace.call("PUT", "overview", body),
            ):
                assert answer.code == "too_large"
            refused = survive(lambda: stranger.call("PUT", f"{workspace.url}/sessions/kept", body))
            assert refused is None or refused.status == 401
            assert workspace.call("PUT", "knowledge/good.md", b"%d" % number).status in (200, 201)
            assert workspace.call("GET", "knowledge/good.md").body == b"%d" % number


def survive(call: Callable[[], Answer]) -> Answer | None:
    """None when the server closed the connection while the body was still on its way."""
    try:
        return call()
    except (BrokenPipeError, ConnectionResetError):
        return None


@pytest.mark.spec("HTTP-6")
def test_pipelined_requests_are_answered_in_order(hostile: RunningServer, workspace: Workspace) -> None:
    connection = Connection(hostile.url)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {hostile.sync_token}", "X-Write-Token": workspace.write_token}
        writes = [
            connection.request("PUT", f"{workspace.url}/knowledge/p.md", headers, b"%d" % number) for number in range(9)
        ]
        connection.socket.sendall(b"".join(writes[:-1]))
        versions = [
            json.loads(connection.exchange(b"" if number < 8 else writes[8])[1])["version"] for number in range(9)
        ]
    assert versions == list(range(1, 10))
