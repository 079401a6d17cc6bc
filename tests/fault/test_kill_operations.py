"""kill -9 in the middle of what operators do to a whole root, under two writers: nothing lost, everything finished."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.e2e.conftest import RunningServer
from tests.fault.rig import check, leftovers
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
CYCLES = 105 if FULL else 7
TEXT = "zebra line of about the usual length\n" * 40
TURN = b'{"type":"user","message":{"role":"user","content":"zebra %d"},"timestamp":"2026-11-20T08:00:00Z"}\n'

pytestmark = pytest.mark.timeout(1_800 if FULL else 300)


@dataclass
class Root:
    """Two workspaces that are written to, and one of each kind for the operation of this cycle."""

    server: RunningServer
    cycle: int
    acknowledged: dict[str, bytes] = field(default_factory=dict)

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
        assert self.call("POST", "/api/v1/workspaces", json.dumps(body).encode())[0] in (200, 201)
        for number in range(4):
            for version in (1, 2, 3):
                text = f"# {workspace_id} {number} {version}\n{TEXT}".encode()
                assert self.put(workspace_id, f"knowledge/n/{number}.md", text)
        assert self.put(workspace_id, "overview", f"# {workspace_id}".encode())
        for number in range(3):
            assert self.put(workspace_id, f"sessions/s{number}", TURN % number * 30)
            assert self.put(workspace_id, f"sessions/s{number}", b"{}\n" + TURN % number * 30)


def operation(kind: str, one: str, two: str) -> tuple[str, dict[str, object]]:
    return {
        "merge": ("operations/merge", {"workspace_id": one, "into": two, "apply": True}),
        "rename": ("operations/rename", {"workspace_id": one, "to": f"{one}-new"}),
        "gc": ("operations/gc", {"keep_versions": 1, "keep_days": 0, "apply": True}),
        "purge": ("operations/purge", {"kind": "workspace", "workspace_id": one}),
        "purge one": ("operations/purge", {"kind": "session", "workspace_id": one, "key": "s1"}),
        "snapshot": ("operations/snapshot", {}),
        "reindex": ("reindex", {}),
    }[kind]


KINDS = ("merge", "rename", "gc", "purge", "purge one", "snapshot", "reindex")


@pytest.mark.spec("WS-4", "WS-6", "GC-1", "PURGE-1", "BACKUP-5", "INDEX-1", "STORE-3")
def test_kill_9_in_the_middle_of_an_operation_loses_nothing_and_leaves_nothing_half_done(
    serve: Callable[..., RunningServer],
) -> None:
    chance = random.Random(int(os.environ.get("FAULT_SEED", "1")))
    interrupted, lost = 0, []
    for cycle in range(CYCLES):
        kind = KINDS[cycle % len(KINDS)]
        one, two = f"one-{cycle}", f"two-{cycle}"
        server = serve()
        server.wait_until_ready()
        root = Root(server, cycle)
        root.fill(one, "claude")
        root.fill(two, "codex")
        is_over = threading.Event()
        answered: list[int] = []

        def write(root: Root = root, two: str = two, is_over: threading.Event = is_over) -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                if not root.put(two, "knowledge/busy.md", f"# {number}\n{TEXT}".encode()):
                    return

        def operate(
            kind: str = kind, root: Root = root, one: str = one, two: str = two, answered: list[int] = answered
        ) -> None:
            path, body = operation(kind, one, two)
            try:
                answered.append(root.call("POST", f"/api/v1/{path}", json.dumps(body).encode())[0])
            except (OSError, http.client.HTTPException):
                return

        threads = [threading.Thread(target=write), threading.Thread(target=operate)]
        for thread in threads:
            thread.start()
        time.sleep(chance.choice((0.005, 0.01, 0.02, 0.03, 0.05, 0.08)))  # the moment is what lots are drawn for
        server.process.kill()
        server.process.wait()
        is_over.set()
        for thread in threads:
            thread.join()
        interrupted += not answered
        again = serve()
        again.wait_until_ready()
        after = Root(again, cycle)
        if kind in ("purge", "purge one", "gc"):  # these are finished by doing them again
            path, body = operation(kind, one, two)
            assert after.call("POST", f"/api/v1/{path}", json.dumps(body).encode())[0] in (200, 404)
        lost += missing(after, kind, one, two, root.acknowledged)
        found = check(again.root, again.env)
        assert found == [], (kind, found)
        assert again.stop() == 0
        assert [name for name in leftovers(again.root) if "collected.json" not in name] == []
        assert check(again.root, again.env) == [], kind
    tally("kill -9 in operations", trials=CYCLES, lost=len(lost))
    print(f"{interrupted} of {CYCLES} were killed before the answer")
    assert lost == []
    assert interrupted > 0


def missing(after: Root, kind: str, one: str, two: str, acknowledged: dict[str, bytes]) -> list[str]:
    """Names whose last acknowledged text is neither at its place nor beside it."""
    found = []
    for name, body in acknowledged.items():
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
    return found
