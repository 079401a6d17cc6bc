"""What the bridge adds to the SDK's transports (SPEC: CLI-15)."""

from __future__ import annotations

import json
from collections.abc import Callable

import anyio
import httpx2
import pytest
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter

from federated_memory.cli.bridge import Stamps, SteadyTransport, Target
from federated_memory.errors import Unavailable

VERSION = "io.modelcontextprotocol/protocolVersion"
Handler = Callable[[httpx2.Request], httpx2.Response]


def message(**parts: object) -> JSONRPCMessage:
    return jsonrpc_message_adapter.validate_python({"jsonrpc": "2.0", **parts}, by_name=False)


def headers(stamps: Stamps, **parts: object) -> dict[str, str] | None:
    found = stamps.stamp(message(**parts))
    return None if found is None else found.headers


@pytest.mark.spec("CLI-15")
def test_a_message_that_names_its_version_gets_the_headers_that_repeat_it() -> None:
    meta = {"_meta": {VERSION: "2026-07-28"}}

    call = headers(Stamps(), id=1, method="tools/call", params={"name": "Größe", **meta})
    read = headers(Stamps(), id=2, method="resources/read", params={"uri": "memory://a/b", **meta})
    listing = headers(Stamps(), id=3, method="tools/list", params={"name": "no header of its own", **meta})

    version = {"mcp-protocol-version": "2026-07-28"}
    assert call == {**version, "mcp-method": "tools/call", "mcp-name": "=?base64?R3LDtsOfZQ==?="}
    assert read == {**version, "mcp-method": "resources/read", "mcp-name": "memory://a/b"}
    assert listing == {**version, "mcp-method": "tools/list"}


@pytest.mark.spec("CLI-15")
def test_after_a_handshake_every_message_has_the_version_that_was_agreed() -> None:
    stamps = Stamps()
    assert headers(stamps, id="a", method="initialize", params={"protocolVersion": "2030-01-01"}) is None
    assert not stamps.agreed.is_set()

    stamps.answered(message(id="b", result={"protocolVersion": "no"}))
    assert not stamps.agreed.is_set()
    stamps.answered(message(id="a", result={"protocolVersion": "2025-11-25"}))

    assert stamps.agreed.is_set()
    assert headers(stamps, method="notifications/initialized") == {"mcp-protocol-version": "2025-11-25"}


@pytest.mark.spec("CLI-15")
def test_a_handshake_that_is_refused_holds_nothing_back() -> None:
    stamps = Stamps()
    stamps.stamp(message(id=1, method="initialize", params={}))

    stamps.answered(message(id=1, error={"code": -32600, "message": "no"}))

    assert stamps.agreed.is_set()
    assert headers(stamps, id=2, method="ping") is None


@pytest.mark.spec("CLI-15")
@pytest.mark.parametrize("parts", [{"params": {"_meta": "x"}}, {"params": {"_meta": {VERSION: 7}}}, {}])
def test_odd_messages_are_carried_as_they_are(parts: dict[str, object]) -> None:
    assert headers(Stamps(), id=1, method="ping", **parts) is None


def post(transport: SteadyTransport, method: str, session: str = "") -> httpx2.Response:
    """One message through the transport, its answer read."""
    sent = httpx2.Request(
        "POST", "http://server.test/mcp", json={"jsonrpc": "2.0", "id": 1, "method": method},
        headers={"mcp-session-id": session} if session else {},
    )  # fmt: skip

    async def run() -> httpx2.Response:
        answer = await transport.handle_async_request(sent)
        await answer.aread()
        return answer

    return anyio.run(run)


def steady(handler: Handler) -> SteadyTransport:
    return SteadyTransport(httpx2.MockTransport(handler), "http://server.test")


@pytest.mark.spec("CLI-15")
def test_what_cannot_be_reached_is_an_answer_that_says_so() -> None:
    def gone(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("Connection refused")

    answer = post(steady(gone), "tools/list")

    assert answer.status_code == 503
    assert "http://server.test does not answer (Connection refused)" in answer.json()["error"]["message"]


@pytest.mark.spec("CLI-15")
def test_a_problem_of_the_servers_is_told_in_its_own_words() -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        body = {"detail": "A valid bearer token is needed. Check the token of this client", "code": "forbidden"}
        return httpx2.Response(401, json=body, headers={"content-type": "application/problem+json"})

    answer = post(steady(refuse), "tools/list")

    assert (answer.status_code, answer.json()["id"]) == (401, None)
    assert answer.json()["error"]["message"].startswith("A valid bearer token is needed")


@pytest.mark.spec("CLI-15")
def test_a_session_that_has_ended_is_opened_again_as_the_client_opened_it() -> None:
    sessions, seen = iter(["one", "two"]), []
    alive = {""}

    def server(request: httpx2.Request) -> httpx2.Response:
        method, session = json.loads(request.content)["method"], request.headers.get("mcp-session-id", "")
        seen.append((method, session))
        if method == "initialize":
            name = next(sessions)
            alive.clear()
            alive.add(name)
            return httpx2.Response(200, json={}, headers={"mcp-session-id": name})
        return httpx2.Response(200 if session in alive else 404, json={})

    transport = steady(server)
    assert post(transport, "initialize").status_code == 200
    assert post(transport, "tools/list", "one").status_code == 200
    alive.clear()  # the server was restarted

    assert post(transport, "tools/list", "one").status_code == 200
    assert post(transport, "tools/call", "one").status_code == 200
    assert seen[3:] == [
        ("initialize", ""), ("notifications/initialized", "two"), ("tools/list", "two"), ("tools/call", "two"),
    ]  # fmt: skip


@pytest.mark.spec("CLI-15")
def test_a_server_that_knows_no_session_at_all_is_not_asked_for_ever() -> None:
    asked = []

    def forgetful(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["method"])
        return httpx2.Response(404, json={})

    transport = steady(forgetful)
    post(transport, "initialize")

    assert post(transport, "tools/list", "one").status_code == 404
    assert asked == ["initialize", "tools/list", "initialize", "tools/list"]


@pytest.mark.spec("CLI-15")
def test_names_of_any_script_travel_in_headers_and_no_proxy_stands_before_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    here = Target("http://127.0.0.1:8000/mcp", "t", machine="机器", tool="")

    assert here.headers == {b"Authorization": b"Bearer t", b"X-Memory-Machine": "机器".encode()}
    assert (here.origin, here.proxy) == ("http://127.0.0.1:8000", None)
    assert Target("https://memory.test/", "t", machine="", tool="").proxy == "http://proxy.test:3128"
    with pytest.raises(Unavailable, match="cannot be used"):
        Target("https://memory.test", "t", machine="", tool="", ca_file="/nothing.pem")
