"""The installer, proved by the agents themselves: after one command each real CLI reaches the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import node_tools
from tests.e2e.clients import Finished, Server, clean_environment, run_program
from tests.e2e.conftest import RunningServer

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first run installs the agents

CLIENT = Path(__file__).parents[2] / "client"
nightly = pytest.mark.skipif(
    os.environ.get("MEMORY_E2E_AGENTS") != "all",
    reason="Codex and Gemini CLI are 500 MB: MEMORY_E2E_AGENTS=all runs them (nightly)",
)


class Machine:
    """A machine with a fresh home; our installer runs on it."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name  # of its own: the tests share a server, which gives a write token only once
        self.home = folder / "home"
        self.project = folder / "shop"
        self.project.mkdir(parents=True)
        self.env = clean_environment(self.home)

    def install(self, server: Server, *arguments: str, url: str = "") -> None:
        command = ["sh", str(CLIENT / "install.sh"), "--url", url or server.url, "--machine", self.name, "--yes"]
        tokens = {"MCP_MEMORY_TOKEN": server.ai_token, "SYNC_TOKEN": server.sync_token}
        done = run_program([*command, "--no-schedule", *arguments], env={**self.env, **tokens}, cwd=self.project)
        assert done.exit_code == 0, done.shown()
        assert server.ai_token not in done.output + done.errors

    def run(self, command: Sequence[str], **env: str) -> Finished:
        return run_program(command, env={**self.env, **env}, cwd=self.project)

    def run_in_login_shell(self, command: Sequence[str], **env: str) -> Finished:
        """As a person's terminal does: the profile is read first."""
        profile = self.home / ".profile"
        return self.run(["sh", "-c", '. "$0"; exec "$@"', str(profile), *command], **env)

    def memory_sync(self, *arguments: str) -> Finished:
        script = self.home / ".memory-sync" / "bin" / "memory_sync.py"
        return self.run([sys.executable, "-I", "-S", str(script), *arguments])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def claude_status(machine: Machine) -> str:
    program = node_tools.ensure("claude")["claude"]
    done = machine.run([*program, "mcp", "get", "memory"], CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1")
    return next((line.strip() for line in done.output.splitlines() if "Status:" in line), done.shown())


def gemini_list(machine: Machine) -> str:
    program = node_tools.ensure("gemini")["gemini"]
    done = machine.run_in_login_shell([*program, "mcp", "list"], GEMINI_CLI_TRUST_WORKSPACE="true")
    return done.output + done.errors


def codex_asked(machine: Machine, *requests: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What Codex's own app server answers to requests, in the environment of a login shell."""
    program = node_tools.ensure("codex")["codex"]
    shell = ["sh", "-c", '. "$0"; exec "$@"', str(machine.home / ".profile"), *program, "app-server"]
    with subprocess.Popen(
        shell, env=machine.env, cwd=machine.project, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        reaper = threading.Timer(60, process.kill)
        reaper.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None

            def ask(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
                print(json.dumps({"id": number, "method": method, "params": params}), file=process.stdin, flush=True)
                assert process.stdout is not None
                for line in process.stdout:
                    answer: dict[str, Any] = json.loads(line)
                    if answer.get("id") == number:
                        return answer
                raise AssertionError(f"Codex ended without an answer to {method}")

            ask(1, "initialize", {"clientInfo": {"name": "test", "version": "1"}})
            print(json.dumps({"method": "initialized"}), file=process.stdin, flush=True)
            return [ask(2 + n, method, params)["result"] for n, (method, params) in enumerate(requests)]
        finally:
            reaper.cancel()
            process.kill()


@contextlib.contextmanager
def tls_front(port: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """TLS before a server on loopback, with a certificate of an authority that nobody knows: (origin, authority)."""
    authority, chain = make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    loop = asyncio.new_event_loop()

    async def pump(reads: asyncio.StreamReader, writes: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := await reads.read(65536):
                writes.write(data)
                await writes.drain()
        writes.close()

    async def forward(reads: asyncio.StreamReader, writes: asyncio.StreamWriter) -> None:
        behind_reads, behind_writes = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reads, behind_writes), pump(behind_reads, writes))

    front = loop.run_until_complete(asyncio.start_server(forward, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{front.sockets[0].getsockname()[1]}", authority
    finally:

        async def end() -> None:
            front.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """(authority, server's key and certificate), made by openssl."""
    folder.mkdir()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    for arguments in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=memory authority"],
        ["req", *key, "-keyout", "key.pem", "-out", "req.pem", "-subj", "/CN=memory"],
        ["x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", "ext", "-out", "cert.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    chain = folder / "chain.pem"
    chain.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return folder / "ca.pem", chain


@pytest.mark.spec("INST-1", "INST-4")
def test_claude_code_is_connected_by_one_command_and_disconnected_by_another(server: Server, machine: Machine) -> None:
    (machine.home / ".claude").mkdir()

    machine.install(server)

    assert "Connected" in claude_status(machine)
    checked = machine.memory_sync("test", "--json")
    assert checked.exit_code == 0, checked.shown()
    gone = machine.memory_sync("uninstall", "--yes", "--purge")
    assert gone.exit_code == 0, gone.shown()
    assert "Connected" not in claude_status(machine)
    assert not (machine.home / ".memory-sync").exists()


@pytest.mark.spec("INST-9")
def test_claude_code_trusts_the_pinned_authority(
    serve: Callable[..., RunningServer], machine: Machine, tmp_path: Path
) -> None:
    server = serve()
    server.wait_until_ready()
    (machine.home / ".claude").mkdir()
    with tls_front(server.address[1], tmp_path / "tls") as (origin, authority):
        machine.install(server, "--ca-file", str(authority), url=origin)
        trusting = claude_status(machine)
        settings = machine.home / ".claude" / "settings.json"
        settings.write_text(settings.read_text().replace("NODE_EXTRA_CA_CERTS", "NODE_EXTRA_CA_CERTS_NOT"))
        broken_twin = claude_status(machine)

    assert "Connected" in trusting
    assert "Failed to connect" in broken_twin


@nightly
@pytest.mark.spec("INST-1", "INST-11")
def test_codex_is_connected_and_its_hooks_wait_for_the_users_consent(server: Server, machine: Machine) -> None:
    (machine.home / ".codex").mkdir()

    machine.install(server)
    (machine.home / ".profile").touch()
    status, hooks = codex_asked(machine, ("mcpServerStatus/list", {}), ("hooks/list", {"cwds": [str(machine.project)]}))

    memory = {row["name"]: row for row in status["data"]}["memory"]
    assert memory["serverInfo"]["name"] == "federated-memory"
    assert {"get_overview", "search_memory", "register_workspace"} <= set(memory["tools"])
    listed = hooks["data"][0]["hooks"]
    assert {hook["eventName"] for hook in listed} == {"sessionStart", "stop", "sessionEnd"}
    assert {hook["trustStatus"] for hook in listed} == {"untrusted"}
    assert (hooks["data"][0]["warnings"], hooks["data"][0]["errors"]) == ([], [])
    checked = machine.memory_sync("test", "--json")
    assert "Codex has not been told to trust the hooks" in checked.output


@nightly
@pytest.mark.spec("INST-1")
def test_the_check_sees_that_the_user_has_approved_codex_hooks(server: Server, machine: Machine) -> None:
    (machine.home / ".codex").mkdir()
    machine.install(server)
    (machine.home / ".profile").touch()
    config = machine.home / ".codex" / "config.toml"
    (hooks,) = codex_asked(machine, ("hooks/list", {"cwds": [str(machine.project)]}))

    # What Codex writes when its user approves.
    approved = "".join(
        f'\n[hooks.state."{hook["key"]}"]\ntrusted_hash = "{hook["currentHash"]}"\n'
        for hook in hooks["data"][0]["hooks"]
    )
    config.write_text(config.read_text() + approved)
    (after,) = codex_asked(machine, ("hooks/list", {"cwds": [str(machine.project)]}))

    assert {hook["trustStatus"] for hook in after["data"][0]["hooks"]} == {"trusted"}
    checked = machine.memory_sync("test", "--json")
    assert "codex is connected" in checked.output, checked.shown()


@nightly
@pytest.mark.spec("INST-1", "INST-6")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_gemini_is_connected_also_when_others_can_read_its_settings(
    server: Server, machine: Machine, mode: int
) -> None:
    settings = machine.home / ".gemini" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{\n  // mine\n  "theme": "x"\n}\n')
    settings.chmod(mode)
    (machine.home / ".profile").touch()

    machine.install(server)

    assert (server.ai_token in settings.read_text()) is (mode == 0o600)
    listed = gemini_list(machine)
    assert any("✓" in line and "memory" in line and "Connected" in line for line in listed.splitlines()), listed


@nightly
@pytest.mark.spec("INST-9")
def test_codex_and_gemini_trust_the_pinned_authority(
    serve: Callable[..., RunningServer], machine: Machine, tmp_path: Path
) -> None:
    server = serve()
    server.wait_until_ready()
    for folder in (".codex", ".gemini/tmp"):
        (machine.home / folder).mkdir(parents=True)
    with tls_front(server.address[1], tmp_path / "tls") as (origin, authority):
        machine.install(server, "--ca-file", str(authority), url=origin)
        (status,) = codex_asked(machine, ("mcpServerStatus/list", {}))
        listed = gemini_list(machine)
        (machine.home / ".profile").write_text("")
        (broken_twin,) = codex_asked(machine, ("mcpServerStatus/list", {}))

    assert status["data"][0]["serverInfo"]["name"] == "federated-memory"
    assert "Connected" in listed
    assert broken_twin["data"][0]["serverInfo"] is None


@pytest.mark.skipif(shutil.which("opencode") is None, reason="needs opencode on PATH")
@pytest.mark.spec("INST-1")
def test_opencode_is_connected(server: Server, machine: Machine) -> None:
    (machine.home / ".config" / "opencode").mkdir(parents=True)

    machine.install(server, "--client", "opencode")

    assert "✓ memory" in machine.run(["opencode", "mcp", "list"]).output
