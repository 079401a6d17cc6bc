"""Secrets never appear: not in a result, a header, an error, a log line or a file (SPEC: SEC-2, ERR-2, LOG-2).

Every tool and route is driven with good and bad requests; then every byte that the server sent, logged and stored is
searched for every secret there is. A write token and a named token's secret may be sent once, where they are given.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Era, Home, Server

LINE = b'{"type":"user","message":{"role":"user","content":"hello"}}\n'


def everything(home: Home, binding: str) -> list[tuple[str, dict[str, Any]]]:
    """Calls of every tool: some that succeed, and errors of every kind."""
    where, bound = {"workspace_id": home.workspace_id}, {"binding": binding}
    upload = {**where, "write_token": home.write_token}
    return [
        ("get_overview", where), ("get_overview", {"workspace_id": "gone"}), ("list_workspaces", {}),
        ("register_workspace", {"machine": "box", "tool": "claude", "project": "home"}),
        ("register_workspace", {"machine": "x", "tool": "y", "project": "z", **where}), ("register_workspace", {}),
        ("write_knowledge", {"path": "a.md", "text": "# a", **bound}),
        ("write_knowledge", {"path": "a.md", "text": "# b", "if_match": "0" * 64, **bound}),
        ("write_knowledge", {"path": "a.md", "text": "# b"}),
        ("write_knowledge", {"path": "a.md", "text": "# b", "binding": binding[:-1] + "?"}),
        ("write_knowledge", {"path": "../a.md", "text": "# b", **bound}), ("write_overview", {"text": "# o", **bound}),
        ("read_knowledge", {"path": "a.md", **where}), ("read_knowledge", {"path": "gone.md", **where}),
        ("knowledge_history", {"path": "a.md", **where}), ("list_knowledge", where),
        ("delete_knowledge", {"path": "a.md", **bound}), ("delete_knowledge", {"path": "a.md", **bound}),
        ("restore_knowledge", {"path": "a.md", "version": 1, **bound}),
        ("restore_knowledge", {"path": "a.md", "version": 9, **bound}),
        ("upload_knowledge", {"path": "u.md", "text": "# u", **upload}),
        ("upload_knowledge", {"path": "u.md", "text": "# u", **upload, "write_token": home.write_token[:-1]}),
        ("upload_knowledge", {"path": "u.md", **upload}),
        ("upload_session", {"session_id": "s", "content": "{}\n{}\n", **upload}),
        ("upload_session", {"session_id": "s", "content": "{}", "content_base64": "e30=", **upload}),
        ("upload_session", {"session_id": "s", "content_base64": "!!!", **upload}),
        ("get_brief", bound), ("get_brief", where), ("list_sessions", where),
        ("read_session", {"session_id": "s", **where}),
        ("read_session", {"session_id": "gone", **where}), ("search_knowledge", {"query": "hello"}),
        ("search_knowledge", {"query": "(", "mode": "regex"}), ("search_sessions", {"query": "hello", **where}),
        ("search_sessions", {"query": "hello", "cursor": "!"}), ("list_workspaces", {"limit": 0}),
        ("list_workspaces", {"nonsense": 1}), ("nonsense", {}),
    ]  # fmt: skip


def all_routes(server: Server, home: Home, token: str, binding: str) -> None:
    http = server.http(token, x_memory_binding=binding, x_write_token=home.write_token)
    for method, path in [
        ("GET", "/api/v1/workspaces"), ("GET", "/api/v1/brief"), ("GET", home.url()), ("GET", home.url("/overview")),
        ("GET", home.url("/knowledge")), ("GET", home.url("/knowledge/u.md")), ("GET", home.url("/versions/u.md")),
        ("GET", home.url("/sessions")), ("GET", home.url("/sessions/s")), ("HEAD", home.url("/sessions/s")),
        ("GET", "/api/v1/tokens"), ("GET", "/api/v1/status"), ("GET", "/healthz"), ("GET", "/readyz"),
        ("GET", "/api/v1/nothing"), ("DELETE", home.url("/knowledge/gone.md")), ("DELETE", "/api/v1/tokens/gone"),
        ("POST", home.url("/plan")), ("POST", "/api/v1/workspaces"), ("PATCH", home.url("/sessions/s")),
    ]:  # fmt: skip
        http.request(method, path, b"{" if method == "POST" else b"")
        http.request(method, path, b"", authorization="Basic " + base64.b64encode(token.encode()).decode())
    http.put(home.url("/overview"), b"\xff")
    http.put(home.url("/knowledge/p.md"), b"# p", if_match='"' + "0" * 64 + '"')
    http.put(home.url("/sessions/p"), LINE, content_encoding="gzip")
    http.put(home.url("/sessions/p"), LINE, content_encoding="br")
    http.put(home.url("/sessions/p"), LINE)
    http.request("PATCH", home.url("/sessions/p"), LINE, upload_offset="3")
    http.post(home.url("/plan"), {"knowledge": {"a.md": "0"}, "sessions": {"s": {"bytes": 1, "sha256": "0"}}})
    http.post("/api/v1/tokens", {"name": "x", "role": "nobody"})


@pytest.mark.spec("SEC-2", "ERR-2", "LOG-2", "AUTH-2")
@pytest.mark.parametrize("era", ERAS)
def test_no_secret_is_in_anything_that_is_sent_logged_or_stored(server: Server, era: Era) -> None:
    home = server.settle()
    admin = server.http(ADMIN_TOKEN)
    named = {
        role: admin.post("/api/v1/tokens", {"name": f"t-{role}", "role": role}).json["token"]
        for role in ("ai", "sync", "read", "admin")
    }
    reissued = admin.request("POST", home.url("/reissue")).json["write_token"]
    home = Home(home.workspace_id, home.binding, reissued)

    for token in (AI_TOKEN, SYNC_TOKEN, ADMIN_TOKEN, *named.values()):
        binding = server.binding_for(token, home.workspace_id)
        wire = server.wire(token, era)
        for tool, arguments in everything(home, binding):
            wire.call(tool, arguments)
        wire.post("tools/list", {})
        all_routes(server, home, token, binding)
    server.services.core.tokens.revoke("t-ai")
    server.wire(named["ai"]).call("list_workspaces", {})

    key = (server.root / "_meta" / "secret.key").read_text()
    given = {*named.values(), reissued, *write_tokens(server)}
    never = {AI_TOKEN, SYNC_TOKEN, ADMIN_TOKEN, key, base64.b64encode(bytes.fromhex(key)).decode()}
    never |= {hashlib.sha256(secret.encode()).hexdigest() for secret in given | never}
    sent, logged, stored = bytes(server.sent), "\n".join(server.lines), on_disk(server)

    assert len(sent) > 100_000
    assert len(given) == 6
    assert {secret: sent.count(secret.encode()) for secret in given} == dict.fromkeys(given, 1)
    assert {secret for secret in never if secret.encode() in sent} == set()
    assert {secret for secret in given | never if secret in logged} == set()
    kept = given | {AI_TOKEN, SYNC_TOKEN, ADMIN_TOKEN, key}
    assert {secret for secret in kept if secret.encode() in stored} == set()
    assert server.lines


def write_tokens(server: Server) -> set[str]:
    """Those that were sent."""
    return {word.decode() for word in re.findall(rb"wt_[A-Za-z0-9_-]{20,}", bytes(server.sent))}


def on_disk(server: Server) -> bytes:
    server.services.core.journal.flush()
    files = [path for path in server.root.rglob("*") if path.is_file() and path.name != "secret.key"]
    return b"\n".join(path.read_bytes() for path in files)


MARK = "canary-argument-77f1"
LEGIT: dict[str, dict[str, Any]] = {
    "get_brief": {}, "get_overview": {}, "list_workspaces": {}, "list_knowledge": {"workspace_id": "box-claude-home"},
    "read_knowledge": {"workspace_id": "box-claude-home", "path": "gone.md"},
    "knowledge_history": {"workspace_id": "box-claude-home", "path": "gone.md"},
    "list_sessions": {}, "read_session": {"workspace_id": "box-claude-home", "session_id": "gone"},
    "search_knowledge": {"query": "x"}, "search_sessions": {"query": "x"},
    "write_overview": {"text": "x"}, "write_knowledge": {"path": "a.md", "text": "x"},
    "delete_knowledge": {"path": "a.md"}, "restore_knowledge": {"path": "a.md", "version": 1},
    "upload_knowledge": {"workspace_id": "box-claude-home", "write_token": "x", "path": "a.md", "text": "x"},
    "upload_session": {"workspace_id": "box-claude-home", "write_token": "x", "session_id": "s", "content": "{}"},
    "register_workspace": {"machine": "m", "tool": "t", "project": "p"},
    "store_memory": {"content": "x is y"}, "get_memory": {"memory_id": "m"}, "list_memories": {},
    "delete_memory": {"memory_id": "m"},
}  # fmt: skip
NAMES = {"path", "workspace_id", "session_id", "memory_id", "supersedes", "room"}
"""A name that is refused or missing is named: escaped, cut, and only when it is what the argument is for."""


@pytest.mark.spec("ERR-2", "SEC-2")
@pytest.mark.parametrize("tool", LEGIT)
def test_no_error_echoes_the_value_of_an_argument(shared: Server, tool: str) -> None:
    """Each argument in turn holds the mark: as it is, in a text too long for it, in a list, as the argument's name."""
    shared.services.core.registry.find("box-claude-home") or shared.settle()
    wire = shared.wire(ADMIN_TOKEN)
    schema = next(t for t in shared.agent(ADMIN_TOKEN).tools() if t.name == tool).input_schema
    echoed = {}
    for name in schema["properties"]:
        for value in (MARK, MARK + "\n", MARK * 2_000, [MARK], {MARK: MARK}, [[MARK]]):
            if name == "source" and isinstance(value, dict):
                continue
            body = wire.call(tool, {**LEGIT[tool], name: value}).body
            result = json.loads(body)["result"]
            if result.get("isError") and MARK.encode() in body and name not in NAMES:
                echoed[name, str(value)[:40]] = body[:300]

    assert echoed == {}


@pytest.mark.spec("ERR-2")
def test_an_unexpected_error_is_logged_once_and_its_text_stays_on_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("canary-of-an-exception")

    monkeypatch.setattr(type(server.services.workspaces), "list", broken)

    answer = server.agent().call("list_workspaces")
    reply = server.http(AI_TOKEN).get("/api/v1/workspaces")

    assert (answer.code, reply.status, reply.code) == ("unavailable", 503, "unavailable")
    assert b"canary-of-an-exception" not in server.sent
    assert len(server.errors) == 2
    assert all("canary-of-an-exception" in line for line in server.errors)
    server.forgive()


@pytest.mark.spec("ERR-2")
def test_an_unexpected_error_of_a_route_ends_with_its_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("canary-of-an-exception")

    monkeypatch.setattr(type(server.services.workspaces), "list", broken)
    headers = [(b"authorization", f"Bearer {AI_TOKEN}".encode())]

    try:
        reply = server.exchange("GET", b"/api/v1/workspaces", headers)
    finally:
        server.forgive()

    assert reply.status == 503


@pytest.mark.spec("ERR-2")
@pytest.mark.parametrize(
    "pattern",
    [
        "({}",
        "[{}",
        "{}(",
        "(?P<{}",
        r"\p{{{}}}",
        *("(?{})", "{}**", "[z-a{}]", "{}\\"),
    ],
)
def test_a_pattern_that_is_none_is_not_echoed(shared: Server, pattern: str) -> None:
    wire = shared.wire()

    for tool in ("search_knowledge", "search_sessions"):
        reply = wire.call(tool, {"query": pattern.format("canary"), "mode": "regex"})
        assert reply.json["result"]["structuredContent"]["error"]["code"] == "invalid_argument"
        assert b"canary" not in reply.body
