"""kill -9 while eight writers set shared values: every acknowledged one is there, and the version only rises."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import Api, RunningServer
from tests.e2e.watching import Stream

REPOSITORY = Path(__file__).parents[2]
SETS = 5_000
WRITERS = 8

pytestmark = pytest.mark.timeout(300)


@dataclass
class Writer:
    """Counts one key up. `sent` may be one ahead of `acknowledged` when the server died in between."""

    key: str
    binding: str
    sent: int = 0
    acknowledged: int = 0
    version: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self, api: Api, most: int) -> None:
        try:
            for _ in range(most):
                self.sent += 1
                answer = api.call(
                    "PUT", f"/api/v1/state/keys/{self.key}", b"%d" % self.sent, X_Memory_Binding=self.binding
                )
                if answer.status != 200:
                    self.problems.append(str(answer))
                    return
                self.acknowledged = self.sent
                self.version = answer.json["version"]
        except (OSError, http.client.HTTPException):
            return

    def judge(self, api: Api) -> list[str]:
        found = api.call("GET", f"/api/v1/state/keys/{self.key}").json
        value = int(found.get("value") or 0)
        wrong = []
        if not self.acknowledged <= value <= self.sent:
            wrong.append(f"{self.key}: {value} is there, {self.acknowledged} was acknowledged")
        if found["version"] < self.version:
            wrong.append(f"{self.key}: version {found['version']} after {self.version}")
        self.sent = self.acknowledged = value
        return wrong


def crash_loop(serve: Callable[..., RunningServer], sets: int, **options: str) -> tuple[list[str], int, int, list[int]]:
    """What was lost, how often it was killed, how much was acknowledged, and what a watcher heard of."""
    chance = random.Random(1)
    writers: list[Writer] = []
    lost: list[str] = []
    heard: list[int] = []
    kills = done = 0
    last_id = ""
    while done < sets and not lost:
        server = serve(**options)
        with server.api(server.ai_token) as api:
            writers = writers or [Writer(f"k{number}", api.register().binding) for number in range(WRITERS)]
            lost += [problem for writer in writers for problem in writer.judge(api)]
        with Stream(server, last_id=last_id) as stream:
            for event in stream.until("ready"):
                last_id = event.get("id", last_id)
                heard += [event["data"]["version"]] if event["event"] == "change" else []
        before = sum(writer.acknowledged for writer in writers)
        apis = [server.api(server.ai_token) for _ in writers]
        threads = [
            threading.Thread(target=writer.run, args=(api, sets)) for writer, api in zip(writers, apis, strict=True)
        ]
        for thread in threads:
            thread.start()
        goal = before + chance.randrange(300, 900)
        while sum(writer.acknowledged for writer in writers) < goal and any(thread.is_alive() for thread in threads):
            threads[0].join(0.002)
        server.process.kill()
        server.wait()
        kills += 1
        for thread, api in zip(threads, apis, strict=True):
            thread.join()
            api.close()
        done += sum(writer.acknowledged for writer in writers) - before
        assert [problem for writer in writers for problem in writer.problems] == []
        lost += server.problems()
    server = serve(**options)
    with server.api(server.ai_token) as api:
        lost += [problem for writer in writers for problem in writer.judge(api)]
    with Stream(server, last_id=last_id) as stream:
        heard += [event["data"]["version"] for event in stream.until("ready") if event["event"] == "change"]
    server.stop()
    return lost, kills, done, heard


@pytest.mark.spec("STATE-4", "EVENT-2")
def test_kill_9_during_5000_sets_loses_nothing_acknowledged(serve: Callable[..., RunningServer]) -> None:
    lost, kills, done, heard = crash_loop(serve, SETS)

    print(f"kill -9: {kills} kills, {done:,} sets acknowledged, {len(lost)} lost; a watcher resumed over all of them")
    assert lost == []
    assert kills > 4
    assert len(heard) == len(set(heard)) >= done
    assert heard == sorted(heard)


@pytest.mark.spec("STATE-4")
def test_the_broken_twin_that_answers_before_its_commit_is_caught(serve: Callable[..., RunningServer]) -> None:
    lost, kills, done, _ = crash_loop(serve, SETS, module="tests.fault.hasty_state", PYTHONPATH=str(REPOSITORY))

    print(f"hasty: {kills} kills, {done:,} sets acknowledged, {len(lost)} lost")
    assert lost
