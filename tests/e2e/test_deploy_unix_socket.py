"""The server behind nginx without a network of its own: systemd's sockets are handed to it (SPEC: DEPLOY-12)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer, command, start_server, wait_until
from tests.e2e.hosts import free_port
from tests.e2e.shipped import Proxy, shipped_nginx

REPOSITORY = Path(__file__).parents[2]
HANDED_OVER = {"module": "tests.e2e.handing_over", "PYTHONPATH": str(REPOSITORY)}
LINE = "proxy_set_header X-Forwarded-For $remote_addr;"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[RunningServer, int]]:
    """With the port on which nginx will serve it."""
    port = free_port("127.0.0.1")
    running = start_server(
        tmp_path / "memory", PUBLIC_URL=f"https://localhost:{port}", HAND_OVER=str(tmp_path / "s"), **HANDED_OVER
    )
    running.wait_until_ready()
    yield running, port
    running.stop()


def fail(proxy: Proxy, source: str) -> None:
    forged = {"Authorization": "Bearer wrong", "X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.8"}
    assert proxy.ask("GET", "/api/v1/workspaces", headers=forged, source=source)[0] == 401


def failures(server: RunningServer) -> list[str]:
    """The addresses of AUTH_FAIL lines."""
    return [line.split("AUTH_FAIL ip=")[1].split()[0] for line in server.log if "AUTH_FAIL ip=" in line]


@pytest.mark.spec("DEPLOY-12", "AUTH-11")
def test_behind_nginx_on_a_unix_socket_the_true_client_is_logged(
    server: tuple[RunningServer, int], tmp_path: Path
) -> None:
    running, port = server
    with shipped_nginx(tmp_path / "site", f"unix:{tmp_path}/s", port) as proxy:
        headers = {"Authorization": f"Bearer {running.ai_token}"}
        body = json.dumps({"machine": "box", "tool": "claude", "project": "shop"}).encode()
        status, _, answer = proxy.ask("POST", "/api/v1/workspaces", body, headers)
        assert status in (200, 201)
        place = "/api/v1/workspaces/box-claude-shop/knowledge/a.md"
        headers["X-Memory-Binding"] = json.loads(answer)["binding"]
        assert proxy.ask("PUT", place, b"# zebra" * 10_000, headers)[0] == 201
        assert proxy.ask("GET", place, headers=headers)[2] == b"# zebra" * 10_000
        fail(proxy, "127.0.0.5")
        fail(proxy, "127.0.0.6")
        wait_until(lambda: len(failures(running)) == 2)
    assert failures(running) == ["127.0.0.5", "127.0.0.6"]

    with shipped_nginx(
        tmp_path / "twin", f"unix:{tmp_path}/s", port,
        lambda site: site.replace(LINE, LINE.replace("$remote_addr", "$http_x_forwarded_for")),
    ) as believing:  # fmt: skip
        fail(believing, "127.0.0.5")
        wait_until(lambda: len(failures(running)) == 3)
    assert failures(running)[2] == "203.0.113.7"


@pytest.mark.spec("DEPLOY-12")
def test_the_command_line_comes_by_the_port_that_is_handed_over(server: tuple[RunningServer, int]) -> None:
    running, _ = server
    done = subprocess.run(
        [sys.executable, "-m", "federated_memory", "status", "--json"], env=running.env, cwd=running.root.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert running.stop() == 0
    assert running.problems() == []


@pytest.mark.spec("DEPLOY-12")
def test_without_a_port_it_says_what_to_add(tmp_path: Path) -> None:
    arguments, env = command(tmp_path / "memory", HAND_OVER=str(tmp_path / "s"), HAND_OVER_PORT="no", **HANDED_OVER)
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 9
    assert "ListenStream=127.0.0.1:8000" in done.stderr
