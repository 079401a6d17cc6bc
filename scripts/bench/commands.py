"""The command line, as a shell runs it: a new process for each call, on a root alone and beside its server."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.bench.harness import BenchError, Goal, Options
from scripts.bench.processes import REPOSITORY

TARGET_MS = 400.0
_ROUNDS = 5
_WORDS = "The zanzibar ferry leaves at nine from the north pier, says the harbour master."


def commands(root: Path, where: str, word: str, options: Options) -> Iterator[Goal]:
    """Medians of each verb in turn; `where` says what answers. What is saved is deleted again."""
    saved = _run(root, "save", _WORDS)[1].strip()
    verbs: dict[str, tuple[str, ...]] = {
        "save": ("save", f"{_WORDS} Really."),
        "search": ("search", word),
        "search, literal": ("search", word, "--mode", "literal"),
        "get": ("get", saved),
        "list": ("list", "--limit", "20"),
        "brief": ("brief",),
        "status": ("status",),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in verbs}
    made = [saved]
    for _ in range(options.size(_ROUNDS, 1)):
        for name, arguments in verbs.items():
            spent, out = _run(root, *arguments)
            times[name].append(spent)
            if name == "save":
                made.append(out.strip())
    times["delete"] = [_run(root, "delete", memory_id)[0] for memory_id in made]
    for name, taken in times.items():
        yield Goal(
            f"memories/command {name}, {where}, in ms", statistics.median(wall for wall, _ in taken), 1.0,
            options.at_full_size(TARGET_MS), note=f"processor {statistics.median(cpu for _, cpu in taken):.0f}",
        )  # fmt: skip


def libraries_alone(options: Options) -> float:
    """Milliseconds that a process takes to load what every MCP server in Python has to."""
    return statistics.median(_timed("import mcp, uvicorn") for _ in range(options.size(_ROUNDS, 1)))


def _timed(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdin=subprocess.DEVNULL)
    return 1_000 * (time.perf_counter() - started)


def _run(root: Path, *arguments: str) -> tuple[tuple[float, float], str]:
    """Milliseconds by the clock and of the processor, and what it printed.

    Exit code 1 says that nothing was found, or that a server is stopped.
    """
    started, before = time.perf_counter(), _cpu_ms()
    done = subprocess.run(
        [sys.executable, "-m", "federated_memory", *arguments], env=_environment(root), cwd=root.parent,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    took = 1_000 * (time.perf_counter() - started), _cpu_ms() - before
    if done.returncode not in (0, 1):
        raise BenchError(f"{arguments[0]}: {done.stderr.strip()[:300]}")
    return took, done.stdout


def _cpu_ms() -> float:
    """Of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1_000 * (used.ru_utime + used.ru_stime)


def _environment(root: Path) -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(REPOSITORY / "src"), "MEMORY_ROOT": str(root)}
