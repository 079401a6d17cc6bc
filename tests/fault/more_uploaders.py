"""Two more of those that send without a pause: one of memories, and an operator who also takes things away."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.e2e.conftest import Answer, Api, Workspace
from tests.fault.ledger import digest
from tests.fault.uploaders import Request, Uploader, whole

GONE = digest(b"")  # of what was purged


@dataclass
class MemoryUploader(Uploader):
    """Notes: stored, replaced by newer ones, and deleted. Their names are tags, for only the server makes ids."""

    ids: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    live: list[str] = field(default_factory=list)
    """Those that may be deleted or superseded: known, live, and superseding nothing (deleting those shows the old)."""
    replaced: str = ""
    """What the memory that is being sent supersedes."""

    def step(self) -> Request:
        what = self.chance.choice(("store", "store", "supersede", "delete")) if len(self.live) > 2 else "store"
        self.replaced = ""
        if what != "store":
            old = self.live.pop(self.chance.randrange(len(self.live)))
            if what == "delete":
                return Request(old, "DELETE", b"", self.state(old, "deleted"), 0)
            self.replaced = old
        name = f"memories/m{len(self.contents)}"
        self.contents[name] = f"zebra {self.chance.randbytes(self.chance.randrange(20, 9_000)).hex()}"
        asked = {
            "workspace_id": self.workspace.workspace_id, "content": self.contents[name], "tags": [name],
            "supersedes": [self.ids[self.replaced]] if self.replaced else [],
        }  # fmt: skip
        body = json.dumps(asked).encode()
        return Request(name, "POST", body, self.state(name, "live"), len(body))

    def state(self, name: str, state: str) -> str:
        return digest(f"{self.contents[name]} {state}".encode())

    def look(self, reader: Api, name: str) -> str | None:
        memory_id = self.ids.get(name) or self.find(reader, name)
        if not memory_id:
            return None
        answer = reader.call("GET", f"/api/v1/memories/{memory_id}")
        assert answer.status in (200, 404), answer
        if answer.status == 404:
            return self.state(name, "deleted")  # and collected
        return digest(f"{answer.json['content']} {answer.json['state']}".encode())

    def find(self, reader: Api, name: str) -> str:
        """The id of one whose answer did not arrive; kept. Empty: it is not there."""
        asked = f"workspace_id={self.workspace.workspace_id}&tags={name}&include_superseded=1&include_hidden=1"
        rows = reader.call("GET", f"/api/v1/memories?{asked}").json["memories"]
        assert len(rows) < 2, f"{name} is there twice"
        if rows:
            self.ids[name] = rows[0]["memory_id"]
        return self.ids.get(name, "")

    def retry(self, workspace: Workspace) -> None:
        if self.pending is None:
            return
        request, self.retried = self.pending, self.retried + 1
        state = self.look(workspace.api, request.name)
        if state == request.state:  # it had arrived
            self.deduped += 1
            self.has_arrived(request)
            self.pending = None
        else:
            self._send(workspace, request)

    def _send(self, workspace: Workspace, request: Request) -> Answer:
        self.names.add(request.name)
        self.touched.add(request.name)
        self.ledger.sends(request.name, request.state)
        if self.replaced:
            self.touched.add(self.replaced)
            self.ledger.sends(self.replaced, self.state(self.replaced, "superseded"))
        path = "/api/v1/memories"
        if request.method == "DELETE":
            path += f"/{self.ids[request.name]}?workspace_id={workspace.workspace_id}"
        answer = self.hear(workspace.api.call(request.method, path, request.body, X_Write_Token=workspace.write_token))
        self.pending = None
        if answer.status not in (200, 201):
            self.unexpected.append((request, answer))
            return answer
        self.ids[request.name] = answer.json["memory_id"]
        self.has_arrived(request)
        return answer

    def has_arrived(self, request: Request) -> None:
        self.ledger.is_acknowledged(request.name, request.state)
        if self.replaced:
            self.ledger.is_acknowledged(self.replaced, self.state(self.replaced, "superseded"))
        elif request.method == "POST":
            self.live.append(request.name)


@dataclass
class Operator(Uploader):
    """An admin who writes documents and transcripts, purges some for good, collects, and takes snapshots."""

    admin: Callable[[], Api] = field(kw_only=True)
    kept: list[str] = field(default_factory=list)
    count: int = 0
    done: dict[str, int] = field(default_factory=dict)
    """How often each was begun."""

    def step(self) -> Request:
        what = self.chance.choice(("write", "write", "snapshot", "gc", "purge", "purge"))
        if what == "purge" and self.kept:
            name = self.kept.pop(self.chance.randrange(len(self.kept)))
            kind, _, key = name.partition("/")
            asked: dict[str, object] = {"kind": kind.removesuffix("s"), "key": key}
            asked["workspace_id"] = self.workspace.workspace_id
            return Request(name, "POST", json.dumps(asked).encode(), GONE, 0)
        if what in ("snapshot", "gc"):
            asked = {} if what == "snapshot" else {"keep_versions": 1_000, "keep_days": 0, "apply": True}
            return Request(what, "POST", json.dumps(asked).encode(), "", 0)
        self.count += 1
        return whole(self.chance.choice((f"knowledge/purged/{self.count}.md", f"sessions/purged-{self.count}")),
                     self.text()[:20_000])  # fmt: skip

    def look(self, reader: Api, name: str) -> str | None:
        state = super().look(reader, name)
        is_purged = state is None and name not in self.kept and self.pending_name != name
        return GONE if is_purged else state

    @property
    def pending_name(self) -> str:
        return self.pending.name if self.pending and self.pending.method == "PUT" else ""

    def retry(self, workspace: Workspace) -> None:
        if self.pending is not None:
            self.retried += 1
            self._send(workspace, self.pending)

    def _send(self, workspace: Workspace, request: Request) -> Answer:
        if request.method == "PUT":
            answer = super()._send(workspace, request)
            if answer.status in (200, 201):
                self.kept.append(request.name)
            return answer
        action = "purge" if request.state else request.name
        if request.state:
            self.touched.add(request.name)
            self.ledger.sends(request.name, GONE)
        self.done[action] = self.done.get(action, 0) + 1
        with self.admin() as api:
            answer = api.call("POST", f"/api/v1/operations/{action}", request.body)
            if action == "snapshot" and answer.status == 200:
                answer = api.call(
                    "POST", "/api/v1/operations/release", json.dumps({"name": answer.json["name"]}).encode()
                )
        self.pending = None
        if answer.status == 200 or (action == "purge" and answer.status == 404):  # purged before the answer was lost
            if request.state:
                self.ledger.is_acknowledged(request.name, GONE)
        else:
            self.unexpected.append((request, answer))
        return answer
