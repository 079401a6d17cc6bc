"""How each operation grows with what is stored: from 1 to 10 to 100 times a unit.

    python -m scripts.scale                       a unit: 1 GB of transcripts, 2 workspaces, 10,000 memories
    python -m scripts.scale --unit 0.1            a tenth of that each
    python -m scripts.scale --sizes 1,10

The stores are made by the store's own code without its fsyncs. A transcript's bytes are on the disk once, under as many
names as there are sessions (SPEC: ARCH-7), so 100 GB take some megabytes; rows, members and files' names are
all there. Exit code 1: an operation on the largest store took more than --most times what it took on the smallest one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a file: only this folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from federated_memory.names import DocumentPath, SessionId, WorkspaceId
from federated_memory.store.archive import Archives
from federated_memory.store.changes import Actor
from federated_memory.store.document import Key
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.memories import Memories, new_memory_id
from federated_memory.store.memory_file import Memory
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root
from federated_memory.store.tombstones import Tombstones
from scripts.bench.processes import AI_TOKEN, REPOSITORY, SYNC_TOKEN, Server, our_server
from scripts.bench.search import wait_for_index
from scripts.bench.wire import Connection, McpClient

ACTOR = Actor("scale")
WORKSPACES, MEMORIES, SESSION_BYTES, SESSIONS = 2, 10_000, 10_000_000, 100
TIMES = 7
INDEX_SECONDS = 3_600.0
_WORDS = [
    head + tail for head in ("ba", "co", "di", "fu", "ge", "hi", "jo") for tail in ("bar", "cel", "dor", "fin", "gam")
]


class Size:
    """What `units` of a unit's size are."""

    def __init__(self, units: float) -> None:
        self.workspaces = max(1, round(WORKSPACES * units))
        self.memories = max(10, round(MEMORIES * units))
        self.sessions = max(1, round(SESSIONS * units))

    def __str__(self) -> str:
        gigabytes = self.sessions * SESSION_BYTES / 1e9
        return (
            f"{self.workspaces} workspaces, {self.memories:,} memories, {self.sessions:,} sessions of {gigabytes:g} GB"
        )


def transcript() -> bytes:
    """Mostly records that say nothing, which make it long; some turns."""
    filler = json.dumps({"type": "file-history-snapshot", "snapshot": "A" * 64_000}).encode() + b"\n"
    lines = []
    for number in range(SESSION_BYTES // len(filler)):
        lines.append(filler)
        if number % 30 == 0:
            turn = {"role": "user", "content": f"the deploy of the cluster, step {number}"}
            lines.append(
                json.dumps({"type": "user", "timestamp": "2026-11-20T08:00:00Z", "message": turn}).encode() + b"\n"
            )
    return b"".join(lines)


def make(folder: Path, size: Size) -> None:
    """A root with all of that, as if every fsync had been done."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    root = Root(folder)
    root.database._writer.execute("PRAGMA synchronous=OFF")
    journal = Journal(root)
    documents, archives = Documents(root, journal, max_bytes=1 << 20), Archives(root)
    memories, registry = Memories(documents, Tombstones(root.database)), Registry(root)
    chance = random.Random(7)
    ids = [WorkspaceId(f"scale-{number}") for number in range(size.workspaces)]
    for number, workspace_id in enumerate(ids):
        registry.register(new_workspace(workspace_id, "box", "claude", f"p{number}", "", "", ACTOR), ACTOR)
        for name in ("ports", "deploys"):
            key = Key(workspace_id, "knowledge", DocumentPath(f"notes/{name}.md"))
            documents.write(key, f"# {name}\n\nthe cluster of {workspace_id}\n".encode(), ACTOR)
    raw = transcript()
    for number in range(size.sessions):
        with archives.receive(ids[number % len(ids)], SessionId(f"s{number}"), actor=ACTOR) as upload:
            upload.feed(raw)
            upload.finish()
    for number in range(size.memories):
        created = f"2026-{1 + number % 10:02}-{1 + number % 28:02}T08:00:{number % 60:02}.{number % 1000:03}Z"
        words = " ".join(chance.choices(_WORDS, k=40))
        content = f"{'quarterly' if number % 10 == 0 else 'monthly'} unique{number:07}x of the cluster {words}"
        memory_id = new_memory_id(created, f"n{number:08}")
        memories.add(ids[number % len(ids)], Memory(memory_id, content, created_at=created), ACTOR)
        if number % 5_000 == 4_999:
            journal.flush()
    journal.flush()
    root.close()


def ms(work: Callable[[int], object], times: int = TIMES) -> float:
    """The median of some runs, after one that counts for nothing."""
    took = []
    for number in range(times + 1):
        started = time.perf_counter()
        work(number)
        took.append((time.perf_counter() - started) * 1e3)
    return sorted(took[1:])[times // 2]


def ask(origin: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    connection = Connection(origin)
    try:
        head, found = connection.exchange(connection.request(method, path, headers, body))
    finally:
        connection.close()
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"{method} {path}: {head.splitlines()[0].decode()} {found[:200].decode(errors='replace')}")
    return found


def wait_until_ready(server: Server) -> float:
    """Milliseconds since the process was made, until recovery, scan and index are done."""
    while time.monotonic() - server.started_at < INDEX_SECONDS:
        try:
            ask(server.origin, "GET", "/readyz", {})
        except (RuntimeError, OSError):
            time.sleep(0.02)
            continue
        return (time.monotonic() - server.started_at) * 1e3
    raise RuntimeError("the server did not become ready")


def measure(folder: Path, size: Size) -> dict[str, float]:
    """What each operation takes on that root, in ms; and some megabytes."""
    found: dict[str, float] = {}
    with our_server(folder) as server:  # makes the index
        wait_until_ready(server)
        wait_for_index(folder, INDEX_SECONDS)
        found["index made (s)"] = time.monotonic() - server.started_at
    started = time.monotonic()
    with our_server(folder) as server:
        found["start: first answer"] = (time.monotonic() - started) * 1e3
        found["start: ready"] = wait_until_ready(server)
        wait_for_index(folder, INDEX_SECONDS)
        found["start: index current"] = (time.monotonic() - started) * 1e3
        server.settle(limit_seconds=120)
        found |= operations(server, size)
        found["memory of the server (MiB)"] = server.rss_mib()
    command = [sys.executable, "-m", "federated_memory", "check", "--json"]
    environment = {**os.environ, "MEMORY_ROOT": str(folder), "PYTHONPATH": str(REPOSITORY / "src")}
    started = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True, check=False)
    found["check"] = (time.monotonic() - started) * 1e3
    problems = [each for each in json.loads(done.stdout)["findings"] if each["severity"] != "info"]
    assert not problems, problems[:3]
    found["state.sqlite3 (MB)"] = (folder / "_meta" / "state.sqlite3").stat().st_size / 1e6
    found["index.sqlite3 (MB)"] = (folder / "_meta" / "index.sqlite3").stat().st_size / 1e6
    return found


def operations(server: Server, size: Size) -> dict[str, float]:
    client = McpClient(server.origin, AI_TOKEN, "2026-07-28")
    names = {"machine": "box", "tool": "claude", "project": "p0", "workspace_id": "scale-0"}
    bound = client.call("register_workspace", **names)["binding"]
    token = {"Authorization": f"Bearer {SYNC_TOKEN}", "Content-Type": "application/json"}
    write_token = json.loads(ask(server.origin, "POST", "/api/v1/workspaces", token, json.dumps(names).encode()))
    token["X-Write-Token"] = write_token["write_token"]
    line = json.dumps({"type": "user", "message": {"role": "user", "content": "one more turn " * 20}}).encode() + b"\n"
    offset = 0

    def append(_: int) -> None:
        nonlocal offset
        place = "/api/v1/workspaces/scale-0/sessions/growing"
        ask(server.origin, "PATCH", place, {**token, "Upload-Offset": str(offset)}, line * 20)
        offset += len(line) * 20

    def call(tool: str, **arguments: object) -> float:
        client.reopen()
        request = client.prepare(tool, **arguments)
        return ms(lambda _: client.send(request))

    def store(number: int) -> None:
        client.send(client.prepare("store_memory", content=f"stored {number} {time.monotonic_ns()}", binding=bound))

    return {
        "list workspaces": call("list_workspaces"),
        "overview": call("get_overview"),
        "list sessions": call("list_sessions", workspace_id="scale-0"),
        "list sessions of all": call("list_sessions"),
        "list memories": call("list_memories"),
        "list knowledge": call("list_knowledge", workspace_id="scale-0"),
        "read session": call("read_session", workspace_id="scale-0", session_id="s0", offset=100),
        "brief": call("get_brief", workspace_id="scale-0"),
        "search, rare word": call("search_memory", query=f"unique{size.memories // 2:07}x"),
        "search, common words": call("search_memory", query="cluster deploy"),
        "search, word of a tenth": call("search_memory", query="quarterly cluster"),
        "search, nothing found": call("search_memory", query="xylophone"),
        "literal search, rare": call("search_memory", query=f"unique{size.memories // 2:07}x", mode="literal"),
        "append": ms(append),
        "store memory": ms(store),
    }


def table(found: dict[float, dict[str, float]]) -> str:
    sizes = sorted(found)
    head = f"{'operation (ms)':<28}" + "".join(f"{f'x {size:g}':>12}" for size in sizes) + f"{'growth':>9}"
    lines = [head, "-" * len(head)]
    for name in found[sizes[0]]:
        values = [found[size][name] for size in sizes]
        lines.append(f"{name:<28}" + "".join(f"{value:>12.1f}" for value in values) + f"{values[-1] / values[0]:>9.1f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unit", type=float, default=1.0, help="how much of a unit is one")
    parser.add_argument("--sizes", default="1,10,100")
    parser.add_argument("--most", type=float, default=0.0, help="what a query, list, append or brief may grow by")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--dir", type=Path, default=REPOSITORY / "build" / "scale", help="a real disk")
    options = parser.parse_args(arguments)
    found: dict[float, dict[str, float]] = {}
    for units in sorted(float(word) for word in options.sizes.split(",")):
        size = Size(units * options.unit)
        folder = options.dir.absolute() / str(os.getpid()) / "memory"
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir(parents=True)
        try:
            started = time.monotonic()
            if (child := os.fork()) == 0:  # what it does to fsync ends with it
                make(folder, size)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0, "the store could not be made"
            print(f"x {units:g}: {size}, made in {time.monotonic() - started:.0f} s", flush=True)
            found[units] = measure(folder, size)
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)
    print(table(found))
    smallest, largest = found[min(found)], found[max(found)]
    asked = [name for name in smallest if not name.startswith(("index", "start", "state", "check", "memory of"))]
    grown = [name for name in asked if options.most and largest[name] > smallest[name] * options.most + 5]
    for name in grown:
        print(f"PROBLEM: {name} grew from {smallest[name]:.1f} ms to {largest[name]:.1f} ms")
    if options.json:
        options.json.write_text(json.dumps({"trials": len(asked) * len(found), "leaks": len(grown)}))
    return 1 if grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
