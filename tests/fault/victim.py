"""A server that is made to fail and killed as often as it takes, and each kind of write to it, one at a time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.conftest import Answer, Api, RunningServer, Workspace, start_server, wait_until
from tests.fault.ledger import Ledger, digest
from tests.fault.uploaders import state_of

GONE = digest(b"")  # the state of a document that was deleted


def text(size: int = 300) -> bytes:
    return b'{"type":"user","message":{"role":"user","content":"' + os.urandom(size // 2).hex().encode() + b'"}}\n'


@dataclass(frozen=True)
class Write:
    """One request, and what its name holds when it has been done."""

    method: str
    name: str
    body: bytes | None
    state: bytes
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    """Where it goes if not to `name` of the workspace; by an agent then, which holds the binding."""


@dataclass
class Victim:
    """A server, one workspace, and what it should hold; killed and started again as often as it takes."""

    root: Path
    server: RunningServer = field(init=False)
    mine: Workspace = field(init=False)
    binding: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    count: int = 0

    def __post_init__(self) -> None:
        self.start()
        try:
            with self.server.api() as api:
                self.mine = api.register()
            with self.server.api(self.server.ai_token) as api:
                self.binding = api.register().binding
                self.as_agent(api, "POST", "/api/v1/rooms", b'{"room": "r"}')
        except BaseException:
            self.server.stop(signal.SIGKILL)
            raise

    def start(self) -> None:
        self.server = start_server(self.root)
        self.server.wait_until_ready()

    def restart(self) -> None:
        self.server.stop(signal.SIGKILL)
        self.start()

    def send(self, write: Write) -> Answer | None:
        """None when the server did not survive it."""
        self.ledger.sends(write.name, digest(write.state))
        try:
            with self.server.api(self.server.ai_token if write.path else None) as api:
                if write.path:
                    answer = self.as_agent(api, write.method, write.path, write.body)
                else:
                    answer = self.mine.by(api).call(write.method, write.name, write.body, **write.headers)
        except (OSError, http.client.HTTPException):
            return None
        if answer.status < 300:
            self.ledger.is_acknowledged(write.name, digest(write.state))
        return answer

    def as_agent(self, api: Api, method: str, path: str, body: bytes | None = None) -> Answer:
        return api.call(method, path, body, X_Memory_Binding=self.binding)

    def state(self, name: str) -> str | None:
        """The state of a name: a document, a transcript, `state/KEY`, `memories/TAG` or `messages/TEXT`."""
        kind, _, rest = name.partition("/")
        with self.server.api(self.server.ai_token) as api:
            if kind == "state":
                found = self.as_agent(api, "GET", f"/api/v1/state/keys/{rest}").json
                return digest(json.dumps(found["value"]).encode()) if found["exists"] else None
            if kind == "memories":
                rows = self.as_agent(api, "GET", f"/api/v1/memories?tags={rest}").json["memories"]
                assert len(rows) < 2
                content = [self.as_agent(api, "GET", f"/api/v1/memories/{row['memory_id']}").json for row in rows]
                return digest(content[0]["content"].encode()) if content else None
            if kind == "messages":
                found = self.as_agent(api, "GET", "/api/v1/rooms/r/messages?after=0").json
                texts = [message["text"] for message in found["messages"]]
                assert texts.count(rest) < 2
                return digest(rest.encode()) if rest in texts else None
            return state_of(api, f"{self.mine.url}/{name}")

    def held(self, name: str) -> bytes:
        """What `name` holds; written now if there is nothing."""
        with self.server.api() as api:
            found = self.mine.by(api).call("GET", name)
        if found.status == 200:
            return found.body
        body = text()
        answer = self.send(Write("PUT", name, body, body))
        assert answer is not None
        assert answer.status == 201
        return body

    def look(self) -> None:
        """Everything holds its old or its new state, and from now on that is the old one."""
        found = {name: self.state(name) for name in self.ledger.names()}
        for name, state in found.items():
            if state is None and self.ledger.was_sent(name, GONE):
                found[name] = GONE
        verdict = self.ledger.judge(found)
        assert (verdict.lost, verdict.torn) == ([], [])
        for name, state in found.items():
            if state is not None:
                self.ledger.is_acknowledged(name, state)

    def is_settled(self) -> bool:
        """Is every acknowledged write in its files, durably?"""
        with contextlib.closing(sqlite3.connect(f"file:{self.root}/_meta/state.sqlite3?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM journal").fetchone() == (0,)

    def is_dead(self) -> bool:
        """Also before anybody has noticed: strace is the first to be told."""
        if self.server.process.poll() is not None:
            return True
        return re.search(r"(?m)^State:\tZ", Path(f"/proc/{self.server.process.pid}/status").read_text()) is not None

    def settle(self) -> None:
        wait_until(self.is_settled)

    def next(self) -> int:
        self.count += 1
        return self.count


def create_document(victim: Victim) -> Write:
    body = text()
    return Write("PUT", f"knowledge/new/{victim.next()}.md", body, body)


def replace_document(victim: Victim) -> Write:
    victim.held("knowledge/old.md")
    body = text()
    return Write("PUT", "knowledge/old.md", body, body)


def replace_overview(victim: Victim) -> Write:
    victim.held("overview")
    body = text()
    return Write("PUT", "overview", body, body)


def delete_document(victim: Victim) -> Write:
    victim.held("knowledge/gone.md")
    return Write("DELETE", "knowledge/gone.md", None, b"")


def create_session(victim: Victim) -> Write:
    body = text(3_000)
    return Write("PUT", f"sessions/new{victim.next()}", body, body)


def replace_session(victim: Victim) -> Write:
    victim.held("sessions/old")
    body = text(3_000)
    return Write("PUT", "sessions/old", body, body)


def grow_session(victim: Victim) -> Write:
    held, more = victim.held("sessions/patch"), text(3_000)
    return Write("PATCH", "sessions/patch", more, held + more, {"Upload_Offset": str(len(held))})


def store_memory(victim: Victim) -> Write:
    tag, content = f"m{victim.next()}", text().decode()
    body = json.dumps({"content": content, "tags": [tag]}).encode()
    return Write("POST", f"memories/{tag}", body, content.encode(), path="/api/v1/memories")


def delete_memory(victim: Victim) -> Write:
    write = store_memory(victim)
    answer = victim.send(write)
    assert answer is not None
    assert answer.status == 201, answer
    path = f"/api/v1/memories/{answer.json['memory_id']}"
    return Write("DELETE", write.name, None, b"", path=f"{path}?workspace_id={victim.mine.workspace_id}")


def set_state(victim: Victim) -> Write:
    body = json.dumps({"count": victim.next(), "filler": os.urandom(2_000).hex()}).encode()
    return Write("PUT", "state/key", body, body, path="/api/v1/state/keys/key")


def say_in_room(victim: Victim) -> Write:
    message = f"message {victim.next()}"
    body = json.dumps({"message": message}).encode()
    return Write("POST", f"messages/{message}", body, message.encode(), path="/api/v1/rooms/r/messages")


Kind = Callable[[Victim], Write]
KINDS: list[Kind] = [
    create_document, replace_document, replace_overview, delete_document, create_session, replace_session, grow_session,
    store_memory, delete_memory, set_state, say_in_room,
]  # fmt: skip
JOURNALLED = (create_document, store_memory)
"""The others of their kind share its second half, which comes about a second later."""
SYNCED: list[Kind] = [
    replace_document, create_session, replace_session, grow_session, store_memory, delete_memory, set_state,
    say_in_room,
]  # fmt: skip
