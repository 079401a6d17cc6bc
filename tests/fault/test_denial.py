"""Denial of service: what attackers do at their worst, and what a healthy client and the server's memory notice of it.

The healthy client reads, writes and searches; its p99 stays below a second (or, on a machine that is busy with other
things, below ten times what it was before), and all of its requests succeed. `FAULT_FULL=1`: longer, and 10,000 pages.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from tests.e2e.conftest import PATIENCE_SECONDS, Api, RunningServer, Workspace
from tests.e2e.test_hostile_http import EVIL, MIB, Memory, connect, head_of
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
REQUESTS = 1_500 if FULL else 120
BOMBERS = int(os.environ.get("BOMBERS", "4"))
PAGES = 10_000 if FULL else 1_000
MOST_MORE_BYTES = 160 * MIB
REPOSITORY = Path(__file__).resolve().parents[2]
HONEST = random.Random(1).randbytes(2 * MIB).hex().encode()
LONG_LINE = json.dumps({"type": "user", "message": {"role": "user", "content": "ab " * 20_000 + "x!"}}).encode() + b"\n"

pytestmark = pytest.mark.timeout(1_800 if FULL else 240)


@dataclass(frozen=True)
class Site:
    """A server, and whose workspace is attacked and used."""

    server: RunningServer
    workspace: Workspace
    binding: str

    def reader(self) -> Api:
        return self.server.api(self.server.ai_token, x_memory_binding=self.binding)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    from tests.e2e.conftest import start_server

    opened: list[Site] = []

    def one(**options: str) -> Site:
        folder = tmp_path_factory.mktemp("denial") / "memory"
        server = start_server(folder, MEMORY_BODY_TIMEOUT_SECONDS="60", MEMORY_TOOLSETS="all", **options)
        server.wait_until_ready()
        with server.api(server.ai_token) as ai:
            names = b'{"machine": "box", "tool": "claude", "project": "home"}'
            binding = str(ai.call("POST", "/api/v1/workspaces", names).json["binding"])
        workspace = server.api().register("home")
        assert workspace.call("PUT", "knowledge/victim.md", b"ab" * 5_000 + b"x!\n").status == 201
        assert workspace.call("PUT", "sessions/long", LONG_LINE * 400).status == 201
        for encoded in (
            gzip.compress(HONEST),
            zstandard.compress(HONEST),
        ):  # warm: what uploads take once
            encoding = "gzip" if encoded[:2] == b"\x1f\x8b" else "zstd"
            assert workspace.call("PUT", f"sessions/{encoding}", encoded, Content_Encoding=encoding).status == 201
        opened.append(Site(server, workspace, binding))
        return opened[-1]

    yield one
    for site in opened:
        site.workspace.api.close()
        site.server.stop()


@pytest.fixture(scope="module")
def site(start: Callable[..., Site]) -> Site:
    return start()


class Attack:
    """Threads that go on until the block ends, and what they hold open. `done` counts what they did."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.held = contextlib.ExitStack()
        self.threads: list[threading.Thread] = []
        self.done = 0
        self.wrong: list[str] = []

    def again(self, count: int, step: Callable[[int], None]) -> None:
        """`count` threads, each with a number, that do `step` over and over."""

        def work(number: int) -> None:
            turn = number
            while not self.is_over.is_set():
                try:
                    step(turn)
                except Exception as error:
                    if self.is_over.is_set():  # its connection was closed under it: any error may come of that
                        return
                    if not isinstance(error, OSError):
                        raise
                    self.wrong.append(repr(error))
                    return
                turn += count
                self.done += 1

        self.threads += [threading.Thread(target=work, args=(number,)) for number in range(count)]

    def __enter__(self) -> Attack:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.held.close()
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)


# -- what attackers do


def bombs(site: Site) -> Attack:
    zeros = bytes(64 * MIB)
    made = [
        ("gzip", gzip.compress(zeros)),
        ("zstd", zstandard.ZstdCompressor(level=9).compress(zeros)),
        ("gzip", gzip.compress(b"", mtime=0) * 50_000),
    ]
    attack = Attack()

    def send(turn: int) -> None:
        encoding, data = made[turn % len(made)]
        with site.server.api() as api:
            answer = site.workspace.by(api).call("PUT", f"sessions/b{turn % 4}", data, Content_Encoding=encoding)
            assert answer.code == "too_large", answer

    attack.again(BOMBERS, send)
    return attack


def patterns(site: Site) -> Attack:
    from urllib.parse import quote

    attack = Attack()

    def search(turn: int) -> None:
        with site.reader() as api:
            answer = api.call("GET", f"/api/v1/search?mode=regex&query={quote(EVIL[turn % len(EVIL)], safe='')}")
            assert answer.status in (200, 400), answer

    attack.again(4, search)
    return attack


def schemas(site: Site) -> Attack:
    deep: object = {"type": "string"}
    for _ in range(200):
        deep = {"anyOf": [deep, {"items": deep}]} if _ < 12 else {"items": deep}
    evil: list[object] = [
        deep,
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
        {"patternProperties": {pattern: {"pattern": pattern} for pattern in EVIL[:20]}},
        {"uniqueItems": True, "items": {"anyOf": [{"const": number} for number in range(500)]}},
        {"allOf": [{"$ref": "#/$defs/n0"}], "$defs": {
            f"n{n}": {"allOf": [{"$ref": f"#/$defs/n{n + 1}"}] * 2} if n < 25 else {} for n in range(26)}},
        {"contains": {"contains": {"contains": {"const": 1}}}, "minContains": 10**9},
        {"$ref": "https://example.org/evil.json"}, {"pattern": "a" * 60_000}, {"enum": ["x" * 10_000] * 6},
    ]  # fmt: skip
    values = [json.dumps(value).encode() for value in (
        "a" * 50_000, [["a"] * 200] * 20, list(range(2_000)), {"a" * 2_000: "a" * 2_000}, [[[[0] * 20] * 20] * 20],
    )]  # fmt: skip
    attack = Attack()

    def use(turn: int) -> None:
        with site.reader() as api:
            schema = json.dumps(evil[turn % len(evil)]).encode()
            assert api.call("PUT", f"/api/v1/state/schemas/evil/k{turn % 8}", schema).status < 500
            assert api.call("PUT", f"/api/v1/state/keys/evil/k{turn % 8}", values[turn % len(values)]).status < 500

    attack.again(3, use)
    return attack


def half_open(site: Site) -> Attack:
    attack = Attack()
    upload = head_of(
        site.server, "PUT", f"{site.workspace.url}/sessions/half", site.server.sync_token, Content_Length="99999",
        X_Write_Token=site.workspace.write_token,
    )  # fmt: skip
    beginnings = [b"", b"G", upload[:60], upload[:-2], upload[:-1]]
    for number in range(1_000):
        opened = attack.held.enter_context(connect(site.server))
        opened.sendall(beginnings[number % len(beginnings)])
        attack.done += 1
    return attack


def slow_downloads(site: Site) -> Attack:
    return _unread(site, f"{site.workspace.url}/sessions/long", 60)


def slow_watchers(site: Site) -> Attack:
    attack = _unread(site, "/api/v1/events?keys=*", 15)
    text = json.dumps("w" * 59_000).encode()

    def tell(turn: int) -> None:
        with site.reader() as api:
            assert api.call("PUT", f"/api/v1/state/keys/told/{turn % 50}", text).status == 200

    attack.again(1, tell)
    return attack


def _unread(site: Site, path: str, count: int) -> Attack:
    """Requests whose answers nobody takes; the smallest window, so that the server holds the rest."""
    attack = Attack()
    for _ in range(count):
        connection = attack.held.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(site.server.address)
        connection.sendall(head_of(site.server, "GET", path, site.server.ai_token))
        attack.done += 1
    return attack


def listings(site: Site) -> Attack:
    with site.reader() as api:
        for start in range(0, PAGES, 100):
            rows = [{"key": f"many/{number:05d}", "value": number} for number in range(start, start + 100)]
            assert api.call("POST", "/api/v1/state/batch", json.dumps({"operations": rows}).encode()).status == 200
    attack, pages = Attack(), [0, 0, 0]
    readers = [attack.held.enter_context(site.reader()) for _ in pages]
    cursors = [""] * len(pages)

    def turn_page(turn: int) -> None:
        number = turn % len(pages)
        if attack.is_over.is_set():
            return
        answer = readers[number].call("GET", f"/api/v1/state/keys?prefix=many/&limit=1{cursors[number]}")
        assert answer.status == 200, answer
        pages[number] += 1
        following = answer.json["next_cursor"]
        if following is None:
            assert pages[number] % PAGES == 0
        cursors[number] = f"&cursor={following}" if following else ""

    attack.again(len(pages), turn_page)
    return attack


ATTACKS = [bombs, patterns, schemas, half_open, slow_downloads, slow_watchers, listings]


# -- what a healthy client notices


def healthy(site: Site, requests: int) -> list[float]:
    """How long each of its requests took, shortest first. Raises: AssertionError: one of them failed."""
    waits = []
    with site.server.api() as sync, site.reader() as api:
        mine = site.workspace.by(sync)
        for number in range(requests):
            started = time.monotonic()
            match number % 3:
                case 0:
                    answer = mine.call("PUT", "knowledge/mine.md", b"# %d" % number)
                case 1:
                    answer = mine.call("GET", "knowledge/mine.md")
                case _:
                    answer = api.call("GET", "/api/v1/search?query=zebra&limit=5")
            waits.append(time.monotonic() - started)
            assert answer.status in (200, 201), answer
    return sorted(waits)


def p99(waits: list[float]) -> float:
    return waits[len(waits) * 99 // 100]


def suffer(site: Site, make: Callable[[Site], Attack]) -> tuple[float, float, int, Attack]:
    """The p99 before and during an attack, and how many bytes more the server held."""
    alone = p99(healthy(site, REQUESTS))
    with Memory(site.server) as memory:
        attack = make(site)
        with attack:
            beside = p99(healthy(site, REQUESTS))
    return alone, beside, memory.more_bytes, attack


@pytest.mark.spec("HTTP-6", "SEC-3", "SEC-6", "EVENT-4", "TOOL-6")
@pytest.mark.parametrize("make", ATTACKS, ids=lambda make: make.__name__)
def test_an_attack_is_hardly_noticed(site: Site, make: Callable[[Site], Attack]) -> None:
    alone, beside, more, attack = suffer(site, make)

    print(
        f"{make.__name__}: {attack.done:,} times; healthy p99 {beside * 1000:.0f} ms (alone {alone * 1000:.0f}), "
        f"{more / MIB:.1f} MiB more"
    )
    tally(f"denial: {make.__name__}", trials=attack.done, leaks=int(more > MOST_MORE_BYTES))
    assert attack.wrong == []
    assert attack.done > 10
    assert beside < max(1.0, 10 * alone)
    assert more < MOST_MORE_BYTES
    assert site.server.problems() == []


@pytest.mark.parametrize(("holds", "make"), [("downloads", slow_downloads), ("connections", half_open)])
def test_a_server_that_suffers_is_found_out(
    start: Callable[..., Site], holds: str, make: Callable[[Site], Attack]
) -> None:
    twin = start(module="tests.fault.holding_server", HOLDS=holds, PYTHONPATH=str(REPOSITORY))

    is_found = False
    try:
        _, _, more, _ = suffer(twin, make)
        is_found = more > MOST_MORE_BYTES
    except (AssertionError, OSError):
        is_found = True
    assert is_found
