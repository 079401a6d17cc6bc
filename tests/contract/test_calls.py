"""Calls run beside each other, and stop when nobody waits for them any more (SPEC: TOOL-6)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from federated_memory.service.results import Hits, WorkspaceList
from federated_memory.service.searching import Searching
from federated_memory.service.workspaces import Workspaces
from tests.contract.harness import AI_TOKEN, ERAS, ORIGIN, Era, Server


class Held:
    """A service that answers when it is told to, or when its call was cancelled."""

    def __init__(self, answer: object) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.stopped = threading.Event()
        self._answer = answer

    def __call__(self, *_: object, cancelled: threading.Event | None = None, **__: object) -> object:
        self.begun.release()
        while not self.go_on.wait(0.005):
            if cancelled is not None and cancelled.is_set():
                self.stopped.set()
                break
        return self._answer


@contextmanager
def holding(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, answer: object) -> Iterator[Held]:
    held = Held(answer)
    monkeypatch.setattr(kind, method, lambda *given, **named: held(*given, **named))
    try:
        yield held
    finally:
        held.go_on.set()


@pytest.mark.spec("TOOL-6")
@pytest.mark.parametrize("era", ERAS)
def test_searches_keep_no_other_call_from_being_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch, era: Era
) -> None:
    agent = server.agent(era=era)
    with (
        ThreadPoolExecutor(20) as pool,
        holding(monkeypatch, Searching, "knowledge", Hits(hits=[], complete=True)) as held,
    ):
        searches = [pool.submit(agent.call, "search_knowledge", query="x") for _ in range(20)]
        assert held.begun.acquire(timeout=10)

        assert agent.ok("list_workspaces")["workspaces"] == []
        assert server.http(AI_TOKEN).get("/api/v1/workspaces").status == 200
        held.go_on.set()

        assert [search.result().code for search in searches] == ["ok"] * 20


@pytest.mark.spec("TOOL-6")
def test_a_slow_call_keeps_the_loop_free(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = server.agent()
    with (
        ThreadPoolExecutor(1) as pool,
        holding(monkeypatch, Workspaces, "list", WorkspaceList(workspaces=[], total=0)) as held,
    ):
        slow = pool.submit(agent.call, "list_workspaces")
        assert held.begun.acquire(timeout=10)

        assert server.http(None).get("/healthz").status == 200
        assert agent.ok("list_sessions")["sessions"] == []
        held.go_on.set()

        assert slow.result().code == "ok"


@pytest.mark.spec("TOOL-6")
@pytest.mark.parametrize("era", ERAS)
def test_a_cancelled_call_stops(server: Server, monkeypatch: pytest.MonkeyPatch, era: Era) -> None:
    with holding(monkeypatch, Searching, "knowledge", Hits(hits=[], complete=True)) as held:
        server.portal.call(_call_and_cancel, server, era, held.begun.acquire)

        assert held.stopped.wait(10)


async def _call_and_cancel(server: Server, era: Era, has_begun: Callable[..., Any]) -> None:
    """A real client whose caller gives up: it says so in the legacy era, and hangs up in the other."""
    transport = httpx2.ASGITransport(app=server.asgi, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {AI_TOKEN}"}
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers) as http,
        Client(streamable_http_client(f"{ORIGIN}/mcp", http_client=http), mode=era) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.call_tool, "search_knowledge", {"query": "x"})
        await anyio.to_thread.run_sync(has_begun)
        tasks.cancel_scope.cancel()
