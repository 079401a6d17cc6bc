"""What our server adds to the bare SDK, call by call, over loopback."""

import contextlib
from collections.abc import Iterator

from scripts.bench.harness import Bench, Goal, Options, interleave, medians, timed
from scripts.bench.processes import AI_TOKEN, Server, bare_server, our_server
from scripts.bench.wire import ERAS, Era, McpClient

CALLS_PER_ROUND = 40
WORKSPACES = 200
LIST_BUDGET_MS = 2.0
NOOP_TARGET = 1.25


def noop(options: Options) -> Iterator[Goal]:
    """The no-op tool of both servers in both eras, one call after another on a kept connection."""
    rounds = options.size(60, 12)
    folder = options.fresh_folder("noop")
    with bare_server(folder / "bare") as bare, our_server(folder / "ours") as ours:
        for era in ERAS:
            with client(bare, era) as reference, client(ours, era) as measured:
                yield from compare(era, reference, measured, rounds)
            yield cpu_per_call(era, bare, ours, rounds)


def compare(era: Era, reference: McpClient, measured: McpClient, rounds: int) -> Iterator[Goal]:
    ours, bare = measured.prepare("noop"), reference.prepare("noop")
    samples = interleave(
        {
            "ours": timed(lambda: measured.send(ours), CALLS_PER_ROUND),
            "bare": timed(lambda: reference.send(bare), CALLS_PER_ROUND),
        },
        rounds,
    )
    cost = medians(samples)
    yield Goal(f"protocol/noop {era}", cost["ours"], cost["bare"], NOOP_TARGET)


def cpu_per_call(era: Era, bare: Server, ours: Server, rounds: int) -> Goal:
    """The servers' own CPU, which other work on the machine disturbs least."""

    def spent(server: Server) -> float:
        with client(server, era) as caller:
            request = caller.prepare("noop")
            before = server.cpu_ms()
            for _ in range(CALLS_PER_ROUND):
                caller.send(request)
            return (server.cpu_ms() - before) / CALLS_PER_ROUND

    cost = medians(interleave({"ours": lambda: spent(ours), "bare": lambda: spent(bare)}, rounds // 2))
    return Goal(f"protocol/noop {era} CPU of the server", cost["ours"], cost["bare"], None)


def list_workspaces(options: Options) -> Iterator[Goal]:
    """`list_workspaces` on a server with 200 of them, beyond what any call costs."""
    root = options.fresh_folder("list-workspaces") / "root"
    with our_server(root) as server, client(server, "2026-07-28") as caller:
        for number in range(WORKSPACES):
            caller.call("register_workspace", machine=f"machine{number % 8}", tool="bench", project=f"p{number}")
        server.settle()
        caller.reopen()
        listing, nothing = caller.prepare("list_workspaces"), caller.prepare("noop")
        samples = interleave(
            {
                "list": timed(lambda: caller.send(listing), 10),
                "noop": timed(lambda: caller.send(nothing), 10),
            },
            options.size(60, 12),
        )
    cost = medians(samples)
    extra = cost["list"] - cost["noop"]
    note = f"{cost['list']:.2f} ms, of which {cost['noop']:.2f} ms any call; the budget is {LIST_BUDGET_MS:g} ms"
    yield Goal("protocol/list_workspaces, 200, over the no-op", extra, LIST_BUDGET_MS, None, note=note)


@contextlib.contextmanager
def client(server: Server, era: Era, token: str = AI_TOKEN) -> Iterator[McpClient]:
    caller = McpClient(server.origin, token, era)
    try:
        yield caller
    finally:
        caller.close()


BENCHES = (Bench("protocol/noop", noop), Bench("protocol/list_workspaces", list_workspaces))
