"""Search over transcripts through the MCP tool, beside `rg -z` on the very files of the server's archive.

A query class is asked with several queries in turn, so that no answer is only remembered. `rg` looks for the same
words in raw JSON lines; it counts and ranks nothing. Times are of one answer of the default size: hits, snippets, HTTP
and all; the next page is not asked for unless the class says so.
"""

import contextlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from federated_memory.search.words import STOP_WORDS
from federated_memory.service.pages import MOST_MAX_BYTES
from scripts.bench.harness import Bench, BenchError, Goal, Options, cpu_timed, medians
from scripts.bench.processes import Server, our_server
from scripts.bench.protocol import client
from scripts.bench.references import gzip_6
from scripts.bench.resources import NO_LITERAL, Uploader
from scripts.bench.search_cap import cap_recall
from scripts.bench.search_corpus import SAMPLE_BYTES, SEED, WORD, Corpus, Words, corpus, words_of
from scripts.bench.wire import McpClient
from scripts.gen_corpus import documents
from scripts.quality.metrics import percentile

SMALL, LARGE, QUICK = 200, 1000, 12  # sessions: 182 MB, 1 GB, a look
P95_BUDGET_MS = 25
INDEX_SHARE = 0.40
CPU_SHARE = 4.5
GROWTH = 2.0
RSS_BUDGET_MIB = 300
NOOP_P99_BUDGET_MS = 50
CALLS_PER_ROUND = 8
INDEX_SECONDS = 1_500
TOOL = "search_memory"
WORST_REGEX = r"(?i)[a-z]+ing [a-z]+ed [a-z]+s [0-9]+ zzq"


@dataclass(frozen=True, slots=True)
class QueryClass:
    """Queries of one kind, what `rg` is asked instead of each, and the largest ratio at 182 MB and at 1 GB."""

    name: str
    queries: tuple[str, ...]
    mode: str = "ranked"
    limit: int = 20
    patterns: tuple[tuple[str, ...], ...] = ()  # for rg; else the words of the query
    target: float | None = None
    large_target: float | None = None
    grows_little: bool = False
    all_pages: bool = False

    def rg_patterns(self, number: int) -> tuple[str, ...]:
        query = self.queries[number]
        return self.patterns[number] if self.patterns else (query,)


def query_classes(words: Words) -> tuple[QueryClass, ...]:
    """The classes of `reference/performance.md`, with its goals."""
    pairs = tuple(itertools.pairwise(words.common))[:8]
    common = tuple(zip(words.common[0:8], words.common[8:16], words.common[16:24], strict=True))
    medium = tuple(zip(words.medium[0:8], words.medium[8:16], words.medium[16:24], strict=True))
    unique = ("zqx-rare-needle-0007",)
    chinese = ("検索の結果", "写入之前", "서버를", "既定の値", "会话归档")
    return (
        ranked("unique id", unique, 0.003, 0.001, grows_little=True),
        ranked("rare word", words.rare, 0.003, 0.001, grows_little=True),
        ranked("word in 1 % of lines", words.medium[:8]),
        ranked("word in 10 % of lines", words.tenth),
        of_words("two common words", pairs),
        of_words("three words of 1 %", medium, 0.015, 0.006),
        of_words("three common words", common, 0.045, 0.009),
        ranked("no hit", ("qzvwkkpt", "zzyyxqwv", "wqqzjxk", "vvbbqqzx")),
        ranked("two characters", ("io", "db", "ok", "ls")),
        QueryClass("phrase", tuple(f'"{pair}"' for pair in words.pairs), patterns=each(words.pairs)),
        ranked("CJK", chinese),
        exact("literal, rare", unique, 0.003, 0.001, grows_little=True),
        exact("literal, newest 50", ("flumoxvane", *words.pairs[:3]), 0.015, 0.004, limit=50, grows_little=True),
        exact("literal, all hits", ("raise ValueError",), 0.15, None, limit=1000, all_pages=True),
        exact("regex with a literal", (r"flumox\w+ was", r"raise \w+Error\(f"), 0.015, 0.004, "regex", limit=50),
        exact("regex without a literal", (NO_LITERAL,), 0.80, None, "regex"),
    )


def ranked(
    name: str,
    queries: Sequence[str],
    target: float | None = None,
    large: float | None = None,
    *,
    grows_little: bool = False,
) -> QueryClass:
    return QueryClass(name, tuple(queries), target=target, large_target=large, grows_little=grows_little)


def of_words(
    name: str, groups: Sequence[tuple[str, ...]], target: float | None = None, large: float | None = None
) -> QueryClass:
    queries = tuple(" ".join(group) for group in groups)
    return QueryClass(name, queries, patterns=tuple(groups), target=target, large_target=large)


def exact(
    name: str, queries: Sequence[str], target: float, large: float | None, mode: str = "literal", **more: Any
) -> QueryClass:
    return QueryClass(name, tuple(queries), mode, target=target, large_target=large, **more)


def each(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((text,) for text in texts)


def search(options: Options) -> Iterator[Goal]:
    """Every query class at 182 MB and, with `--large`, at 1 GB; then what the index costs."""
    sizes = [QUICK] if options.quick else [SMALL, LARGE] if options.large else [SMALL]
    words = words_of(corpus(sizes[0]))
    before: dict[str, float] = {}
    for sessions in sizes:
        found = corpus(sessions)
        folder = options.fresh_folder(f"search-{sessions}")
        with our_server(folder / "root") as server:
            label = f"search {found.raw_bytes / 1e6:.0f} MB"
            yield from indexing(label, server, found, folder / "root", options)
            times: dict[str, float] = {}
            for kind in query_classes(words):
                yield from measured(label, kind, server, folder / "root", options, sessions == LARGE, times)
                if kind.name in before:
                    target = GROWTH if kind.grows_little else None
                    yield Goal(f"{label}/{kind.name}, growth", times[kind.name], before[kind.name], target)
            yield from resources(label, server, options, sessions == LARGE)
        groups = [
            (kind.name, kind.queries) for kind in query_classes(words) if "common" in kind.name or "%" in kind.name
        ]
        yield from cap_recall(label, folder / "root", groups)
        before = times
        shutil.rmtree(folder)


def indexing(label: str, server: Server, found: Corpus, root: Path, options: Options) -> Iterator[Goal]:
    """Upload everything, wait until the server is at rest, and look at what that took."""
    sink = Uploader(server)
    cpu, started = server.cpu_ms(), time.perf_counter()
    samples: list[bytes] = []
    for session_id, data in found.sessions():
        sink.put(session_id, data)
        if sum(map(len, samples)) < SAMPLE_BYTES:
            samples.append(data)
    stored = time.perf_counter() - started
    rest = 1.0
    wait_for_index(root, INDEX_SECONDS)
    server.settle(rest, INDEX_SECONDS)
    took = time.perf_counter() - started - rest
    spent = server.cpu_ms() - cpu
    packing_ms = sum(map(cpu_of_packing, samples)) * found.raw_bytes / sum(map(len, samples))
    index = sum(path.stat().st_size for path in (root / "_meta").glob("index.sqlite3*"))
    if not index:
        yield Goal(f"{label}/index size", 0, found.raw_bytes / 1e6, None, "MB", "there is no index")
        return
    note = f"{found.raw_bytes / 1e6 / took:.1f} MB of transcripts a second; stored after {stored:.1f} of {took:.1f} s"
    target = options.at_full_size(CPU_SHARE)
    yield Goal(f"{label}/store and index, CPU against gzip -6", spent, packing_ms, target, note=note)
    target = options.at_full_size(INDEX_SHARE)
    yield Goal(f"{label}/index size against raw", index / 1e6, found.raw_bytes / 1e6, target, "MB")


def wait_for_index(root: Path, limit_seconds: float) -> None:
    """Until the server says that its index is current: on a busy machine it may rest while it indexes."""
    control = json.loads((root / "_meta" / "control.json").read_text())
    origin = str(control["url"]).removesuffix("/").removesuffix("/mcp")
    request = Request(f"{origin}/api/v1/status", headers={"Authorization": f"Bearer {control['token']}"})
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        with urlopen(request) as reply:
            if json.load(reply)["index"]["state"] == "current":
                return
        time.sleep(0.5)
    raise BenchError("the index was not made in time")


def cpu_of_packing(data: bytes) -> float:
    return cpu_timed(lambda: gzip_6(data))()


def measured(
    label: str, kind: QueryClass, server: Server, root: Path, options: Options, large: bool, times: dict[str, float]
) -> Iterator[Goal]:
    """One class: rounds of one `rg` and some calls of ours."""
    ours: list[float] = []
    theirs: list[float] = []
    hits = 0
    with client(server, "2026-07-28") as caller:
        numbers = itertools.cycle(range(len(kind.queries)))
        ask(caller, kind, 0)
        for _ in range(options.size(5, 2)):
            theirs.append(clocked(lambda: ripgrep(root, kind.rg_patterns(next(numbers)), kind.mode)))
            caller.reopen()
            for _ in range(1 if kind.all_pages else CALLS_PER_ROUND):
                started = time.perf_counter()
                hits = max(hits, ask(caller, kind, next(numbers)))
                ours.append((time.perf_counter() - started) * 1000)
    cost = medians({"ours": ours, "rg": theirs})
    times[kind.name] = cost["ours"]
    target = kind.large_target if large else kind.target
    p95 = percentile(ours, 0.95)
    # Lines that were shown once are kept in memory: what queries cost that show others is told too.
    fresh = percentile(ours[: len(kind.queries) - 1], 0.5) if len(kind.queries) > 1 else cost["ours"]
    note = f"p95 {p95:.1f} ms, asked for the first time {fresh:.1f} ms, at most {hits} hits"
    name = f"{label}/{kind.name}"
    yield Goal(f"{name}, against rg -z", cost["ours"], cost["rg"], target and options.at_full_size(target), note=note)
    if kind.mode == "ranked":
        yield Goal(f"{name}, p95", p95, P95_BUDGET_MS, 1.0 if large else None)


def ask(caller: McpClient, kind: QueryClass, number: int) -> int:
    """Hits of one answer, or of all pages."""
    hits, cursor = 0, None
    while True:
        room = {"max_bytes": MOST_MAX_BYTES} if kind.all_pages else {}
        found = caller.call(TOOL, query=kind.queries[number], mode=kind.mode, limit=kind.limit, cursor=cursor, **room)
        hits += len(found["hits"])
        cursor = found.get("next_cursor")
        if not (kind.all_pages and cursor):
            return hits


def ripgrep(root: Path, patterns: Sequence[str], mode: str) -> None:
    kinds = {"ranked": ["-F", "-i"], "literal": ["-F"], "regex": []}[mode]
    wanted = [argument for pattern in patterns for argument in ("-e", pattern)]
    beside = Path(sys.executable).with_name("rg")
    program = str(beside) if beside.is_file() else shutil.which("rg")
    if program is None:
        raise BenchError("rg is not installed")
    command = [program, "-z", "-c", "--no-config", "--no-ignore", *kinds, *wanted, "--", str(root / "workspaces")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode not in (0, 1):
        raise BenchError(f"rg failed: {done.stderr[:200].decode(errors='replace')}")


def clocked(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def resources(label: str, server: Server, options: Options, large: bool) -> Iterator[Goal]:
    """Memory after all those searches, and a call of nothing while the worst pattern runs."""
    yield Goal(f"{label}/peak memory of the server", server.peak_mib(), RSS_BUDGET_MIB, 1.0 if large else None, "MiB")
    with client(server, "2026-07-28") as busy, client(server, "2026-07-28") as caller:
        nothing = caller.prepare("noop")
        worst = busy.prepare(TOOL, query=WORST_REGEX, mode="regex", limit=50)
        waits: list[float] = []
        for _ in range(options.size(6, 2)):
            with contextlib.closing(Background(busy, worst)) as running:
                while running.goes_on():
                    waits.append(clocked(lambda: caller.send(nothing)))
    if not waits:
        raise BenchError("the worst pattern was answered before anything else could be called")
    note = f"{len(waits)} calls, median {percentile(waits, 0.5):.1f} ms"
    yield Goal(f"{label}/no-op beside a regex, p99", percentile(waits, 0.99), NOOP_P99_BUDGET_MS, 1.0, note=note)


class Background:
    """A call that is under way on a connection of its own until `close`."""

    def __init__(self, caller: McpClient, request: bytes) -> None:
        caller.reopen()
        self.socket = caller.connection.socket
        self.socket.sendall(request)
        self.socket.setblocking(False)

    def goes_on(self) -> bool:
        try:
            return not self.socket.recv(1)
        except BlockingIOError:
            return True

    def close(self) -> None:
        """Read the answer to its end, so that the next call finds the server idle."""
        self.socket.setblocking(True)
        self.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while self.socket.recv(1 << 16):
                pass


def fresh_lines(options: Options) -> Iterator[Goal]:
    """From an append of 20 lines to a search that finds them, on a server with some sessions."""
    root = options.fresh_folder("fresh") / "root"
    with our_server(root) as server, client(server, "2026-07-28") as caller:
        sink = Uploader(server)
        for session_id, data in corpus(QUICK).sessions():
            sink.put(session_id, data)
        server.settle()
        caller.reopen()
        body = b""
        costs = []
        for number in range(options.size(30, 5)):
            word = f"freshword{number:05d}"
            lines = [{"type": "user", "message": {"role": "user", "content": f"{word} {line}"}, "sessionId": "fresh"}
                     for line in range(20)]  # fmt: skip
            body += b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            sink.put("fresh", body)
            started = time.perf_counter()
            if not caller.call(TOOL, query=word)["hits"]:
                raise BenchError(f"{word} was acknowledged and is not found")
            costs.append((time.perf_counter() - started) * 1000)
    median = percentile(costs, 0.5)
    yield Goal("search/20 acknowledged lines are found", median, P95_BUDGET_MS, None, note="the search that waits")


def documents_search(options: Options) -> Iterator[Goal]:
    """Knowledge through the MCP tool, beside a bare `rg` on the same files: 2,000 of them, with `--large` 20,000."""
    count = options.size(20_000 if options.large else 2_000, 200)
    root = options.fresh_folder("documents") / "root"
    with our_server(root) as server, client(server, "2026-07-28") as caller:
        binding = caller.call("register_workspace", machine="bench", tool="bench", project="documents")["binding"]
        texts = []
        for path, text in documents(seed=SEED, count=count):
            caller.send(caller.prepare("write_knowledge", path=path, text=text, binding=binding))
            texts.append(text)
        server.settle()
        words = words_in(texts)
        targets = {"ranked, one word": 0.10, "ranked, three words": 0.10, "literal": None}
        for name, target in targets.items():
            yield documents_goal(f"search {count:,} documents/{name}", name, root, caller, words, options, target)


def documents_goal(
    name: str, kind: str, root: Path, caller: McpClient, words: Sequence[str], options: Options, target: float | None
) -> Goal:
    mode = kind.partition(",")[0]
    step = 3 if "three" in kind else 1
    groups = [words[at : at + step] for at in range(0, len(words) - step, step)]
    ours: list[float] = []
    theirs: list[float] = []
    caller.reopen()
    for number in range(options.size(10, 2)):
        group = groups[number % len(groups)]
        theirs.append(clocked(partial(ripgrep, root, group, mode)))
        for query in (groups[(number + more) % len(groups)] for more in range(CALLS_PER_ROUND)):
            request = caller.prepare("search_knowledge", query=" ".join(query), mode=mode)
            ours.append(clocked(partial(caller.send, request)))
    cost = medians({"ours": ours, "rg": theirs})
    note = f"p95 {percentile(ours, 0.95):.1f} ms"
    return Goal(f"{name}, against rg", cost["ours"], cost["rg"], target and options.at_full_size(target), note=note)


def words_in(texts: Sequence[str]) -> list[str]:
    """Words of some documents, from one in a hundred to one in twenty."""
    counts = Counter(word for text in texts for word in {*WORD.findall(text)} - STOP_WORDS)
    fitting = sorted(word for word, count in counts.items() if 0.01 <= count / len(texts) <= 0.05)
    return random.Random("documents").sample(fitting, 24)


BENCHES = (
    Bench("search/sessions", search),
    Bench("search/fresh lines", fresh_lines),
    Bench("search/documents", documents_search),
)
