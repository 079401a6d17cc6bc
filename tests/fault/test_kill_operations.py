"""kill -9 in the middle of what operators do to a whole root, under two writers: nothing lost, everything finished."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.fault.rig import check, leftovers
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
TEXT = "zebra line of about the usual length\n" * 40
TURN = b'{"type":"user","message":{"role":"user","content":"zebra %d"},"timestamp":"2026-11-20T08:00:00Z"}\n'
REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(7_200 if FULL else 600)


@dataclass
class Root:
    """Two workspaces that are written to, and one of each kind for the operation of this cycle."""

    server: RunningServer
    cycle: int
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    memories: dict[str, list[str]] = field(default_factory=dict)
    """The ids of each workspace's."""

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        with self.server.api(self.server.admin_token) as api:
            answer = api.call(method, path, body, **headers)
            return answer.status, answer.body

    def put(self, workspace_id: str, place: str, body: bytes) -> bool:
        try:
            status, _ = self.call("PUT", f"/api/v1/workspaces/{workspace_id}/{place}", body)
        except (OSError, http.client.HTTPException):
            return False
        if status < 300:
            self.acknowledged[f"{workspace_id}/{place}"] = body
        return status < 300

    def fill(self, workspace_id: str, tool: str) -> None:
        body = {"machine": "box", "tool": tool, "project": str(self.cycle), "workspace_id": workspace_id}
        status, answer = self.call("POST", "/api/v1/workspaces", json.dumps(body).encode())
        assert status in (200, 201)
        binding = json.loads(answer)["binding"]
        for number in range(4):
            for version in (1, 2, 3):
                text = f"# {workspace_id} {number} {version}\n{TEXT}".encode()
                assert self.put(workspace_id, f"knowledge/n/{number}.md", text)
        assert self.put(workspace_id, "overview", f"# {workspace_id}".encode())
        for number in range(3):
            assert self.put(workspace_id, f"sessions/s{number}", TURN % number * 30)
            assert self.put(workspace_id, f"sessions/s{number}", b"{}\n" + TURN % number * 30)
            note = {"workspace_id": workspace_id, "content": f"zebra note {number} of {workspace_id}"}
            status, answer = self.call("POST", "/api/v1/memories", json.dumps(note).encode(), X_Memory_Binding=binding)
            assert status == 201, answer
            self.memories.setdefault(workspace_id, []).append(json.loads(answer)["memory_id"])
        gone = self.memories[workspace_id][0]
        path = f"/api/v1/memories/{gone}?workspace_id={workspace_id}"
        assert self.call("DELETE", path, X_Memory_Binding=binding)[0] == 200

    def operate(self, kind: str, one: str, two: str) -> int:
        """The status of the operation's answer; 0: a command's exit code was not 0."""
        if kind == "backup":
            command = [sys.executable, "-m", "federated_memory", "backup", "--to", str(self.server.root.parent / "to")]
            done = subprocess.run(command, env=self.server.env, cwd=self.server.root.parent, capture_output=True)
            return 200 if done.returncode == 0 else 0
        path, body = self.operation(kind, one, two)
        return self.call("POST", f"/api/v1/{path}", json.dumps(body).encode())[0]

    def operation(self, kind: str, one: str, two: str) -> tuple[str, dict[str, object]]:
        return {
            "merge": ("operations/merge", {"workspace_id": one, "into": two, "apply": True}),
            "rename": ("operations/rename", {"workspace_id": one, "to": f"{one}-new"}),
            "gc": ("operations/gc", {"keep_versions": 1, "keep_days": 0, "apply": True}),
            "purge": ("operations/purge", {"kind": "workspace", "workspace_id": one}),
            "purge one": ("operations/purge", {"kind": "session", "workspace_id": one, "key": "s1"}),
            "purge memory": (
                "operations/purge", {"kind": "memory", "workspace_id": one, "key": self.memories[one][1]}
            ),
            "delete memories": ("memories/delete", {"workspace_id": one, "dry_run": False}),
            "snapshot": ("operations/snapshot", {}),
            "reindex": ("reindex", {}),
        }[kind]  # fmt: skip


KINDS = (
    "merge", "rename", "gc", "purge", "purge one", "purge memory", "delete memories", "snapshot", "backup", "reindex",
)  # fmt: skip
REPEATED = ("purge", "purge one", "purge memory", "delete memories", "gc", "backup")
"""These are finished by doing them again."""
CYCLES = 150 if FULL else len(KINDS)


@dataclass
class Found:
    interrupted: int = 0
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def kill_in_operations(
    serve: Callable[..., RunningServer], cycles: int, kinds: Sequence[str] = KINDS, **options: str
) -> Found:
    """Start, fill, begin an operation, kill, start again, look; `cycles` times."""
    chance = random.Random(int(os.environ.get("FAULT_SEED", "1")))
    result = Found()
    for cycle in range(cycles):
        kind = kinds[cycle % len(kinds)]
        one, two = f"one-{cycle}", f"two-{cycle}"
        server = serve(**options)
        server.wait_until_ready()
        root = Root(server, cycle)
        root.fill(one, "claude")
        root.fill(two, "codex")
        result.interrupted += not operate_and_kill(root, kind, one, two, chance)
        again = serve(**options)
        again.wait_until_ready()
        after = Root(again, cycle, memories=root.memories)
        if kind in REPEATED and (status := after.operate(kind, one, two)) not in (200, 404):
            result.problems.append(f"{kind}, again: {status}")
        result.lost += missing(after, kind, one, two, root)
        found = [str(each) for each in check(again.root, again.env)]
        result.problems += [f"{kind}: {line}" for line in again.problems()]
        assert again.stop() == 0
        found += [name for name in leftovers(again.root) if "collected.json" not in name and "backups.json" not in name]
        found += [str(each) for each in check(again.root, again.env)]
        result.problems += [f"{kind}: {each}" for each in found]
        if result.problems and options:
            break  # the broken twin
    return result


def operate_and_kill(root: Root, kind: str, one: str, two: str, chance: random.Random) -> bool:
    """Whether the operation was answered before the server was killed; meanwhile somebody writes."""
    is_over = threading.Event()
    answered: list[int] = []

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            if not root.put(two, "knowledge/busy.md", f"# {number}\n{TEXT}".encode()):
                return

    def operate() -> None:
        try:
            status = root.operate(kind, one, two)
        except (OSError, http.client.HTTPException):
            return
        if status:
            answered.append(status)

    threads = [threading.Thread(target=write), threading.Thread(target=operate)]
    for thread in threads:
        thread.start()
    # The moment is what lots are drawn for; a command begins later.
    time.sleep(chance.choice((0.005, 0.01, 0.02, 0.03, 0.05, 0.08)) + (0.4 if kind == "backup" else 0))
    root.server.process.kill()
    root.server.process.wait()
    is_over.set()
    for thread in threads:
        thread.join()
    return bool(answered)


@pytest.mark.spec("WS-4", "WS-6", "GC-1", "PURGE-1", "BACKUP-5", "INDEX-1", "STORE-3", "MEM-12")
def test_kill_9_in_the_middle_of_an_operation_loses_nothing_and_leaves_nothing_half_done(
    serve: Callable[..., RunningServer],
) -> None:
    found = kill_in_operations(serve, CYCLES)

    tally("kill -9 in operations", trials=CYCLES, lost=len(found.lost), torn=len(found.problems))
    print(f"{found.interrupted} of {CYCLES} were killed before the answer")
    assert (found.lost, found.problems) == ([], [])
    assert found.interrupted > 0


@pytest.mark.spec("WS-4", "WS-6")
def test_the_broken_twin_that_never_finishes_what_was_interrupted_is_caught(
    serve: Callable[..., RunningServer],
) -> None:
    twin = {"module": "tests.fault.forgetful_operations", "PYTHONPATH": str(REPOSITORY)}
    try:
        found = kill_in_operations(serve, 30, ("merge", "rename"), **twin)
    except pytest.fail.Exception as error:
        print(f"forgetful: it does not even start again: {str(error)[-200:]}")
        return

    print(f"forgetful: {found.interrupted} interrupted, {len(found.lost)} lost, {found.problems[:2]}")
    assert found.problems or found.lost


def missing(after: Root, kind: str, one: str, two: str, root: Root) -> list[str]:
    """Names whose last acknowledged text is neither at its place nor beside it."""
    found = []
    for name, body in root.acknowledged.items():
        workspace_id, place = name.split("/", 1)
        if (kind == "purge" and workspace_id == one) or (kind == "purge one" and name == f"{one}/sessions/s1"):
            continue
        if place == "knowledge/busy.md":  # a later text may have arrived, unanswered
            if after.call("GET", f"/api/v1/workspaces/{two}/{place}")[0] != 200:
                found.append(name)
            continue
        texts = [after.call("GET", f"/api/v1/workspaces/{workspace_id}/{place}")[1]]
        if kind == "merge" and workspace_id == one:
            inner = place.removeprefix("knowledge/") if place != "overview" else "overview.md"
            texts.append(after.call("GET", f"/api/v1/workspaces/{two}/knowledge/from-{one}/{inner}")[1])
            if place.startswith("sessions/"):
                rows = json.loads(after.call("GET", f"/api/v1/workspaces/{two}/sessions")[1])["sessions"]
                ids = [row["session_id"] for row in rows if row["session_id"].startswith(place.split("/")[1])]
                texts += [after.call("GET", f"/api/v1/workspaces/{two}/sessions/{each}")[1] for each in ids]
        if body not in texts:
            found.append(f"{kind}: {name}")
    return found + missing_memories(after, kind, one, root)


def missing_memories(after: Root, kind: str, one: str, root: Root) -> list[str]:
    """Memories that are not in the state that they were told to be in; the first of each workspace was deleted."""
    found = []
    for workspace_id, ids in root.memories.items():
        for number, memory_id in enumerate(ids):
            status, body = after.call("GET", f"/api/v1/memories/{memory_id}")
            state = json.loads(body)["state"] if status == 200 else "gone"
            wanted = {"deleted", "gone"} if number == 0 else {"live"}
            if workspace_id == one and kind in ("purge", "delete memories"):
                wanted = {"gone"} if kind == "purge" else {"deleted"}
            if workspace_id == one and kind == "purge memory" and number == 1:
                wanted = {"gone"}
            if state not in wanted:
                found.append(f"{kind}: memory {number} of {workspace_id} is {state}")
            if state == "live" and json.loads(body)["content"] != f"zebra note {number} of {workspace_id}":
                found.append(f"{kind}: memory {number} of {workspace_id} says something else")
    return found
