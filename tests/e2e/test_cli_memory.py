"""The verbs that read and write memory: beside a server, by its URL, and on the root that it left."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Api, RunningServer, Workspace
from tests.e2e.test_cli import Serve, elsewhere, fedmem

LINE = b'{"type":"user","message":{"role":"user","content":"where do mails go?"},"timestamp":"2026-11-20T08:00:00Z"}\n'
MAIL = "box-claude-shop/design/mail.md"
ASKED = [
    ("search", "outbox", "--json"),
    ("search", "outbox"),
    ("list", "knowledge"),
    ("list", "sessions", "--json"),
    ("list", "workspaces"),
    ("get", MAIL),
    ("get", MAIL, "--version", "1", "--json"),
    ("get", "box-claude-shop"),
    ("get", "box-claude-shop/s1", "--raw"),
    ("get", "s1", "--json"),
    ("history", MAIL),
    ("diff", MAIL, "--json"),
    ("get", "box-claude-shop/none.md"),
    ("get", "nothing"),
    ("history", "nowhere/a.md"),
    ("search", "outbox", "--workspace", "nowhere"),
]


def fill(api: Api) -> Workspace:
    """A workspace with a document of two versions, an overview and a session."""
    workspace = api.register()
    for text in (b"# Mail\n\nThe queue sends mails.\n", b"# Mail\n\nThe outbox sends mails.\n"):
        assert workspace.call("PUT", "knowledge/design/mail.md", text).status in (200, 201)
    workspace.call("PUT", "overview", b"# Shop\n\nSells things.\n")
    workspace.call("PUT", "sessions/s1", LINE)
    return workspace


@pytest.fixture
def shop(server: RunningServer) -> Iterator[Workspace]:
    with server.api(server.ai_token) as api:
        yield fill(api)


@pytest.mark.spec("CLI-22", "CLI-23", "CLI-25", "CLI-26", "CLI-27")
def test_a_server_a_url_and_the_root_alone_answer_the_same(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with server.api() as api:
        fill(api)
    beside = [fedmem(server, *arguments) for arguments in ASKED]
    by_url = [fedmem(server, *arguments, **elsewhere(server, tmp_path, server.ai_token)) for arguments in ASKED]
    server.stop()
    alone = [fedmem(server, *arguments) for arguments in ASKED]

    assert beside[0].code == 0
    for arguments, one, two, three in zip(ASKED, beside, by_url, alone, strict=True):
        assert one == two, arguments
        assert one == three, arguments


@pytest.mark.spec("CLI-27", "BIND-4")
def test_an_ai_token_restores_by_url_and_a_read_token_may_not(
    server: RunningServer, shop: Workspace, tmp_path: Path
) -> None:
    reader = fedmem(server, "token", "create", "reader", "--role", "read", "--json").json["token"]

    refused = fedmem(server, "restore-version", MAIL, "1", **elsewhere(server, tmp_path, reader))
    assert (refused.code, refused.out) == (7, "")
    done = fedmem(server, "restore-version", MAIL, "1", **elsewhere(server, tmp_path, server.ai_token))

    assert done.code == 0
    assert fedmem(server, "get", MAIL).out == "# Mail\n\nThe queue sends mails.\n"
    unknown = fedmem(server, "restore-version", "nowhere/a.md", "1")
    assert unknown.code == 4
    assert shop.workspace_id in fedmem(server, "list", "workspaces").out


@pytest.mark.spec("CLI-29", "CLI-2")
def test_colours_are_for_terminals_that_want_them(server: RunningServer, shop: Workspace) -> None:
    shop.call("PUT", "knowledge/bad.md", b"# Bad\n\n\x1b[31moutbox\x07\n")

    assert "\x1b[" in on_a_terminal(server, "list", "workspaces")
    assert "\x1b" not in on_a_terminal(server, "list", "workspaces", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(server, "list", "workspaces", TERM="dumb")
    assert "\x1b[31m" not in on_a_terminal(server, "search", "outbox")
    assert "\x1b" not in on_a_terminal(server, "get", f"{shop.workspace_id}/bad.md")
    assert "\x1b" not in fedmem(server, "list", "workspaces").out


def on_a_terminal(server: RunningServer, *arguments: str, **environment: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "federated_memory", *arguments],
        env={**server.env, "TERM": "xterm", **environment}, stdout=theirs, cwd=server.root.parent,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65_536):
            said += piece
    except OSError:  # the other end is closed: all was read
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return said.decode()
