"""What a machine fetches before it has a token (SPEC: ENROL-8 to ENROL-10)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from federated_memory import asgi
from federated_memory.names import etag_of
from federated_memory.operate.shipped import CLIENT_FILES, client_folder
from tests.contract.harness import Reply, Server

SHELL = b"#!/bin/sh\n# \xc3\xa9\norigin='@ORIGIN@'\nprintf %s \"$origin\"\n"
Start = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's files of these tests."""
    found = tmp_path / "client"
    found.mkdir()
    (found / "memory_sync.py").write_bytes(b"print('@ORIGIN@')\n")
    (found / "install.sh").write_bytes(SHELL)
    (found / "install.ps1").write_bytes(b"$origin = '@ORIGIN@'\r\n")
    (found / "redaction_rules.json").write_bytes(b"{}\n")
    monkeypatch.setattr(asgi, "client_folder", lambda: found)
    return found


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture
def start(portal: BlockingPortal, tmp_path: Path, folder: Path) -> Iterator[Start]:
    assert folder
    opened: list[Server] = []

    def start(**settings: object) -> Server:
        server = Server(portal, tmp_path / f"memory{len(opened)}", **settings)
        opened.append(server.__enter__())
        return server

    yield start
    for server in opened:
        server.__exit__()


def fetch(server: Server, name: str, method: str = "GET", **headers: str) -> Reply:
    return server.http().request(method, f"/client/{name}", **headers)


@pytest.mark.spec("ENROL-8", "ENROL-9")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("memory_sync.py", "text/x-python; charset=utf-8"),
        ("install.sh", "text/x-shellscript; charset=utf-8"),
        ("install.ps1", "text/plain; charset=utf-8"),
        ("redaction_rules.json", "application/json"),
    ],
)
def test_each_file_comes_without_a_token_and_only_once_if_unchanged(start: Start, name: str, kind: str) -> None:
    server = start()

    reply = fetch(server, name)

    assert (reply.status, reply.headers["content-type"]) == (200, kind)
    assert reply.headers["etag"] == f'"{etag_of(reply.body)}"'
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-content-type-options"] == "nosniff"
    head = fetch(server, name, "HEAD")
    for headers in (head.headers, reply.headers):
        headers.pop("x-request-id")  # each request has its own
    assert (head.status, head.body, head.headers) == (200, b"", reply.headers)
    again = fetch(server, name, if_none_match=reply.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert fetch(server, name, if_none_match='"0"').status == 200
    assert fetch(server, name, "POST").status == 405
    assert server.auth_lines() == []


@pytest.mark.spec("ENROL-9", "ENROL-10")
def test_only_the_installers_are_changed_and_only_there(start: Start, folder: Path) -> None:
    server = start(public_url="https://memory.test:7443")

    assert fetch(server, "memory_sync.py").body == (folder / "memory_sync.py").read_bytes()
    assert fetch(server, "install.ps1").body == b"$origin = 'https://memory.test:7443'\r\n"
    assert fetch(server, "install.sh").body == SHELL.replace(b"@ORIGIN@", b"https://memory.test:7443")


@pytest.mark.spec("ENROL-10")
def test_without_a_public_url_the_origin_is_the_one_that_was_asked(start: Start) -> None:
    server = start()

    reply = server.exchange("GET", b"/client/install.sh", [(b"host", b"LocalHost:8123")])

    assert b"origin='http://localhost:8123'" in reply.body


@pytest.mark.spec("ENROL-10", "AUTH-10")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"evil.test", 421), (b"", 421), (b"127.0.0.1:80'; echo", 400), (b"localhost:$(id)", 400),
        (b"localhost:80\xe9", 400), (b"localhost:", 400), (b"localhost:123456", 400), (b"[::1]:80", 200),
    ],
)  # fmt: skip
def test_no_host_brings_anything_but_a_host_into_a_script(start: Start, host: bytes, status: int) -> None:
    reply = start().exchange("GET", b"/client/install.sh", [(b"host", host)])

    assert reply.status == status


@pytest.mark.spec("ENROL-10")
@pytest.mark.parametrize("nasty", ["'", '"', "$(id)", "`id`", "\\", " ", "é", ";id", "\u2019"])
def test_no_public_url_ends_a_string_in_a_script(start: Start, tmp_path: Path, nasty: str) -> None:
    server = start(public_url=f"https://memory.test/a{nasty}b")

    script = tmp_path / "got.sh"
    script.write_bytes(fetch(server, "install.sh").body)
    printed = subprocess.run(["sh", script], capture_output=True, check=True).stdout.decode()

    assert printed.startswith("https://memory.test/a%")
    assert printed.endswith("b")
    assert printed.isascii()


@pytest.mark.spec("ENROL-9")
def test_a_file_that_was_not_shipped_is_said(start: Start, folder: Path) -> None:
    server = start()
    (folder / "install.ps1").unlink()

    reply = fetch(server, "install.ps1")

    assert (reply.status, reply.code) == (404, "not_found")
    assert "installed without install.ps1" in reply.json["detail"]


@pytest.mark.spec("ENROL-9")
def test_the_clients_files_are_in_a_folder_of_the_package_or_the_checkout() -> None:
    assert client_folder().name in ("client", "client_files")
    assert set(CLIENT_FILES) == {"memory_sync.py", "install.sh", "install.ps1", "redaction_rules.json"}
