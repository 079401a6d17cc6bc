"""What a durable write of 4 kB costs through MCP, and whether it stays flat as documents pile up."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench.harness import Bench, Goal, Options, interleave, medians, timed
from scripts.bench.processes import our_server
from scripts.bench.protocol import client
from scripts.bench.references import write_atomic
from scripts.bench.wire import McpClient
from scripts.gen_corpus import documents

TEXT_BYTES = 4096
WRITES_PER_ROUND = 8
FEW = 100
WRITE_TARGET = 1.8
FLAT_TARGET = 1.25


def writes(options: Options) -> Iterator[Goal]:
    """New and replaced documents in a small and in a large workspace, next to a bare atomic write.

    Both servers, the references and the data live on one file system. The protocol's own cost, a no-op that takes
    the same text, is subtracted before comparing with the bare write. The gate's bare writes follow one another; one
    that comes after a call, as ours do, finds cold caches and an idle journal and costs about a fourth more: that
    comparison is reported too.
    """
    many = options.size(20_000, 1_000)
    folder = options.fresh_folder("knowledge")
    with (
        our_server(folder / "few") as few_server,
        our_server(folder / "many") as many_server,
        client(few_server, "2026-07-28") as few_client,
        client(many_server, "2026-07-28") as many_client,
    ):
        few, large = Writer(few_client, FEW), Writer(many_client, many)
        many_server.settle()
        few_server.settle()
        few_client.reopen()
        many_client.reopen()
        bare_write = atomic_writer(folder / "reference")

        def bare_write_after_a_call() -> None:
            few.nothing()
            bare_write()

        cost = medians(
            interleave(
                {
                    "replace": timed(few.replace, WRITES_PER_ROUND),
                    "create": timed(few.create, WRITES_PER_ROUND),
                    "replace many": timed(large.replace, WRITES_PER_ROUND),
                    "create many": timed(large.create, WRITES_PER_ROUND),
                    "noop": timed(few.nothing, WRITES_PER_ROUND),
                    "atomic": timed(bare_write, WRITES_PER_ROUND),
                    "noop, atomic": timed(bare_write_after_a_call, WRITES_PER_ROUND),
                },
                options.size(60, 10),
            )
        )
    yield from goals(cost, many, options)


def goals(cost: dict[str, float], many: int, options: Options) -> Iterator[Goal]:
    for kind in ("replace", "create"):
        note = f"{cost[kind]:.2f} ms through MCP, of which {cost['noop']:.2f} ms a no-op with the same text"
        own = cost[kind] - cost["noop"]
        name = f"knowledge/{kind} 4 kB, without the protocol"
        yield Goal(f"{name}, against atomic writes", own, cost["atomic"], WRITE_TARGET, note=note)
        yield Goal(f"{name}, against one after a call", own, cost["noop, atomic"] - cost["noop"], None)
    for kind in ("replace", "create"):
        name = f"knowledge/{kind} among {many:,} documents, against {FEW}"
        yield Goal(name, cost[f"{kind} many"], cost[kind], options.at_full_size(FLAT_TARGET))


class Writer:
    """Writes into a workspace that it first fills with documents."""

    def __init__(self, caller: McpClient, count: int) -> None:
        self.caller = caller
        registered = caller.call("register_workspace", machine="bench", tool="bench", project=f"knowledge{count}")
        self.binding = registered["binding"]
        self.numbers = itertools.count()
        self.paths = []
        for path, text in documents(seed=1, count=count):
            self.paths.append(path)
            self.write(path, text[:TEXT_BYTES])

    def write(self, path: str, text: str) -> None:
        self.caller.send(self.caller.prepare("write_knowledge", path=path, text=text, binding=self.binding))

    def replace(self) -> None:
        number = next(self.numbers)
        self.write(self.paths[number % len(self.paths)], new_text(number))

    def create(self) -> None:
        number = next(self.numbers)
        self.write(f"created/{number % 50}/note-{number}.md", new_text(number))

    def nothing(self) -> None:
        self.caller.send(self.caller.prepare("noop", text=new_text(next(self.numbers))))


def new_text(number: int) -> str:
    """4 kB that were never written before."""
    head = f"# Note {number}\n\n"
    line = "What a session learned, in words of about the usual length.\n"
    return (head + line * (TEXT_BYTES // len(line) + 1))[:TEXT_BYTES]


def atomic_writer(folder: Path) -> Callable[[], None]:
    folder.mkdir(parents=True)
    numbers = itertools.count()

    def write() -> None:
        number = next(numbers)
        write_atomic(folder / f"note-{number % FEW}.md", new_text(number).encode())

    return write


BENCHES = (Bench("knowledge/write", writes),)
