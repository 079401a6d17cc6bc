"""System calls of a running process that fail, or that it does not survive: strace."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from types import TracebackType

import pytest

FILE_CALLS = (
    "write", "pwrite64", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdirat", "fsync",
    "fdatasync", "ftruncate", "copy_file_range", "utimensat",
)  # fmt: skip
SYNC_CALLS = ("fsync", "fdatasync")


class Traced:
    """While the block runs, these calls of a process are traced; in an `Injection`, some of them fail."""

    def __init__(self, pid: int, trace: Path, calls: tuple[str, ...], *more: str) -> None:
        self._trace = trace
        self._command = [
            "strace", "--follow-forks", "--decode-fds=path", "--string-limit=0", f"--attach={pid}", f"--output={trace}",
            f"--trace={','.join(calls)}", *more,
        ]  # fmt: skip

    def __enter__(self) -> Traced:
        self._trace.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        if "attached" not in said:
            self._process.wait()
            self._process.stderr.close()
            pytest.skip(f"strace cannot attach here: {said.strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=0.3)
        except subprocess.TimeoutExpired:  # now and then it overlooks that the last thread has died
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def lines(self) -> list[str]:
        """What was traced so far, the thread first; the last line may be cut."""
        return self._trace.read_text(errors="replace").splitlines()

    def failed(self) -> list[str]:
        """The calls that were made to fail so far."""
        return [line for line in self.lines() if line.endswith("(INJECTED)")]

    def counts(self) -> Counter[str]:
        """How often each call was made, by the thread that made it most often."""
        by_thread: Counter[tuple[str, str]] = Counter()
        for line in self.lines():
            thread, _, call = line.partition(" ")
            name, is_call, _ = call.strip().partition("(")
            if is_call and name.isidentifier():
                by_thread[thread, name] += 1
        found: Counter[str] = Counter()
        for (_, name), count in by_thread.items():
            found[name] = max(found[name], count)
        return found


class Injection(Traced):
    """The n-th of each of these calls, counted in each thread of the process, fails or kills it."""

    def __init__(self, pid: int, trace: Path, calls: tuple[str, ...], fault: str, n: int) -> None:
        """`fault` is what strace calls it: `error=EIO`, `signal=KILL`."""
        super().__init__(pid, trace, calls, f"--inject={','.join(calls)}:{fault}:when={n}")


def ensure_strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
