"""kill -9 under six uploaders of everything: nothing acknowledged is lost, nothing is torn, nothing is left lying
around, and the index says what a new one would say."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from federated_memory.index import Follower
from federated_memory.index.file import IndexFile
from federated_memory.store.archive import Archives
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.root import Root
from tests.e2e.conftest import Api, RunningServer, Workspace
from tests.fault import naive_server
from tests.fault.ledger import Ledger, digest
from tests.fault.more_uploaders import MemoryUploader, Operator
from tests.fault.rig import (
    Outcome,
    Target,
    check,
    crash_loop,
    leftovers,
    problems_of,
    stored_document,
    stored_session,
)
from tests.fault.tally import tally
from tests.fault.uploaders import AppendUploader, DocumentUploader, Request, SessionUploader, Uploader
from tests.unit.index.rig import contents

FULL = os.environ.get("FAULT_FULL") == "1"
CYCLES = 500 if FULL else 25

pytestmark = pytest.mark.timeout(7_200 if FULL else 600)


def four_uploaders(one: Workspace, two: Workspace, ledger: Ledger, seed: int) -> list[Uploader]:
    """Of documents and transcripts."""

    def chance(number: int) -> random.Random:
        return random.Random(seed * 10 + number)

    return [
        DocumentUploader(one, ledger, chance(1), prefix="knowledge/Über uns"),
        DocumentUploader(two, ledger, chance(2), only="overview"),
        SessionUploader(one, ledger, chance(3), prefix="sessions/put-one"),
        AppendUploader(two, ledger, chance(5)),
    ]


def of_server(serve: Callable[..., RunningServer]) -> tuple[Target, list[RunningServer]]:
    started: list[RunningServer] = []

    def start() -> Api:
        server = serve(MEMORY_MAX_DOCUMENT_BYTES="4000000", MEMORY_SCAN_INTERVAL_SECONDS="1")
        started.append(server)
        server.wait_until_ready()
        return server.api()

    def look() -> list[str]:
        found = leftovers(started[-1].root)
        return [name for name in found if not name.startswith("_meta/")] + [
            name for name in found if name.startswith("_meta/tmp/")
        ]

    def kill() -> None:
        started[-1].process.kill()
        started[-1].process.wait()

    target = Target(start, lambda: started[-1].api(), kill, look, lambda: problems_of(started[-1]))
    return target, started


@pytest.mark.spec("STORE-2", "STORE-3", "HTTP-7", "VER-1")
def test_kill_9_under_six_uploaders_loses_and_tears_nothing(serve: Callable[..., RunningServer]) -> None:
    seed = int(os.environ.get("FAULT_SEED", "1"))
    ledger = Ledger()
    target, servers = of_server(serve)
    with target.start() as api:
        one, two, three = (api.register(name) for name in ("one", "two", "three"))
    target.kill()
    operator = Operator(
        three, ledger, random.Random(seed * 10 + 7), admin=lambda: servers[-1].api(servers[-1].admin_token)
    )
    memories = MemoryUploader(one, ledger, random.Random(seed * 10 + 6))
    uploaders = [*four_uploaders(one, two, ledger, seed), memories, operator]

    outcome = crash_loop(target, uploaders, ledger, CYCLES, random.Random(seed))

    retried, deduped = sum(u.retried for u in uploaders), sum(u.deduped for u in uploaders)
    tally(
        "kill -9", trials=outcome.cycles, lost=len(outcome.lost), torn=len(outcome.torn), leaks=len(outcome.leftovers)
    )  # fmt: skip
    print(
        f"kill -9: {outcome.cycles} cycles, {ledger.requests} requests, {ledger.acknowledgements} acknowledged:"
        f" {len(outcome.lost)} lost, {len(outcome.torn)} torn, {len(outcome.leftovers)} left over;"
        f" {retried} unanswered sent again, {deduped} of them had been stored; {outcome.seconds:.1f} s;"
        f" {len(memories.names)} memories; {operator.done}"
    )
    assert outcome.is_clean, outcome
    assert [u.unexpected for u in uploaders] == [[]] * 6
    assert retried > CYCLES  # the crashes came in the middle of something
    assert deduped > 0
    assert operator.done.keys() == {"snapshot", "gc", "purge"}

    started = time.monotonic()
    judge_everything(serve, servers[-1].root, uploaders, ledger)
    print(f"kill -9: every version, revision and file compared, and checked, in {time.monotonic() - started:.1f} s")


def judge_everything(
    serve: Callable[..., RunningServer], root: Path, uploaders: list[Uploader], ledger: Ledger
) -> None:
    """After the last crash: over HTTP, on disk, and by `check`, before and after a clean stop."""
    server = serve(MEMORY_MAX_DOCUMENT_BYTES="4000000")
    server.wait_until_ready()
    with server.api() as api:
        for uploader in uploaders:
            assert_everything_acknowledged_is_there(api, uploader)
    assert check(root, server.env) == []
    assert server.stop() == 0
    assert leftovers(root) == []
    assert check(root, server.env) == []
    for uploader in uploaders:
        if isinstance(uploader, (MemoryUploader, Operator)):
            continue  # the loop has looked at all of theirs last
        of = stored_document if isinstance(uploader, DocumentUploader) else stored_session
        found = {name: of(root, uploader.workspace.workspace_id, name) for name in uploader.names}
        verdict = ledger.judge(found)
        assert (verdict.lost, verdict.torn) == ([], [])
    assert_the_index_equals_a_new_one(root)


def assert_the_index_equals_a_new_one(root: Path) -> None:
    """What it was made to say between the crashes is what the files say."""
    opened = Root(root)
    journal = Journal(opened)
    documents, archives = Documents(opened, journal, max_bytes=4_000_000), Archives(opened)
    found = []
    new = root.parent / "new.sqlite3"
    for path in (root / "_meta" / "index.sqlite3", new):
        follower = Follower(opened, documents, archives, IndexFile(path))
        follower.catch_up()
        follower.close()
        found.append(contents(path))
    opened.close()
    assert found[0] == found[1]
    with closing(sqlite3.connect(new)) as twin, twin:
        twin.execute("UPDATE segments SET source = 0 WHERE id = (SELECT max(id) FROM segments WHERE source <> 0)")
    assert contents(new) != found[0], "the broken twin: an index that lacks some lines"
    print(f"kill -9: {len(found[0][0])} sources and {sum(found[0][1].values())} rows of the index equal a new one's")


def assert_everything_acknowledged_is_there(api: Api, uploader: Uploader) -> None:
    """Every version of a document and every revision of a session that was ever acknowledged, once."""
    workspace = uploader.workspace.by(api)
    by_name: dict[str, list[tuple[Request, dict[str, object]]]] = {}
    for request, told in uploader.answers:
        by_name.setdefault(request.name, []).append((request, told))
    for name, answers in by_name.items():
        if name == "overview":
            for request, told in answers:
                assert digest(workspace.call("GET", f"{name}?version={told['version']}").body) == request.state
            latest = max(int(str(told["version"])) for _, told in answers)
            assert latest == len({request.state for request, _ in answers}), "a retry was stored twice"
        elif isinstance(uploader, DocumentUploader):
            place = "versions/" + name.removeprefix("knowledge/")
            found = workspace.call("GET", place + "?limit=1000&max_bytes=4000000").json["versions"]
            versions = {row["version"]: row["etag"] for row in found}
            assert sorted(versions) == list(range(1, len(found) + 1))
            assert len(set(versions.values())) == len(versions), "a retry was stored twice"
            assert {told["version"]: request.state for request, told in answers}.items() <= versions.items()
        elif not isinstance(uploader, (MemoryUploader, Operator)):
            states = []
            for request, told in answers:
                data = workspace.call("GET", f"{name}?revision={told['revision']}").body
                assert digest(data[: request.size]) == request.state
                states.append(digest(data))
            assert len(set(states)) == len({told["revision"] for _, told in answers}), "a retry was stored twice"


# -- the broken twins: the same loop, the same judge, servers that keep files naively


def of_naive(how: str, folder: Path) -> Target:
    folder.mkdir(parents=True)
    running: list[subprocess.Popen[str]] = []
    ports: list[int] = []

    def start() -> Api:
        program = [sys.executable, naive_server.__file__, how, str(folder)]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        ports.append(int(process.stdout.readline()))
        running.append(process)
        return connect()

    def connect() -> Api:
        return Api(("127.0.0.1", ports[-1]), "any")

    def kill() -> None:
        running[-1].kill()
        running[-1].wait()
        assert running[-1].stdout is not None
        running[-1].stdout.close()

    return Target(start, connect, kill, lambda: [str(path) for path in folder.glob("*.tmp")])


def naive_outcome(how: str, folder: Path, fault: Callable[[Outcome], list[str]]) -> Outcome:
    """The outcome of the first short loop in which the fault shows; of the last one if it never does."""
    outcome = Outcome()
    for seed in range(20):
        ledger = Ledger()
        target = of_naive(how, folder / str(seed))
        nowhere = Workspace(Api(("127.0.0.1", 9), ""), "one", "any")
        uploaders = four_uploaders(nowhere, nowhere, ledger, seed)
        outcome = crash_loop(target, uploaders, ledger, 3, random.Random(seed))
        if fault(outcome):
            break
    print(f"naive, {how}: {len(outcome.lost)} lost, {len(outcome.torn)} torn, {len(outcome.leftovers)} left over")
    return outcome


@pytest.mark.spec("STORE-2")
def test_the_broken_twin_that_writes_in_place_is_caught(tmp_path: Path) -> None:
    assert naive_outcome("in_place", tmp_path / "naive", lambda outcome: outcome.torn).torn


@pytest.mark.spec("STORE-3")
def test_the_broken_twin_that_answers_first_is_caught(tmp_path: Path) -> None:
    assert naive_outcome("ack_first", tmp_path / "naive", lambda outcome: outcome.lost).lost


@pytest.mark.spec("STORE-2")
def test_the_broken_twin_that_never_sweeps_is_caught(tmp_path: Path) -> None:
    outcome = naive_outcome("no_sweep", tmp_path / "naive", lambda outcome: outcome.leftovers)
    assert outcome.leftovers
    assert (outcome.lost, outcome.torn) == ([], [])
