"""Many agents and machines at one server for a while: errors, how long reads take, and what leaks.

    python -m scripts.load                                  50 agents, 20 machines, 2 minutes
    python -m scripts.load --minutes 30 --restarts 6        the soak: the same, killed and started again in between

The server is held to one processor and 512 MB where this machine's control groups allow that (as root). Exit code 1:
a request failed, memory, descriptors or threads grew, or something was left lying around; how long reads took gates
only with --most-ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: only this folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.bench.harness import BenchError
from scripts.bench.processes import AI_TOKEN, REPOSITORY, SYNC_TOKEN, Server, our_server
from scripts.bench.wire import Connection, McpClient

CGROUPS = Path("/sys/fs/cgroup")
MEMORY_BYTES = 512 * 1024**2
READS = ("search_memory", "read_knowledge", "read_session", "get_brief", "list_knowledge")
WEIGHTS = (40, 25, 15, 10, 10)
WORDS = ("zebra port", "how was the token rotated", "migration failed", "config.timeout_seconds", "retry with backoff")
SAMPLE_SECONDS = 2.0
GROWTH = 1.25
"""So much more than in the first third of a server's life may be there in its last one."""
WARM_UP_SECONDS = 60.0
LONG_SECONDS = 45.0
"""Of a shorter life nothing is said: a server that has just started still loads what it needs."""


@dataclass
class Told:
    """What all threads have to tell. Thread-safe as far as it must be."""

    took_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    lives: list[list[dict[str, float]]] = field(default_factory=list)
    """Samples of each server, the warming up left out when it lived long enough."""
    leftovers: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def timed(self, kind: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        self.took_ms[kind].append((time.perf_counter() - started) * 1e3)


class Worker(threading.Thread):
    """Goes on until the server is to be stopped; an error before that is told."""

    def __init__(self, told: Told, is_over: threading.Event, origin: str, number: int, pause: float) -> None:
        super().__init__(daemon=True)
        self.told, self.is_over, self.origin, self.number = told, is_over, origin, number
        self.chance = random.Random(number)
        self.pause = pause
        self.has_begun = threading.Event()

    def run(self) -> None:
        try:
            self.begin()
            self.has_begun.set()
            while not self.is_over.wait(self.chance.uniform(0.5, 1.5) * self.pause):
                self.step()
        except (OSError, BenchError, KeyError, ValueError) as error:
            if not self.is_over.is_set():
                self.told.errors.append(f"{type(self).__name__} {self.number}: {str(error)[:300]}")
        finally:
            self.has_begun.set()

    def begin(self) -> None:
        raise NotImplementedError

    def step(self) -> None:
        raise NotImplementedError


class Agent(Worker):
    workspaces = 1

    def begin(self) -> None:
        self.client = McpClient(self.origin, AI_TOKEN, "2026-07-28")

    def step(self) -> None:
        self.client.reopen()  # an idle connection may have been closed meanwhile
        workspace = f"load-{self.chance.randrange(self.workspaces)}"
        tool = self.chance.choices(READS, WEIGHTS)[0]
        asked: dict[str, dict[str, object]] = {
            "search_memory": {"query": self.chance.choice(WORDS)},
            "read_knowledge": {"workspace_id": workspace, "path": f"notes/{self.chance.randrange(10)}.md"},
            "read_session": {"workspace_id": workspace, "session_id": "s0"},
            "get_brief": {"workspace_id": workspace},
            "list_knowledge": {"workspace_id": workspace},
        }
        request = self.client.prepare(tool, **asked[tool])
        self.told.timed(tool, lambda: self.client.send(request))


class Machine(Worker):
    def begin(self) -> None:
        self.connection = Connection(self.origin)
        self.workspace = f"load-{self.number}"
        self.session, self.offset = 0, 0
        self.headers = {"Authorization": f"Bearer {SYNC_TOKEN}"}
        names = {"machine": "load", "tool": "load", "project": str(self.number), "workspace_id": self.workspace}
        body = json.dumps(names).encode()
        _, answer = self.answer("POST", "/api/v1/workspaces", body, {"Content-Type": "application/json"})
        token = json.loads(answer).get("write_token") or TOKENS[self.number]
        TOKENS[self.number] = token
        self.headers["X-Write-Token"] = token
        self.connection.socket.sendall(self.connection.request("HEAD", self.place("sessions/s0"), self.headers))
        head = b""
        while b"\r\n\r\n" not in head:  # and no body follows, whatever its length is said to be
            head += self.connection.more()
        if head.startswith(b"HTTP/1.1 200"):
            self.offset = int(head.lower().split(b"upload-offset: ")[1].split(b"\r\n")[0])
        for number in range(10):
            self.knowledge(number)
        self.append()

    def place(self, rest: str) -> str:
        return f"/api/v1/workspaces/{self.workspace}/{rest}"

    def answer(self, method: str, path: str, body: bytes, more: dict[str, str]) -> tuple[bytes, bytes]:
        head, found = self.connection.exchange(self.connection.request(method, path, {**self.headers, **more}, body))
        if not head.startswith(b"HTTP/1.1 2"):
            raise BenchError(f"{method} {path}: {head.splitlines()[0].decode()} {found[:200].decode(errors='replace')}")
        return head, found

    def step(self) -> None:
        self.connection.close()
        self.connection.open()
        if self.chance.random() < 0.3:
            number = self.chance.randrange(10)
            self.told.timed("write knowledge", lambda: self.knowledge(number))
        else:
            self.told.timed("append to session", self.append)

    def knowledge(self, number: int) -> None:
        text = f"# Note {number}\n\n" + "".join(self.sentence() + "\n" for _ in range(self.chance.randrange(5, 60)))
        self.answer("PUT", self.place(f"knowledge/notes/{number}.md"), text.encode(), {})

    def append(self) -> None:
        lines = b"".join(
            json.dumps(
                {
                    "type": self.chance.choice(("user", "assistant")), "timestamp": "2026-11-20T08:00:00Z",
                    "message": {"role": "user", "content": self.sentence()},
                }
            ).encode()
            + b"\n"
            for _ in range(self.chance.randrange(3, 40))
        )  # fmt: skip
        self.answer("PATCH", self.place("sessions/s0"), lines, {"Upload-Offset": str(self.offset)})
        self.offset += len(lines)

    def sentence(self) -> str:
        return f"{self.chance.choice(WORDS)} {self.chance.getrandbits(40):x} " * self.chance.randrange(1, 8)


TOKENS: dict[int, str] = {}
"""Write tokens, which a server gives once."""


@contextlib.contextmanager
def confined(pid: int) -> Iterator[str]:
    """One processor and 512 MB for a process, where that can be had; says what it got."""
    made: list[Path] = []
    try:
        if (CGROUPS / "memory").is_dir():
            wanted = {"memory": {"memory.limit_in_bytes": str(MEMORY_BYTES)}, "cpu": {"cpu.cfs_quota_us": "100000"}}
        else:
            wanted = {"": {"memory.max": str(MEMORY_BYTES), "cpu.max": "100000 100000"}}
        for kind, limits in wanted.items():
            group = CGROUPS / kind / f"memory-load-{pid}"
            group.mkdir()
            made.append(group)
            for name, value in limits.items():
                (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(pid))
        yield "1 processor, 512 MB"
    except OSError as error:
        yield f"not confined ({error.strerror})"
    finally:
        for group in made:
            with contextlib.suppress(OSError):
                group.rmdir()


def sample(server: Server) -> dict[str, float]:
    return {
        "memory MiB": server.rss_mib(),
        "descriptors": len(list(server.proc("fd").iterdir())),
        "threads": len(list(server.proc("task").iterdir())),
    }


def one_life(folder: Path, options: argparse.Namespace, seconds: float, told: Told, *, is_last: bool) -> str:
    """A server from its start to its end, clean or by SIGKILL."""
    with our_server(folder / "memory") as server, confined(server.process.pid) as limits:
        is_over = threading.Event()
        machines = [Machine(told, is_over, server.origin, n, 2.0) for n in range(options.machines)]
        agents = [Agent(told, is_over, server.origin, n, 1.0) for n in range(options.agents)]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.has_begun.wait()  # there must be something to read
        started, cpu = time.monotonic(), server.cpu_ms()
        for agent in agents:
            agent.workspaces = min(5, options.machines)
            agent.start()
        told.lives.append([])
        while time.monotonic() - started < seconds:
            if time.monotonic() - started > min(WARM_UP_SECONDS, seconds / 4):
                told.lives[-1].append(sample(server))
            time.sleep(SAMPLE_SECONDS)
        is_over.set()
        for thread in (*machines, *agents):
            thread.join(timeout=30)
        told.cpu_seconds += (server.cpu_ms() - cpu) / 1e3
        told.wall_seconds += time.monotonic() - started
        if not is_last:
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
    if is_last:
        told.errors += unsound(folder / "memory")
        told.leftovers = [str(path) for path in (folder / "memory" / "_meta" / "tmp").iterdir()]
    log = (folder / "memory.log").read_text(errors="replace")
    told.errors += [line[:300] for line in log.splitlines() if " ERROR " in line or "Traceback" in line]
    return limits


def unsound(root: Path) -> list[str]:
    """What `check --read-data` finds."""
    command = [sys.executable, "-m", "federated_memory", "check", "--read-data", "--json"]
    environment = {**os.environ, "MEMORY_ROOT": str(root), "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, env=environment, cwd=root.parent, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["findings"]
    except ValueError:
        return [f"check failed: {done.stderr[:300]}"]
    return [f"{each['path']}: {each['problem']}" for each in found if each["severity"] != "info"]


def growth(values: list[float]) -> tuple[float, float]:
    """The median of the first third, and that of the last."""
    third = max(1, len(values) // 3)
    first, last = sorted(values[:third]), sorted(values[-third:])
    return first[len(first) // 2], last[len(last) // 2]


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(told: Told, options: argparse.Namespace, limits: str) -> int:
    total = sum(len(values) for values in told.took_ms.values())
    print(
        f"\n{options.agents} agents, {options.machines} machines, {told.wall_seconds:.0f} s, {limits}:"
        f" {total:,} requests"
    )
    print(f"{'request':<20}{'count':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for kind, values in sorted(told.took_ms.items()):
        print(
            f"{kind:<20}{len(values):>8}{quantile(values, 0.5):>9.1f}{quantile(values, 0.99):>9.1f}{max(values):>9.1f}"
        )
    reads = [value for kind in READS for value in told.took_ms[kind]] or [0.0]
    problems = list(told.errors)
    print(f"server: {100 * told.cpu_seconds / max(1.0, told.wall_seconds):.0f} % of a processor")
    for name in ("memory MiB", "descriptors", "threads"):
        lives = [samples for samples in told.lives if samples]
        grew = [growth([each[name] for each in samples]) for samples in lives]
        print(f"{name}: " + ", ".join(f"{first:.0f} → {last:.0f}" for first, last in grew) + " (first and last third)")
        for (first, last), samples in zip(grew, lives, strict=True):
            if len(samples) * SAMPLE_SECONDS >= LONG_SECONDS and last > first * GROWTH + 8:
                problems.append(f"{name} grew from {first:.0f} to {last:.0f}")
    p99 = quantile(reads, 0.99)
    if options.most_ms and p99 > options.most_ms:
        problems.append(f"reads took {p99:.0f} ms at p99, at most {options.most_ms} are wanted")
    problems += [f"left over: {path}" for path in told.leftovers]
    print(f"reads: p99 {p99:.0f} ms; errors: {len(told.errors)}; left over: {len(told.leftovers)}")
    for problem in problems[:20]:
        print(f"PROBLEM: {problem}")
    if options.json:
        found = {
            "trials": total, "errors": len(told.errors), "leaks": len(problems) - len(told.errors),
            "read_p99_ms": p99, "limits": limits,
        }  # fmt: skip
        options.json.write_text(json.dumps(found))
    return 1 if problems else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--machines", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--restarts", type=int, default=0, help="kill the server so often in between")
    parser.add_argument("--most-ms", type=float, default=0.0, help="what reads may take at p99")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--dir", type=Path, default=REPOSITORY / "build" / "load", help="a real disk")
    options = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    folder: Path = options.dir.absolute() / str(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "memory").mkdir(parents=True)
    (folder / "memory").chmod(0o700)
    told, limits = Told(), ""
    lives = options.restarts + 1
    try:
        for life in range(lives):
            limits = one_life(folder, options, 60 * options.minutes / lives, told, is_last=life == lives - 1)
        return report(told, options, limits)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
