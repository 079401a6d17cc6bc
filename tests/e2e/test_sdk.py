"""The SDK against a real server: every group of calls in both kinds of client, errors, and subscriptions."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federated_memory.client import AsyncMemoryClient, MemoryClient, Write
from federated_memory.errors import Conflict, Forbidden, InvalidArgument, NotBound, NotFound, RateLimited, Unavailable
from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer, start_server, wait_until

REPOSITORY = Path(__file__).parents[2]
LINE = (
    b'{"type":"user","message":{"role":"user","content":"the zeppelin is late"},"timestamp":"2026-11-20T08:00:00Z"}\n'
)


@pytest.fixture
def memory(server: RunningServer) -> Iterator[MemoryClient]:
    with MemoryClient(server.url, server.ai_token) as client:
        yield client


@pytest.mark.spec("SDK-1")
def test_everything_can_be_called(memory: MemoryClient) -> None:
    mine = memory.register(machine="box", tool="sdk", project="shop").workspace_id
    written = memory.knowledge.write(mine, "a/Über uns.md", "# About\n\nzeppelins\n", if_match="")
    assert memory.knowledge.read(mine, "a/Über uns.md").etag == written.etag
    assert memory.knowledge.write(mine, None, "# Overview\n").created
    assert memory.knowledge.read(mine, None).text == "# Overview\n"
    assert [row.path for row in memory.knowledge.list(mine).documents] == ["a/Über uns.md"]
    memory.knowledge.write(mine, "a/Über uns.md", "# Us\n", if_match=written.etag)
    assert "-# About" in str(memory.knowledge.history(mine, "a/Über uns.md", from_version=1, to_version=2).diff)
    assert memory.knowledge.read(mine, "a/Über uns.md", version=1).text.startswith("# About")
    assert memory.sessions.upload(mine, "s1", iter([LINE, LINE])).status == "created"
    held = memory.sessions.look(mine, "s1")
    assert memory.sessions.append(mine, "s1", LINE, offset=held.offset, if_match=held.etag).status == "appended"
    assert b"".join(memory.sessions.download(mine, "s1")) == LINE * 3
    assert [row.session_id for row in memory.sessions.list(mine).sessions] == ["s1"]
    assert memory.search("zeppelin", kinds=["session"], workspace_id=mine).hits[0].session_id == "s1"
    assert memory.brief(workspace_id=mine).workspace_id == mine
    note = memory.memories.store("Zeppelins are late on Mondays", kind="bug", tags=["time"]).memory_id
    assert memory.memories.get(note).content == "Zeppelins are late on Mondays"
    assert [row.memory_id for row in memory.memories.list(workspace_id=mine, tags=["time"]).memories] == [note]
    assert memory.memories.delete(note, reason="no more").memory_id == note
    assert memory.workspaces.get(mine).project == "shop"
    assert mine in [row.workspace_id for row in memory.workspaces.list(machine="box").workspaces]
    assert memory.knowledge.delete(mine, "a/Über uns.md").deleted


@pytest.mark.spec("SDK-1", "STATE-1")
def test_shared_state_in_both_kinds_of_client(server: RunningServer, memory: MemoryClient) -> None:
    memory.register(machine="box", tool="sdk", project="shop")
    first = memory.state.set("sdk/a", {"n": None})
    assert memory.state.get("sdk/a").value == {"n": None}
    assert memory.state.set("sdk/a", 2, if_version=first.version).version > first.version
    assert [
        row.operation
        for row in memory.state.batch([Write("sdk/b", 1, if_version=0), Write("sdk/a", delete=True)]).results
    ] == ["set", "delete"]
    assert [row.key for row in memory.state.list("sdk/").values] == ["sdk/b"]
    assert [row.operation for row in memory.state.history("sdk/a").versions] == ["delete", "set", "set"]
    memory.state.set_schema("sdk/n/*", {"type": "integer"})
    assert [row.key for row in memory.state.schemas("sdk/n/1").schemas] == ["sdk/n/*"]
    with pytest.raises(InvalidArgument) as refused:
        memory.state.set("sdk/n/1", "x")
    assert (refused.value.facts["path"], refused.value.facts["reason"]) == ("", 'type: "integer"')
    memory.state.remove_schema("sdk/n/*")

    async def same() -> Any:
        async with AsyncMemoryClient(server.url, server.ai_token) as client:
            mine = (await client.register(machine="box", tool="sdk", project="shop")).workspace_id
            await client.state.set("sdk/async", [1], ttl_seconds=60)
            await client.knowledge.write(mine, "async.md", "# Async")

            async def lines() -> AsyncIterator[bytes]:
                for _ in range(2):
                    yield LINE

            await client.sessions.upload(mine, "s2", lines())
            assert b"".join([part async for part in client.sessions.download(mine, "s2")]) == LINE * 2
            assert (await client.search("zeppelin", workspace_id=mine)).hits
            return (await client.state.get("sdk/async")).value

    assert asyncio.run(same()) == [1]


@pytest.mark.spec("SDK-1")
def test_rooms_and_tasks(server: RunningServer, memory: MemoryClient) -> None:
    memory.register(machine="box", tool="sdk", project="boss")
    assert memory.rooms.join("sdk-room").created
    with MemoryClient(server.url, server.ai_token) as worker:
        worker.register(machine="box", tool="sdk", project="worker")
        worker.rooms.join("sdk-room", status="ready")
        said = memory.rooms.notify("sdk-room", "hello")
        assert [row.text for row in worker.rooms.messages("sdk-room").messages] == ["hello"]
        assert said.message_id is not None
        worker.rooms.acknowledge("sdk-room", [said.message_id])
        assert {row.status for row in memory.rooms.status("sdk-room").members} >= {"ready"}

        def work() -> None:
            (task,) = worker.tasks.poll(room="sdk-room", wait_seconds=PATIENCE_SECONDS).tasks
            worker.tasks.submit(task.task_id, f"{task.task}: done", attempt=task.attempt)

        thread = threading.Thread(target=work)
        thread.start()
        outcome = memory.tasks.delegate("sdk-room", "dig", timeout_seconds=PATIENCE_SECONDS)
        thread.join()
        assert (outcome.status, outcome.output) == ("completed", "dig: done")
        assert memory.tasks.get(outcome.task_id).output == "dig: done"
        waiting = memory.tasks.delegate("sdk-room", "rest")
        assert memory.tasks.cancel(waiting.task_id, reason="no more").state == "cancelled"
        assert worker.rooms.leave("sdk-room").left
    assert [row.room for row in memory.rooms.list().rooms] == ["sdk-room"]


@pytest.mark.spec("SDK-2")
def test_errors_are_those_of_the_server(server: RunningServer, memory: MemoryClient) -> None:
    with pytest.raises(NotBound):
        memory.state.set("sdk/x", 1)
    mine = memory.register(machine="box", tool="sdk", project="errors").workspace_id
    version = memory.state.set("sdk/conflict", 1).version
    with pytest.raises(Conflict) as lost:
        memory.state.set("sdk/conflict", 2, if_version=version + 1)
    assert lost.value.facts == {"status": 409, "key": "sdk/conflict", "version": version}
    assert lost.value.hint
    with pytest.raises(NotFound):
        memory.knowledge.read(mine, "none.md")
    with pytest.raises(NotFound):
        list(memory.sessions.download(mine, "none"))
    with pytest.raises(InvalidArgument):
        memory.state.set("sdk/x", object())
    with MemoryClient(server.url, "wrong") as stranger:
        for call in (stranger.workspaces.list, lambda: list(stranger.subscribe("*"))):
            with pytest.raises(Forbidden) as refused:
                call()
            assert refused.value.facts["status"] == 401
    with MemoryClient(server.url, server.sync_token) as other, pytest.raises(Forbidden) as refused:
        list(other.subscribe("*"))
    assert refused.value.facts["status"] == 403
    with MemoryClient("http://127.0.0.1:9", "token") as nowhere, pytest.raises(Unavailable):
        nowhere.workspaces.list()


@pytest.mark.spec("SDK-1")
def test_where_and_who_come_from_the_environment(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCP_MEMORY_TOKEN", raising=False)
    monkeypatch.setenv("MCP_MEMORY_URL", server.mcp_url)
    with pytest.raises(InvalidArgument):
        MemoryClient()
    monkeypatch.setenv("MCP_MEMORY_TOKEN", server.ai_token)
    with MemoryClient() as client:
        client.workspaces.list()
    for url in ("http://memory.example.org", "memory.example.org", "ftp://x"):
        with pytest.raises(InvalidArgument):
            MemoryClient(url, "token")
    MemoryClient("http://10.0.0.2:8000", "token", allow_http=True).close()


@pytest.mark.spec("SDK-3")
def test_a_subscription_goes_on_over_a_restart_of_the_server(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = serve()
    port = server.address[1]
    heard: list[int] = []
    done = threading.Event()

    def listen(client: MemoryClient) -> None:
        for event in client.subscribe("k/*"):
            if event.kind == "change":
                heard.append(event.value)
            if event.kind == "ready":
                done.set()
            if event.value == 19:
                return

    with MemoryClient(server.url, server.ai_token) as client:
        client.register(machine="box", tool="sdk", project="shop")
        thread = threading.Thread(target=listen, args=(client,))
        thread.start()
        assert done.wait(PATIENCE_SECONDS)
        for number in range(10):
            client.state.set("k/a", number)
        server.process.kill()
        server.wait()
        again = start_server(tmp_path / "memory", PORT=str(port))
        try:
            with MemoryClient(again.url, again.ai_token, binding=client.binding) as writer:
                for number in range(10, 20):
                    writer.state.set("k/a", number)
            thread.join(PATIENCE_SECONDS)
        finally:
            again.stop()
    assert heard == list(range(20))


@pytest.mark.spec("SDK-3")
def test_unsubscribing_ends_it_at_once_from_another_thread(server: RunningServer, memory: MemoryClient) -> None:
    subscription = memory.subscribe("nothing/*")
    kinds: list[str] = []
    thread = threading.Thread(target=lambda: kinds.extend(event.kind for event in subscription))
    thread.start()
    wait_until(lambda: kinds == ["ready"] or subscription.last_id != "")
    subscription.unsubscribe()
    thread.join(5)  # the next heartbeat would come after ten
    assert not thread.is_alive()

    async def same() -> list[str]:
        async with AsyncMemoryClient(server.url, server.ai_token) as client:
            watching = client.subscribe("nothing/*")
            found = []
            async for event in watching:
                found.append(event.kind)
                asyncio.get_running_loop().call_later(0.05, watching.unsubscribe)
            return found

    assert asyncio.run(asyncio.wait_for(same(), 5)) == ["ready"]


@pytest.mark.spec("SDK-3", "EVENT-1")
def test_the_change_feed_through_the_sdk(memory: MemoryClient) -> None:
    mine = memory.register(machine="box", tool="sdk", project="feed").workspace_id
    with memory.subscribe() as events:
        for event in events:
            if event.kind == "ready":
                memory.knowledge.write(mine, "a.md", "# A")
            elif event.data.get("workspace_id") == mine:
                assert event.key == "a.md"
                break


@pytest.mark.spec("SDK-4")
def test_importing_it_loads_no_part_of_the_server() -> None:
    program = (
        "import sys, federated_memory.client\n"
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('federated_memory.')}\n"
        "print(sorted(ours), sorted({'sqlite3', 'starlette', 'uvicorn', 'mcp', 're2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "['client', 'errors', 'service'] []"


@pytest.mark.spec("SDK-5")
def test_the_four_agents_of_the_example_work_together(server: RunningServer) -> None:
    with MemoryClient(server.url, server.ai_token) as client:
        mine = client.register(machine="box", tool="sdk", project="known").workspace_id
        client.knowledge.write(mine, "build.md", "# Build\n\nThis project is built with make.\n")
    environment = {"PATH": os.environ["PATH"], "MCP_MEMORY_URL": server.url, "MCP_MEMORY_TOKEN": server.ai_token}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "docs" / "examples" / "four_agents.py")],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "is built with" in done.stdout
    assert all(
        f"# {question}" in done.stdout for question in ("How is this project built?", "Where are sessions kept?")
    )


@pytest.mark.spec("SDK-3", "ROOM-9")
def test_a_room_is_followed_over_a_restart_of_the_server(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    server = serve()
    heard: list[tuple[str, str]] = []
    ready, over = threading.Event(), threading.Event()
    stopped: list[str] = []

    def listen(client: MemoryClient) -> None:
        try:
            for event in client.rooms.subscribe("den"):
                if event.kind == "ready":
                    ready.set()
                else:
                    heard.append((event.kind, event.text or event.about))
                if event.text == "19":
                    over.set()
        except NotFound as error:  # it has left the room
            stopped.append(error.code)

    with MemoryClient(server.url, server.ai_token) as ann, MemoryClient(server.url, server.ai_token) as bob:
        for client, project in ((ann, "ann"), (bob, "bob")):
            client.register(machine="box", tool="sdk", project=project)
            client.rooms.join("den")
        thread = threading.Thread(target=listen, args=(bob,))
        thread.start()
        assert ready.wait(PATIENCE_SECONDS)
        for number in range(10):
            ann.rooms.notify("den", str(number))
        server.process.kill()
        server.wait()
        again = start_server(tmp_path / "memory", PORT=str(server.address[1]))
        try:
            with MemoryClient(again.url, again.ai_token, binding=ann.binding) as ann:
                memory_id = ann.memories.store("the fox is out", room="den").memory_id
                ann.memories.delete(memory_id)
                for number in range(10, 20):
                    ann.rooms.notify("den", str(number))
                assert over.wait(PATIENCE_SECONDS)
                bob.rooms.leave("den")
            thread.join(PATIENCE_SECONDS)
        finally:
            again.stop()
    told = [text for kind, text in heard if kind == "notice"]
    assert told == [str(number) for number in range(20)]
    assert [kind for kind, _ in heard if kind != "notice"] == ["memory", "memory_deleted"]
    assert heard[11] == ("memory_deleted", memory_id)
    assert stopped == ["not_found"]


@pytest.mark.spec("SDK-3", "ROOM-9")
def test_a_room_is_followed_and_left_by_the_asynchronous_client_too(server: RunningServer) -> None:
    async def follow() -> list[tuple[str, str]]:
        async with AsyncMemoryClient(server.url, server.ai_token) as ann, AsyncMemoryClient(
            server.url, server.ai_token
        ) as bob:  # fmt: skip
            for client, project in ((ann, "ann"), (bob, "bob")):
                await client.register(machine="box", tool="sdk", project=project)
                await client.rooms.join("burrow")
            following = bob.rooms.subscribe("burrow")
            found = []
            async for event in following:
                found.append((event.kind, event.text))
                if event.kind == "ready":
                    await ann.rooms.notify("burrow", "hello")
                else:
                    assert event.sender.startswith("box-sdk-ann/")
                    assert event.message_id == int(following.last_id)
                    asyncio.get_running_loop().call_later(0.05, following.unsubscribe)
            missed = bob.rooms.subscribe("burrow", last_id="0")
            async for event in missed:
                if event.kind == "notice":
                    found.append((event.kind, event.text))
                    break
            return found

    assert asyncio.run(asyncio.wait_for(follow(), PATIENCE_SECONDS)) == [
        ("ready", ""), ("notice", "hello"), ("notice", "hello"),
    ]  # fmt: skip


@pytest.mark.spec("RATE-2")
def test_a_client_that_is_too_fast_waits_as_it_is_told(serve: Callable[..., RunningServer]) -> None:
    calls = 53  # three more than five a second bring at once
    server = serve(MEMORY_REQUESTS_PER_SECOND="5")
    with MemoryClient(server.url, server.ai_token) as memory:
        assert [memory.state.get("none").exists for _ in range(calls)] == [False] * calls
    with MemoryClient(server.url, server.ai_token, timeout_seconds=0.5) as impatient:
        told = [_told(lambda: impatient.state.get("none")) for _ in range(20)]
    assert "RateLimited" in told

    async def together() -> list[bool]:
        async with AsyncMemoryClient(server.url, server.ai_token) as memory:
            return [(await memory.state.get("none")).exists for _ in range(10)]

    assert asyncio.run(together()) == [False] * 10


def _told(call: Callable[[], object]) -> str:
    try:
        call()
    except RateLimited as error:
        return type(error).__name__
    return "ok"
