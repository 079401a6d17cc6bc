"""Other memory servers on the same texts: `make bench-peers`.

    python -m scripts.bench.peers [--conversations N] [--split dev|test]

Installs what `scripts/peers` pins into `.cache/peers`, stores generated conversations in each server as its own tools
want them, puts every question to its search and prints what was found, how fast, and how much text came back. A server
that cannot be installed or started is named with the reason; that is no failure. Nothing leaves this machine: the
servers speak over pipes and keep their data in a temporary folder.
"""

import argparse
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from scripts.bench import state_peers
from scripts.bench.processes import REPOSITORY
from scripts.corpus.conversations import conversations
from scripts.corpus.labelled import LabelledSet
from scripts.quality.metrics import Answer, Figures, distinct, percentile
from scripts.quality.stores import filled, over_http

PINS = REPOSITORY / "scripts" / "peers"
CACHE = REPOSITORY / ".cache" / "peers"
INSTALL_SECONDS = 400
NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
COLUMNS = ("any@1", "any@5", "recall@5", "none found", "p50 ms", "p95 ms", "bytes", "store s", "questions")
Lines = dict[str, list[str]]  # session → what was said


class PeerError(Exception):
    """A server cannot be had here; the message says why."""


class Server(Protocol):
    """One server with one set of texts in it."""

    def store(self, session_id: str, lines: list[str]) -> None: ...

    def search(self, query: str) -> str:
        """The answer as a model gets it; sessions are named in it by their ids."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    figures: Figures
    empty: float
    times: list[float]
    sizes: list[int]
    store_seconds: float


class Stdio:
    """A server that speaks MCP over pipes."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.numbers = itertools.count(1)
        self.log = log.open("wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment, cwd=log.parent
        )
        client = {"name": "bench", "version": "1"}
        self.request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self.send({"method": "notifications/initialized"})

    def send(self, message: dict[str, object]) -> None:
        if self.process.stdin is None:
            raise PeerError("its input is closed")
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, object]) -> dict[str, Any]:
        number = next(self.numbers)
        self.send({"id": number, "method": method, "params": params})
        for line in self.process.stdout or ():
            answer = json.loads(line)
            if answer.get("id") == number:
                if "error" in answer:
                    raise PeerError(f"{method}: {str(answer['error'])[:200]}")
                return dict(answer["result"])
        raise PeerError(f"it ended: {Path(self.log.name).read_text(errors='replace')[-200:]}")

    def call(self, tool: str, **arguments: object) -> str:
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        text = "\n".join(str(block.get("text", "")) for block in result["content"])
        if result.get("isError"):
            raise PeerError(f"{tool}: {text[:200]}")
        return text

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class ServerMemory:
    """@modelcontextprotocol/server-memory: an entity for each session, its lines as observations."""

    def __init__(self, pipe: Stdio) -> None:
        self.pipe = pipe

    def store(self, session_id: str, lines: list[str]) -> None:
        self.pipe.call(
            "create_entities", entities=[{"name": session_id, "entityType": "session", "observations": lines}]
        )

    def search(self, query: str) -> str:
        return self.pipe.call("search_nodes", query=query)


class KiokuMesh:
    """kioku-mesh in its local mode: an observation for each line, its subject the session."""

    def __init__(self, pipe: Stdio) -> None:
        self.pipe = pipe

    def store(self, session_id: str, lines: list[str]) -> None:
        for line in lines:
            self.pipe.call("save_observation", content=line, subject=session_id, summary=line[:120])

    def search(self, query: str) -> str:
        return self.pipe.call("search_memory", query=query)


@contextlib.contextmanager
def server_memory(folder: Path) -> Iterator[Server]:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise PeerError("npm and node are not on PATH (Debian: `apt-get install npm`)")
    home = CACHE / "node"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(PINS / name, home / name)
    program = home / "node_modules" / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js"
    if not program.is_file():
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], home)
    settings = {"MEMORY_FILE_PATH": str(folder / "memory.jsonl"), "HOME": str(folder), "PATH": str(Path(node).parent)}
    with contextlib.closing(Stdio([node, str(program)], settings, folder / "log")) as pipe:
        yield ServerMemory(pipe)


@contextlib.contextmanager
def kioku_mesh(folder: Path) -> Iterator[Server]:
    home = CACHE / "python"
    program = home / "bin" / "kioku-mesh-mcp"
    if not program.is_file():
        run([sys.executable, "-m", "venv", str(home)], PINS)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--requirement", str(PINS / "requirements.txt")], PINS)
    settings = {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
        "KIOKU_MESH_BACKEND": "local",
        "KIOKU_MESH_STATE_DIR": str(folder / "state"),
        "KIOKU_MESH_AGENT_FAMILY": "bench",
    }
    with contextlib.closing(Stdio([str(program)], settings, folder / "log")) as pipe:
        yield KiokuMesh(pipe)


def run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise PeerError(f"installing took longer than {INSTALL_SECONDS} s") from None
    if done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise PeerError(f"installing failed: {tail[0][:200]}")


PEERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Server]]] = {
    "@modelcontextprotocol/server-memory": server_memory,
    "kioku-mesh": kioku_mesh,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.peers", description="Other servers, same texts.")
    parser.add_argument("--conversations", type=int, default=2, metavar="N", help="each a store of its own (2)")
    parser.add_argument("--only-state", action="store_true", help="only shared state, beside Redis")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    given = parser.parse_args(arguments)
    sets = list(conversations(given.split, count=given.conversations))
    if given.only_state:
        return tell_state()
    with TemporaryDirectory(prefix="peers-") as folder:
        rows = [measure_ours(sets, Path(folder).resolve())]
        missing = {}
        for name, opened in PEERS.items():
            try:
                rows.append(measure(name, opened, sets, Path(folder).resolve()))
            except (PeerError, OSError, ValueError) as error:
                missing[name] = str(error)
    print("\n".join(table(rows)))
    for name, reason in missing.items():
        print(f"NOT MEASURED {name}: {reason}")
    print()
    return tell_state()


def tell_state() -> int:
    """Shared state beside Redis, on this file system: a temporary one in memory knows no fsync."""
    Path("build").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="peers-", dir="build") as folder:
        print("\n".join(state_peers.lines(Path(folder).resolve() / "state")))
    return 0


def measure(
    name: str,
    opened: Callable[[Path], contextlib.AbstractContextManager[Server]],
    sets: list[LabelledSet],
    folder: Path,
) -> Row:
    answers, sizes = [], []
    stored = 0.0
    for number, each in enumerate(sets):
        place = folder / re.sub(r"\W+", "-", name) / str(number)
        place.mkdir(parents=True)
        with opened(place) as server:
            started = time.perf_counter()
            for session_id, lines in said_in(each).items():
                server.store(session_id, lines)
            stored += time.perf_counter() - started
            for question in each.questions:
                started = time.perf_counter()
                text = server.search(question.text)
                took = (time.perf_counter() - started) * 1000
                found = distinct(NAME.findall(text))
                answers.append(Answer(found, question.relevant, len(found), took))
                sizes.append(len(text.encode()))
    return as_row(name, answers, sizes, stored)


def measure_ours(sets: list[LabelledSet], folder: Path) -> Row:
    """Our own server with the transcripts as they are, over HTTP, in an answer of the default size."""
    answers, sizes = [], []
    stored = 0.0
    for each in sets:
        started = time.perf_counter()
        filled(folder / each.name, [each])
        stored += time.perf_counter() - started
        with over_http(folder / each.name) as searcher:
            for question in each.questions:
                started = time.perf_counter()
                page = searcher.page(question.text, each.form, "", None)
                took = (time.perf_counter() - started) * 1000
                found = distinct(page.names)
                answers.append(Answer(found, question.relevant, len(found), took))
                sizes.append(sum(len(snippet.encode()) for snippet in page.snippets))
    return as_row("federated-memory", answers, sizes, stored)


def as_row(name: str, answers: list[Answer], sizes: list[int], stored: float) -> Row:
    empty = sum(not answer.found for answer in answers) / len(answers)
    return Row(name, Figures.of(answers), empty, [answer.elapsed_ms for answer in answers], sizes, stored)


def said_in(labelled: LabelledSet) -> Lines:
    """Each session's lines as `speaker: words`."""
    return {text.name: [said(json.loads(line)) for line in text.data.splitlines()] for text in labelled.texts}


def said(record: dict[str, Any]) -> str:
    if "text" in record:
        return f"{record['speaker']}: {record['text']}"
    content = record["message"]["content"]
    return content if isinstance(content, str) else str(content[0]["text"])


def table(rows: list[Row]) -> list[str]:
    lines = [f"{'':38}" + "".join(f"{column:>12}" for column in COLUMNS)]
    for row in rows:
        cells = [f"{value:.3f}" for value in (row.figures.any_at_1, row.figures.any_at_5, row.figures.recall_at_5)]
        cells += [f"{row.empty:.3f}", f"{percentile(row.times, 0.5):.1f}", f"{percentile(row.times, 0.95):.1f}"]
        cells += [f"{percentile(row.sizes, 0.5):.0f}", f"{row.store_seconds:.1f}", str(row.figures.questions)]
        lines.append(f"{row.name:38}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


if __name__ == "__main__":
    sys.exit(main())
