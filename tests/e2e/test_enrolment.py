"""A second machine: `invite` on one, one line on the other, over TLS that nobody knows (SPEC: ENROL-*, CLI-13)."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.e2e.machine import Machine, free_port, make_certificate, readable, tls_proxy

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("curl") is None, reason="openssl and curl are needed"
)


@pytest.fixture
def hidden(serve: Callable[..., RunningServer], tmp_path: Path) -> Iterator[RunningServer]:
    """A server behind a self-signed certificate; `url` is its public one."""
    certificate, key = make_certificate(tmp_path, "IP:127.0.0.1")
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    server = serve(PUBLIC_URL=url, MEMORY_TLS_CERTIFICATE=str(certificate))
    with tls_proxy(port, server.address, certificate, key):
        yield server
    assert server.problems() == []


def invite(server: RunningServer, *arguments: str, **env: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "federated_memory", "invite", *arguments, "--json"],
        env={**server.env, **env}, cwd=server.root.parent, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def line_of(made: dict[str, object]) -> str:
    commands = made["commands"]
    assert isinstance(commands, dict)
    return str(commands["sh"])


@pytest.mark.spec("ENROL-3", "ENROL-7", "ENROL-8", "ENROL-10", "CLI-13")
def test_one_line_enrols_a_machine_over_a_pinned_certificate(hidden: RunningServer, tmp_path: Path) -> None:
    made = invite(hidden, "laptop")
    machine = Machine(tmp_path / "laptop")

    done = machine.run("sh", "-c", f"{line_of(made)} --yes")

    assert done.returncode == 0, done.stdout + done.stderr
    config = json.loads((machine.home / ".memory-sync" / "config.json").read_text())
    assert (config["machine"], config["url"]) == ("laptop", made["url"])
    assert oct((machine.home / ".memory-sync" / "config.json").stat().st_mode & 0o777) == "0o600"
    with hidden.api(config["sync_token"]) as api:
        assert api.register(machine="laptop").write_token
        refused = api.call("POST", "/api/v1/workspaces", b'{"machine": "desk", "tool": "t", "project": "p"}')
        assert refused.code == "forbidden"
    secrets = [str(made["code"]), config["ai_token"], config["sync_token"]]
    everything = readable(hidden.root) + "".join(hidden.log)
    assert not [secret for secret in secrets if secret in everything]
    # What the other machine keeps is enough to know the server again.
    trust = ssl.create_default_context(cafile=config["ca_file"])
    with urllib.request.urlopen(f"{made['url']}/healthz", context=trust) as answer:
        assert answer.status == 200


@pytest.mark.spec("ENROL-2", "ENROL-5")
def test_the_same_line_works_once(hidden: RunningServer, tmp_path: Path) -> None:
    made = invite(hidden, "laptop")
    first, second = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    assert first.run("sh", "-c", f"{line_of(made)} --yes").returncode == 0

    again = second.run("sh", "-c", f"{line_of(made)} --yes")

    assert again.returncode != 0
    assert "not valid: used, expired or mistyped" in again.stderr
    assert not (second.home / ".memory-sync" / "config.json").exists()


@pytest.mark.spec("ENROL-7")
def test_a_line_for_another_key_fetches_nothing(hidden: RunningServer, tmp_path: Path) -> None:
    made = invite(hidden, "laptop")
    machine = Machine(tmp_path / "laptop")
    other = "sha256//" + "A" * 43 + "="

    done = machine.run("sh", "-c", line_of(made).replace(str(made["pin"]), other))

    assert "pinned public key" in done.stderr
    assert not (machine.home / ".memory-sync").exists()
    row = invite(hidden, "--list")
    assert [item["state"] for item in row] == ["open"]  # type: ignore[index]


@pytest.mark.spec("ENROL-1", "ENROL-2")
def test_an_invitation_made_before_the_server_starts_is_good_when_it_runs(
    serve: Callable[..., RunningServer],
) -> None:
    server = serve()
    server.stop()
    made = invite(server, "laptop")
    again = serve()

    with again.api("") as api:
        answer = api.call("POST", "/api/v1/enroll", json.dumps({"code": made["code"]}).encode())

    assert answer.status == 201
    assert answer.json["machine"] == "laptop"


@pytest.mark.spec("ENROL-2")
def test_what_a_machine_was_given_outlives_a_kill(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    made = invite(server, "laptop")
    with server.api("") as api:
        got = api.call("POST", "/api/v1/enroll", json.dumps({"code": made["code"]}).encode()).json
    server.stop(9)

    after = serve()

    for token in (got["ai_token"], got["sync_token"]):
        with after.api(token) as api:
            assert api.call("GET", "/api/v1/workspaces").status == 200
    with after.api("") as api:
        assert api.call("POST", "/api/v1/enroll", json.dumps({"code": made["code"]}).encode()).code == "forbidden"
