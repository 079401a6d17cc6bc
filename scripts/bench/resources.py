"""Memory and start-up of a real server process. The memory budgets are fixed figures and gate as such."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from scripts.bench.harness import Bench, BenchError, Goal, Options, chunks, interleave, medians
from scripts.bench.processes import AI_TOKEN, SYNC_TOKEN, Server, bare_server, our_server
from scripts.bench.protocol import client
from scripts.bench.wire import McpClient
from scripts.gen_corpus import documents, one_transcript, transcripts

IDLE_BUDGET_MIB = 120
EXTRA_BUDGET_MIB = 64
COLD_START_BUDGET_MS = 1000
NO_LITERAL = r"\b[a-z]{4}_[0-9]{3}[a-z]\b"  # nothing an index could look up
SCANS = {"regex without a literal": ("regex", NO_LITERAL), "literal": ("literal", "no such text anywhere")}


def memory(options: Options) -> Iterator[Goal]:
    """Resident memory: at rest, while a long transcript comes in, while all transcripts are scanned."""
    root = options.fresh_folder("memory") / "root"
    with our_server(root) as server:
        with client(server, "2026-07-28") as caller:
            caller.call("list_workspaces")
            server.settle()
            yield Goal("resources/idle memory", server.rss_mib(), IDLE_BUDGET_MIB, 1.0, "MiB")
        yield upload_growth(server, options)
        with client(server, "2026-07-28") as caller:
            for name, (mode, query) in SCANS.items():
                yield scan_growth(server, caller, name, mode, query)


def upload_growth(server: Server, options: Options) -> Goal:
    """Extra memory for one long transcript; the sessions after it only give the scan more to read."""
    sink = Uploader(server)
    data = one_transcript(seed=1, megabytes=options.size(100, 10))
    before = server.rss_mib()
    server.forget_peak()
    sink.put("long-session", data)
    extra = server.peak_mib() - before
    for session in transcripts(seed=1, count=options.size(60, 4), mean_kb=1000):
        sink.put(session.session_id, session.data)
    name = f"resources/extra memory, upload of {len(data) // 1_000_000} MB"
    return Goal(name, extra, EXTRA_BUDGET_MIB, 1.0, "MiB", f"from {before:.0f} MiB")


def scan_growth(server: Server, caller: McpClient, name: str, mode: str, query: str) -> Goal:
    server.settle()
    caller.reopen()
    before = server.rss_mib()
    server.forget_peak()
    started = time.perf_counter()
    caller.call("search_sessions", query=query, mode=mode)
    took = time.perf_counter() - started
    extra = server.peak_mib() - before
    note = f"from {before:.0f} MiB; the scan took {took:.2f} s"
    return Goal(f"resources/extra memory, full scan, {name}", extra, EXTRA_BUDGET_MIB, 1.0, "MiB", note)


class Uploader:
    """A machine's sync job: registers once, then puts transcripts."""

    def __init__(self, server: Server) -> None:
        self.address = urlsplit(server.origin).netloc
        body = json.dumps({"machine": "bench", "tool": "bench", "project": "uploads"}).encode()
        answer = json.loads(self.request("POST", "/api/v1/workspaces", body, {"Content-Type": "application/json"}))
        if not answer.get("write_token"):
            raise BenchError(f"registering gave no write token, only {sorted(answer)}")
        self.workspace_id, self.write_token = answer["workspace_id"], answer["write_token"]

    def put(self, session_id: str, data: bytes) -> None:
        path = f"/api/v1/workspaces/{self.workspace_id}/sessions/{session_id}"
        headers = {"Content-Type": "application/x-ndjson", "X-Write-Token": self.write_token}
        self.request("PUT", path, data, headers)

    def request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        connection = http.client.HTTPConnection(self.address, timeout=120)
        try:
            common = {"Authorization": f"Bearer {SYNC_TOKEN}", "Content-Length": str(len(body))}
            connection.request(method, path, chunks(body), {**common, **headers})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status not in (200, 201):
            raise BenchError(f"{method} {path}: {response.status} {answer[:300].decode(errors='replace')}")
        return answer


def cold_start(options: Options) -> Iterator[Goal]:
    """From making the process to its first answer, with documents to find; beside the bare SDK's."""
    folder = options.fresh_folder("cold-start")
    root = folder / "root"
    count = options.size(5_000, 500)
    fill(root, count)

    def ours() -> float:
        with our_server(root) as server:
            return first_answer_ms(server, "get_overview")

    def bare() -> float:
        with bare_server(folder / "bare") as server:
            return first_answer_ms(server, "noop")

    cost = medians(interleave({"ours": ours, "bare": bare}, options.size(7, 3)))
    name = f"resources/cold start with {count:,} documents"
    yield Goal(name, cost["ours"], COLD_START_BUDGET_MS, None)
    yield Goal(f"{name}, against the bare SDK's", cost["ours"], cost["bare"], None)


def fill(root: Path, count: int) -> None:
    with our_server(root) as server, client(server, "2026-07-28") as caller:
        binding = caller.call("register_workspace", machine="bench", tool="bench", project="cold")["binding"]
        for path, text in documents(seed=1, count=count):
            caller.call("write_knowledge", path=path, text=text, binding=binding)
        server.settle()


def first_answer_ms(server: Server, tool: str) -> float:
    caller = McpClient(server.origin, AI_TOKEN, "2026-07-28")
    caller.call(tool)
    caller.close()
    return (time.monotonic() - server.started_at) * 1000


BENCHES = (Bench("resources/memory", memory), Bench("resources/cold start", cold_start))
