"""How many requests a token, or an address without one, may make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Http, Reply, Server

BUDGET = 10
"""What one request a second brings at once."""


def until_limited(http: Http, path: str = "/api/v1/workspaces") -> tuple[int, Reply]:
    """How many were answered, and the first that came too soon."""
    for number in range(5 * BUDGET):
        reply = http.get(path)
        if reply.status == 429:
            return number, reply
    raise AssertionError("nothing was limited")


@pytest.mark.spec("RATE-1")
def test_a_token_that_asks_too_often_is_told_when_to_come_again(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", requests_per_second=1) as server:
        answered, refused = until_limited(server.http(AI_TOKEN))
        assert answered >= BUDGET
        assert refused.code == "rate_limited"
        assert int(refused.headers["retry-after"]) == refused.json["retry_after_seconds"] >= 1
        assert AI_TOKEN not in refused.body.decode()
        # Neither other tokens of that address are shut out, nor is health.
        assert server.http(SYNC_TOKEN).get("/api/v1/workspaces").status == 200
        assert server.http(ADMIN_TOKEN).get("/api/v1/status").status == 200
        assert server.http().get("/healthz").status == 200
        # Nor does another address help.
        assert server.http(AI_TOKEN, address="192.0.2.9").get("/api/v1/workspaces").status == 429


@pytest.mark.spec("RATE-1")
def test_an_mcp_client_is_told_in_an_error_of_its_protocol(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", requests_per_second=1) as server:
        until_limited(server.http(AI_TOKEN))
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        reply = server.http(AI_TOKEN).post("/mcp", body)

    assert (reply.status, reply.headers["content-type"]) == (429, "application/json")
    assert int(reply.headers["retry-after"]) >= 1
    told = json.loads(reply.body)
    assert told["id"] is None
    assert told["error"]["message"].startswith("rate_limited: More than 1 requests a second")
    assert told["error"]["data"]["code"] == "rate_limited"


@pytest.mark.spec("RATE-1")
def test_without_a_valid_token_the_address_pays(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", anonymous_requests_per_second=1) as server:
        said = len(server.auth_lines())
        wrong = server.http("wrong", address="2001:db8::1")
        answered, refused = until_limited(wrong)
        assert answered >= BUDGET
        assert refused.code == "rate_limited"
        lines = server.auth_lines()[said:]
        assert len(lines) == answered + 1  # what a jail reads goes on
        assert all(line.startswith("AUTH_FAIL") for line in lines)
        assert server.http(address="2001:db8::ffff").get("/client/memory_sync.py").status == 429
        assert server.http(address="2001:db8:0:1::1").get("/client/memory_sync.py").status == 200
        assert server.http(AI_TOKEN, address="2001:db8::1").get("/api/v1/workspaces").status == 200
        assert server.http(address="2001:db8::1").get("/readyz").status == 200


@pytest.mark.spec("RATE-1")
def test_no_limit_where_none_is_set(portal: BlockingPortal, tmp_path: Path) -> None:
    limits = {"requests_per_second": 0, "anonymous_requests_per_second": 0}
    with Server(portal, tmp_path / "memory", **limits) as server, pytest.raises(AssertionError, match="nothing"):
        until_limited(server.http(AI_TOKEN))
