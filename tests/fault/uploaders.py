"""Clients that send without a pause until their server dies, and again what was not answered when it is back."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.e2e.conftest import Answer, Api, Workspace
from tests.fault.ledger import Ledger, digest

LEAST_BYTES, MOST_BYTES = 200, 2_000_000


@dataclass(frozen=True)
class Request:
    """One write that leads the name to `state`, the digest of `size` bytes."""

    name: str
    method: str
    body: bytes
    state: str
    size: int
    offset: int = 0


@dataclass
class Uploader:
    """`step` makes the next request; `run` sends until the server is gone."""

    workspace: Workspace
    ledger: Ledger
    chance: random.Random
    pending: Request | None = None
    names: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    """The names of this life of the server; `names` are those of all."""
    answers: list[tuple[Request, dict[str, object]]] = field(default_factory=list)
    unexpected: list[tuple[Request, Answer]] = field(default_factory=list)
    is_refusal_the_end: bool = False
    """Whether `unavailable` and `storage_full` are as no answer at all: the disk has gone."""
    retried: int = 0
    deduped: int = 0
    """Of the retried, those that had been stored before the crash, though nobody had heard of it."""

    def step(self) -> Request:
        raise NotImplementedError

    def look(self, reader: Api, name: str) -> str | None:
        """The state that `name` is in; None where there is nothing."""
        return state_of(reader, f"{self.workspace.url}/{name}")

    def run(self, connect: Callable[[], Api], is_over: Callable[[], bool]) -> None:
        try:
            with connect() as api:
                workspace = self.workspace.by(api)
                self.retry(workspace)
                while not is_over():
                    self.pending = self.step()
                    self._send(workspace, self.pending)
        except (OSError, http.client.HTTPException):
            return  # killed; whatever is pending was not answered

    def retry(self, workspace: Workspace) -> None:
        """Send again what was not answered: stored once, whether it had arrived or not."""
        if self.pending is None:
            return
        request, self.retried = self.pending, self.retried + 1
        if request.method == "PATCH":
            held = workspace.call("HEAD", request.name)
            if held.headers.get("etag") == f'"{request.state}"':
                self.deduped += 1
                answer = workspace.call("PATCH", request.name, request.body, Upload_Offset=str(request.offset))
                if answer.status != 409 or answer.headers.get("etag") != f'"{request.state}"':
                    self.unexpected.append((request, answer))
                self.ledger.is_acknowledged(request.name, request.state)
                self.pending = None
                return
        answer = self._send(workspace, request)
        if answer.status in (200, 201):
            self.deduped += answer.json.get("status") == "unchanged" or answer.json.get("unchanged") is True

    def _send(self, workspace: Workspace, request: Request) -> Answer:
        self.names.add(request.name)
        self.touched.add(request.name)
        self.ledger.sends(request.name, request.state)
        headers = {"Upload_Offset": str(request.offset)} if request.method == "PATCH" else {}
        answer = self.hear(workspace.call(request.method, request.name, request.body, **headers))
        self.pending = None
        if answer.status not in (200, 201) or answer.headers.get("etag") != f'"{request.state}"':
            self.unexpected.append((request, answer))
            return answer
        self.ledger.is_acknowledged(request.name, request.state)
        self.answers.append((request, answer.json))
        return answer

    def hear(self, answer: Answer) -> Answer:
        """Raises: OSError: the disk has gone, and with it the server."""
        if self.is_refusal_the_end and answer.status in (503, 507):
            raise OSError(answer.code)
        return answer

    def take_touched(self, all_names: bool) -> set[str]:
        """The names to look at after a crash, or all; a new life begins."""
        found, self.touched = self.names | self.touched if all_names else self.touched, set()
        return found

    def text(self) -> bytes:
        """Lines that no other request has, of any size."""
        size = int(LEAST_BYTES * (MOST_BYTES / LEAST_BYTES) ** self.chance.random())
        lines = []
        while size > 0:
            word = self.chance.randbytes(min(size, 20_000) // 2 + 8).hex()
            lines.append(json.dumps({"type": "user", "message": {"role": "user", "content": word}}).encode() + b"\n")
            size -= len(word)
        return b"".join(lines)


def state_of(reader: Api, url: str) -> str | None:
    answer = reader.call("GET", quote(url))
    assert answer.status in (200, 404), answer
    return digest(answer.body) if answer.status == 200 else None


def whole(name: str, body: bytes) -> Request:
    return Request(name, "PUT", body, digest(body), len(body))


@dataclass
class DocumentUploader(Uploader):
    """New documents and new texts of old ones; with `only`, always of that one."""

    prefix: str = "knowledge/a"
    only: str = ""

    def step(self) -> Request:
        if self.only:
            return whole(self.only, self.text())
        known = sorted(self.names)
        is_new = not known or self.chance.random() < 0.3
        return whole(f"{self.prefix}/{len(known)}.md" if is_new else self.chance.choice(known), self.text())


@dataclass
class SessionUploader(Uploader):
    """Whole transcripts: new ones, longer ones, and ones that differ."""

    prefix: str = "sessions/put"
    last: bytes = b""
    count: int = 0

    def step(self) -> Request:
        what = self.chance.choice(["new", "longer", "longer", "other"])
        if not self.last or what == "new" or len(self.last) > 4_000_000:
            self.count += 1
            self.last = b""
        self.last = self.text() if what == "other" else self.last + self.text()
        return whole(f"{self.prefix}-{self.count}", self.last)


@dataclass
class AppendUploader(Uploader):
    """Transcripts that grow; now and then the last line is left open."""

    prefix: str = "sessions/patch"
    last: bytes = b""
    count: int = 0

    def step(self) -> Request:
        if not self.last or len(self.last) > 4_000_000:
            self.count += 1
            self.last = b""
        more = self.text()
        if self.chance.random() < 0.3:
            more = more[:-1]
        offset, self.last = len(self.last), self.last + more
        return Request(f"{self.prefix}-{self.count}", "PATCH", more, digest(self.last), len(self.last), offset)
