"""Before a token is looked at: host names and web origins (SPEC: AUTH-10), and addresses (SPEC: AUTH-11)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.harness import AI_TOKEN, Reply, Server

PUBLIC = "https://memory.example.org:7443"
# Host → whether it is served by the server whose PUBLIC_URL is the one above.
HOSTS = {
    "127.0.0.1:8000": True,
    "localhost": True,
    "[::1]:8000": True,
    "LOCALHOST:9": True,
    "memory.example.org:7443": True,
    "evil.example": False,
    "127.0.0.1.evil.example": False,
    "localhost.evil.example:8000": False,
    "memory.example.org.evil.example": False,
    "": False,
}
# Origin → whether it is served; None: no such header.
ORIGINS: dict[str | None, bool] = {
    None: True,
    "http://127.0.0.1:8000": True,
    "http://localhost:5173": True,
    "https://[::1]": True,
    PUBLIC: True,
    "null": False,
    "https://evil.example": False,
    "http://localhost.evil.example": False,
    "http://127.0.0.1@evil.example": False,
    "https://memory.example.org": False,
}
BROKEN = [
    "http://[::1",
    "http://[foo]",
    "//",
    "http://",
    "\x80",
    "javascript:1",
    "http://a b",
    "http://%31",
    "",
]


@pytest.fixture(scope="module")
def public(portal: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(portal, tmp_path_factory.mktemp("public") / "memory", public_url=PUBLIC) as server:
        yield server


def ask(server: Server, host: str, origin: str | None, path: bytes = b"/api/v1/workspaces") -> Reply:
    headers = [(b"host", host.encode()), (b"authorization", f"Bearer {AI_TOKEN}".encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    return server.exchange("GET", path, headers)


@pytest.mark.spec("AUTH-10")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_only_known_hosts_and_origins_are_served(public: Server, host: str, origin: str | None) -> None:
    reply = ask(public, host, origin)

    expected = 421 if not HOSTS[host] else 200 if ORIGINS[origin] else 403
    assert reply.status == expected
    if expected == 421:
        assert "PUBLIC_URL" in reply.json["detail"]
    if expected != 200:
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json["status"] == expected


@pytest.mark.spec("AUTH-10")
@pytest.mark.parametrize("path", [b"/mcp", b"/api/v1/status", b"/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_a_foreign_host_or_origin_is_refused_on_every_route(public: Server, method: str, path: bytes) -> None:
    token = (b"authorization", f"Bearer {AI_TOKEN}".encode())

    host = public.exchange(method, path, [(b"host", b"evil.example"), token])
    origin = public.exchange(method, path, [(b"origin", b"https://evil.example"), token])

    assert (host.status, origin.status) == (421, 403)
    assert not [name for name in origin.headers if name.startswith("access-control")]


@pytest.mark.spec("AUTH-10")
def test_without_a_public_url_only_loopback_is_served(shared: Server) -> None:
    assert [ask(shared, host, None).status for host in ("localhost", "memory.example.org:7443")] == [200, 421]


@pytest.mark.spec("AUTH-10")
@pytest.mark.parametrize("origin", BROKEN)
def test_an_origin_that_is_none_is_refused(shared: Server, origin: str) -> None:
    assert ask(shared, "localhost", origin).status == 403


@pytest.mark.spec("AUTH-10")
def test_of_two_origins_neither_hides_the_other(shared: Server) -> None:
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {AI_TOKEN}".encode())]
    both = [(b"origin", b"https://evil.example"), (b"origin", b"http://localhost")]

    statuses = [shared.exchange("GET", b"/api/v1/workspaces", [*headers, *pair]).status for pair in (both, both[::-1])]

    assert statuses == [403, 403]


@pytest.mark.spec("AUTH-10")
def test_health_answers_whatever_the_host(shared: Server) -> None:
    assert shared.exchange("GET", b"/healthz", [(b"host", b"10.0.0.1")]).status == 200


@pytest.mark.spec("AUTH-11")
@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "expected"),
    [
        ("", "127.0.0.1", "198.51.100.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1", "192.0.2.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1, 198.51.100.0/24", "127.0.0.1", "192.0.2.1, 198.51.100.1", "192.0.2.1"),
        ("127.0.0.1", "203.0.113.7", "198.51.100.1", "203.0.113.7"),
    ],
)
def test_a_log_line_has_the_clients_own_address(
    portal: Any, tmp_path: Any, proxies: str, peer: str, forwarded: str, expected: str
) -> None:
    with Server(portal, tmp_path / "memory", trusted_proxies=proxies) as server:
        server.http("wrong", address=peer).get("/mcp", x_forwarded_for=forwarded)

        assert server.auth_lines() == [f'AUTH_FAIL ip={expected} reason=bad_token path="/mcp"']


@pytest.mark.spec("AUTH-11")
def test_two_forwarding_headers_are_one_list(portal: Any, tmp_path: Any) -> None:
    with Server(portal, tmp_path / "memory", trusted_proxies="127.0.0.1") as server:
        hops = [(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-for", b"198.51.100.1")]
        server.exchange("GET", b"/mcp", hops)

        assert "ip=198.51.100.1 " in server.auth_lines()[0]
