"""The command beside a running server: it asks the server, and never the files behind its back."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import RunningServer

Serve = Callable[..., RunningServer]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def fedmem(server: RunningServer, *arguments: str, **environment: str | None) -> Ran:
    """Run the command as somebody on the server's machine; an option that is None is not set."""
    env = {**server.env, **environment}
    done = subprocess.run(
        [sys.executable, "-m", "federated_memory", *arguments],
        env={name: value for name, value in env.items() if value is not None},
        cwd=server.root.parent,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def elsewhere(server: RunningServer, tmp_path: Path, token: str) -> dict[str, str]:
    """The environment of another machine, which knows the server by its URL."""
    return {
        "MEMORY_ROOT": str(tmp_path / "none"), "MCP_MEMORY_URL": server.mcp_url, "MCP_MEMORY_TOKEN": token,
    }  # fmt: skip


# -- the server answers


@pytest.mark.spec("CLI-3", "CLI-9")
def test_status_is_the_running_servers(server: RunningServer) -> None:
    server.wait_until_ready()

    ran = fedmem(server, "status", "--json")

    assert ran.code == 0, ran
    told = ran.json
    assert (told["running"], told["url"], told["pid"]) == (True, server.url, server.process.pid)
    assert (told["ready"], told["reasons"], told["root"]) == (True, [], str(server.root))
    assert f"running at {server.url} (pid {server.process.pid})" in fedmem(server, "status").out


@pytest.mark.spec("CLI-3", "CLI-7")
def test_a_token_made_beside_the_server_works_at_once_until_it_is_revoked(server: RunningServer) -> None:
    secret = fedmem(server, "token", "create", "night", "--role", "read", "--expires", "1d", "--json").json["token"]

    with server.api(secret) as api:
        assert api.call("GET", "/api/v1/workspaces").status == 200
        assert "night" in fedmem(server, "token", "list").out
        assert fedmem(server, "token", "revoke", "night", "--json").json["state"] == "revoked"
        assert api.call("GET", "/api/v1/workspaces").status == 401
    assert secret not in "".join(server.log)


@pytest.mark.spec("CLI-3", "CLI-8")
def test_workspaces_are_the_servers_and_a_reissued_token_writes(server: RunningServer) -> None:
    with server.api() as api:
        workspace = api.register("cli")

        assert fedmem(server, "workspace", "show", workspace.workspace_id, "--json").json["project"] == "cli"
        listed = fedmem(server, "workspace", "list", "--project", "CLI", "--json").json
        assert [row["workspace_id"] for row in listed] == [workspace.workspace_id]
        token = fedmem(server, "workspace", "reissue", workspace.workspace_id, "--json").json["write_token"]

        assert workspace.call("PUT", "knowledge/a.md", b"# A\n").status == 403
        path = f"{workspace.url}/knowledge/a.md"
        assert api.call("PUT", path, b"# A\n", X_Write_Token=token).status == 201


@pytest.mark.spec("CLI-1", "ERR-3")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("workspace", "show", "nowhere"), 4, "not_found: No workspace nowhere."),
        (("token", "revoke", "nobody"), 4, "not_found: No token nobody."),
        (("token", "revoke", "a/b"), 4, "not_found: "),
        (("token", "create", "ai", "--role", "ai"), 9, "invalid_argument: Not a token name."),
        (("workspace", "show", "../etc"), 8, "invalid_name: "),
    ],
)
def test_an_error_of_the_server_is_the_same_as_without_it(
    server: RunningServer, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ran = fedmem(server, *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"federated-memory: {said}")


@pytest.mark.spec("CLI-2")
@pytest.mark.parametrize(
    "verb", ["init", "doctor", "status", "token list", "workspace list", "check", "check --read-data"]
)
def test_every_verb_prints_one_json_value_and_nothing_else(server: RunningServer, verb: str) -> None:
    server.wait_until_ready()

    ran = fedmem(server, *verb.split(), "--json")

    assert ran.code == 0, ran
    assert isinstance(ran.json, dict | list)
    assert ran.err == ""


@pytest.mark.spec("CLI-3")
def test_a_proxy_of_the_environment_is_not_used_for_this_machine(server: RunningServer) -> None:
    nowhere = "http://127.0.0.1:9"

    ran = fedmem(server, "status", "--json", HTTP_PROXY=nowhere, http_proxy=nowhere, ALL_PROXY=nowhere, NO_PROXY="")

    assert ran.json["running"] is True


@pytest.mark.spec("CLI-11", "CLI-12")
def test_doctor_is_satisfied_with_a_running_server(server: RunningServer) -> None:
    server.wait_until_ready()

    ran = fedmem(server, "doctor", "--json")

    assert ran.code == 0, ran.out
    assert {"server", "ready"} <= {row["name"] for row in ran.json["checks"]}


@pytest.mark.spec("CLI-10")
def test_init_beside_a_running_server_changes_nothing(server: RunningServer) -> None:
    ran = fedmem(server, "init")

    assert ran.code == 0
    assert f"it runs at {server.url}" in ran.out
    assert server.process.poll() is None


# -- by URL


@pytest.mark.spec("CLI-3")
def test_another_machine_names_the_server_by_its_url(server: RunningServer, tmp_path: Path) -> None:
    admin = elsewhere(server, tmp_path, server.admin_token)
    agent = elsewhere(server, tmp_path, server.ai_token)

    assert fedmem(server, "status", "--json", **admin).json["root"] == str(server.root)
    assert fedmem(server, "workspace", "list", "--json", **agent).code == 0
    assert fedmem(server, "status", **agent).code == 7
    refused = fedmem(server, "workspace", "list", **elsewhere(server, tmp_path, "wrong-token"))
    assert (refused.code, refused.out) == (7, "")
    assert "wrong-token" not in refused.err
    assert not (tmp_path / "none").exists()


@pytest.mark.spec("CLI-3")
def test_a_server_that_does_not_answer_at_its_url_is_unavailable(server: RunningServer, tmp_path: Path) -> None:
    options = elsewhere(server, tmp_path, "a-token") | {"MCP_MEMORY_URL": "http://127.0.0.1:9/mcp"}

    ran = fedmem(server, "workspace", "list", **options)

    assert ran.code == 15
    assert "http://127.0.0.1:9" in ran.err


@pytest.mark.spec("CLI-3")
def test_a_env_file_cannot_send_the_token_elsewhere(server: RunningServer, tmp_path: Path) -> None:
    (server.root.parent / ".env").write_text("MCP_MEMORY_URL=http://127.0.0.1:9/mcp\n")
    try:
        options = {"MEMORY_ROOT": str(tmp_path / "none"), "MCP_MEMORY_TOKEN": "a-token"}
        assert fedmem(server, "workspace", "list", **options).code == 4
    finally:
        (server.root.parent / ".env").unlink()


# -- the server is gone


@pytest.mark.spec("CLI-5")
def test_after_a_kill_the_root_itself_answers(serve: Serve) -> None:
    server = serve()
    server.stop(signal.SIGKILL)
    assert (server.root / "_meta/control.json").exists()

    ran = fedmem(server, "status", "--json")

    assert (ran.code, ran.json["running"], ran.json["pid"]) == (1, False, 0)
    assert fedmem(server, "token", "create", "late", "--role", "ai").code == 0
    assert fedmem(server, "doctor").code == 1
    assert fedmem(server, "check", "--read-data").code == 0


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """Somebody else's web server, and the tokens that it was sent."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}", seen
        listener.shutdown()
        thread.join()


@pytest.mark.spec("CLI-5")
def test_another_program_on_the_port_of_a_server_that_died_is_not_believed(
    serve: Serve, stranger: tuple[str, list[str]]
) -> None:
    server = serve()
    server.stop()
    url, seen = stranger
    control = server.root / "_meta/control.json"
    control.write_text(json.dumps({"url": url, "pid": os.getpid(), "token": "dead"}))
    control.chmod(0o600)

    assert fedmem(server, "status", "--json").json["running"] is False
    assert seen == [""]


# -- check


@pytest.mark.spec("CHECK-1")
def test_check_beside_busy_writers_finds_nothing_and_disturbs_nobody(serve: Serve) -> None:
    server = serve()
    server.wait_until_ready()
    stop = threading.Event()
    refused: list[int] = []

    def write(number: int) -> None:
        with server.api() as api:
            workspace = api.register(f"busy-{number}")
            text = b""
            for count in range(100_000):
                if stop.is_set():
                    return
                text += json.dumps({"type": "user", "message": {"content": f"{number} {count}"}}).encode() + b"\n"
                for place, body in (("knowledge/hot.md", b"# %d\n" % count), ("sessions/one", text)):
                    status = workspace.call("PUT", place, body).status
                    if status not in (200, 201):
                        refused.append(status)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        reports = [fedmem(server, "check", "--read-data", "--json") for _ in range(3)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert [report.code for report in reports] == [0, 0, 0], reports
    assert refused == []
    assert server.problems() == []
