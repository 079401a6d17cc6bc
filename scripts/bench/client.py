"""The sync client: how long an agent waits for a hook, and what a run over unchanged files costs."""

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from scripts.bench.harness import Bench, BenchError, Goal, Measure, Options, interleave, medians
from scripts.bench.processes import AI_TOKEN, REPOSITORY, SYNC_TOKEN, our_server
from scripts.corpus import one_transcript

CLIENT = REPOSITORY / "client" / "memory_sync.py"
HOOK_MS = 100.0  # what a hook may take, interpreter included
UNCHANGED_MS = 2000.0  # what `sync` may take over 10,000 files that have not changed
SEARCHABLE_MS = 10_000.0
HOOKS = ("claude-hook", "codex-hook", "gemini-hook")


def hooks(options: Options) -> Iterable[Goal]:
    """CPU, which other processes do not lengthen, is the gate; what the clock says is reported beside it."""
    folder = options.fresh_folder("hooks")
    installed = install_copy(folder)
    runs = {
        **{f"{verb}, installed": [str(installed), verb] for verb in HOOKS},
        "claude-hook, not installed": [str(CLIENT), "claude-hook"],
        "brief without a server": [str(installed), "brief", "--client", "claude"],
        "the interpreter": ["-c", "pass"],
    }
    event = {"hook_event_name": "Stop", "session_id": "bench", "transcript_path": f"{folder}/none.jsonl", "cwd": "/"}
    environment = {**os.environ, "HOME": str(folder), "MEMORY_SYNC_HOME": str(folder / "home")}
    for gate, word in ((True, "CPU"), (False, "wall clock")):
        measures: dict[str, Measure] = {
            name: child_cost([sys.executable, "-I", "-S", *arguments], environment, event, cpu=gate)
            for name, arguments in runs.items()
        }
        found = medians(interleave(measures, options.size(30, 5)))
        for name in runs:
            is_gate = gate and name.endswith(", installed")
            yield Goal(f"{name}: {word}", found[name], HOOK_MS, 1.0 if is_gate else None)


def install_copy(folder: Path) -> Path:
    """The client as `install` puts it in place, in `folder`."""
    code = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('memory_sync', sys.argv[1])\n"
        "client = sys.modules['memory_sync'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(client)\n"
        "client.write_client(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[1]).read_bytes())\n"
    )
    subprocess.run([sys.executable, "-c", code, str(CLIENT), str(folder)], check=True)
    shutil.copy(CLIENT.with_name("redaction_rules.json"), folder)
    return folder / "memory_sync.py"


def child_cost(command: list[str], environment: Mapping[str, str], event: object, *, cpu: bool) -> Measure:
    """Milliseconds until a child process is back: of its CPU, or of the clock."""
    data = json.dumps(event).encode()

    def measure() -> float:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, input=data, env=environment, capture_output=True, check=True)
        after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return 1000 * (spent if cpu else ended - started)

    return measure


def unchanged(options: Options) -> Iterable[Goal]:
    """`sync` as a process of its own, from start to end, over files that the server has."""
    folder = options.fresh_folder("unchanged")
    count = options.size(10_000, 300)
    home = folder / "home"
    write_sessions(home, count)
    installed = install_copy(home)
    with our_server(folder / "root") as server:
        environment = {
            **os.environ, "HOME": str(home), "MCP_MEMORY_URL": server.origin, "SYNC_TOKEN": SYNC_TOKEN,
            "MCP_MEMORY_TOKEN": "",
        }  # fmt: skip

        def run() -> dict[str, object]:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(installed), "sync", "--json"],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise BenchError(f"sync ended with {done.returncode}: {done.stderr[-300:]} {done.stdout[-300:]}")
            report: dict[str, object] = json.loads(done.stdout)
            return report

        started = time.perf_counter()
        run()
        first_ms = 1000 * (time.perf_counter() - started)

        def again() -> float:
            started = time.perf_counter()
            run()
            return 1000 * (time.perf_counter() - started)

        found = medians(interleave({"again": again}, options.size(5, 2)))
        yield Goal(
            f"sync of {count:,} unchanged files", found["again"], UNCHANGED_MS, options.at_full_size(1.0),
            note=f"the first time, all of them sent: {first_ms / count:.1f} ms each",
        )  # fmt: skip


def searchable(options: Options) -> Iterable[Goal]:
    """From a session's end, when its hook is called, until a search finds its last words; every fifth is a long one."""
    folder = options.fresh_folder("searchable")
    home = folder / "home"
    (home / "work").mkdir(parents=True)
    installed = install_copy(home)
    waits: list[float] = []
    with our_server(folder / "root") as server:
        environment = {**os.environ, "HOME": str(home), "MCP_MEMORY_URL": server.origin, "SYNC_TOKEN": SYNC_TOKEN}
        for number in range(options.size(40, 5)):
            word = f"krill{number:05}x"
            path = home / ".claude" / "projects" / "p" / f"s{number}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = one_transcript(number, 10) if number % 5 == 0 else b""
            last = {"type": "user", "sessionId": path.stem, "message": {"role": "user", "content": f"what of {word}"}}
            path.write_bytes(text + json.dumps(last).encode() + b"\n")
            event = {"hook_event_name": "SessionEnd", "session_id": path.stem, "transcript_path": str(path),
                     "cwd": str(home / "work")}  # fmt: skip
            started = time.perf_counter()
            command = [sys.executable, "-I", "-S", str(installed), "claude-hook"]
            subprocess.run(command, input=json.dumps(event).encode(), env=environment, check=True)
            while not found(server.origin, word):
                if time.perf_counter() > started + 60:
                    raise BenchError(f"session {number} was not found within a minute")
                time.sleep(0.01)
            waits.append(1000 * (time.perf_counter() - started))
    p95 = sorted(waits)[math.ceil(0.95 * len(waits)) - 1]
    yield Goal("session's end to searchable, p95", p95, SEARCHABLE_MS, 1.0)
    yield Goal("session's end to searchable, median", statistics.median(waits), SEARCHABLE_MS, None)


def found(origin: str, word: str) -> bool:
    request = urllib.request.Request(
        f"{origin}/api/v1/search?kinds=session&query={word}", headers={"Authorization": f"Bearer {AI_TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(json.load(answer)["hits"])


def write_sessions(home: Path, count: int) -> None:
    """Claude Code's transcripts of ten projects, small ones."""
    for number in range(count):
        project = f"p{number % 10}"
        cwd = home / "work" / project
        if number < 10:
            cwd.mkdir(parents=True)
        path = home / ".claude" / "projects" / str(cwd).replace("/", "-") / f"s{number:06}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {"type": "user", "sessionId": path.stem, "cwd": str(cwd), "message": {"content": f"question {number}"}}
        path.write_text(json.dumps(line) + "\n")
        os.utime(path, (time.time() - 60, time.time() - 60))


BENCHES = (Bench("client/hooks", hooks), Bench("client/unchanged", unchanged), Bench("client/searchable", searchable))
