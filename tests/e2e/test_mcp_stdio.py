"""`mcp stdio` with the real MCP client, in both protocol eras (SPEC: CLI-15, CLI-16)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer, command, start_server

Era = Literal["legacy", "2026-07-28", "auto"]
ERAS: tuple[Era, ...] = ("legacy", "2026-07-28", "auto")
COMMAND = [sys.executable, "-m", "federated_memory", "mcp", "stdio", "--machine", "box", "--tool", "desktop"]
HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}  # fmt: skip


def environment(root: Path, **options: str | None) -> dict[str, str]:
    return command(root, **options)[1]


@asynccontextmanager
async def connected(env: dict[str, str], era: Era, *more: str) -> AsyncIterator[Client]:
    program = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *more], env=env, cwd=env["HOME"])
    with anyio.fail_after(PATIENCE_SECONDS):
        async with Client(stdio_client(program), mode=era) as client:
            yield client


def drive(env: dict[str, str], era: Era, work: Callable[[Client], Awaitable[None]], *more: str) -> None:
    async def run() -> None:
        async with connected(env, era, *more) as client:
            await work(client)

    anyio.run(run)


async def ok(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


async def remember(client: Client) -> None:
    """Registers by the names of the command line, writes a document and finds it."""
    assert {"write_knowledge", "search_knowledge"} <= {tool.name for tool in (await client.list_tools()).tools}
    made = await ok(client, "register_workspace", project="shop")
    assert made["workspace_id"] == "box-desktop-shop"
    await ok(client, "write_knowledge", path="build.md", text="# Build\nmake zebra\n", binding=made["binding"])
    found = await ok(client, "search_knowledge", query="zebra", mode="literal")
    assert [hit["path"] for hit in found["hits"]] == ["build.md"]


@pytest.mark.spec("CLI-15")
@pytest.mark.parametrize("era", ERAS)
def test_a_client_reaches_the_running_server(era: Era, tmp_path: Path) -> None:
    server = start_server(tmp_path / "memory", MCP_TOKEN=None, SYNC_TOKEN=None)
    try:
        drive({**server.env}, era, remember)

        assert (server.root / "workspaces/box-desktop-shop/knowledge/build.md").read_text() == "# Build\nmake zebra\n"
        assert server.problems() == []
    finally:
        server.stop()


@pytest.mark.spec("CLI-15")
@pytest.mark.parametrize("era", ERAS)
def test_a_client_reaches_the_server_that_is_named(era: Era, server: RunningServer, tmp_path: Path) -> None:
    env = environment(
        tmp_path / "none", MCP_TOKEN=None, MCP_MEMORY_URL=server.mcp_url, MCP_MEMORY_TOKEN=server.ai_token
    )

    drive(env, era, remember)

    assert not (tmp_path / "none").exists()


@pytest.mark.spec("CLI-16")
@pytest.mark.parametrize("era", ERAS)
def test_without_a_server_the_root_is_served_and_given_back(era: Era, tmp_path: Path) -> None:
    root = tmp_path / "memory"

    drive(environment(root, MCP_TOKEN=None, SYNC_TOKEN=None), era, remember)

    assert (root / "workspaces/box-desktop-shop/knowledge/build.md").read_text() == "# Build\nmake zebra\n"
    server = start_server(root)
    try:
        server.wait_until_ready()
        assert server.problems() == []
    finally:
        server.stop()


@pytest.mark.spec("CLI-16")
def test_a_second_one_without_a_server_is_told_who_holds_the_root(tmp_path: Path) -> None:
    env = environment(tmp_path / "memory", MCP_TOKEN=None)

    async def second(client: Client) -> None:
        await client.list_tools()
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(COMMAND, env=env, cwd=env["HOME"], capture_output=True, text=True, timeout=60)
        )
        assert (done.returncode, done.stdout) == (14, "")
        assert "locked: Another process uses" in done.stderr
        assert "federated-memory up" in done.stderr

    drive(env, "2026-07-28", second)


@pytest.mark.spec("CLI-15")
@pytest.mark.parametrize("era", ERAS)
def test_a_restart_of_the_server_is_an_error_at_most_once(era: Era, tmp_path: Path) -> None:
    server = start_server(tmp_path / "memory")
    port = str(server.address[1])
    env = {**server.env, "MCP_MEMORY_URL": server.mcp_url, "MCP_MEMORY_TOKEN": server.ai_token}
    servers = [server]

    async def through_a_restart(client: Client) -> None:
        await ok(client, "list_workspaces")
        await anyio.to_thread.run_sync(server.stop)
        with pytest.raises(Exception, match="does not answer"):
            await client.call_tool("list_workspaces", {})
        servers.append(await anyio.to_thread.run_sync(lambda: start_server(server.root, PORT=port)))
        await remember(client)

    try:
        drive(env, era, through_a_restart)
    finally:
        for running in servers:
            running.stop()


@pytest.mark.spec("CLI-15")
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"MCP_MEMORY_TOKEN": "wrong"}, 7, "does not know this token"),
        ({"MCP_MEMORY_TOKEN": None}, 9, "MCP_MEMORY_TOKEN is not"),
        ({"MCP_MEMORY_URL": "http://127.0.0.1:1/mcp"}, 15, "No server answers at http://127.0.0.1:1"),
        ({"MCP_MEMORY_URL": "nonsense"}, 15, "nonsense"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error_only(
    server: RunningServer, tmp_path: Path, options: dict[str, str | None], code: int, said: str
) -> None:
    given: dict[str, str | None] = {"MCP_MEMORY_URL": server.mcp_url, "MCP_MEMORY_TOKEN": server.ai_token}
    env = environment(tmp_path / "none", **{**given, **options})

    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, input="", timeout=60)

    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.spec("CLI-15", "CLI-16")
@pytest.mark.parametrize("is_bridged", [True, False])
def test_standard_output_carries_nothing_but_messages(server: RunningServer, tmp_path: Path, is_bridged: bool) -> None:
    named = {"MCP_MEMORY_URL": server.mcp_url, "MCP_MEMORY_TOKEN": server.ai_token} if is_bridged else {}
    env = environment(tmp_path / "memory", **named)
    lines = [json.dumps(HELLO), "not json", json.dumps({"jsonrpc": "2.0", "id": 2, "method": "no/such"}), ""]

    with subprocess.Popen(
        COMMAND, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(lines))
        process.stdin.flush()
        answers: dict[Any, dict[str, Any]] = {}
        while 2 not in answers:
            found = json.loads(process.stdout.readline())
            answers[found["id"]] = found
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(PATIENCE_SECONDS) == 0

    assert answers[1]["result"]["serverInfo"]["name"] == "federated-memory"
    assert "error" in answers[2]
    assert all(json.loads(line) for line in rest.splitlines())


@pytest.mark.spec("CLI-16")
def test_a_signal_closes_the_root(tmp_path: Path) -> None:
    root = tmp_path / "memory"
    with subprocess.Popen(
        COMMAND, env=environment(root), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(HELLO) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0

    env = {**environment(root), "PATH": os.environ["PATH"]}
    checked = subprocess.run(
        [sys.executable, "-m", "federated_memory", "check"], env=env, capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout
