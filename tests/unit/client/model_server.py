"""The routes of one session as a value, and a redactor with rules that a test can count."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

WORKSPACE = "box-claude-shop"
SECRETS = {"1": (b"SECRET1",), "2": (b"SECRET1", b"SECRET2")}


class Rules:
    """The redactor's shape: version 2 knows a secret more."""

    def __init__(self, version: str) -> None:
        self.version = version

    def line(self, line: bytes) -> tuple[bytes, Counter[str]]:
        found: Counter[str] = Counter()
        for secret in SECRETS[self.version]:
            found["secret"] += line.count(secret)
            line = line.replace(secret, b"[R]")
        return line, found

    def all(self, data: bytes) -> bytes:
        return b"\n".join(self.line(part)[0] for part in data.split(b"\n"))


class ModelServer:
    """The routes of a session (SPEC: ARCH-3 to ARCH-5, HTTP-3) over one value, and what goes wrong on the way."""

    def __init__(self, sync: ModuleType) -> None:
        self.sync = sync
        self.current: bytes | None = None
        self.revisions: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.fault = ""

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], Iterable[bytes]] | None = None,
        headers: Mapping[str, Any] | None = None,
        expect: Iterable[int] = (200, 201),
        **_: object,
    ) -> Any:
        del path
        if method == "HEAD":
            return self._answer(404, {}) if self.current is None else self._answer(200, {})
        fault, self.fault = self.fault, ""
        assert body is not None
        data = b"".join(body())
        if fault == "refused":
            raise self.sync.Unreachable("503")
        answer = self._store(method, data, headers or {})
        if fault == "lost":
            raise self.sync.Offline("the answer is lost")
        assert answer.status in expect
        return answer

    def _store(self, method: str, data: bytes, headers: Mapping[str, Any]) -> Any:
        old = self.current
        if method == "PATCH":
            if old is None:
                return self._answer(404, {})
            is_stale = int(headers["Upload-Offset"]) != len(old) or headers["If-Match"].strip('"') != etag(old)
            if is_stale:
                return self._answer(409, {})
            data = old + data
        status = "created" if old is None else "unchanged" if old.startswith(data) else "appended"
        if old is not None and not old.startswith(data) and not data.startswith(old):
            self.revisions.append(old)
            status = "diverged"
        if status != "unchanged":
            self.current = data
        assert self.current is not None
        self.acknowledged.append(self.current)
        return self._answer(200, {"status": status})

    def _answer(self, status: int, body: Mapping[str, str]) -> Any:
        held = (
            {} if self.current is None else {"etag": f'"{etag(self.current)}"', "upload-offset": str(len(self.current))}
        )
        return self.sync.Answer(status, held, json.dumps(body).encode())


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
