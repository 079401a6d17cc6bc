"""Eight writers on one document, through HTTP: every acknowledged version is there once, in one order."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer, Workspace
from tests.fault.ledger import digest
from tests.fault.rig import check, leftovers

WRITERS = 8
WRITES = 500
INCREMENTS = 25

pytestmark = pytest.mark.timeout(600)

Acknowledged = tuple[int, str]


def faults(acknowledged: list[Acknowledged], history: dict[int, str]) -> list[str]:
    """What is wrong with a history (version → etag), given the versions that writers were told."""
    versions = [version for version, _ in acknowledged]
    found = []
    if len(set(versions)) < len(versions):
        found.append("a version was given to two writers")
    if sorted(history) != list(range(1, len(history) + 1)):
        found.append("versions are not contiguous")
    if any(history.get(version) != etag for version, etag in acknowledged):
        found.append("an acknowledged version is missing, or is another text")
    if len(history) > len(acknowledged):
        found.append("there are versions that nobody wrote")
    return found


@pytest.mark.spec("VER-1", "STORE-3", "FEED-1")
def test_every_acknowledged_version_of_eight_writers_is_there_once(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    with server.api() as api:
        mine = api.register()

    def write_many(writer: int) -> list[Acknowledged]:
        told = []
        with server.api() as api:
            workspace = mine.by(api)
            for number in range(WRITES):
                text = f"# Writer {writer}\n\n{number} {os.urandom(50).hex()}\n".encode()
                answer = workspace.call("PUT", "knowledge/all/one.md", text)
                assert answer.status in (200, 201), answer
                assert answer.json["etag"] == digest(text)
                told.append((answer.json["version"], digest(text)))
        assert [version for version, _ in told] == sorted(version for version, _ in told)
        return told

    started = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as writers:
        acknowledged = [told for found in writers.map(write_many, range(WRITERS)) for told in found]
    elapsed = time.monotonic() - started

    with server.api() as api:
        history = history_of(mine.by(api))
        assert api.call("GET", f"{mine.url}/knowledge/all/one.md").headers["etag"] == f'"{history[max(history)]}"'
    print(f"{WRITERS} writers, {len(acknowledged)} writes in {elapsed:.1f} s ({len(acknowledged) / elapsed:.0f}/s)")
    assert len(history) == WRITERS * WRITES
    assert faults(acknowledged, history) == []
    assert server.stop() == 0
    assert history_on_disk(server.root, mine) == history
    assert leftovers(server.root) == []
    assert check(server.root, server.env) == []


def history_of(workspace: Workspace) -> dict[int, str]:
    """Version → etag as listed, page by page, newest first."""
    found: list[Acknowledged] = []
    cursor = ""
    while True:
        page = workspace.call("GET", f"versions/all/one.md?limit=1000&cursor={cursor}").json
        found += [(row["version"], row["etag"]) for row in page["versions"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert [version for version, _ in found] == sorted({version for version, _ in found}, reverse=True)
    return dict(found)


def history_on_disk(root: Path, workspace: Workspace) -> dict[int, str]:
    """Version → digest of the copy that is kept; the log has the same, in the same order."""
    folder = root / "workspaces" / workspace.workspace_id / "knowledge" / ".versions" / "all" / "one.md"
    copies = {int(file.stem): digest(file.read_bytes()) for file in folder.glob("*.md")}
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    assert [line["version"] for line in lines] == sorted(copies)
    assert {line["version"]: line["etag"] for line in lines} == copies
    return copies


@pytest.mark.spec("DOC-3")
def test_writers_that_pass_if_match_never_lose_an_update(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    with server.api() as api:
        mine = api.register()
        mine.call("PUT", "knowledge/counter.md", b"0")

    def add_one(writer: int) -> int:
        conflicts = 0
        with server.api() as api:
            workspace = mine.by(api)
            for _ in range(INCREMENTS):
                while True:
                    read = workspace.call("GET", "knowledge/counter.md")
                    text = b"%d" % (int(read.body) + 1)
                    answer = workspace.call("PUT", "knowledge/counter.md", text, If_Match=read.headers["etag"])
                    if answer.status == 200:
                        break
                    assert answer.code == "conflict", answer
                    conflicts += 1
        assert writer >= 0
        return conflicts

    with ThreadPoolExecutor(WRITERS) as writers:
        conflicts = sum(writers.map(add_one, range(WRITERS)))

    with server.api() as api:
        assert mine.by(api).call("GET", "knowledge/counter.md").body == b"%d" % (WRITERS * INCREMENTS)
    print(f"{WRITERS * INCREMENTS} increments, {conflicts} conflicts, none lost")
    assert conflicts


@pytest.mark.spec("DOC-3")
def test_of_eight_writers_that_only_create_one_wins(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    with server.api() as api:
        mine = api.register()
    together = threading.Barrier(WRITERS)

    def create(writer: int) -> list[int]:
        statuses = []
        with server.api() as api:
            workspace = mine.by(api)
            for number in range(20):
                name = "Same" if writer % 2 else "same"  # DOC-6: these are the same name
                together.wait()
                answer = workspace.call("PUT", f"knowledge/{name}{number}.md", b"%d" % writer, If_None_Match="*")
                statuses.append(answer.status)
        return statuses

    with ThreadPoolExecutor(WRITERS) as writers:
        by_writer = list(writers.map(create, range(WRITERS)))

    for statuses in zip(*by_writer, strict=True):
        assert sorted(statuses) == [201] + [409] * (WRITERS - 1)


@pytest.mark.spec("VER-1")
def test_the_broken_twin_without_a_lock_is_caught(tmp_path: Path) -> None:
    """Read the last number, add one, write: two writers that meet get the same version."""
    together = threading.Barrier(2)

    def naive_write(writer: int) -> list[Acknowledged]:
        told = []
        for number in range(5):
            version = 1 + max((int(file.stem) for file in tmp_path.glob("*.md")), default=0)
            together.wait()
            text = f"{writer} {number}".encode()
            (tmp_path / f"{version:06d}.md").write_bytes(text)
            told.append((version, digest(text)))
            together.wait()
        return told

    with ThreadPoolExecutor(2) as writers:
        acknowledged = [told for found in writers.map(naive_write, range(2)) for told in found]

    history = {int(file.stem): digest(file.read_bytes()) for file in tmp_path.glob("*.md")}
    assert "a version was given to two writers" in faults(acknowledged, history)
    assert "an acknowledged version is missing, or is another text" in faults(acknowledged, history)
