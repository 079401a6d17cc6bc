"""ripgrep, run safely (SPEC: FIND-5): a pattern is never an option, and no process outlives its search.

The process gets an argument list, no standard input, no configuration and no environment; it is read while it runs, and
killed and reaped when the block that started it ends. ripgrep only names candidates: what a caller gets to see is read
and matched by us.
"""

from __future__ import annotations

import logging
import re
import select
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from federated_memory.search.hit import Budget

logger = logging.getLogger(__name__)

_OLDEST = 13
_STEP_SECONDS = 0.05  # how soon a cancelled search is noticed
_PIECE_BYTES = 1 << 16
_LONGEST_RECORD_BYTES = 1 << 20
_FOUND, _NONE = 0, 1
_ENVIRONMENT = {"LC_ALL": "C"}
# Everything but hidden files below the given folders, as bytes: no ignore files, no byte order marks, no binary check.
_OPTIONS = (
    "--no-config", "--no-ignore", "--no-follow", "--no-messages", "--no-mmap", "--text", "--encoding=none",
    "--color=never", "--glob=*.md", "--glob=!.*",
)  # fmt: skip


class RipgrepFailed(Exception):
    """There is no usable ripgrep, or it could not be started."""


class Ripgrep:
    """One run over folders below `folder`. Use it as a context manager, and read `problem` after its records."""

    def __init__(self, options: Sequence[str], pattern: str, folder: Path, names: Sequence[str]) -> None:
        self._arguments = [*_OPTIONS, *options, f"--regexp={pattern}", "--", *names]
        self._folder = folder
        self.problem = ""

    def __enter__(self) -> Ripgrep:
        program = find_ripgrep()
        if program is None:
            raise RipgrepFailed
        try:
            self._process = subprocess.Popen(
                [program, *self._arguments],
                cwd=self._folder,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
            raise RipgrepFailed from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def records(self, separator: bytes, budget: Budget) -> Iterator[bytes]:
        """What it prints, piece by piece, until it ends or the budget does."""
        rest = b""
        for piece in self._pieces(budget):
            *records, rest = (rest + piece).split(separator)
            yield from records
            if len(rest) > _LONGEST_RECORD_BYTES:
                self.problem = "a match was too long"
                return
        if not self.problem and self._process.wait() not in (_FOUND, _NONE):
            self.problem = "some files could not be read"

    def _pieces(self, budget: Budget) -> Iterator[bytes]:
        assert self._process.stdout is not None
        output = select.poll()
        output.register(self._process.stdout, select.POLLIN | select.POLLHUP)
        while True:
            if budget.is_spent():
                self.problem = budget.reason
                return
            if output.poll(_STEP_SECONDS * 1000):
                piece = self._process.stdout.read(_PIECE_BYTES)
                if not piece:
                    return
                yield piece


@lru_cache(maxsize=1)
def find_ripgrep() -> str | None:
    """The `rg` installed beside this Python, else any on the PATH of version 13 or newer; None if there is none."""
    beside = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts")))
    for candidate in (*(folder / "rg" for folder in beside), shutil.which("rg")):
        if candidate and _version(str(candidate)) >= _OLDEST:
            return str(candidate)
    logger.warning("no ripgrep found, knowledge is searched without it")
    return None


def _version(program: str) -> int:
    try:
        answer = subprocess.run(
            [program, "--no-config", "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(rb"ripgrep (\d+)\.", answer.stdout)
    return int(found[1]) if found else 0
