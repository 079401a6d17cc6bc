"""Transcripts over HTTP: verbatim, resumable, capped (SPEC: HTTP-2, HTTP-3, HTTP-5 to HTTP-7)."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx2
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ORIGIN, SYNC_TOKEN, Home, Http, Reply, Server

LINES = [
    json.dumps({"type": "user", "sessionId": "s", "uuid": "u", "timestamp": f"2026-11-20T08:00:{n:02}Z",
                "message": {"role": "user", "content": f"line {n} é🎉"}}).encode() + b"\n"
    for n in range(40)
]  # fmt: skip
WHOLE = b"".join(LINES)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def members(data: bytes, count: int = 3) -> bytes:
    size = len(data) // count + 1
    return b"".join(gzip.compress(data[start : start + size]) for start in range(0, len(data), size))


def wide_frame(data: bytes) -> bytes:
    """A zstd frame whose decoder would need 128 MiB."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return encoder.compress(data) + encoder.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "gzip members": ("gzip", members),
    "gzip stored": ("gzip", lambda data: gzip.compress(data, 0)),
    "zstd": ("zstd", zstandard.compress),
    "zstd frames": ("zstd", lambda data: zstandard.compress(data[:99]) + zstandard.compress(data[99:])),
    "zstd stream": ("zstd", lambda data: zstandard.ZstdCompressor(level=19).stream_reader(io.BytesIO(data)).read()),
}


@pytest.fixture
def home(shared: Server) -> Home:
    return shared.settle_anew()


@pytest.fixture
def http(shared: Server, home: Home) -> Http:
    return shared.http(SYNC_TOKEN, x_write_token=home.write_token)


def files_of(server: Server, home: Home) -> dict[str, str]:
    return {name: digest for name, digest in server.files().items() if f"/{home.workspace_id}/sessions" in name}


# -- whole transcripts


@pytest.mark.spec("HTTP-2", "HTTP-3", "HTTP-5")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("data", [WHOLE, WHOLE[:-1], LINES[0], b"{}", b"not json\n\xff\xfe\n\n\n", b"\n", b""])
def test_a_transcript_comes_back_byte_for_byte(home: Home, http: Http, encoding: str, data: bytes) -> None:
    name, encode = ENCODINGS[encoding]
    if not data and encoding in ("gzip members", "zstd frames"):
        data = b"{}\n"
    url = home.url("/sessions/S1")

    put = http.put(url, encode(data), content_encoding=name)
    got, head = http.get(url), http.request("HEAD", url)

    assert (put.status, put.json["status"], put.json["bytes"]) == (201, "created", len(data))
    assert (put.headers["etag"], put.headers["upload-offset"]) == (f'"{sha256(data)}"', str(len(data)))
    assert (got.status, got.body) == (200, data)
    assert (head.status, head.body, head.lasting) == (200, b"", got.lasting)
    assert head.headers["upload-offset"] == head.headers["content-length"] == str(len(data))
    assert (head.headers["etag"], head.headers["x-revision"]) == (f'"{sha256(data)}"', "1")
    assert got.headers["x-content-type-options"] == "nosniff"


@pytest.mark.spec("HTTP-5", "HTTP-2")
@given(
    data=st.binary(max_size=4_000) | st.lists(st.text()).map(lambda rows: "\n".join(rows).encode("utf-8", "replace"))
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_kept_as_they_are(shared: Server, data: bytes) -> None:
    url = f"/api/v1/workspaces/{_shared_home(shared)}/sessions/s-{sha256(data)[:16]}"
    http = shared.http(ADMIN_TOKEN)

    assert http.put(url, data).code == "ok"
    assert http.get(url).body == data


def _shared_home(shared: Server) -> str:
    names = {"machine": "box", "tool": "claude", "project": "home"}
    return str(shared.http(ADMIN_TOKEN).post("/api/v1/workspaces", names).json["workspace_id"])


@pytest.mark.spec("NAME-4", "HTTP-3")
def test_a_session_is_found_by_its_native_id_in_any_case(shared: Server, home: Home, http: Http) -> None:
    http.put(home.url("/sessions/AbC-1"), WHOLE, x_memory_source_agent="claude-code", x_memory_source_cwd="/w")

    assert http.request("HEAD", home.url("/sessions/abc-1")).status == 200
    assert http.get(home.url("/sessions")).json["sessions"][0]["session_id"] == "abc-1"
    (provenance,) = shared.root.rglob("abc-1.json")
    assert json.loads(provenance.read_text())["native_id"] == "AbC-1"


@pytest.mark.spec("HTTP-2")
def test_a_client_that_has_the_transcript_gets_304(home: Home, http: Http) -> None:
    url = home.url("/sessions/s")
    http.put(url, WHOLE)

    reply = http.get(url, if_none_match=f'"{sha256(WHOLE)}"')

    assert (reply.status, reply.body, reply.headers["upload-offset"]) == (304, b"", str(len(WHOLE)))


@pytest.mark.spec("HTTP-3")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_second_upload_is_unchanged_appended_or_diverged(home: Home, http: Http, encoding: str) -> None:
    name, encode = ENCODINGS[encoding]
    url = home.url("/sessions/s")
    half, other = b"".join(LINES[:20]), b"".join(LINES[:10]) + b'{"x":1}\n'

    steps = [
        (half, "created"),
        (half, "unchanged"),
        (half[:300], "unchanged"),
        (WHOLE, "appended"),
        (half, "unchanged"),
        (other, "diverged"),
        (WHOLE, "diverged"),
    ]
    found = [(data, http.put(url, encode(data), content_encoding=name).json) for data, _ in steps]

    assert [reply["status"] for _, reply in found] == [status for _, status in steps]
    assert [reply["revision"] for _, reply in found] == [1, 1, 1, 1, 1, 2, 3]
    assert http.get(url).body == WHOLE
    assert [http.get(f"{url}?revision={n}").body for n in (1, 2, 3)] == [WHOLE, other, WHOLE]
    assert http.get(f"{url}?revision=4").code == "not_found"


# -- appending


@pytest.mark.spec("HTTP-3")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("cut", [1, len(LINES[0]), len(LINES[0]) + 7, len(WHOLE) - 1])
def test_an_upload_goes_on_where_it_stopped(home: Home, http: Http, encoding: str, cut: int) -> None:
    name, encode = ENCODINGS[encoding]
    url = home.url("/sessions/s")
    first = http.request("PATCH", url, encode(WHOLE[:cut]), upload_offset="0", content_encoding=name)
    held = http.request("HEAD", url).headers

    second = http.request(
        "PATCH", url, encode(WHOLE[cut:]), content_encoding=name,
        upload_offset=held["upload-offset"], if_match=held["etag"],
    )  # fmt: skip

    assert (first.status, first.json["status"]) == (201, "created")
    assert (second.status, second.json["status"], second.json["revision"]) == (200, "appended", 1)
    assert (second.headers["upload-offset"], second.headers["etag"]) == (str(len(WHOLE)), f'"{sha256(WHOLE)}"')
    assert http.get(url).body == WHOLE


@pytest.mark.spec("HTTP-3", "HTTP-7")
@pytest.mark.parametrize("offset", [0, 1, 5, len(LINES[0]) - 1, len(LINES[0]) + 1, 10**17])
def test_a_stale_offset_is_told_the_true_one(shared: Server, home: Home, http: Http, offset: int) -> None:
    url = home.url("/sessions/s")
    http.put(url, LINES[0])
    before = files_of(shared, home)

    reply = http.request("PATCH", url, LINES[1], upload_offset=str(offset))

    assert reply.status == 409
    assert (reply.headers["upload-offset"], reply.headers["etag"]) == (str(len(LINES[0])), f'"{sha256(LINES[0])}"')
    assert (reply.json["offset"], reply.json["etag"]) == (len(LINES[0]), sha256(LINES[0]))
    assert files_of(shared, home) == before


@pytest.mark.spec("HTTP-3")
def test_an_append_to_other_bytes_of_that_length_is_a_conflict(home: Home, http: Http) -> None:
    url = home.url("/sessions/s")
    http.put(url, LINES[0])
    wrong = f'"{sha256(b"x" * len(LINES[0]))}"'

    reply = http.request("PATCH", url, LINES[1], upload_offset=str(len(LINES[0])), if_match=wrong)

    assert (reply.status, reply.headers["etag"]) == (409, f'"{sha256(LINES[0])}"')
    assert http.get(url).body == LINES[0]


@pytest.mark.spec("HTTP-3", "ERR-2")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"upload_offset": ""},
        {"upload_offset": "-1"},
        {"upload_offset": "x"},
        {"upload_offset": "1e3"},
        {"upload_offset": "9" * 30},
        {"upload_offset": "0", "if_match": "x"},
    ],
)
def test_an_append_that_does_not_say_where_is_refused(home: Home, http: Http, headers: dict[str, str]) -> None:
    assert http.request("PATCH", home.url("/sessions/s"), LINES[0], **headers).code == "invalid_argument"


@pytest.mark.spec("HTTP-3")
def test_an_append_to_a_session_that_is_not_there_is_not_found(home: Home, http: Http) -> None:
    assert http.request("PATCH", home.url("/sessions/s"), LINES[0], upload_offset="5").code == "not_found"


@pytest.mark.spec("HTTP-3")
def test_an_append_of_nothing_changes_nothing(home: Home, http: Http) -> None:
    url = home.url("/sessions/s")
    http.put(url, LINES[0])

    reply = http.request("PATCH", url, b"", upload_offset=str(len(LINES[0])))

    assert (reply.status, reply.json["status"]) == (200, "unchanged")


# -- caps


def upload(
    server: Server, home: Home, chunks: list[bytes], *, method: str = "PUT", token: str = ADMIN_TOKEN, **headers: str
) -> Reply:
    given = {
        "authorization": f"Bearer {token}",
        "x-write-token": home.write_token,
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    pairs = [(key.encode(), value.encode()) for key, value in given.items()]
    return server.exchange(method, home.url("/sessions/s").encode(), pairs, chunks)


@pytest.fixture
def small(portal: Any, tmp_path: Any) -> Iterator[Server]:
    """A server whose caps are small: 10,000 bytes a session, 1,000 a document and an MCP call of 20,000."""
    with Server(
        portal, tmp_path / "small" / "memory",
        max_session_bytes=10_000, max_document_bytes=1_000, max_mcp_body_bytes=20_000, max_gzip_members=50,
    ) as server:  # fmt: skip
        yield server
    assert not server.errors


@pytest.mark.spec("HTTP-6")
@pytest.mark.parametrize(
    ("method", "path", "length"),
    [
        ("PUT", "/sessions/s", 10_001), ("PATCH", "/sessions/s", 10_001), ("PUT", "/sessions/s", 10**15),
        ("PUT", "/knowledge/a.md", 1_001), ("PUT", "/overview", 1_001), ("POST", "/plan", 16 * 1024**2 + 1),
        ("POST", "", 16 * 1024**2 + 1), ("POST", "/tokens", 16 * 1024**2 + 1), ("POST", "/mcp", 20_001),
    ],
)  # fmt: skip
def test_a_body_that_tells_its_length_is_refused_before_it_is_read(
    small: Server, method: str, path: str, length: int
) -> None:
    home = small.settle()
    url = {"": "/api/v1/workspaces", "/tokens": "/api/v1/tokens", "/mcp": "/mcp"}.get(path) or home.url(path)
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-length": str(length), "upload-offset": "0",
               "content-type": "application/json", "accept": "application/json, text/event-stream"}  # fmt: skip

    reply = small.exchange(method, url.encode(), [(k.encode(), v.encode()) for k, v in headers.items()], [b"x" * 10])

    assert (reply.status, reply.reads) == (413, 0)


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_a_transcript_that_grows_over_its_cap_is_dropped_on_the_way(small: Server, encoding: str) -> None:
    home = small.settle()
    chunks = [ENCODINGS[encoding][1](LINES[0] * 20) for _ in range(1_000)]
    before = files_of(small, home)

    reply = upload(small, home, chunks, content_encoding=encoding)

    assert reply.code == "too_large"
    if encoding == "identity":  # a chunk for the decoder is half a megabyte
        assert reply.reads < 1_000
    assert files_of(small, home) == before
    assert upload(small, home, [LINES[0]]).code == "ok"


@pytest.mark.spec("HTTP-6", "HTTP-7")
def test_an_append_that_grows_a_transcript_over_its_cap_is_dropped(small: Server) -> None:
    home = small.settle()
    assert upload(small, home, [b"x" * 9_000]).code == "ok"

    reply = upload(small, home, [b"y" * 1_001], method="PATCH", upload_offset="9000")

    assert reply.code == "too_large"
    assert small.http(ADMIN_TOKEN).get(home.url("/sessions/s")).body == b"x" * 9_000
    assert upload(small, home, [b"y" * 1_000], method="PATCH", upload_offset="9000").code == "ok"


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize("path", ["/knowledge/a.md", "/overview"])
def test_a_document_that_grows_over_its_cap_is_dropped_on_the_way(small: Server, path: str) -> None:
    home = small.settle()
    headers = [(b"authorization", f"Bearer {ADMIN_TOKEN}".encode())]

    reply = small.exchange("PUT", home.url(path).encode(), headers, [b"x" * 100] * 1_000)

    assert (reply.status, reply.reads) == (413, 11)
    assert small.exchange("PUT", home.url(path).encode(), headers, [b"x" * 100] * 10).status == 201


@pytest.mark.spec("HTTP-6")
def test_an_mcp_call_that_grows_over_its_cap_is_dropped_on_the_way(small: Server) -> None:
    headers = [(b"authorization", f"Bearer {AI_TOKEN}".encode()), (b"content-type", b"application/json"),
               (b"accept", b"application/json"), (b"mcp-protocol-version", b"2026-07-28")]  # fmt: skip

    reply = small.exchange("POST", b"/mcp", headers, [b"x" * 1_000] * 1_000)

    assert reply.status == 413
    assert reply.reads < 30


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "gzip cut short": ("gzip", gzip.compress(WHOLE)[:-5], "invalid_argument"),
    "gzip cut in its head": ("gzip", gzip.compress(WHOLE)[:5], "invalid_argument"),
    "gzip of nothing": ("gzip", b"", "invalid_argument"),
    "gzip with bytes behind it": ("gzip", gzip.compress(WHOLE) + b"trailing", "invalid_argument"),
    "gzip with zeros behind it": ("gzip", gzip.compress(WHOLE) + bytes(100), "invalid_argument"),
    "gzip with a wrong checksum": (
        "gzip",
        gzip.compress(WHOLE)[:-8] + bytes(4) + gzip.compress(WHOLE)[-4:],
        "invalid_argument",
    ),
    "gzip with a wrong length": ("gzip", gzip.compress(WHOLE)[:-4] + bytes(4), "invalid_argument"),
    "gzip that is plain": ("gzip", WHOLE, "invalid_argument"),
    "gzip that is zlib": ("gzip", zlib.compress(WHOLE), "invalid_argument"),
    "gzip that is zstd": ("gzip", zstandard.compress(WHOLE), "invalid_argument"),
    "gzip of which the second member is cut": ("gzip", members(WHOLE)[:-1], "invalid_argument"),
    "zstd cut short": ("zstd", zstandard.compress(WHOLE)[:-5], "invalid_argument"),
    "zstd of nothing": ("zstd", b"", "invalid_argument"),
    "zstd with bytes behind it": ("zstd", zstandard.compress(WHOLE) + b"trailing", "invalid_argument"),
    "zstd that is gzip": ("zstd", gzip.compress(WHOLE), "invalid_argument"),
    "zstd that is plain": ("zstd", WHOLE, "invalid_argument"),
    "a gzip bomb": ("gzip", gzip.compress(bytes(64 * 1024**2)), "too_large"),
    "a gzip bomb behind a transcript": ("gzip", gzip.compress(WHOLE) + gzip.compress(bytes(64 * 1024**2)), "too_large"),
    "a gzip bomb of members": ("gzip", gzip.compress(b"") * 100_001, "too_large"),
    "a zstd bomb": ("zstd", zstandard.compress(bytes(256 * 1024**2)), "too_large"),
    "a zstd bomb of frames": ("zstd", zstandard.compress(bytes(8 * 1024**2)) * 40, "too_large"),
    "a zstd frame of a great window": ("zstd", wide_frame(WHOLE), "too_large"),
    "deflate": ("deflate", zlib.compress(WHOLE), "unsupported_format"),
    "br": ("br", WHOLE, "unsupported_format"),
    "gzip twice": ("gzip, gzip", gzip.compress(gzip.compress(WHOLE)), "unsupported_format"),
}


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("held", [b"", LINES[0]], ids=["new", "held"])
def test_a_broken_body_is_refused_and_nothing_is_stored(
    shared: Server, home: Home, http: Http, kind: str, held: bytes
) -> None:
    encoding, body, code = BROKEN[kind]
    url = home.url("/sessions/s")
    if held:
        http.put(url, held)
    before = files_of(shared, home)

    put = http.put(url, body, content_encoding=encoding)
    patch = http.request("PATCH", url, body, content_encoding=encoding, upload_offset=str(len(held)))

    assert (put.code, patch.code) == (code, code)
    assert files_of(shared, home) == before
    assert not list((shared.root / "_meta" / "tmp").iterdir())
    assert (http.get(url).body == held) if held else http.get(url).code == "not_found"
    assert http.put(url, WHOLE).code == "ok"


@pytest.mark.spec("HTTP-7")
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("held", [b"", LINES[0]], ids=["new", "held"])
def test_a_client_that_goes_away_leaves_what_was_stored(
    shared: Server, home: Home, http: Http, method: str, held: bytes
) -> None:
    url = home.url("/sessions/s")
    if held:
        http.put(url, held)
    before = files_of(shared, home)

    shared.portal.call(_send_and_vanish, shared, method, url, str(len(held)))

    assert files_of(shared, home) == before
    assert not list((shared.root / "_meta" / "tmp").iterdir())
    assert http.put(url, WHOLE).code == "ok"


async def _send_and_vanish(server: Server, method: str, url: str, offset: str) -> None:
    headers = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {ADMIN_TOKEN}".encode()),
        (b"upload-offset", offset.encode()),
    ]
    messages = iter([
        {"type": "http.request", "body": WHOLE, "more_body": True}, {"type": "http.disconnect"},
    ])  # fmt: skip

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(_: dict[str, Any]) -> None:
        pass

    scope = {
        "type": "http",
        "method": method,
        "path": url,
        "raw_path": url.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "scheme": "http",
        "root_path": "",
        "http_version": "1.1",
    }
    await server.asgi(scope, receive, send)


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize("path", ["/sessions/s", "/knowledge/a.md", "/mcp"])
def test_a_body_that_stalls_is_408_and_no_error_of_ours(portal: Any, tmp_path: Any, path: str) -> None:
    with Server(portal, tmp_path / "memory", body_timeout_seconds=0.05) as server:
        status = portal.call(_stall, server, path if path == "/mcp" else server.settle().url(path))

        assert (status, server.errors) == (408, [])


async def _stall(server: Server, path: str) -> int:
    async def body() -> AsyncIterator[bytes]:
        yield WHOLE
        await anyio.sleep_forever()

    transport = httpx2.ASGITransport(app=server.asgi, raise_app_exceptions=False)
    headers = {
        "authorization": f"Bearer {ADMIN_TOKEN}",
        "mcp-protocol-version": "2026-07-28",
        "content-type": "application/json",
        "accept": "application/json",
    }
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as client:
        return (await client.request("POST" if path == "/mcp" else "PUT", path, content=body())).status_code


@pytest.mark.spec("HTTP-6", "HTTP-7")
def test_a_body_that_stalls_is_dropped(portal: Any, tmp_path: Any) -> None:
    with Server(portal, tmp_path / "memory", body_timeout_seconds=0.05) as server:
        home = server.settle()
        before = files_of(server, home)

        statuses = [portal.call(_stall, server, home.url(path)) for path in ("/sessions/s", "/knowledge/a.md")]

        assert all(status >= 400 for status in statuses)
        assert files_of(server, home) == before
        assert server.http(ADMIN_TOKEN).put(home.url("/sessions/s"), WHOLE).code == "ok"


@pytest.mark.spec("AUTH-4", "HTTP-7")
def test_a_revoked_token_ends_its_upload(shared: Server, home: Home, http: Http) -> None:
    before = files_of(shared, home)

    shared.portal.call(_upload_until_revoked, shared, home.url("/sessions/s"))

    assert files_of(shared, home) == before
    assert shared.streams.count == 0
    assert http.put(home.url("/sessions/s"), WHOLE).code == "ok"


@pytest.mark.spec("AUTH-1", "AUTH-4")
def test_an_upload_that_a_revocation_ends_is_answered_401(shared: Server, home: Home) -> None:
    assert shared.portal.call(_upload_until_revoked, shared, home.url("/sessions/s")) == 401


async def _upload_until_revoked(server: Server, url: str) -> int:
    """The status of an upload whose token is revoked in the middle; -1: no answer at all."""
    token = server.token("laptop", "admin")
    begun, status = anyio.Event(), -1

    async def body() -> AsyncIterator[bytes]:
        yield WHOLE
        begun.set()
        await anyio.sleep_forever()

    async def send() -> None:
        nonlocal status
        transport = httpx2.ASGITransport(app=server.asgi, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as client:
            with contextlib.suppress(AssertionError):  # the transport's
                status = (await client.put(url, content=body())).status_code

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await begun.wait()
        await anyio.to_thread.run_sync(server.services.core.tokens.revoke, "laptop")
    return status


@pytest.mark.spec("AUTH-4")
@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_an_open_stream_ends_with_its_token(server: Server, how: str) -> None:
    """A legacy client's GET stream, which never ends by itself."""
    token = server.token("laptop", "ai", expires_seconds=None if how == "revoked" else 0.5)
    wire = server.wire(token, "legacy")

    async def run() -> bytes:
        started = anyio.Event()
        ended = bytearray()
        headers = {"authorization": f"Bearer {token}", "accept": "text/event-stream", "mcp-session-id": wire.session,
                   "mcp-protocol-version": "2025-11-25", "host": "localhost"}  # fmt: skip
        scope = {"type": "http", "method": "GET", "path": "/mcp", "raw_path": b"/mcp", "query_string": b"",
                 "headers": [(k.encode(), v.encode()) for k, v in headers.items()], "client": ("127.0.0.1", 1),
                 "server": ("127.0.0.1", 1), "scheme": "http", "root_path": "", "http_version": "1.1"}  # fmt: skip
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await anyio.sleep_forever()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.set()
            elif not message.get("more_body", False):
                ended.extend(b"ended")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.asgi, scope, receive, send)
            await started.wait()
            if how == "revoked":
                await anyio.to_thread.run_sync(server.services.core.tokens.revoke, "laptop")
        return bytes(ended)

    assert server.portal.call(run) == b"ended"
    assert wire.call("list_workspaces", {}).status == 401


# -- odd transcripts


@pytest.mark.spec("HTTP-2", "TOOL-1")
def test_broken_jsonl_is_kept_verbatim_and_read_as_far_as_it_goes(shared: Server, home: Home, http: Http) -> None:
    broken = (
        LINES[0] + b'{"type":"user","mess\n\xff\xfe not utf-8\n\n[1,2]\nnull\n' + b"[" * 50_000 + b"\n" + LINES[1][:-9]
    )
    url = home.url("/sessions/s")

    put = http.put(url, broken)
    read = shared.agent().ok("read_session", session_id="s", workspace_id=home.workspace_id)

    assert put.json["lines"] == broken.count(b"\n") + 1
    assert http.get(url).body == broken
    assert read["messages"][0]["text"] == "line 0 é🎉"
    assert read["lines"] == put.json["lines"]


@pytest.mark.spec("TOOL-1", "HTTP-1")
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "identity"])
def test_the_tool_stores_what_the_route_stores(shared: Server, home: Home, http: Http, encoding: str) -> None:
    name, encode = ENCODINGS[encoding]
    given = {"workspace_id": home.workspace_id, "write_token": home.write_token}
    agent = shared.agent(SYNC_TOKEN)

    plain = agent.ok("upload_session", **given, session_id="plain", content=WHOLE.decode())
    packed = agent.ok(
        "upload_session", **given, session_id="packed",
        content_base64=base64.b64encode(encode(WHOLE)).decode(), encoding=name,
    )  # fmt: skip

    assert (plain["status"], plain["sha256"]) == ("created", sha256(WHOLE))
    assert packed["sha256"] == sha256(WHOLE)
    assert http.get(home.url("/sessions/plain")).body == http.get(home.url("/sessions/packed")).body == WHOLE


@pytest.mark.spec("HTTP-6", "HTTP-7")
@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind, (encoding, body, _) in BROKEN.items()
        if encoding in ("gzip", "zstd") and len(body) < 2_000_000 and body
    ],
)
def test_the_tool_refuses_what_the_route_refuses(shared: Server, home: Home, kind: str) -> None:
    encoding, body, code = BROKEN[kind]
    before = files_of(shared, home)

    answer = shared.agent(SYNC_TOKEN).call(
        "upload_session", workspace_id=home.workspace_id, write_token=home.write_token, session_id="s",
        content_base64=base64.b64encode(body).decode(), encoding=encoding,
    )  # fmt: skip

    assert answer.code == code
    assert files_of(shared, home) == before


@pytest.mark.spec("TOOL-1", "TOOL-5")
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"content": "{}", "content_base64": "e30="},
        {"content": "x\ny", "encoding": "gzip"},
        {"content_base64": "e30"},
        {"content_base64": "e3\n0="},
        {"content_base64": "é"},
        {"content_base64": "e30=", "encoding": "br"},
    ],
)
def test_a_content_that_cannot_be_is_refused(shared: Server, given: dict[str, str]) -> None:
    where = {"workspace_id": _shared_home(shared), "write_token": "", "session_id": "s"}

    assert shared.agent(ADMIN_TOKEN).call("upload_session", **where, **given).code == "invalid_argument"


@pytest.mark.spec("HTTP-1")
def test_sessions_are_listed_newest_first_and_by_time(home: Home, http: Http) -> None:
    for day in (1, 3, 2):
        line = {"type": "user", "sessionId": "s", "uuid": "u", "timestamp": f"2026-11-0{day}T08:00:00Z",
                "message": {"role": "user", "content": f"day {day}"}}  # fmt: skip
        http.put(home.url(f"/sessions/s{day}"), json.dumps(line).encode() + b"\n")

    def listed(query: str = "") -> list[str]:
        return [row["session_id"] for row in http.get(home.url(f"/sessions{query}")).json["sessions"]]

    assert listed() == ["s3", "s2", "s1"]
    assert listed("?since=2026-11-02") == ["s3", "s2"]
    assert listed("?until=2026-11-02") == ["s2", "s1"]
    assert listed("?since=2026-11-02T08:00:01Z") == ["s3"]
    assert http.get(home.url("/sessions")).json["sessions"][0]["title"] == "day 3"
    assert listed("?tool=CLAUDE") == ["s3", "s2", "s1"]
    assert listed("?tool=codex") == []
