"""A memory root behind a running server, over HTTP (SPEC: CLI-3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from federated_memory.cli.link import Link
from federated_memory.cli.protocol import Call
from federated_memory.errors import Unavailable
from federated_memory.service.results import (
    IndexStatus,
    InvitationRow,
    Invited,
    Registered,
    Result,
    Status,
    TokenCreated,
    TokenRow,
    WorkspaceList,
    WorkspaceRow,
)

_Result = TypeVar("_Result", bound=Result)

PAGE, PAGE_BYTES = 1000, 4 * 1024**2
_POLL_SECONDS = 0.2
_LONG_SECONDS = 3_600.0
"""For work that takes as long as the root is large."""


class Remote:
    """A running server, over HTTP."""

    def __init__(self, link: Link, pid: int) -> None:
        self.link = link
        self.url = link.url
        self.pid = pid

    def is_memory_server(self) -> bool:
        """Asked without the token. Raises: Unreachable."""
        status, data = self.link.exchange("GET", "/healthz", is_anonymous=True)
        return status == 200 and data == b'{"status":"ok"}'

    def status(self) -> Status:
        return _parsed(Status, self.link.get("/api/v1/status"))

    def reindex(self, progress: Callable[[int, int], None]) -> IndexStatus:
        found = _parsed(IndexStatus, self.link.call("POST", "/api/v1/reindex"))
        while found.state == "building":
            progress(found.done, found.total)
            time.sleep(_POLL_SECONDS)
            found = self.status().index or found
        return found

    def workspaces(self, *, machine: str, tool: str, project: str) -> list[WorkspaceRow]:
        asked = {"machine": machine, "tool": tool, "project": project, "limit": str(PAGE)}
        asked["max_bytes"] = str(PAGE_BYTES)
        found: list[WorkspaceRow] = []
        while True:
            page = _parsed(WorkspaceList, self.link.get("/api/v1/workspaces?" + urlencode(asked)))
            found += page.workspaces
            if page.next_cursor is None:
                return found
            asked["cursor"] = page.next_cursor

    def workspace(self, workspace_id: str) -> WorkspaceRow:
        return _parsed(WorkspaceRow, self.link.get(f"/api/v1/workspaces/{_segment(workspace_id)}"))

    def reissue(self, workspace_id: str) -> Registered:
        return _parsed(Registered, self.link.call("POST", f"/api/v1/workspaces/{_segment(workspace_id)}/reissue", {}))

    def tokens(self) -> list[TokenRow]:
        return [_parsed(TokenRow, row) for row in self.link.get("/api/v1/tokens")["tokens"]]

    def create_token(
        self,
        name: str,
        role: str,
        *,
        read: list[str],
        write: list[str],
        machine: str,
        expires: str,
        scopes: dict[str, list[str]],
    ) -> TokenCreated:
        body: dict[str, object] = {
            "name": name, "role": role, "read": read, "write": write, "machine": machine, "expires": expires, **scopes,
        }  # fmt: skip
        return _parsed(TokenCreated, self.link.call("POST", "/api/v1/tokens", body))

    def revoke_token(self, name: str) -> TokenRow:
        return _parsed(TokenRow, self.link.call("DELETE", f"/api/v1/tokens/{_segment(name)}"))

    def invite(self, machine: str, *, read: list[str], expires: str, pin: bool) -> Invited:
        body = {"machine": machine, "read": read, "expires": expires, "pin": pin}
        return _parsed(Invited, self.link.call("POST", "/api/v1/invitations", body))

    def invitations(self) -> list[InvitationRow]:
        return [_parsed(InvitationRow, row) for row in self.link.get("/api/v1/invitations")["invitations"]]

    def withdraw(self, invitation_id: str) -> InvitationRow:
        return _parsed(InvitationRow, self.link.call("DELETE", f"/api/v1/invitations/{_segment(invitation_id)}"))

    def operate(self, action: str, **arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = self.link.call(
            "POST", f"/api/v1/operations/{_segment(action)}", arguments, timeout_seconds=_LONG_SECONDS
        )
        return found

    def ask(self, call: Call[_Result], **given: object) -> _Result:
        asked = given_of(given)
        binding = asked.pop("binding", None)
        headers = {"X-Memory-Binding": str(binding)} if binding else {}
        path = "/api/v1" + call.path
        for name in [name for name in asked if f"{{{name}}}" in call.path]:
            path = path.replace(f"{{{name}}}", quote(str(asked.pop(name)), safe="/" if name == "path" else ""))
        if call.method == "POST":
            patience = {"timeout_seconds": _LONG_SECONDS} if call.is_long else {}
            return _parsed(call.result, self.link.call("POST", path, asked, headers=headers, **patience))
        return _parsed(call.result, self.link.call(call.method, f"{path}?{urlencode(asked)}", headers=headers))

    def content(self, workspace_id: str, path: str | None, version: int | None) -> tuple[str, int, bytes]:
        place = "overview" if path is None else f"knowledge/{quote(path)}"
        wanted = f"?version={version}" if version is not None else ""
        headers, data = self.link.fetch(f"/api/v1/workspaces/{_segment(workspace_id)}/{place}{wanted}")
        return headers.get("etag", "").strip('"'), int(headers.get("x-version", "0")), data

    def transcript(self, workspace_id: str, session_id: str) -> Iterator[bytes]:
        _, data = self.link.fetch(f"/api/v1/workspaces/{_segment(workspace_id)}/sessions/{_segment(session_id)}")
        yield data

    def put_document(self, workspace_id: str, path: str | None, data: bytes, binding: str) -> None:
        place = "overview" if path is None else f"knowledge/{quote(path)}"
        headers = {"X-Memory-Binding": binding, "Content-Type": "text/markdown; charset=utf-8"}
        self.link.send("PUT", f"/api/v1/workspaces/{_segment(workspace_id)}/{place}", data, headers)

    def put_session(self, workspace_id: str, session_id: str, data: bytes, agent: str, binding: str) -> str:
        place = f"/api/v1/workspaces/{_segment(workspace_id)}/sessions/{_segment(session_id)}"
        headers = {
            "X-Memory-Binding": binding, "X-Memory-Source-Agent": agent, "Content-Type": "application/jsonl",
        }  # fmt: skip
        found = self.link.send("PUT", place, data, headers)
        return str(found.get("status", ""))

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def given_of(arguments: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None and value != ""}


def _segment(text: str) -> str:
    return quote(text, safe="")


def _parsed(kind: type[_Result], found: object) -> _Result:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise Unavailable(
            f"The server's answer is no {kind.__name__} that this version knows", hint="Use the version of the server"
        ) from error
