"""What operators do to a root as a whole, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.harness import ADMIN_TOKEN, Server

HOSTILE = ["", ".", "..", "../x", "a/b", "/etc/passwd", "x\0y", "%2e%2e", "no-such-thing", "A", "x" * 300]


@pytest.mark.spec("OPS-1")
@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"name": 1}', b'{"nam": "x"}', b'{"name": null}', b"{}"])
def test_other_arguments_are_refused(shared: Server, body: bytes) -> None:
    reply = shared.http(ADMIN_TOKEN).request("POST", "/api/v1/operations/release", body)

    assert (reply.status, reply.code) == (400, "invalid_argument")


@pytest.mark.spec("OPS-1")
def test_an_unknown_action_names_those_there_are(shared: Server) -> None:
    reply = shared.http(ADMIN_TOKEN).request("POST", "/api/v1/operations/nothing", b"{}")

    assert reply.status == 404
    assert "snapshot" in reply.json["hint"]


@pytest.mark.spec("OPS-1", "SEC-1")
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_reaches_beside_the_snapshots(server: Server, name: str) -> None:
    http = server.http(ADMIN_TOKEN)
    made = http.request("POST", "/api/v1/operations/snapshot", b"{}").json
    before = server.files()

    reply = http.request("POST", "/api/v1/operations/release", json.dumps({"name": name}).encode())
    single = http.request("POST", "/api/v1/operations/snapshot", json.dumps({"workspace_id": name or "."}).encode())

    assert reply.status == 404
    assert single.status in (400, 404)
    assert server.files() == before
    assert Path(made["path"]).is_dir()
