"""Search over 5 GB of transcripts (`--huge`): what the server's memory and its answers come to, without `rg` beside."""

import itertools
import time
from collections.abc import Iterator

from scripts.bench.harness import Bench, Goal, Options
from scripts.bench.processes import our_server
from scripts.bench.protocol import client
from scripts.bench.search import P95_BUDGET_MS, RSS_BUDGET_MIB, SMALL, ask, indexing, query_classes
from scripts.bench.search_corpus import corpus, words_of
from scripts.quality.metrics import percentile

SESSIONS = 5_000
CALLS = 24
FEW_CALLS = 2


def huge(options: Options) -> Iterator[Goal]:
    """Every query class, asked as by one client; then the most memory that the server took since it began to search."""
    if not options.huge:
        return
    words = words_of(corpus(SMALL))
    found = corpus(SESSIONS)
    label = f"search {found.raw_bytes / 1e6:,.0f} MB"
    root = options.fresh_folder("search-huge") / "root"
    with our_server(root) as server:
        yield from indexing(label, server, found, root, options)
        yield Goal(f"{label}/peak memory while indexing", server.peak_mib(), RSS_BUDGET_MIB, 1.0, "MiB")
    with our_server(root) as server, client(server, "2026-07-28") as caller:
        for kind in query_classes(words):
            numbers = itertools.cycle(range(len(kind.queries)))
            caller.reopen()
            times: list[float] = []
            for _ in range(FEW_CALLS if kind.all_pages or "without" in kind.name else CALLS):
                started = time.perf_counter()
                ask(caller, kind, next(numbers))
                times.append((time.perf_counter() - started) * 1000)
            note = f"median {percentile(times, 0.5):.1f} ms"
            yield Goal(f"{label}/{kind.name}, p95", percentile(times, 0.95), P95_BUDGET_MS, None, note=note)
        yield Goal(f"{label}/peak memory while searching", server.peak_mib(), RSS_BUDGET_MIB, 1.0, "MiB")


BENCHES = (Bench("search/huge", huge),)
