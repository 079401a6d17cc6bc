"""Server-sent events: what is there, what changes, where to go on, and that nobody slows anybody."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.auth.tokens import Scopes
from federated_memory.service import hub
from federated_memory.web import live_stream
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Http, Server

PATIENCE_SECONDS = 20


class Watcher:
    """An open event stream. With `stuck`, its client takes nothing until `free` is set."""

    def __init__(
        self, server: Server, query: str = "", token: str = AI_TOKEN, last_id: str | None = None, *, stuck: bool = False
    ) -> None:
        self._portal = server.portal
        self._got: queue.Queue[bytes | None] = queue.Queue()
        self._rest = b""
        self.status = 0
        self._gone, self.free = server.portal.call(anyio.Event), server.portal.call(anyio.Event)
        if not stuck:
            server.portal.call(self.free.set)
        headers = [(b"host", b"127.0.0.1:8000"), (b"authorization", f"Bearer {token}".encode())]
        headers += [(b"last-event-id", last_id.encode())] if last_id is not None else []
        self._scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/api/v1/events", "raw_path": b"/api/v1/events", "query_string": query.encode(), "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        self.done: Future[None] = server.portal.start_task_soon(server.asgi, self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if "asked" not in self._scope:
            self._scope["asked"] = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if b"event: change" in message.get("body", b""):
            await self.free.wait()
        self._got.put(message.get("body", b""))
        if not message.get("more_body"):
            self._got.put(None)

    def next(self) -> dict[str, Any]:
        """The next event, comments passed over; `{}` at the end."""
        while True:
            while b"\n\n" not in self._rest:
                part = self._got.get(timeout=PATIENCE_SECONDS)
                if part is None:
                    return {}
                self._rest += part
            block, _, self._rest = self._rest.partition(b"\n\n")
            found = dict(line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":"))
            if found:
                return {**found, "data": json.loads(found["data"])}

    def until(self, kind: str) -> list[dict[str, Any]]:
        found = [self.next()]
        while found[-1] and found[-1]["event"] != kind:
            found.append(self.next())
        return found

    def leave(self) -> None:
        self._portal.call(self._gone.set)
        self.done.result(PATIENCE_SECONDS)


@pytest.fixture
def home(server: Server) -> Home:
    return server.settle()


def writer(server: Server, home: Home, token: str = AI_TOKEN) -> Http:
    return server.http(token, x_memory_binding=server.binding_for(token, home.workspace_id))


def put(http: Http, key: str, value: object) -> int:
    reply = http.put(f"/api/v1/state/keys/{key}", json.dumps(value))
    assert reply.status == 200, reply
    return int(reply.json["version"])


@pytest.mark.spec("EVENT-1", "STATE-7")
def test_what_is_there_comes_first_then_every_change_in_order(server: Server, home: Home) -> None:
    http = writer(server, home)
    first = put(http, "build/a", {"ok": None})
    put(http, "other", 1)
    watcher = Watcher(server, "keys=build/*&keys=deploy")
    shown = watcher.until("ready")
    versions = [put(http, "build/a", 2), put(http, "deploy", "now"), put(http, "unseen", 1)]
    http.delete("/api/v1/state/keys/build/a")
    told = [watcher.next() for _ in range(3)]
    watcher.leave()

    assert [row["event"] for row in shown] == ["snapshot", "ready"]
    assert "id" not in shown[0]
    assert shown[0]["data"] | {"at": ""} == {
        "key": "build/a", "version": first, "operation": "set", "value": {"ok": None}, "at": "", "by": "ai",
        "workspace_id": home.workspace_id,
    }  # fmt: skip
    assert [(row["data"]["key"], row["data"]["operation"]) for row in told] == [
        ("build/a", "set"), ("deploy", "set"), ("build/a", "delete"),
    ]  # fmt: skip
    assert [row["id"] for row in told][:2] == [str(number) for number in versions[:2]]


@pytest.mark.spec("EVENT-2")
def test_who_comes_back_goes_on_where_it_was(server: Server, home: Home) -> None:
    http = writer(server, home)
    numbers: list[int] = []
    heard: list[int] = []
    last_id: str | None = None
    for turn in range(8):
        watcher = Watcher(server, "keys=*", last_id=last_id)
        for number in range(5):
            numbers.append(put(http, f"k{number}", turn))
        found = watcher.until("ready")
        while len(heard) + sum(row["event"] in ("snapshot", "change") for row in found) < len(numbers) - (turn % 3):
            found.append(watcher.next())
        watcher.leave()
        shown = [row for row in found if row["event"] == "snapshot"]
        heard += sorted(row["data"]["version"] for row in shown)
        heard += [row["data"]["version"] for row in found if row["event"] == "change"]
        last_id = [row["id"] for row in found if "id" in row][-1]
        for number in range(3):
            numbers.append(put(http, f"away{number}", turn))
    watcher = Watcher(server, "keys=*", last_id=last_id)
    heard += [row["data"]["version"] for row in watcher.until("ready")[:-1]]
    watcher.leave()

    assert len(set(heard)) == len(heard)
    assert heard == sorted(heard)
    assert set(numbers) - set(heard) <= set(numbers[:5])  # what the first snapshot already had overwritten


@pytest.mark.spec("EVENT-2")
@pytest.mark.parametrize("last_id", ["1", "99999999", "x", "-1", "1-1", "9" * 40])
def test_where_it_cannot_go_on_it_begins_anew(portal: BlockingPortal, tmp_path: Path, last_id: str) -> None:
    with Server(portal, tmp_path / "memory", state_log=10, state_history=1) as server:
        http = writer(server, server.settle())
        put(http, "rare", 1)
        for number in range(40):
            put(http, "busy", number)
        server.services.core.state.sweep()
        watcher = Watcher(server, "keys=*", last_id=last_id)
        found = watcher.until("ready")
        watcher.leave()

    assert [row["event"] for row in found] == ["reset", "snapshot", "snapshot", "ready"]


@pytest.mark.spec("EVENT-1", "AUTH-12")
def test_nobody_is_told_of_what_it_may_not_read(server: Server, home: Home) -> None:
    http = writer(server, home)
    token = server.token("narrow", "ai", scopes=Scopes(read_keys=("open/*",)))
    put(http, "open/a", 1)
    put(http, "hidden/a", 1)
    watcher = Watcher(server, "keys=*", token)
    found = watcher.until("ready")
    put(http, "hidden/a", 2)
    put(http, "open/a", 2)
    found.append(watcher.next())
    watcher.leave()

    assert {row["data"]["key"] for row in found if "key" in row["data"]} == {"open/a"}
    for query, asker, status in [
        ("keys=hidden/a", token, 403), ("keys=*", "wrong", 401),
        ("keys=*", server.token("l", "ai", read=("x-*",)), 403),
        ("keys=*", SYNC_TOKEN, 403), ("keys=%20", AI_TOKEN, 400), ("key=a", AI_TOKEN, 400), ("keys=", AI_TOKEN, 400),
        ("&".join(["keys=a"] * 65), AI_TOKEN, 400),
    ]:  # fmt: skip
        refused = Watcher(server, query, asker)
        refused.done.result(PATIENCE_SECONDS)
        assert (query, refused.status) == (query, status)


@pytest.mark.spec("EVENT-3")
def test_a_slow_watcher_is_told_to_resume_and_slows_nobody(
    server: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MOST_WAITING", 10)
    http = writer(server, home)
    slow, quick = Watcher(server, "keys=*", stuck=True), Watcher(server, "keys=*")
    slow.until("ready")
    quick.until("ready")
    numbers = []
    for number in range(40):
        numbers.append(put(http, "k", number))
        assert quick.next()["data"]["version"] == numbers[-1]
    server.portal.call(slow.free.set)
    told = slow.until("resume")
    assert slow.next() == {}
    again = Watcher(server, "keys=*", last_id=told[-1]["data"]["id"])
    rest = again.until("ready")
    again.leave()
    quick.leave()

    assert 0 < len(told) < 41
    heard = [row["data"]["version"] for row in (*told, *rest) if row["event"] == "change"]
    assert heard == numbers


@pytest.mark.spec("EVENT-4")
def test_a_watcher_that_takes_nothing_is_let_go(server: Server, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "STALL_SECONDS", 0.05)
    watcher = Watcher(server, "keys=*", stuck=True)
    watcher.until("ready")
    put(writer(server, home), "k", 1)

    watcher.done.result(PATIENCE_SECONDS)
    assert server.streams.event_streams == 0


@pytest.mark.spec("EVENT-4")
def test_a_heartbeat_comes_when_nothing_else_does(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "HEARTBEAT_SECONDS", 0.05)
    watcher = Watcher(server, "keys=*")
    watcher.until("ready")

    parts = [watcher._got.get(timeout=PATIENCE_SECONDS) for _ in range(2)]
    watcher.leave()
    assert parts == [b": heartbeat\n\n"] * 2


@pytest.mark.spec("EVENT-4")
def test_a_token_holds_so_many_streams_and_who_leaves_is_freed(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", max_event_streams=3) as server:
        held = [Watcher(server, "keys=*") for _ in range(3)]
        for watcher in held:
            watcher.until("ready")
        refused = Watcher(server, "keys=*")
        refused.done.result(PATIENCE_SECONDS)
        assert refused.status == 429
        other = Watcher(server, "keys=*", ADMIN_TOKEN)
        other.until("ready")
        held[0].leave()
        again = Watcher(server)
        again.until("ready")
        for watcher in (*held[1:], other, again):
            watcher.leave()
        assert server.streams.event_streams == 0


@pytest.mark.spec("EVENT-1", "EVENT-2", "AUTH-6")
def test_the_change_feed_tells_of_writes_that_the_token_may_read(server: Server, home: Home) -> None:
    hidden = server.settle("hidden")
    token = server.token("reader", "read", read=(home.workspace_id,))
    watcher = Watcher(server, token=token)
    ready = watcher.until("ready")[-1]
    sync = {found: server.http(SYNC_TOKEN, x_write_token=found.write_token) for found in (home, hidden)}
    for name in ("a", "b"):
        for found in (hidden, home):
            assert sync[found].put(found.url(f"/knowledge/{name}.md"), b"# A").status == 201
    told = [watcher.next() for _ in range(2)]
    watcher.leave()
    again = Watcher(server, token=token, last_id=told[0]["id"])
    rest = again.until("ready")
    again.leave()

    assert [(row["data"]["workspace_id"], row["data"]["key"], row["data"]["kind"]) for row in told] == [
        (home.workspace_id, "a.md", "knowledge"), (home.workspace_id, "b.md", "knowledge"),
    ]  # fmt: skip
    assert [row["data"].get("key") for row in rest] == ["b.md", None]
    assert int(ready["id"].split("-")[1]) < told[0]["data"]["number"]
    strange = Watcher(server, token=token, last_id="7-1")
    assert [row["event"] for row in strange.until("ready")] == ["reset", "ready"]
    strange.leave()


@pytest.mark.spec("EVENT-1")
def test_the_feed_is_silent_of_memories_that_only_some_may_see(server: Server, home: Home) -> None:
    http = writer(server, home)
    watcher = Watcher(server)
    watcher.until("ready")
    made = [
        http.post("/api/v1/memories", {"content": f"note {number}", "visibility": visibility}).json["memory_id"]
        for number, visibility in enumerate(("workspace", "all", "team", "all"))
    ]
    told = [watcher.next()["data"]["key"] for _ in range(2)]
    watcher.leave()

    assert [key.rsplit("/", 1)[-1] for key in told] == [f"{made[1]}.md", f"{made[3]}.md"]


@pytest.fixture
def server(portal: BlockingPortal, tmp_path: Path) -> Iterator[Server]:
    with Server(portal, tmp_path / "memory") as opened:
        yield opened
    assert not opened.errors


@pytest.mark.spec("EVENT-1", "MEM-7")
def test_the_feed_tells_that_a_memory_was_deleted_to_those_who_might_see_it(server: Server, home: Home) -> None:
    http = writer(server, home)
    made = {
        visibility: http.post("/api/v1/memories", {"content": "the secret recipe", "visibility": visibility}).json[
            "memory_id"
        ]
        for visibility in ("workspace", "team", "all")
    }
    watcher = Watcher(server)
    ready = watcher.until("ready")[-1]
    for memory_id in (*made.values(), made["all"]):  # the last one for the second time: nothing
        assert http.delete(f"/api/v1/memories/{memory_id}?reason=eaten").status == 200
    put_document = server.http(SYNC_TOKEN, x_write_token=home.write_token).put(home.url("/knowledge/end.md"), b"# End")
    assert put_document.status == 201
    told = [watcher.next()["data"] for _ in range(2)]
    watcher.leave()
    again = Watcher(server, last_id=ready["id"])
    rest = [event["data"] for event in again.until("ready") if event["event"] == "change"]
    again.leave()

    assert [(row["kind"], row["operation"]) for row in told] == [("memory", "delete"), ("knowledge", "upload")]
    assert told[0]["key"].endswith(f"/{made['all']}.md")
    assert rest == told
    for secret in ("recipe", "eaten", made["workspace"], made["team"]):
        assert secret not in str(told)
