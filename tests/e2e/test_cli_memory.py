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
from tests.unit.operate.samples import sample

LINE = b'{"type":"user","message":{"role":"user","content":"where do mails go?"},"timestamp":"2026-11-20T08:00:00Z"}\n'
MAIL = "box-claude-shop/design/mail.md"
ASKED = [
    ("search", "outbox", "--json"),
    ("list", "sessions", "--json"),
    ("get", MAIL),
    ("get", "s1", "--raw"),
    ("diff", MAIL, "--json"),
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


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(300)
@pytest.mark.spec("CLI-22", "CLI-30", "CLI-31", "BIND-1")
def test_memories_by_url_are_those_beside_the_server_and_of_the_root_alone(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    agent = elsewhere(server, tmp_path, server.ai_token)
    saved = fedmem(server, "save", "The outbox sends mails.", "--kind", "decision", "--project", "shop", **agent)
    assert saved.code == 0, saved
    memory_id = saved.out.strip()
    asked = [
        ("get", memory_id, "--json"), ("list", "--project", "shop"),
        ("search", "outbox", "--memory-kind", "decision", "--all", "--json"),
        ("delete", "--project", "shop", "--dry-run"),
        ("get", "20200101-000000-abcdefgh"),
    ]  # fmt: skip

    beside = [fedmem(server, *arguments) for arguments in asked]
    by_url = [fedmem(server, *arguments, **elsewhere(server, tmp_path, server.admin_token)) for arguments in asked]
    refused = fedmem(server, "delete", "--project", "shop", "--yes", **agent)
    server.stop()
    alone = [fedmem(server, *arguments) for arguments in asked]

    assert [ran.code for ran in beside] == [0, 0, 0, 0, 4]
    assert beside == by_url == alone
    assert (refused.code, refused.out) == (7, "")
    assert fedmem(server, "delete", memory_id, "--reason", "gone").code == 0
    assert fedmem(server, "list", "--json").json == []


@pytest.mark.spec("IMPORT-10", "EXPORT-3")
@pytest.mark.parametrize("name", ["claude-mem", "basic-memory"])
def test_another_tools_memory_moves_in_by_url_with_an_ai_token_and_out_again(
    server: RunningServer, tmp_path: Path, name: str
) -> None:
    agent = elsewhere(server, tmp_path, server.ai_token)
    path = str(sample(tmp_path, name))

    dry = fedmem(server, "import", path, "--dry-run", "--json", **agent).json
    first = fedmem(server, "import", path, "--json", **agent).json
    second = fedmem(server, "import", path, "--json", **agent).json
    moved = tmp_path / "moved.jsonl"
    exported = fedmem(server, "export", first["workspace_id"], str(moved), "--format", "jsonl", **agent)

    for kind in ("memories", "documents", "sessions"):
        assert dry[kind] == first[kind]
        assert (second[kind]["created"], second[kind]["updated"]) == (0, 0)
        assert second[kind]["unchanged"] == first[kind]["created"]
    assert exported.code == 0
    again = fedmem(server, "import", str(moved), "--json", **agent).json
    assert sum(again[kind]["created"] for kind in ("memories", "documents", "sessions")) == 0
