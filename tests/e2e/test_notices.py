"""Changes are told to listeners of a real server, in both protocol eras, by the real client."""

from __future__ import annotations

import functools
import http.client
import json
import threading
from collections.abc import Callable

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer


@pytest.mark.spec("RES-4")
def test_the_2026_client_hears_of_what_it_may_read(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()
    with server.api() as api:
        home, hidden = api.register("home"), api.register("hidden")
        with server.api(server.admin_token) as admin:
            body = json.dumps({"name": "narrow", "role": "read", "read": [home.workspace_id]}).encode()
            token = admin.call("POST", "/api/v1/tokens", body).json["token"]
        uris = [f"memory://{found.workspace_id}/knowledge/a.md" for found in (hidden, home)]

        async def listen() -> list[str]:
            heard: list[str] = []
            headers = {"Authorization": f"Bearer {token}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http,
                Client(streamable_http_client(server.mcp_url, http_client=http), mode="2026-07-28") as client,
                client.listen(resource_subscriptions=uris) as events,
            ):
                for found in (hidden, home):
                    answer = await anyio.to_thread.run_sync(found.call, "PUT", "knowledge/a.md", b"# A")
                    assert answer.status == 201
                with anyio.fail_after(PATIENCE_SECONDS):
                    async for event in events:
                        heard.append(str(getattr(event, "uri", "")))
                        if heard[-1] == uris[1]:
                            return heard
            return heard

        assert anyio.run(listen) == [uris[1]]


@pytest.mark.spec("RES-4")
def test_a_2025_client_hears_of_what_it_subscribed_to_until_it_does_not(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()
    headers = {
        "Authorization": f"Bearer {server.ai_token}", "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }  # fmt: skip
    with server.api() as api:
        home = api.register("home")
        uris = [f"memory://{home.workspace_id}/knowledge/{name}.md" for name in "ab"]

        def post(method: str, params: dict[str, object], number: int | None = 1) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_SECONDS)
            message = {"jsonrpc": "2.0", "method": method, "params": params, **({"id": number} if number else {})}
            connection.request("POST", "/mcp", json.dumps(message), headers)
            answer = connection.getresponse()
            answer.body = answer.read()  # type: ignore[attr-defined]
            connection.close()
            return answer

        offer = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = post("initialize", offer)
        assert json.loads(answer.body)["result"]["capabilities"]["resources"]["subscribe"] is True  # type: ignore[attr-defined]
        headers |= {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        post("notifications/initialized", {}, None)
        stream = http.client.HTTPConnection(*server.address, timeout=PATIENCE_SECONDS)
        stream.request("GET", "/mcp", headers={key: value for key, value in headers.items() if key != "Content-Type"})
        events = stream.getresponse()
        heard: list[str] = []
        changed = threading.Condition()

        def read() -> None:
            try:
                while line := events.readline():
                    if line.startswith(b"data:") and b"resources/updated" in line:
                        with changed:
                            heard.append(json.loads(line[5:])["params"]["uri"])
                            changed.notify_all()
            except (OSError, ValueError, http.client.HTTPException):
                pass

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for uri in uris:
            assert b"error" not in post("resources/subscribe", {"uri": uri}).body  # type: ignore[attr-defined]
        home.call("PUT", "knowledge/a.md", b"# A")
        with changed:
            assert changed.wait_for(lambda: uris[0] in heard, PATIENCE_SECONDS)
        post("resources/unsubscribe", {"uri": uris[0]})
        home.call("PUT", "knowledge/a.md", b"# A again")
        home.call("PUT", "knowledge/b.md", b"# B")
        with changed:
            assert changed.wait_for(lambda: uris[1] in heard, PATIENCE_SECONDS)
        assert heard == uris
        server.stop()
        reader.join(PATIENCE_SECONDS)
        stream.close()


@pytest.mark.spec("RES-5")
@pytest.mark.parametrize("name", ["build/a", "build/*"])
def test_the_2026_client_hears_of_shared_values(serve: Callable[..., RunningServer], name: str) -> None:
    server = serve()
    server.wait_until_ready()
    with server.api(server.ai_token) as api:
        binding = api.register("home").binding
        uri = f"memory:///state/{name}"

        async def listen() -> str:
            headers = {"Authorization": f"Bearer {server.ai_token}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http,
                Client(streamable_http_client(server.mcp_url, http_client=http), mode="2026-07-28") as client,
                client.listen(resource_subscriptions=[uri]) as events,
            ):
                for key in ("other", "build/a"):
                    put = functools.partial(
                        api.call, "PUT", f"/api/v1/state/keys/{key}", b"1", X_Memory_Binding=binding
                    )
                    assert (await anyio.to_thread.run_sync(put)).status == 200
                with anyio.fail_after(PATIENCE_SECONDS):
                    async for event in events:
                        assert "Data" in (await client.read_resource("memory:///state/build/a")).contents[0].text
                        return str(getattr(event, "uri", ""))
            return ""

        assert anyio.run(listen) == uri


@pytest.mark.spec("RES-5")
@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
def test_a_2025_client_hears_of_shared_values(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()
    told: list[str] = []

    async def listen() -> None:
        changed = anyio.Event()

        async def on_message(message: object) -> None:
            uri = getattr(getattr(message, "params", None), "uri", None)
            if uri is not None:
                told.append(str(uri))
                changed.set()

        headers = {"Authorization": f"Bearer {server.ai_token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http,
            Client(
                streamable_http_client(server.mcp_url, http_client=http), mode="legacy", message_handler=on_message
            ) as client,
        ):
            await client.session.subscribe_resource("memory:///state/build/*")
            for key in ("other", "build/a"):
                put = functools.partial(api.call, "PUT", f"/api/v1/state/keys/{key}", b"1", X_Memory_Binding=binding)
                assert (await anyio.to_thread.run_sync(put)).status == 200
            with anyio.fail_after(PATIENCE_SECONDS):
                await changed.wait()

    with server.api(server.ai_token) as api:
        binding = api.register("home").binding
        anyio.run(listen)
    assert told == ["memory:///state/build/*"]
