"""Servers as real processes: started, watched through /proc, stopped."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.harness import BenchError

REPOSITORY = Path(__file__).resolve().parents[2]
AI_TOKEN = "bench-ai-token-0123456789abcdef"
SYNC_TOKEN = "bench-sync-token-0123456789abcdef"
POLL_SECONDS = 0.002
_ALL_THREADS = 2


@dataclass(frozen=True, slots=True)
class Server:
    """A listening server; `started_at` is the monotonic time just before its process was made."""

    origin: str
    process: "subprocess.Popen[bytes]"
    started_at: float

    def rss_mib(self) -> float:
        return self.status("VmRSS") / 1024

    def peak_mib(self) -> float:
        """Highest resident memory since the start or the last `forget_peak`."""
        return self.status("VmHWM") / 1024

    def forget_peak(self) -> None:
        self.proc("clear_refs").write_text("5")

    def status(self, field: str) -> int:
        for line in self.proc("status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise BenchError(f"/proc does not tell {field}")

    def cpu_ms(self) -> float:
        """CPU spent so far, by threads that have ended too: Linux' clock of another process (`clock_getcpuclockid`)."""
        return 1_000 * time.clock_gettime((~self.process.pid << 3) | _ALL_THREADS)

    def settle(self, quiet_seconds: float = 1.0, limit_seconds: float = 120.0) -> None:
        """Wait until the server has nothing to do any more: indexing and scans done."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            before = self.cpu_ms()
            time.sleep(quiet_seconds)
            if self.cpu_ms() - before < 30 * quiet_seconds:
                return

    def proc(self, name: str) -> Path:
        path = Path(f"/proc/{self.process.pid}/{name}")
        if not path.exists():
            raise BenchError(f"needs Linux and a running server: {path} does not exist")
        return path


@contextlib.contextmanager
def bare_server(folder: Path) -> Iterator[Server]:
    """The SDK alone (`bare_server.py`)."""
    folder.mkdir(parents=True, exist_ok=True)
    control = folder / "control.json"
    command = [sys.executable, "-m", "scripts.bench.bare_server", str(control), AI_TOKEN]
    with running(command, {}, control, folder / "bare.log") as server:
        yield server


@contextlib.contextmanager
def our_server(root: Path, **more: str) -> Iterator[Server]:
    """`federated-memory serve` on `root`, with the hidden no-op tool, and with more settings."""
    root.mkdir(parents=True, exist_ok=True)
    settings = {
        "MEMORY_ROOT": str(root),
        "PORT": "0",
        "MCP_TOKEN": AI_TOKEN,
        "SYNC_TOKEN": SYNC_TOKEN,
        "MEMORY_BENCH_NOOP": "1",
        "MEMORY_REQUESTS_PER_SECOND": "1000000",  # counted as ever; one client asks for all that the server can do
        **more,
    }
    command = [sys.executable, "-m", "federated_memory", "serve"]
    control = root / "_meta" / "control.json"
    with running(command, settings, control, root.with_name(f"{root.name}.log")) as server:
        yield server


@contextlib.contextmanager
def running(command: list[str], settings: dict[str, str], control: Path, log: Path) -> Iterator[Server]:
    """A server process until the block ends, its output in `log`; it works in a folder without a `.env`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    paths = os.pathsep.join((str(REPOSITORY / "src"), str(REPOSITORY)))
    environment = {**kept, "PYTHONPATH": paths, **settings}
    with log.open("wb") as output:
        started_at = time.monotonic()
        process = subprocess.Popen(
            command, cwd=log.parent, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield Server(listening_at(process, control, log), process, started_at)
        finally:
            stop(process)


def listening_at(process: "subprocess.Popen[bytes]", control: Path, log: Path, limit_seconds: float = 60) -> str:
    """Wait for the control file of this very process and return the server's origin."""
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(control.read_text())
            if told["pid"] == process.pid:
                return str(told["url"]).removesuffix("/").removesuffix("/mcp")
        time.sleep(POLL_SECONDS)
    lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
    raise BenchError(f"the server did not start: {lines[-1][:300]}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
