"""One server from its first start to its last line: tokens, refusals, stops, streams that end, a quiet log."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.bench.wire import CLIENT, META, McpClient
from tests.e2e.conftest import Api, RunningServer, command, start_server

Serve = Callable[..., RunningServer]
STOP_SECONDS = 5.0  # RUN-4: a promise, not a measurement
END_SECONDS = 1.0  # AUTH-4
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 (DEBUG|INFO|WARNING|ERROR|AUTH_FAIL|AUTH_DENY) \S.*\n\Z")


@dataclass(frozen=True)
class Refused:
    exit_code: int
    printed: str
    said: str


def refused(root: Path, **options: str | None) -> Refused:
    """Start a server that is meant to end by itself."""
    arguments, env = command(root, **options)
    root.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(arguments, env=env, cwd=root.parent, text=True, capture_output=True, timeout=30)
    assert "Traceback" not in done.stderr
    return Refused(done.returncode, done.stdout, done.stderr)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below `root` but the lock's."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- starting


@pytest.fixture
def first_start(tmp_path: Path) -> Iterator[Callable[[], RunningServer]]:
    """`serve` with nothing set at all but a free port, in a home of its own; start it as often as you like."""
    home = tmp_path / "home"
    home.mkdir()
    root = home / ".local" / "share" / "federated-memory"
    root.parent.mkdir(parents=True)
    running: list[RunningServer] = []

    def start() -> RunningServer:
        nothing = dict.fromkeys(("MEMORY_ROOT", "MCP_TOKEN", "SYNC_TOKEN", "MEMORY_MIN_FREE_BYTES"))
        running.append(start_server(root, HOME=str(home), **nothing))
        return running[-1]

    yield start
    for server in running:
        server.stop(signal.SIGKILL)


def generated(server: RunningServer) -> dict[str, str]:
    lines = (server.root / "_meta" / "generated-tokens.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@pytest.mark.spec("RUN-1", "AUTH-3")
def test_serve_with_nothing_set_makes_both_tokens_once(first_start: Callable[[], RunningServer]) -> None:
    first = first_start()
    made = (first.root / "_meta" / "generated-tokens.env").read_bytes()
    tokens = generated(first)
    assert first.address[0] == "127.0.0.1"
    assert mode_of(first.root / "_meta" / "generated-tokens.env") == 0o600
    assert tokens.keys() == {"MCP_TOKEN", "SYNC_TOKEN"}
    assert all(len(token) >= 43 for token in tokens.values())  # 256 bits
    assert "Tokens: made now" in "".join(first.printed)
    assert first.stop() == 0

    second = first_start()

    assert (second.root / "_meta" / "generated-tokens.env").read_bytes() == made
    assert "Tokens: made at first start" in "".join(second.printed)
    for name, path in (("MCP_TOKEN", "/api/v1/workspaces"), ("SYNC_TOKEN", "/api/v1/workspaces")):
        with second.api(tokens[name]) as api:
            assert api.call("GET", path).status == 200
    assert second.stop() == 0
    said = "".join(first.printed + first.log + second.printed + second.log)
    assert not any(token in said for token in tokens.values())


@pytest.mark.spec("RUN-1")
def test_the_terminal_shows_the_exact_line_that_connects_each_client(first_start: Callable[[], RunningServer]) -> None:
    server = first_start()
    url = server.mcp_url
    lines = [line.strip() for line in server.printed]
    export = next(line for line in lines if line.startswith("export "))

    shell = subprocess.run(
        ["sh", "-c", f'{export}; printf %s "$MCP_MEMORY_TOKEN"'], capture_output=True, text=True, check=True
    )

    assert shell.stdout == generated(server)["MCP_TOKEN"]
    header = '--header "Authorization: Bearer $MCP_MEMORY_TOKEN"'
    assert lines[lines.index(export) + 1 :] == [
        f"Claude Code  claude mcp add --scope user --transport http memory {url} {header}",
        f"Codex        codex mcp add memory --url {url} --bearer-token-env-var MCP_MEMORY_TOKEN",
        f"Gemini CLI   gemini mcp add --scope user --transport http memory {url} {header}",
    ]


@pytest.mark.spec("RUN-2")
def test_the_first_answer_does_not_wait_for_recovery(serve: Serve) -> None:
    server = serve()
    with server.api("") as api:
        assert api.call("GET", "/healthz").json == {"status": "ok"}
        ready = api.call("GET", "/readyz")
    assert (ready.status, ready.json["ready"]) in ((200, True), (503, False))
    assert ready.status == 200 or ready.json["reasons"]
    server.wait_until_ready()


@pytest.mark.spec("RUN-3")
def test_the_control_file_is_the_admins_while_the_server_runs(serve: Serve) -> None:
    server = serve()
    file = server.root / "_meta" / "control.json"
    told = json.loads(file.read_text())
    assert mode_of(file) == 0o600
    assert (told["url"], told["pid"]) == (server.url, server.process.pid)
    with server.api(told["token"]) as api:
        assert api.call("GET", "/api/v1/status").status == 200
    with server.api() as api:
        assert api.call("GET", "/api/v1/status").status == 403

    assert server.stop() == 0

    assert not file.exists()
    again = serve()
    with again.api(told["token"]) as api:
        assert api.call("GET", "/api/v1/status").status == 401
    assert told["token"] not in "".join(server.log + server.printed + again.log)


# -- refusing to start


@pytest.mark.spec("STORE-1")
def test_a_second_server_on_a_root_is_refused_and_the_first_goes_on(serve: Serve) -> None:
    server = serve()
    control = (server.root / "_meta" / "control.json").read_bytes()

    second = refused(server.root)

    assert second.exit_code == 14
    assert second.said.startswith("federated-memory: locked: Another process is using this memory root. ")
    assert "MEMORY_ROOT" in second.said
    assert (server.root / "_meta" / "control.json").read_bytes() == control
    with server.api() as api:
        api.register()
    assert server.stop() == 0


@pytest.mark.spec("STORE-1")
def test_a_root_whose_server_was_killed_is_free_at_once(serve: Serve) -> None:
    server = serve()
    server.stop(signal.SIGKILL)
    assert (server.root / "_meta" / "control.json").exists()

    again = serve()

    assert again.url == json.loads((server.root / "_meta" / "control.json").read_text())["url"]
    again.wait_until_ready()


@pytest.mark.spec("STORE-1")
@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ('{"format": 2}', "has format 2, this version reads format 1"),
        ('{"format": "next"}', "has format next, this version reads format 1"),
        ("{", "_meta/format.json is damaged"),
    ],
)
def test_a_root_of_another_format_is_refused_and_left_as_it_is(serve: Serve, found: str, reason: str) -> None:
    server = serve()
    server.stop()
    (server.root / "_meta" / "format.json").write_text(found)
    before = contents(server.root)

    end = refused(server.root)

    assert end.exit_code == 11
    assert end.said.startswith("federated-memory: unsupported_format: ")
    assert reason in end.said
    assert end.printed == ""
    assert contents(server.root) == before


@pytest.mark.spec("RUN-1")
def test_a_taken_port_is_refused_by_name_before_the_root_is_touched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        end = refused(tmp_path / "memory", PORT=str(port))

    assert end.exit_code == 15
    assert f"Cannot listen on 127.0.0.1:{port} (Address already in use)" in end.said
    assert "PORT" in end.said.split(")", 1)[1]
    assert not (tmp_path / "memory").exists()


@pytest.mark.spec("RUN-5")
@pytest.mark.parametrize("name", ["MCP_TOKEN", "SYNC_TOKEN"])
def test_example_tokens_are_refused_where_others_reach_the_server(tmp_path: Path, name: str) -> None:
    example = {"MCP_TOKEN": "dev-token", "SYNC_TOKEN": "dev-sync-token"}[name]

    end = refused(tmp_path / "memory", HOST="0.0.0.0", **{name: example})

    assert end.exit_code == 9
    assert "The example tokens are for a loopback address only" in end.said
    assert "MCP_TOKEN and SYNC_TOKEN" in end.said
    assert not (tmp_path / "memory").exists()


@pytest.mark.spec("RUN-5")
def test_example_tokens_are_welcome_on_loopback(serve: Serve) -> None:
    server = serve(MCP_TOKEN="dev-token", SYNC_TOKEN="dev-sync-token")
    assert any("export MCP_MEMORY_TOKEN=dev-token" in line for line in server.printed)


# -- streams that would never end by themselves


class Stream:
    """A raw connection whose answer has begun and has no end of its own."""

    def __init__(self, server: RunningServer, request: bytes) -> None:
        self.socket = socket.create_connection(server.address, timeout=30)
        self.socket.sendall(request)
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            data = self.socket.recv(65_536)
            assert data, self.received
            self.received += data
        head = self.received.lower()
        assert head.startswith(b"http/1.1 200")
        assert b"content-type: text/event-stream" in head

    def read_to_end(self) -> bool:
        """Wait for the end; was it the proper end of a chunked answer?"""
        with self.socket:
            while not self.received.endswith(b"\r\n0\r\n\r\n"):
                data = self.socket.recv(65_536)
                if not data:
                    return False
                self.received += data
        return True


def session_stream(server: RunningServer, token: str) -> Stream:
    """GET /mcp of a session: 2025."""
    client = McpClient(server.url, token, "2025-11-25")
    client.close()
    return Stream(server, client.connection.request("GET", "/mcp", client.headers))


def listen_stream(server: RunningServer, token: str) -> Stream:
    """`subscriptions/listen`: 2026, which has no sessions."""
    client = McpClient(server.url, token, "2026-07-28")
    client.close()
    meta = {"protocolVersion": "2026-07-28", "clientInfo": CLIENT, "clientCapabilities": {}}
    params = {
        "notifications": {"toolsListChanged": True},
        "_meta": {f"{META}/{name}": value for name, value in meta.items()},
    }
    message = {"id": "listen-1", "method": "subscriptions/listen", "params": params}
    return Stream(server, client.post(message, {"Mcp-Method": "subscriptions/listen"}))


OPENERS = [session_stream, listen_stream]


class SlowUpload:
    """An upload that sends a little now and then, and never the last byte. Entered, it has been let in."""

    def __init__(self, server: RunningServer, url: str, *, token: str, write_token: str) -> None:
        self.ended = threading.Event()
        self.received = b""
        self._socket = socket.create_connection(server.address, timeout=30)
        head = (
            f"PUT {url} HTTP/1.1\r\nHost: {server.address[0]}\r\nAuthorization: Bearer {token}\r\n"
            f"X-Write-Token: {write_token}\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        assert self._socket.recv(100).startswith(b"HTTP/1.1 100 ")  # the server reads the body now
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> SlowUpload:
        self._sender.start()
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._sender.join()
        self._reader.join()
        self._socket.close()

    def _send(self) -> None:
        line = b'{"type":"user","message":{"role":"user","content":"' + b"x" * 40_000 + b'"}}\n'
        with contextlib.suppress(OSError):
            while not self.ended.wait(0.05):
                self._socket.sendall(line)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65_536):
                self.received += data
        self.ended.set()


@pytest.mark.spec("RUN-4", "HTTP-7")
def test_sigterm_with_a_hundred_open_streams_and_an_upload_ends_in_five_seconds(serve: Serve) -> None:
    server = serve()
    with server.api() as api:
        workspace = api.register()
    streams = [OPENERS[number % 2](server, server.ai_token) for number in range(100)]
    url = f"{workspace.url}/sessions/slow"

    with SlowUpload(server, url, token=server.sync_token, write_token=workspace.write_token):
        started = time.monotonic()
        code = server.stop()
        elapsed = time.monotonic() - started

    ended_well = [stream.read_to_end() for stream in streams]
    print(f"SIGTERM, 100 streams and an upload: {elapsed:.2f} s, {sum(ended_well)} streams ended properly")
    assert elapsed < STOP_SECONDS
    assert code == 0, server.shown()
    assert all(ended_well)
    assert server.problems() == [], server.shown()
    assert list((server.root / "_meta" / "tmp").iterdir()) == []
    again = serve()
    with again.api() as api:
        assert api.call("GET", url).status == 404


@pytest.mark.spec("RUN-4")
def test_sigterm_at_any_moment_of_the_start_ends_it_well(tmp_path: Path) -> None:
    """The signal comes inside a library that makes an error of its own of whatever is raised, as pydantic-core does."""
    program = (
        "import os, signal, federated_memory.asgi as app, federated_memory.cli.main as main\n"
        "build = app.build_app\n"
        "def meddled(services):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return build(services)\n"
        "    except BaseException as error:\n"
        "        raise ValueError('cannot build') from error\n"
        "app.build_app = meddled\n"
        "raise SystemExit(main.main(['serve']))\n"
    )
    arguments, env = command(tmp_path / "root")

    done = subprocess.run([arguments[0], "-c", program], env=env, text=True, capture_output=True, timeout=30)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "root" / "_meta" / "control.json").exists()


@pytest.mark.spec("RUN-4")
def test_sigterm_lets_an_upload_that_goes_on_finish(serve: Serve) -> None:
    server = serve()
    with server.api() as api:
        workspace = api.register()
    body = b'{"type":"user"}\n' * 1_000
    head = (
        f"PUT {workspace.url}/sessions/late HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.sync_token}"
        f"\r\nX-Write-Token: {workspace.write_token}\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(server.address, timeout=30) as upload:
        upload.sendall(head.encode())
        assert upload.recv(100).startswith(b"HTTP/1.1 100 ")
        upload.sendall(body[:5_000])

        server.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):  # the stop has begun when nobody is let in any more
            while True:
                socket.create_connection(server.address, timeout=30).close()
        upload.sendall(body[5_000:])
        answer = upload.recv(65_536)

    assert answer.startswith(b"HTTP/1.1 201 "), answer
    assert server.wait() == 0
    again = serve()
    with again.api() as api:
        assert api.call("GET", f"{workspace.url}/sessions/late").body == body


@pytest.fixture
def admin(server: RunningServer) -> Iterator[Api]:
    with server.api(server.admin_token) as api:
        yield api


def new_token(admin: Api, name: str, **wanted: Any) -> str:
    answer = admin.call("POST", "/api/v1/tokens", json.dumps({"name": name, **wanted}).encode())
    assert answer.status == 201, answer
    return str(answer.json["token"])


@pytest.mark.spec("AUTH-4")
@pytest.mark.parametrize("opener", OPENERS)
def test_the_streams_of_a_revoked_token_end_within_a_second(
    server: RunningServer, admin: Api, opener: Callable[[RunningServer, str], Stream]
) -> None:
    name = f"revoked-{opener.__name__.replace('_', '-')}"
    token = new_token(admin, name, role="ai")
    others = opener(server, server.ai_token)
    streams = [opener(server, token) for _ in range(5)]

    started = time.monotonic()
    assert admin.call("DELETE", f"/api/v1/tokens/{name}").status == 200
    ended_well = [stream.read_to_end() for stream in streams]
    elapsed = time.monotonic() - started

    print(f"revoked: 5 streams ended after {elapsed * 1000:.0f} ms")
    assert elapsed < END_SECONDS
    assert all(ended_well)
    with server.api(token) as api:
        assert api.call("GET", "/api/v1/workspaces").status == 401
    others.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):  # another token's stream goes on
        others.read_to_end()


@pytest.mark.spec("AUTH-4")
@pytest.mark.parametrize("opener", OPENERS)
def test_the_streams_of_an_expired_token_end_within_a_second(
    server: RunningServer, admin: Api, opener: Callable[[RunningServer, str], Stream]
) -> None:
    before = time.monotonic()
    token = new_token(admin, f"expiring-{opener.__name__.replace('_', '-')}", role="ai", expires="2s")
    after = time.monotonic()
    streams = [opener(server, token) for _ in range(3)]

    ended_well = [stream.read_to_end() for stream in streams]
    ended = time.monotonic()

    print(f"expired: streams ended {(ended - after - 2) * 1000:.0f} ms after the token")
    assert before + 2 <= ended < after + 2 + END_SECONDS
    assert all(ended_well)
    with server.api(token) as api:
        assert api.call("GET", "/api/v1/workspaces").status == 401


@pytest.mark.spec("AUTH-4", "HTTP-7")
def test_the_upload_of_a_revoked_token_ends_within_a_second_and_stores_nothing(
    server: RunningServer, admin: Api
) -> None:
    token = new_token(admin, "revoked-upload", role="sync")
    with server.api(token) as api:
        workspace = api.register("revoked-upload")
    url = f"{workspace.url}/sessions/cut"

    with SlowUpload(server, url, token=token, write_token=workspace.write_token) as upload:
        started = time.monotonic()
        admin.call("DELETE", "/api/v1/tokens/revoked-upload")
        assert upload.ended.wait(END_SECONDS), "the upload goes on"
        elapsed = time.monotonic() - started

    print(f"revoked: an upload ended after {elapsed * 1000:.0f} ms with {upload.received[:12]!r}")
    assert upload.received.startswith(b"HTTP/1.1 401 ")
    assert admin.call("HEAD", url).status == 404
    assert list((server.root / "_meta" / "tmp").iterdir()) == []
    assert server.problems() == [], server.shown()


# -- the log


@pytest.mark.spec("LOG-2", "LOG-1", "SEC-2")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_busy_session_leaves_no_secret_text_or_query_in_the_log(serve: Serve, form: str) -> None:
    server = serve(MEMORY_LOG_LEVEL="DEBUG", MEMORY_LOG_FORMAT=form, MEMORY_SCAN_INTERVAL_SECONDS="0.2")
    canaries = be_busy(server)
    assert server.stop() == 0

    log = "".join(server.log)

    assert [canary for canary in canaries if canary in log] == []
    assert server.log
    if form == "json":
        assert all({"time", "level", "message"} <= json.loads(line).keys() for line in server.log)
    else:
        assert [line for line in server.log if not LOG_LINE.match(line)] == []
    assert sum("AUTH_FAIL" in line for line in server.log) >= 2
    assert "bad_token" in log
    assert "bad_write_token" in log


def be_busy(server: RunningServer) -> list[str]:
    """Do a bit of everything, wrong things too; returns every text that must not be in the log."""
    token = "CANARY-wrong-token-4a71"
    texts = {name: f"CANARY-{name}-4a71" for name in ("document", "overview", "turn", "query", "argument", "header")}
    with contextlib.ExitStack() as stack:
        sync = stack.enter_context(server.api())
        ai = stack.enter_context(server.api(server.ai_token))
        admin = stack.enter_context(server.api(server.admin_token))
        workspace = sync.register()
        bound = ai.register()
        named = new_token(admin, "busy", role="sync")
        control = server.admin_token

        bound.call("PUT", "knowledge/a.md", texts["document"].encode())
        bound.call("PUT", "knowledge/a.md", texts["document"].encode(), If_Match="0" * 64)
        bound.call("PUT", "overview", texts["overview"].encode())
        turn = json.dumps({"type": "user", "message": {"role": "user", "content": texts["turn"]}}).encode()
        workspace.call("PUT", "sessions/one", turn + b"\n" + texts["turn"].encode())
        workspace.call("PUT", "sessions/two", texts["turn"].encode(), Content_Encoding="gzip")
        workspace.call("PUT", "sessions/two", b"x", Content_Encoding=texts["header"])
        workspace.call("PATCH", "sessions/one", b"x", Upload_Offset=texts["header"])
        ai.call("PUT", f"{workspace.url}/knowledge/a.md", b"x", X_Memory_Binding=texts["header"])
        sync.call("PUT", f"{workspace.url}/knowledge/a.md", b"x", X_Write_Token="CANARY-write-token-4a71")
        sync.call("POST", "/api/v1/workspaces", texts["argument"].encode())
        stack.enter_context(server.api(token)).call("GET", "/api/v1/workspaces")
        ai.call("GET", "/api/v1/workspaces?machine=" + texts["query"])
        (server.root / "workspaces" / workspace.workspace_id / "knowledge" / "hand.md").write_text(texts["document"])

        client = McpClient(server.url, server.ai_token, "2026-07-28")
        stack.callback(client.close)
        for tool in ("search_knowledge", "search_sessions"):
            for mode in ("ranked", "literal", "regex"):
                assert client.answer(client.prepare(tool, query=texts["query"], mode=mode))
        client.answer(client.prepare("search_knowledge", query=f"({texts['query']}", mode="regex"))
        client.answer(client.prepare("write_knowledge", path="b.md", text=texts["document"], binding=texts["argument"]))
        client.answer(client.prepare("write_knowledge", path="b.md", text=texts["document"], binding=bound.binding))
        client.answer(client.prepare("write_knowledge", path=7, text=[texts["argument"]]))
        client.answer(client.prepare("read_knowledge", **{texts["argument"]: 1, "path": "a.md"}))
        client.answer(client.prepare(texts["argument"]))
        client.connection.exchange(
            client.connection.request("POST", "/mcp", client.headers, texts["argument"].encode())
        )
    secrets = [server.ai_token, server.sync_token, control, named, workspace.write_token, bound.binding]
    return [token, "CANARY-write-token-4a71", *texts.values(), *secrets]
