"""The same sets and gets before Redis (`appendfsync always`), beside ours: part of `make bench-peers`.

Redis stands behind a route that only checks a bearer and passes on (`bare_state.py`); it knows no history, no rights by
key, no schemas. Debian's `redis-server` is used where it is installed.
"""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.bench.harness import BenchError, interleave, medians, timed
from scripts.bench.processes import our_server, stop
from scripts.bench.state import CALLS_PER_ROUND, MANY, Client, bare_state, ours, rate, registered

ROUNDS = 30
SECONDS = 2.0


def lines(folder: Path) -> list[str]:
    """A table, or why there is none."""
    program = shutil.which("redis-server")
    if program is None:
        return ["NOT MEASURED Redis: redis-server is not on PATH (Debian: `apt-get install redis-server`)"]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            redis_server(program, folder / "redis") as port,
            our_server(folder / "ours") as server,
            bare_state(folder / "bare", port) as bare,
        ):
            binding = registered(server)
            server.settle()
            return measured(
                [ours(server, binding) for _ in range(MANY)], [Client(bare.origin, "/redis/") for _ in range(MANY)]
            )
    except (BenchError, OSError) as error:
        return [f"NOT MEASURED Redis: {error}"]


def measured(mine: list[Client], redis: list[Client]) -> list[str]:
    samples = interleave(
        {
            "our set": timed(lambda: mine[0].call("PUT"), CALLS_PER_ROUND),
            "our get": timed(lambda: mine[0].call("GET"), CALLS_PER_ROUND),
            "redis set": timed(lambda: redis[0].call("PUT"), CALLS_PER_ROUND),
            "redis get": timed(lambda: redis[0].call("GET"), CALLS_PER_ROUND),
        },
        ROUNDS,
    )
    cost = medians(samples)
    rates = [rate(clients, SECONDS) for clients in (mine, redis)]
    rows = [("", "set ms", "get ms", f"sets/s of {MANY}")]
    for name, kind, together in (("federated-memory", "our", rates[0]), ("Redis, fsync always", "redis", rates[1])):
        rows.append((name, f"{cost[f'{kind} set']:.2f}", f"{cost[f'{kind} get']:.2f}", f"{together:,.0f}"))
    return [f"{row[0]:38}" + "".join(f"{cell:>16}" for cell in row[1:]) for row in rows]


@contextlib.contextmanager
def redis_server(program: str, folder: Path) -> Iterator[int]:
    """On a free port of the loopback; every write is on the disk before it is answered."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = int(found.getsockname()[1])
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        else:
            raise BenchError("redis-server did not start")
        yield port
    finally:
        stop(process)
