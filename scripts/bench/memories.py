"""Notes of about 60 words: what storing and finding one costs among 1,000 and among 20,000, and what they take.

Stored through MCP next to a bare atomic write of the same bytes; the protocol's own cost, a no-op that takes the same
text, is subtracted before they are compared. Searches go through `search_memory`, as an agent asks.
"""

import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

from scripts.bench.commands import commands, libraries_alone
from scripts.bench.harness import Bench, Goal, Options, interleave, medians, timed
from scripts.bench.processes import SYNC_TOKEN, Server, our_server
from scripts.bench.protocol import client
from scripts.bench.references import write_atomic
from scripts.bench.search import INDEX_SECONDS, wait_for_index
from scripts.bench.wire import McpClient
from scripts.quality.metrics import percentile

FEW, MANY = 1_000, 20_000
WORDS = 60
STORED_TARGET, FLAT_TARGET, SIZE_TARGET = 1.8, 1.25, 6.0
P95_MS, OPEN_MS = 25.0, 500.0
_BATCH = 500
_TENTH, _COMMON = "quarterly", ("deploys", "cluster")
_HEADS = ("ba", "co", "di", "fu", "ge", "hi", "jo", "ku", "la", "me")
_TAILS = ("bar", "cel", "dor", "fin", "gam", "lux", "mir", "nol", "pag", "ros", "sil", "tan", "vex", "wod")
_VOCABULARY = [head + tail for head in _HEADS for tail in _TAILS]


def notes(count: int) -> Iterator[str]:
    """The same at every run; a word in each tenth, two in all but some, and one of its own in each."""
    chance = random.Random(7)
    for number in range(count):
        words = chance.choices(_VOCABULARY, k=WORDS - 4)
        words.insert(5, f"unique{number:05}x")
        words.insert(9, _TENTH if number % 10 == 0 else "monthly")
        words[20:20] = _COMMON
        yield " ".join(words).capitalize() + "."


class Notes:
    """A server with so many notes in one workspace."""

    def __init__(self, server: Server, caller: McpClient, count: int) -> None:
        self.server, self.caller, self.count = server, caller, count
        self.binding = caller.call("register_workspace", machine="bench", tool="bench", project="notes")["binding"]
        self.numbers = itertools.count()
        self.texts = list(notes(count))
        registered = self.post("/api/v1/workspaces", {"machine": "bench", "tool": "bench", "project": "notes"})
        self.workspace_id = str(registered["workspace_id"])
        headers = {"X-Write-Token": str(registered["write_token"])}
        for start in range(0, count, _BATCH):
            rows = [
                {"content": text, "source": f"bench:{start + at}"}
                for at, text in enumerate(self.texts[start : start + _BATCH])
            ]
            self.post("/api/v1/memories/import", {"workspace_id": self.workspace_id, "memories": rows}, headers)

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> dict[str, object]:
        given = {"Authorization": f"Bearer {SYNC_TOKEN}", "Content-Type": "application/json", **(headers or {})}
        request = Request(self.server.origin + path, json.dumps(body).encode(), given, method="POST")
        with urlopen(request, timeout=300) as answer:
            found: dict[str, object] = json.loads(answer.read())
        return found

    def store(self) -> None:
        text = f"{self.texts[next(self.numbers) % self.count]} {next(self.numbers)}"
        self.caller.send(self.caller.prepare("store_memory", content=text, binding=self.binding))

    def nothing(self) -> None:
        self.caller.send(self.caller.prepare("noop", text=self.texts[next(self.numbers) % self.count]))

    def search(self, query: Callable[[], str]) -> float:
        """Milliseconds."""
        request = self.caller.prepare("search_memory", query=query())
        started = time.perf_counter()
        self.caller.send(request)
        return 1_000 * (time.perf_counter() - started)


def memories(options: Options) -> Iterator[Goal]:
    many = options.size(MANY, 300)
    few = options.size(FEW, 50)
    folder = options.fresh_folder("memories")
    with our_server(folder / "few") as few_server, client(few_server, "2026-07-28") as few_client:
        with our_server(folder / "many") as many_server, client(many_server, "2026-07-28") as many_client:
            small, large = Notes(few_server, few_client, few), Notes(many_server, many_client, many)
            wait_for_index(folder / "few", INDEX_SECONDS)
            wait_for_index(folder / "many", INDEX_SECONDS)
            for server, caller in ((few_server, few_client), (many_server, many_client)):
                server.settle()
                caller.reopen()
            yield from _stored(small, large, folder / "reference", options)
            many_server.settle()
            yield from _found(large, options)
            yield from commands(folder / "many", "beside a server", _TENTH, options)
        yield from _size(folder / "many", large)
        yield from _opened(folder / "many", folder / "none", options)
        yield from commands(folder / "many", "on a root alone", _TENTH, options)


def _stored(small: Notes, large: Notes, folder: Path, options: Options) -> Iterator[Goal]:
    folder.mkdir(parents=True)
    numbers = itertools.count()
    text = ("x" * 60 + "\n").encode() * 12

    def bare() -> None:
        write_atomic(folder / f"{next(numbers)}.md", text)

    works = {"few": small.store, "many": large.store, "noop": small.nothing, "atomic": bare}
    rounds = options.size(60, 6)
    cost = medians(interleave({name: timed(work, 8) for name, work in works.items()}, rounds))
    own = cost["many"] - cost["noop"]
    note = f"{cost['many']:.2f} ms through MCP"
    yield Goal(
        "memories/store, without the protocol, against atomic writes", own, cost["atomic"], STORED_TARGET, note=note
    )
    name = f"memories/store among {large.count:,}, against {small.count:,}"
    yield Goal(name, cost["many"], cost["few"], options.at_full_size(FLAT_TARGET))


def _found(large: Notes, options: Options) -> Iterator[Goal]:
    chance = random.Random(3)
    queries: dict[str, Callable[[], str]] = {
        "a word of one": lambda: f"unique{chance.randrange(large.count):05}x",
        "a word of each tenth": lambda: f"{_TENTH} {chance.choice(['', '?'])}",
        "two common words": lambda: " ".join(_COMMON),
        "nothing": lambda: f"nosuchword{chance.randrange(10**6)}",
        "two characters": lambda: chance.choice(["un", "qu", "de", "ba"]),
    }
    for name, query in queries.items():
        times = [large.search(query) for _ in range(options.size(60, 5))]
        note = f"p50 {percentile(times, 0.5):.1f} ms"
        yield Goal(
            f"memories/find {name}, p95 in ms", percentile(times, 0.95), 1.0, options.at_full_size(P95_MS), note=note
        )


def _size(root: Path, large: Notes) -> Iterator[Goal]:
    taken = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    blocks = sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())
    text = sum(map(len, large.texts))
    note = f"{taken / large.count:.0f} bytes a note; {blocks / large.count:.0f} in blocks of the file system"
    yield Goal(
        "memories/size on disk with index, against text",
        taken,
        text,
        SIZE_TARGET if large.count >= FEW else None,
        note=note,
    )


def _opened(root: Path, empty: Path, options: Options) -> Iterator[Goal]:
    """All of it; and what of that is ours: beside the libraries that every such server loads, and for the notes."""
    whole: list[float] = []
    without: list[float] = []
    for _ in range(options.size(3, 1)):
        whole.append(_start(root))
        without.append(_start(empty))
    took, nothing, libraries = statistics.median(whole), statistics.median(without), libraries_alone(options)
    note = "from the start of the process to its first answer to a search"
    yield Goal("memories/open, in ms", took, 1.0, options.at_full_size(OPEN_MS), note=note)
    note = f"{libraries:.0f} ms of it are what `import mcp, uvicorn` takes by itself"
    yield Goal(
        "memories/open without the libraries, in ms", took - libraries, 1.0, options.at_full_size(OPEN_MS), note=note
    )
    note = f"an empty store takes {nothing:.0f} ms"
    yield Goal("memories/open, more than an empty store, in ms", took - nothing, 1.0, None, note=note)


def _start(root: Path) -> float:
    started = time.perf_counter()
    with our_server(root) as server, client(server, "2026-07-28") as caller:
        caller.call("search_memory", query=_TENTH)
        return 1_000 * (time.perf_counter() - started)


BENCHES = (Bench("memories/notes", memories),)
