"""A root, from outside: what lies around in it, whether `check` finds it clean, and the loop of crashes."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.conftest import Api, RunningServer
from tests.fault.ledger import Ledger, digest
from tests.fault.uploaders import Uploader

_META = {
    "README.md", "INDEX.md", "_meta/lock", "_meta/format.json", "_meta/workspaces.json", "_meta/secret.key",
    "_meta/control.json", "_meta/state.sqlite3", "_meta/state.sqlite3-wal", "_meta/state.sqlite3-shm",
    "_meta/tokens.json", "_meta/audit.jsonl",
    "_meta/index.sqlite3", "_meta/index.sqlite3-wal", "_meta/index.sqlite3-shm",
}  # fmt: skip
_STORED = re.compile(
    r"workspaces/[a-z0-9._-]+/("
    r"identity\.json|overview\.md|knowledge/([^./][^/]*/)*[^./][^/]*\.md"
    r"|(knowledge/)?\.versions/.+/(\d{6}\.md|log\.jsonl)"
    r"|memories/(\.tombstones|\d{4}/\d\d)/\d{8}-\d{6}-[a-z0-9]+\.md"
    r"|sessions/\d{4}/\d\d/(\.revisions/[a-z0-9._-]+/\d+\.jsonl\.gz|[a-z0-9_-][a-z0-9._-]*\.(jsonl\.gz|json)))\Z"
)


def leftovers(root: Path) -> list[str]:
    """Every file that no promise explains: what an interrupted write left behind."""
    files = (str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    return sorted(file for file in files if file not in _META and not _STORED.match(file))


def check(root: Path, env: Mapping[str, str]) -> list[dict[str, str]]:
    """What `federated-memory check --read-data` has to say; nothing but what is as it should be is left out."""
    done = subprocess.run(
        [sys.executable, "-m", "federated_memory", "check", "--read-data", "--json"],
        env=dict(env), cwd=root.parent, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return [finding for finding in found if finding["severity"] != "info"]


def stored_document(root: Path, workspace_id: str, name: str) -> str | None:
    """The state of a document, from its file."""
    file = root / "workspaces" / workspace_id / (name if name.startswith("knowledge/") else f"{name}.md")
    return digest(file.read_bytes()) if file.is_file() else None


def stored_session(root: Path, workspace_id: str, name: str) -> str | None:
    """The state of a transcript, from its file, as `zcat` reads it."""
    for file in (root / "workspaces" / workspace_id / "sessions").glob(f"*/*/{name.split('/')[1]}.jsonl.gz"):
        found, data = hashlib.sha256(), file.read_bytes()
        while data:
            member = zlib.decompressobj(31)
            found.update(member.decompress(data))
            if not member.eof:
                return "torn"
            data = member.unused_data
        return found.hexdigest()
    return None


@dataclass
class Outcome:
    cycles: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.torn or self.leftovers or self.problems)


@dataclass(frozen=True)
class Target:
    """A server that can be started, killed and asked, and the folder that it keeps."""

    start: Callable[[], Api]
    """Start it, wait until it is ready; how to reach it as a reader."""
    connect: Callable[[], Api]
    kill: Callable[[], None]
    leftovers: Callable[[], list[str]]
    problems: Callable[[], list[str]] = list


def crash_loop(
    target: Target, uploaders: Sequence[Uploader], ledger: Ledger, cycles: int, chance: random.Random
) -> Outcome:
    """Start, look at what the last crash left, send, kill; `cycles` times, and look once more at everything."""
    started = time.monotonic()
    outcome = Outcome()
    try:
        for cycle in range(cycles + 1):
            is_last = cycle == cycles
            with target.start() as reader:
                outcome.leftovers += target.leftovers()
                looked_at = [(uploader, name) for uploader in uploaders for name in uploader.take_touched(is_last)]
                verdict = ledger.judge({name: uploader.look(reader, name) for uploader, name in looked_at})
            outcome.lost += verdict.lost
            outcome.torn += verdict.torn
            # Mostly in the thick of it; sometimes when the journal is being emptied, a second after the start.
            seconds = chance.uniform(0.9, 1.3) if cycle % 5 == 4 else chance.uniform(0.05, 0.5)
            run_together(uploaders, target.connect, seconds, None if is_last else target.kill)
            outcome.problems += target.problems()
            outcome.cycles += not is_last
    finally:
        target.kill()
    outcome.seconds = time.monotonic() - started
    return outcome


def run_together(
    uploaders: Sequence[Uploader], connect: Callable[[], Api], seconds: float, kill: Callable[[], None] | None
) -> None:
    """All uploaders at once until the server is killed; without `kill`, each only sends again what was not answered."""
    is_over = threading.Event()
    if kill is None:
        is_over.set()
    threads = [threading.Thread(target=uploader.run, args=(connect, is_over.is_set)) for uploader in uploaders]
    for thread in threads:
        thread.start()
    if kill is not None:
        time.sleep(seconds)  # the moment is what the test draws lots for
        kill()
        is_over.set()
    for thread in threads:
        thread.join()


def problems_of(server: RunningServer) -> list[str]:
    """What a server that was killed had to say of broken promises."""
    if server.process.poll() is None:
        return []
    server.wait()
    return server.problems()
