"""Shared state: durable sets, gets, many clients at once, and how soon those who watch are told."""

import contextlib
import itertools
import json
import selectors
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench.harness import Bench, BenchError, Goal, Options, interleave, medians, timed
from scripts.bench.processes import AI_TOKEN, Server, our_server, running
from scripts.bench.wire import Connection, content_length

SET_TARGET = 2.0
GET_TARGET = 1.3
MANY = 16
RATE_GAIN = 1.4
CALLS_PER_ROUND = 20
VALUE = json.dumps({"text": "x" * 100}).encode()
KEYS = 50


@contextlib.contextmanager
def bare_state(folder: Path, redis_port: int | None = None) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    control = folder / "control.json"
    command = [sys.executable, "-m", "scripts.bench.bare_state", str(control), AI_TOKEN]
    command += [str(redis_port)] if redis_port else []
    with running(command, {}, control, folder / "bare.log") as server:
        yield server


class Client:
    """One connection to one kind of route."""

    def __init__(self, origin: str, base: str, binding: str = "") -> None:
        self.connection = Connection(origin)
        self.base = base
        self.headers = {"Authorization": f"Bearer {AI_TOKEN}", "Content-Type": "application/json"}
        if binding:
            self.headers["X-Memory-Binding"] = binding
        self.numbers = itertools.count()

    def request(self, method: str) -> bytes:
        key = f"{self.base}bench/{next(self.numbers) % KEYS}"
        return self.connection.request(method, key, self.headers, VALUE if method == "PUT" else b"")

    def call(self, method: str) -> None:
        head, _ = self.connection.exchange(self.request(method))
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"{method} was answered with {head[:40]!r}")


def ours(server: Server, binding: str) -> Client:
    return Client(server.origin, "/api/v1/state/keys/", binding)


def registered(server: Server) -> str:
    connection = Connection(server.origin)
    body = b'{"machine": "bench", "tool": "bench", "project": "state"}'
    headers = {"Authorization": f"Bearer {AI_TOKEN}", "Content-Type": "application/json"}
    _, answer = connection.exchange(connection.request("POST", "/api/v1/workspaces", headers, body))
    return str(json.loads(answer)["binding"])


def committer(file: Path) -> Callable[[], None]:
    """One row in a transaction of its own: WAL, synchronous=FULL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE changes (number INTEGER PRIMARY KEY, key TEXT, value BLOB)")

    def commit() -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO changes (key, value) VALUES (?, ?)", ("bench/1", VALUE))
        database.execute("COMMIT")

    return commit


def calls(options: Options) -> Iterator[Goal]:
    """A set and a get over a kept connection, beside a bare commit on the same file system and a bare route.

    The bare route is one of the same server that takes and gives the same JSON: what any request costs here, with
    token, limits, metrics and audit. A Starlette application that has none of these is reported as well.
    """
    folder = options.fresh_folder("state")
    with our_server(folder / "ours") as server, bare_state(folder / "bare") as bare:
        mine, starlette = ours(server, registered(server)), Client(bare.origin, "/noop/")
        server.settle()
        mine.connection.close()
        mine.connection.open()
        reference = Client(server.origin, "/api/v1/noop/")
        commit = committer(folder / "reference" / "wal.sqlite3")

        def commit_after_a_call() -> None:
            reference.call("PUT")
            commit()

        cost = medians(
            interleave(
                {
                    "set": timed(lambda: mine.call("PUT"), CALLS_PER_ROUND),
                    "get": timed(lambda: mine.call("GET"), CALLS_PER_ROUND),
                    "bare set": timed(lambda: reference.call("PUT"), CALLS_PER_ROUND),
                    "bare get": timed(lambda: reference.call("GET"), CALLS_PER_ROUND),
                    "starlette get": timed(lambda: starlette.call("GET"), CALLS_PER_ROUND),
                    "commit": timed(commit, CALLS_PER_ROUND),
                    "set, commit": timed(commit_after_a_call, CALLS_PER_ROUND),
                },
                options.size(60, 12),
            )
        )
    note = f"{cost['set']:.2f} ms, of which {cost['bare set']:.2f} ms a bare route"
    own = cost["set"] - cost["bare set"]
    yield Goal("state/set, without the route, against a WAL FULL commit", own, cost["commit"], SET_TARGET, note=note)
    yield Goal("state/set, against a bare route that commits", cost["set"], cost["set, commit"], None)
    yield Goal("state/get, against a bare route", cost["get"], cost["bare get"], GET_TARGET)
    yield Goal("state/get, against a bare Starlette application", cost["get"], cost["starlette get"], None)


def rate(clients: list[Client], seconds: float) -> float:
    """Sets a second of all clients together, each with one under way."""
    received = dict.fromkeys(clients, b"")
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.connection.socket.sendall(client.request("PUT"))
            selector.register(client.connection.socket, selectors.EVENT_READ, client)
        done, waiting = 0, len(clients)
        started = time.perf_counter()
        while waiting:
            is_over = time.perf_counter() - started >= seconds
            for key, _ in selector.select(timeout=10):
                client = key.data
                received[client] += client.connection.socket.recv(1 << 16)
                head, end, body = received[client].partition(b"\r\n\r\n")
                if not end or len(body) < content_length(head):
                    continue
                if not head.startswith(b"HTTP/1.1 200"):
                    raise BenchError(f"a set was answered with {head[:40]!r}")
                received[client] = b""
                done += not is_over
                if is_over:
                    waiting -= 1
                else:
                    client.connection.socket.sendall(client.request("PUT"))
    return done / seconds


def many(options: Options) -> Iterator[Goal]:
    """The rate of 16 clients against that of one: those that wait share a commit."""
    seconds = 1.0 if options.quick else 2.0
    with our_server(options.fresh_folder("state-many") / "ours") as server:
        binding = registered(server)
        server.settle()
        clients = [ours(server, binding) for _ in range(MANY)]
        one, all_of_them = [], []
        for _ in range(options.size(5, 2)):
            one.append(rate(clients[:1], seconds))
            all_of_them.append(rate(clients, seconds))
    single, together = statistics.median(one), statistics.median(all_of_them)
    note = f"{together:,.0f} sets/s together, {single:,.0f} sets/s alone"
    name = f"state/time per set of {MANY} clients, against one"
    yield Goal(name, 1000 / together, 1000 / single, 1 / RATE_GAIN, note=note)


class Watcher:
    """An event stream of all keys, read as it comes."""

    def __init__(self, origin: str) -> None:
        self.connection = Connection(origin)
        headers = {"Authorization": f"Bearer {AI_TOKEN}"}
        self.socket = self.connection.socket
        self.socket.sendall(self.connection.request("GET", "/api/v1/events?keys=bench/*", headers))
        self.rest = b""
        self.versions: list[int] = []
        while b"event: ready" not in self.rest:
            self.rest += self.socket.recv(1 << 16)
        self.rest = b""

    def read(self) -> int:
        """What has come; returns how many changes are known now."""
        self.rest += self.socket.recv(1 << 18)
        while (end := self.rest.find(b"\n\n")) >= 0:
            block, self.rest = self.rest[:end], self.rest[end + 2 :]
            if b"event: change" in block:
                self.versions.append(int(block.split(b"id: ", 1)[1].split(b"\n", 1)[0]))
        return len(self.versions)


def delivery(options: Options) -> Iterator[Goal]:
    """From sending a set until a watcher has it, the commit included; and whether 10,000 all arrive."""
    count = options.size(10_000, 1_000)
    with our_server(options.fresh_folder("state-events") / "ours") as server:
        writer = ours(server, registered(server))
        server.settle()
        for number in (1, MANY):
            watchers = [Watcher(server.origin) for _ in range(number)]
            times, sets = [], []
            for _ in range(options.size(300, 60)):
                started = time.perf_counter()
                writer.call("PUT")
                sets.append(time.perf_counter() - started)
                for watcher in watchers:
                    known = len(watcher.versions)
                    while watcher.read() == known:
                        pass
                times.append(time.perf_counter() - started)
            name = f"state/p50 until {number} watcher{'s have' if number > 1 else ' has'} a set, against its answer"
            yield Goal(name, statistics.median(times) * 1000, statistics.median(sets) * 1000, None)
            for watcher in watchers:
                watcher.socket.close()
        yield lost(server, writer, count)


def lost(server: Server, writer: Client, count: int) -> Goal:
    watchers = [Watcher(server.origin) for _ in range(MANY)]
    sent = 0
    with selectors.DefaultSelector() as selector:
        for watcher in watchers:
            selector.register(watcher.socket, selectors.EVENT_READ, watcher)
        started = time.perf_counter()
        while min(len(watcher.versions) for watcher in watchers) < count:
            if sent < count:
                writer.call("PUT")
                sent += 1
            ready = selector.select(timeout=0 if sent < count else 5)
            if not ready and sent == count:
                break
            for key, _ in ready:
                key.data.read()
        took = time.perf_counter() - started
    wanted = watchers[0].versions
    missing = sum(count - len(set(watcher.versions)) for watcher in watchers)
    wrong = sum(watcher.versions != wanted for watcher in watchers)
    note = f"{count:,} sets to {MANY} watchers in {took:.1f} s; {wrong} of them in another order or twice"
    return Goal(f"state/events lost of {count:,} x {MANY}", missing + wrong, 0, 0, unit="", note=note)


BENCHES = (Bench("state/calls", calls), Bench("state/many", many), Bench("state/events", delivery))
