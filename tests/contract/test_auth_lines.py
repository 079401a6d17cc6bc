"""The lines that operators and fail2ban read: exact, one for each refusal, never forged (SPEC: AUTH-9, LOG-2)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

import pytest

from federated_memory.logs import JsonFormatter, TextFormatter
from tests.contract.harness import AI_TOKEN, SYNC_TOKEN, Home, Server

Refusal = Callable[[Server, Home], object]
ADDRESS = "203.0.113.7"


def http(server: Server, token: str | None, method: str, path: str, **headers: str) -> object:
    return server.http(token, address=ADDRESS).request(method, path, b"x", **headers)


def tool(server: Server, name: str, **arguments: object) -> object:
    return server.agent().call(name, **arguments)


def revoked(server: Server) -> str:
    token = server.token("gone", "read")
    server.services.core.tokens.revoke("gone")
    return token


REFUSALS: dict[str, Refusal] = {
    f'AUTH_DENY ip={ADDRESS} reason=no_token path="/mcp"': lambda s, _: http(s, None, "POST", "/mcp"),
    f'AUTH_FAIL ip={ADDRESS} reason=bad_token path="/mcp"': lambda s, _: http(s, "wrong", "POST", "/mcp"),
    f'AUTH_FAIL ip={ADDRESS} reason=revoked_token path="/mcp"': lambda s, _: http(s, revoked(s), "POST", "/mcp"),
    f'AUTH_FAIL ip={ADDRESS} reason=expired_token path="/mcp"': lambda s, _: http(
        s, s.token("old", "read", expires_seconds=1e-9), "POST", "/mcp"
    ),
    f'AUTH_DENY ip={ADDRESS} reason=host path="/mcp"': lambda s, _: http(
        s, AI_TOKEN, "POST", "/mcp", host="evil.example"
    ),
    f'AUTH_FAIL ip={ADDRESS} reason=bad_write_token path="/api/v1/workspaces/box-claude-home/overview"': lambda s, h: (
        http(s, SYNC_TOKEN, "PUT", h.url("/overview"), x_write_token="wt_wrong")
    ),
    f'AUTH_DENY ip={ADDRESS} reason=no_write_token path="/api/v1/workspaces/box-claude-home/overview"': lambda s, h: (
        http(s, SYNC_TOKEN, "PUT", h.url("/overview"))
    ),
    f'AUTH_DENY ip={ADDRESS} reason=role path="/api/v1/status"': lambda s, _: http(
        s, AI_TOKEN, "GET", "/api/v1/status"
    ),
    f'AUTH_DENY ip={ADDRESS} reason=bad_binding path="/api/v1/workspaces/box-claude-home/overview"': lambda s, h: http(
        s, AI_TOKEN, "PUT", h.url("/overview"), x_memory_binding="fmb1.a.b"
    ),
    f'AUTH_DENY ip={ADDRESS} reason=bound_elsewhere path="/api/v1/workspaces/box-claude-away/overview"': lambda s, h: (
        http(s, AI_TOKEN, "PUT", s.settle("away").url("/overview"), x_memory_binding=h.binding)
    ),
    f'AUTH_DENY ip={ADDRESS} reason=read_glob path="/api/v1/workspaces/box-claude-home"': lambda s, h: http(
        s, s.token("r", "read", read=("other-*",)), "GET", h.url()
    ),
    f'AUTH_DENY ip={ADDRESS} reason=write_glob path="/api/v1/workspaces/box-claude-home/overview"': lambda s, h: http(
        s, s.token("w", "sync", write=("other-*",)), "PUT", h.url("/overview"), x_write_token=h.write_token
    ),
    f'AUTH_DENY ip={ADDRESS} reason=machine path="/api/v1/workspaces/box-claude-home/overview"': lambda s, h: http(
        s, s.token("m", "sync", machine="away"), "PUT", h.url("/overview"), x_write_token=h.write_token
    ),
    'AUTH_DENY ip=127.0.0.1 reason=not_bound path="write_overview"': lambda s, _: tool(s, "write_overview", text="x"),
    'AUTH_DENY ip=127.0.0.1 reason=bad_binding path="write_overview"': lambda s, _: tool(
        s, "write_overview", text="x", binding="fmb1.a.b"
    ),
    'AUTH_DENY ip=127.0.0.1 reason=role path="upload_knowledge"': lambda s, h: tool(
        s, "upload_knowledge", workspace_id=h.workspace_id, write_token=h.write_token, path="a.md", text="x"
    ),
}


@pytest.fixture(scope="module")
def home(shared: Server) -> Home:
    return shared.settle()


@pytest.mark.spec("AUTH-9", "LOG-1")
@pytest.mark.parametrize("line", REFUSALS)
def test_a_refusal_logs_exactly_one_line(
    shared: Server, home: Home, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    caplog.set_level(logging.DEBUG, "federated_memory")

    REFUSALS[line](shared, home)

    records = [record for record in caplog.records if "AUTH_" in record.getMessage()]
    (found,) = [TextFormatter().format(record) for record in records]
    time, _, rest = found.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", time)
    assert rest == line
    assert json.loads(JsonFormatter().format(records[0])) | {"time": ""} == {
        "time": "", "level": records[0].levelname, "logger": "federated_memory.auth.events",
        "message": line.split(" ")[0], **dict(part.split("=") for part in line.replace('"', "").split(" ")[1:]),
    }  # fmt: skip


FORGED = [
    b"/x\r\n2026-11-21T03:59:08+00:00 AUTH_FAIL ip=198.51.100.1 reason=bad_token path=\"/mcp\"",
    b"/x\nAUTH_FAIL ip=198.51.100.1",
    b'/x" AUTH_FAIL ip=198.51.100.1 reason=bad_token path="',
    b"/x\\\" AUTH_FAIL ip=198.51.100.1",
    b"/\x1b[2K\x1b[1G2026-11-21T03:59:08+00:00 AUTH_FAIL ip=198.51.100.1",
    b"/\x00\x08\x7f",
    "/\u2028AUTH_FAIL ip=198.51.100.1".encode(),
    "/\u2029\u0085\u202eAUTH_FAIL ip=198.51.100.1".encode(),
    b"/\x0b\x0c\x1c\x1d\x1e AUTH_FAIL ip=198.51.100.1",
    b"/\xff\xfe\xed\xa0\x80 AUTH_FAIL ip=198.51.100.1",
    b"/" + b"a" * 10_000 + b" AUTH_FAIL",
]  # fmt: skip


@pytest.mark.spec("AUTH-9", "LOG-2")
@pytest.mark.parametrize("path", FORGED)
def test_a_path_cannot_forge_a_line(server: Server, path: bytes) -> None:
    quoted = b"/" + b"".join(b"%%%02x" % byte for byte in path[1:])

    server.exchange("GET", quoted, [(b"authorization", b"Bearer wrong")], address=ADDRESS)

    (line,) = [line for line in server.lines if "AUTH_" in line]
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert line.isascii()
    time_and_event, _, rest = line.partition(" ip=")
    assert re.fullmatch(r"\S+ AUTH_FAIL", time_and_event)
    assert rest.startswith(f'{ADDRESS} reason=bad_token path="/')
    # What follows the address is one quoted value: nothing in it ends early.
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', rest.split("path=", 1)[1])
    assert len(line) < 2_000


@pytest.mark.spec("AUTH-9")
@pytest.mark.parametrize(
    "hop",
    [
        "203.0.113.9 AUTH_FAIL ip=198.51.100.1",
        "fe80::1%\r\nAUTH_FAIL ip=198.51.100.1",
        'fe80::1%x" reason=bad_token path="/',
        "fe80::1%" + "a" * 5_000,
    ],
)
def test_a_forwarded_address_cannot_forge_a_line(server: Server, hop: str) -> None:
    """Over a unix socket, whose peer is trusted."""
    headers = [(b"authorization", b"Bearer wrong"), (b"x-forwarded-for", hop.encode())]

    server.exchange("GET", b"/mcp", headers, address="")

    (line,) = [line for line in server.lines if "AUTH_" in line]
    assert len(line.splitlines()) == 1
    assert " ip=198.51.100.1" not in re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
    assert len(line) < 2_000


@pytest.mark.spec("AUTH-9", "LOG-2")
def test_a_tool_argument_cannot_forge_a_line(server: Server) -> None:
    agent = server.agent()
    for evil in ("x\nAUTH_FAIL ip=198.51.100.1.md", "\x1b[2Kx.md", 'x" AUTH_FAIL.md'):
        for name in ("write_knowledge", "read_knowledge"):
            agent.call(name, path=evil, **({"text": "x"} if name.startswith("write") else {"workspace_id": "gone"}))
        agent.call("read_knowledge", path="a.md", workspace_id=evil)
        agent.call("register_workspace", machine=evil, tool=evil, project=evil)

    assert all(len(line.splitlines()) == 1 and line.isprintable() for line in server.lines)
    assert not [line for line in server.lines if "198.51.100.1" in line]
