"""What the cap on common terms costs: the same searches with and without it, in process, on the root a server left."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from federated_memory.app import close_services, open_services
from federated_memory.search import evidence
from federated_memory.service.services import Services
from federated_memory.settings import Settings
from scripts.bench.harness import Goal
from scripts.quality.metrics import distinct
from scripts.quality.stores import READER

NO_CAP = 2**31
CAPS = ("MOST_ROWS", "_FEW_ROWS", "_ALL_ROWS", "_LEAST_ROWS")
DEPTH = 10


def cap_recall(label: str, root: Path, groups: Sequence[tuple[str, Sequence[str]]]) -> Iterator[Goal]:
    """For each group of queries, the share of the ten best sessions without a cap that are among the ten with it."""
    services = open_services(Settings(root=root, search_timeout_seconds=60))
    try:
        services.core.index.catch_up()
        capped = {query: best(services, query) for _, queries in groups for query in queries}
    finally:
        close_services(services)
    # Opened anew: a ranking that was made is kept for its next pages.
    services = open_services(Settings(root=root, search_timeout_seconds=60))
    try:
        services.core.index.catch_up()
        with contextlib.ExitStack() as changed:
            for name in CAPS:
                changed.enter_context(patch.object(evidence, name, NO_CAP))
            uncapped = {query: best(services, query) for query in capped}
    finally:
        close_services(services)
    for name, queries in groups:
        wanted = sum(len(uncapped[query]) for query in queries)
        kept = sum(len({*uncapped[query]} & {*capped[query]}) for query in queries)
        yield Goal(f"{label}/{name}, of the 10 best without a cap", kept, wanted, None, "found")


def best(services: Services, query: str) -> tuple[str, ...]:
    """The ten best sessions."""
    names: tuple[str, ...] = ()
    cursor: str | None = None
    while len(distinct(names)) < DEPTH:
        page = services.searching.memory(READER, query, kinds=["session"], cursor=cursor)
        names += tuple(str(hit.session_id) for hit in page.hits)
        cursor = page.next_cursor
        if cursor is None:
            break
    return distinct(names)[:DEPTH]
