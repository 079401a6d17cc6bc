"""The real clients through nginx as shipped, by name and by address (SPEC: DEPLOY-6)."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from scripts.model_standin import Call, ModelStandin, Say
from tests.e2e.clients import ClaudeCode, clean_environment, run_program
from tests.e2e.conftest import RunningServer, start_server
from tests.e2e.hosts import free_port
from tests.e2e.shipped import Proxy, make_certificate, need, shipped_nginx

BY_NAME_AND_ADDRESS = pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Site:
    """A server set up as the installer does it, behind the shipped nginx."""

    server: RunningServer
    proxy: Proxy

    def url(self, host: str) -> str:
        return f"https://{host}:{self.proxy.port}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("site"), free_port("127.0.0.1")
    server = start_server(
        folder / "memory", PUBLIC_URL=f"https://localhost:{port}", MEMORY_TRUSTED_PROXIES="127.0.0.1",
        MEMORY_TLS_CERTIFICATE=str(folder / "nginx/server.pem"),
    )  # fmt: skip
    with shipped_nginx(folder / "nginx", f"127.0.0.1:{server.address[1]}", port) as proxy:
        yield Site(server, proxy)
    server.stop()
    assert server.problems() == []


@BY_NAME_AND_ADDRESS
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.spec("DEPLOY-6")
def test_the_mcp_client_in_both_eras(site: Site, host: str, mode: str) -> None:
    async def work() -> str:
        headers = {"Authorization": f"Bearer {site.server.ai_token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30, verify=site.proxy.context) as http,
            Client(streamable_http_client(f"{site.url(host)}/mcp", http_client=http), mode=mode) as client,  # type: ignore[arg-type]
        ):
            names = {"machine": "box", "tool": "agent", "project": f"era-{mode}-{host}"}
            registered = await client.call_tool("register_workspace", names)
            assert registered.structured_content is not None
            return str(registered.structured_content["workspace_id"])

    assert anyio.run(work).startswith("box-agent-era-")


@pytest.mark.spec("DEPLOY-6")
def test_a_client_that_does_not_know_the_certificate_refuses_it(site: Site, tmp_path: Path) -> None:
    stranger = make_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(cafile=str(stranger))
    unknown = contextlib.closing(http.client.HTTPSConnection("localhost", site.proxy.port, context=context))
    with unknown as connection, pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/healthz")


@BY_NAME_AND_ADDRESS
@pytest.mark.spec("DEPLOY-6")
def test_memory_sync_enrols_and_sends(site: Site, host: str, tmp_path: Path) -> None:
    need("curl")
    machine = "named" if host == "localhost" else "numbered"
    invited = subprocess.run(
        [sys.executable, "-m", "federated_memory", "invite", machine, "--json"],
        env=site.server.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = str(json.loads(invited.stdout)["commands"]["sh"]).replace("https://localhost:", f"https://{host}:")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    home = tmp_path / "home"
    env = clean_environment(home, PATH=f"{programs}:/usr/bin:/bin")
    done = run_program(["sh", "-c", f"{line} --yes --no-schedule"], env=env, cwd=tmp_path)
    assert done.exit_code == 0, done.shown()
    script = ["python3", "-I", "-S", str(home / ".memory-sync/bin/memory_sync.py")]
    config = json.loads((home / ".memory-sync/config.json").read_text())
    if host not in config["url"]:  # enrolment tells the server's PUBLIC_URL; this machine goes by the address
        config["url"] = site.url(host)
        (home / ".memory-sync/config.json").write_text(json.dumps(config))
    transcript = home / ".claude/projects/-work-shop/3f2b8c1e-0000-4000-8000-000000000001.jsonl"
    transcript.parent.mkdir(parents=True)
    said = {"type": "user", "cwd": "/work/shop", "message": {"role": "user", "content": f"hello from {machine}"}}
    transcript.write_text(json.dumps({**said, "timestamp": "2026-11-21T08:00:00Z"}) + "\n")
    for arguments in (["test"], ["sync"]):
        done = run_program([*script, *arguments], env=env, cwd=tmp_path)
        assert done.exit_code == 0, done.shown()
    with site.server.api() as api:
        listed = api.call("GET", f"/api/v1/workspaces?machine={machine}").json["workspaces"]
    assert {row["workspace_id"]: row["sessions"] for row in listed}[f"{machine}-claude-code-shop"] == 1


@BY_NAME_AND_ADDRESS
@pytest.mark.node
@pytest.mark.spec("DEPLOY-6")
def test_claude_code(site: Site, host: str, tmp_path: Path) -> None:
    claude = ClaudeCode(tmp_path / "laptop")
    added = claude.connect(f"{site.url(host)}/mcp", site.server.ai_token)
    assert added.exit_code == 0, added.shown()
    names = {"machine": f"box-{len(host)}", "tool": "claude-code", "project": "shop"}
    with ModelStandin([Call("register_workspace", names), Say("Registered.")]) as model:
        finished = claude.run(
            *("-p", "Register.", "--output-format", "json", "--allowedTools", "mcp__memory"),
            ANTHROPIC_BASE_URL=model.url,
            NODE_EXTRA_CA_CERTS=str(site.proxy.certificate),
        )
    assert finished.exit_code == 0, finished.shown()
    model.check()
    assert model.seen.json("register_workspace")["workspace_id"] == f"box-{len(host)}-claude-code-shop"
