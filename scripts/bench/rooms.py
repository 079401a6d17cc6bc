"""Work handed from one agent to another: what it costs beside a call that does nothing, and how soon it arrives."""

import contextlib
import json
import math
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench.harness import Bench, BenchError, Goal, Options, interleave, medians, timed
from scripts.bench.processes import AI_TOKEN, Server, our_server
from scripts.bench.wire import ERAS, Era, McpClient

HANDOFF_TARGET = 6.0
WAKE_MS = 100.0
TIMEOUT_MS = 500.0
WAITING = 50


class Agent:
    """One agent with a connection of its own, in the room `bench`."""

    def __init__(self, server: Server, era: Era, name: str) -> None:
        self.client = McpClient(server.origin, AI_TOKEN, era)
        found = self.ok("register_workspace", machine="bench", tool="bench", project=name)
        self.bound = {"binding": found["binding"]}
        self.ok("join_room", room="bench", **self.bound)

    def ok(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """The structured result, of plain JSON or of the last event of a stream."""
        return self.answer(self.client.prepare(tool, **arguments))

    def begin(self, tool: str, /, **arguments: object) -> None:
        """Send a call; `answer` waits for what it gives."""
        self.client.connection.socket.sendall(self.client.prepare(tool, **arguments, **self.bound))

    def answer(self, request: bytes = b"") -> dict[str, Any]:
        body = self.client.send(request)
        if body.startswith((b"event:", b":")):
            body = [line for line in body.split(b"\r\n") if line.startswith(b"data: ")][-1][6:]
        found: dict[str, Any] = json.loads(body)["result"]["structuredContent"]
        return found

    def delegate(self, seconds: float) -> dict[str, Any]:
        return self.ok("delegate_task", room="bench", task="t", timeout_seconds=seconds, **self.bound)

    def do_one(self, wait_seconds: float) -> float:
        """Take a task over and answer it; when it was taken over, by this process' clock."""
        (task,) = self.ok("poll_pending_tasks", wait_seconds=wait_seconds, **self.bound)["tasks"]
        taken = time.perf_counter()
        self.submit(task["task_id"])
        return taken

    def submit(self, task_id: str) -> None:
        self.ok("submit_task_result", task_id=task_id, success=True, output="done", attempt=1, **self.bound)


@contextlib.contextmanager
def agents(options: Options, era: Era, *names: str) -> Iterator[list[Agent]]:
    folder = options.fresh_folder(f"rooms-{era}")
    with our_server(folder / "root", MEMORY_TOOLSETS="core,rooms") as server:
        found = [Agent(server, era, name) for name in names]
        try:
            yield found
        finally:
            for agent in found:
                agent.client.close()


def handoff(options: Options) -> Iterator[Goal]:
    """From `delegate_task` to its answer, with a peer that waits for work: three calls, three durable commits.

    Reported as well beside a no-op and half a commit: no handing over is durable without its three.
    """
    for era in ERAS:
        with (
            agents(options, era, "asks", "works") as (asker, worker),
            wal(options.folder / f"wal-{era}.sqlite3") as commit,
        ):
            nothing = asker.client.prepare("noop")

            def hand_over(asker: Agent = asker, worker: Agent = worker) -> None:
                worker.begin("poll_pending_tasks", wait_seconds=30)
                asker.begin("delegate_task", room="bench", task="t", timeout_seconds=30)
                (task,) = worker.answer()["tasks"]
                worker.submit(task["task_id"])
                if asker.answer()["status"] != "completed":
                    raise BenchError("the task was not completed")

            samples = interleave(
                {
                    "handoff": timed(hand_over, 5),
                    "noop": timed(partial(asker.client.send, nothing), 20),
                    "commit": timed(commit, 10),
                },
                options.size(40, 8),
            )
        cost = medians(samples)
        reference = cost["noop"] + cost["commit"] / 2
        note = f"no-op {cost['noop']:.2f} ms, durable commit {cost['commit']:.2f} ms: three of them are in it"
        yield Goal(f"rooms/delegate, claim, result {era}", cost["handoff"], cost["noop"], HANDOFF_TARGET, note=note)
        yield Goal(f"rooms/the same beside a no-op and half a durable commit {era}", cost["handoff"], reference, None)


@contextlib.contextmanager
def wal(path: Path) -> Iterator[Callable[[], None]]:
    """What one durable commit of SQLite costs on this disk, beside a line in a log as every write has one.

    Where data is written in order, a commit waits for that line too.
    """
    with (
        path.with_suffix(".jsonl").open("ab", buffering=0) as log,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database,
    ):
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE rows (text TEXT)")

        def commit() -> None:
            database.execute("INSERT INTO rows VALUES (?)", ("x" * 200,))
            log.write(b"x" * 200 + b"\n")

        yield commit


def wake(options: Options) -> Iterator[Goal]:
    """How long after a task exists somebody who waits has it, while others wait as well; and how exact a timeout is."""
    waits: list[float] = []
    late: list[float] = []
    with agents(options, "2026-07-28", "asks", "works") as (asker, worker):
        for _ in range(options.size(100, 15)):
            taken: list[float] = []
            working = threading.Thread(target=lambda taken=taken: taken.append(worker.do_one(30)))
            working.start()
            time.sleep(0.02)  # it waits by now
            started = time.perf_counter()
            asker.delegate(30)
            working.join()
            waits.append(1000 * (taken[0] - started))
        for _ in range(options.size(5, 2)):
            started = time.perf_counter()
            task = asker.delegate(0.5)
            late.append(abs(1000 * (time.perf_counter() - started) - 500))
            asker.ok("cancel_task", task_id=task["task_id"], **asker.bound)
    p95 = sorted(waits)[math.ceil(0.95 * len(waits)) - 1]
    yield Goal("rooms/a waiting poll wakes, p95", p95, WAKE_MS, 1.0, note=f"median {statistics.median(waits):.1f} ms")
    yield Goal("rooms/a timeout is off by, at most", max(late), TIMEOUT_MS, 1.0)


def idle(options: Options) -> Iterator[Goal]:
    """The server's CPU while 50 calls wait for tasks, beside the same server while none does."""
    seconds = options.size(10, 5)
    folder = options.fresh_folder("rooms-idle")
    with our_server(folder / "root", MEMORY_TOOLSETS="core,rooms") as server:
        owner = Agent(server, "2026-07-28", "waits")
        server.settle()

        def spent() -> float:
            before = server.cpu_ms()
            time.sleep(seconds)
            return (server.cpu_ms() - before) / seconds

        alone = spent()
        clients = [McpClient(server.origin, AI_TOKEN, "2026-07-28") for _ in range(WAITING)]
        for client in clients:
            client.connection.socket.sendall(client.prepare("poll_pending_tasks", wait_seconds=600, **owner.bound))
        time.sleep(3)  # until all of them wait
        waiting = spent()
        for client in (*clients, owner.client):
            client.close()
    yield Goal(f"rooms/CPU of {WAITING} waiting polls, a second", max(0.0, waiting - alone), 10.0, 1.0,
               note=f"{waiting:.1f} ms, of which {alone:.1f} ms without them")  # fmt: skip


BENCHES = (Bench("rooms/handoff", handoff), Bench("rooms/wake", wake), Bench("rooms/idle", idle))
