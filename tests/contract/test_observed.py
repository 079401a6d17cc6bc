"""What operators see: metrics, the audit log, request ids."""

from __future__ import annotations

import json
import logging
import stat
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from federated_memory.fs import Folder
from federated_memory.logs import JsonFormatter, request_id
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Era, Server


def metrics(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    reply = server.http(ADMIN_TOKEN).request("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def audit(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (server.root / "_meta" / "audit.jsonl").read_text().splitlines()]


@pytest.mark.spec("METRICS-1")
def test_calls_requests_and_state_are_counted(server: Server) -> None:
    home = server.settle()
    wire = server.wire()
    assert wire.code("write_knowledge", {"path": "a.md", "text": "# A", "binding": home.binding}) == "ok"
    assert wire.code("write_knowledge", {"path": "a.md", "text": "# A"}) == "not_bound"
    server.http(AI_TOKEN + "x").request("GET", "/api/v1/workspaces")

    found = metrics(server)

    prefix = "federated_memory_"
    assert found[prefix + "tool_calls_total", (("outcome", "ok"), ("tool", "write_knowledge"))] == 1
    assert found[prefix + "tool_calls_total", (("outcome", "not_bound"), ("tool", "write_knowledge"))] == 1
    assert found[prefix + "tool_seconds_count", (("tool", "write_knowledge"),)] == 2
    assert found[prefix + "http_requests_total", (("method", "POST"), ("route", "register"), ("status", "201"))] == 1
    assert found[prefix + "http_requests_total", (("method", "GET"), ("route", "none"), ("status", "401"))] == 1
    assert found[prefix + "auth_total", (("event", "AUTH_FAIL"), ("reason", "bad_token"))] >= 1
    assert found[prefix + "documents", ()] == 1
    assert found[prefix + "feed_position", ()] == server.services.core.root.feed.head()
    for name in ("index_lag_changes", "disk_free_bytes", "disk_floor_bytes", "open_streams", "http_sent_bytes_total"):
        assert (prefix + name, ()) in found


@pytest.mark.spec("METRICS-1")
@pytest.mark.parametrize(("role", "status"), [("ai", 403), ("sync", 403), ("read", 403), ("admin", 200), ("", 401)])
def test_metrics_are_for_admins(server: Server, role: str, status: int) -> None:
    token = server.token(f"t-{role}", role) if role else None

    assert server.http(token).request("GET", "/metrics").status == status


@pytest.mark.spec("METRICS-1")
def test_no_label_holds_a_name_from_outside(server: Server) -> None:
    home = server.settle("canaryproject")
    http = server.http(ADMIN_TOKEN)
    http.request("GET", "/canary/path")
    http.request("CANARY", "/api/v1/workspaces")
    server.wire().code("canary_tool", {"canary": "x"})
    server.http(SYNC_TOKEN, x_write_token=home.write_token).request(
        "PUT", f"/api/v1/workspaces/{home.workspace_id}/knowledge/canary.md", b"# canary"
    )

    assert b"canary" not in http.request("GET", "/metrics").body.lower()


@pytest.mark.spec("AUDIT-1")
@pytest.mark.parametrize("era", ERAS)
def test_every_write_and_every_refused_one_is_a_line(server: Server, era: Era) -> None:
    home = server.settle()
    wire = server.wire(AI_TOKEN, era)
    wire.code("write_knowledge", {"path": "a.md", "text": "# the text", "binding": home.binding}, x_request_id="one")
    wire.code("write_knowledge", {"path": "a.md", "text": "# the text"}, x_request_id="two")
    wire.code("read_knowledge", {"path": "a.md", "workspace_id": home.workspace_id}, x_request_id="three")
    url = f"/api/v1/workspaces/{home.workspace_id}/knowledge/b.md"
    server.http(SYNC_TOKEN, x_write_token=home.write_token).request("PUT", url, b"# the text")
    server.http(SYNC_TOKEN, x_write_token="wt_wrong").request("PUT", url, b"# the text")
    server.http("nobody").request("PUT", url, b"# the text")

    lines = audit(server)[-5:]

    assert [(line["who"], line["what"], line["outcome"]) for line in lines] == [
        ("ai", "write_knowledge", "ok"),
        ("ai", "write_knowledge", "not_bound"),
        ("sync", f"PUT {url}", "ok"),
        ("sync", f"PUT {url}", "forbidden"),
        ("", f"PUT {url}", "401"),
    ]
    assert [line["request"] for line in lines[:2]] == ["one", "two"]
    assert lines[0]["path"] == "a.md"
    assert lines[0]["workspace_id"] == home.workspace_id
    assert all(line["from"] == "127.0.0.1" for line in lines)
    text = (server.root / "_meta" / "audit.jsonl").read_text()
    assert "the text" not in text
    assert not [secret for secret in (AI_TOKEN, SYNC_TOKEN, home.write_token, home.binding) if secret in text]
    assert stat.S_IMODE((server.root / "_meta" / "audit.jsonl").stat().st_mode) == 0o600


@pytest.mark.spec("AUDIT-1")
def test_the_audit_log_is_rotated_and_old_ones_go(server: Server) -> None:
    audit_log = server.services.core.audit
    audit_log._max_bytes, audit_log._keep = 2_000, 3
    for number in range(100):
        audit_log.write(who="x", role="ai", address="", what=f"line {number}", outcome="ok", request="")

    files = sorted((server.root / "_meta").glob("audit-*.jsonl"))

    assert len(files) == 3
    assert all(path.stat().st_size <= 2_000 for path in files)
    assert audit(server)[-1]["what"] == "line 99"
    kept = [json.loads(line)["what"] for path in files for line in path.read_text().splitlines()]
    assert kept + [line["what"] for line in audit(server)] == [
        f"line {n}" for n in range(100 - len(kept) - len(audit(server)), 100)
    ]


@pytest.mark.spec("AUDIT-1")
def test_a_disk_that_refuses_the_line_fails_no_write(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    home = server.settle()

    append = Folder.append

    def full(folder: Folder, name: str, data: bytes) -> None:
        if name == "audit.jsonl":
            raise OSError(28, "No space left on device")
        append(folder, name, data)

    monkeypatch.setattr(Folder, "append", full)

    assert server.wire().code("write_knowledge", {"path": "a.md", "text": "# A", "binding": home.binding}) == "ok"
    assert server.services.core.audit.failed >= 1
    server.forgive()


@pytest.mark.spec("LOG-3")
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-1.2_X", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a b", False),
        ('"x', False),
        ("ü", False),
        ("", False),
    ],
)
def test_a_request_has_an_id(server: Server, given: str, kept: bool) -> None:
    reply = server.exchange("GET", b"/api/v1/workspaces", [(b"x-request-id", given.encode())])

    found = reply.headers["x-request-id"]
    assert (found == given) is kept
    assert kept or len(found) == 16


@pytest.mark.spec("LOG-3")
def test_log_lines_of_a_request_carry_its_id(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(server.services.workspaces), "list", broken)
    server.http(ADMIN_TOKEN, x_request_id="look-for-me").request("GET", "/api/v1/workspaces")

    assert any("request=look-for-me" in line for line in server.errors)
    server.forgive()
    held = request_id.set("in-json")
    try:
        line = JsonFormatter().format(logging.makeLogRecord({"msg": "x", "levelname": "INFO"}))
    finally:
        request_id.reset(held)
    assert json.loads(line)["request"] == "in-json"
