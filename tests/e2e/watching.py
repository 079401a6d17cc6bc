"""An event stream of a real server, read block by block over its own connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer


class Stream:
    """`status` of the answer, then `events`; use it as a context manager."""

    def __init__(self, server: RunningServer, query: str = "keys=*", token: str = "", last_id: str = "") -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": f"Bearer {token or server.ai_token}"}
        self._connection.request(
            "GET", f"/api/v1/events?{query}", headers=headers | ({"Last-Event-ID": last_id} if last_id else {})
        )
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def events(self) -> Iterator[dict[str, Any]]:
        """Until the stream ends; comments are passed over. Raises: OSError: it was cut off."""
        found: dict[str, Any] = {}
        while line := self._answer.readline():
            text = line.decode().rstrip("\n")
            if not text and found:
                yield {**found, "data": json.loads(found["data"])}
                found = {}
            elif text and not text.startswith(":"):
                name, _, value = text.partition(": ")
                found[name] = value

    def until(self, kind: str) -> list[dict[str, Any]]:
        found = []
        for event in self.events():
            found.append(event)
            if event["event"] == kind:
                break
        return found
