"""Where a command's answers come from: the running server, else the root itself (SPEC: CLI-3 to CLI-6)."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from federated_memory.cli.link import Link, NotAdmitted, Unreachable
from federated_memory.cli.output import Progress
from federated_memory.cli.protocol import Backend, Call
from federated_memory.cli.remote import PAGE, PAGE_BYTES, Remote, given_of
from federated_memory.errors import Forbidden, Locked, NotFound
from federated_memory.operate.serving import read_control
from federated_memory.service.results import (
    IndexStatus,
    InvitationRow,
    Invited,
    Registered,
    Result,
    Status,
    TokenCreated,
    TokenRow,
    WorkspaceRow,
)
from federated_memory.settings import Settings, is_loopback

if TYPE_CHECKING:
    from federated_memory.auth.caller import Caller
    from federated_memory.service.services import Services

_Result = TypeVar("_Result", bound=Result)

_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 15, 0.2


def open_backend(settings: Settings) -> Backend:
    """The server that runs on this root; else the one that MCP_MEMORY_URL names; else the root itself.

    A server that is just starting or stopping is waited for, a few seconds.

    Raises:
        NotFound: There is no root, and no server is named.
        Locked: Another process holds the root, and it does not answer.
        Unavailable: The server that is named does not answer.
    """
    for _ in range(_LOCK_TRIES):
        found = running_server(settings) or _named_server(settings)
        if found:
            return found
        try:
            return Local(settings)
        except Locked:
            time.sleep(_LOCK_PAUSE_SECONDS)
    raise Locked(
        f"Another process is using {settings.root}, and its server cannot be reached",
        hint="Run the command where the server runs (the same user, the same container), or wait until it has stopped",
    )


def running_server(settings: Settings) -> Remote | None:
    """The server that owns this root, if it answers to the token of its control file."""
    control = read_control(settings.root)
    if control is None or control.is_stale:
        return None
    # `localhost` is always served, whatever address the server is bound to.
    remote = Remote(Link(control.url, control.token, host="localhost"), control.pid)
    try:
        # A server that died may have left its number and port to strangers: no token for them.
        if not remote.is_memory_server():
            return None
        remote.status()
    except (Unreachable, NotAdmitted):
        return None
    return remote


def _named_server(settings: Settings) -> Remote | None:
    """The server of MCP_MEMORY_URL, as MCP_MEMORY_TOKEN.

    Read from the environment only: a `.env` file in a folder that somebody else made must not be able to send
    the token elsewhere.
    """
    url, token = os.environ.get("MCP_MEMORY_URL", ""), os.environ.get("MCP_MEMORY_TOKEN", "")
    if not url or not token:
        return None
    remote = Remote(Link(url, token), 0)
    is_here = is_loopback(urlsplit(remote.url).hostname or "")
    if remote.url.startswith("http://") and not is_here:
        print(f"federated-memory: the token travels unencrypted to {remote.url}; use https", file=sys.stderr)
    try:
        remote.is_memory_server()
    except Unreachable:
        if is_here and has_root(settings):
            return None
        raise
    return remote


def has_root(settings: Settings) -> bool:
    return (settings.root / "_meta" / "format.json").exists()


def ensure_not_foreign(settings: Settings) -> None:
    """As root (`sudo`), files would be made that the server's own user cannot open any more.

    Raises:
        Forbidden: The root belongs to another user.
    """
    owner = _owner_of(settings.root / "_meta" / "format.json")
    if os.geteuid() == 0 and owner != 0:
        raise Forbidden(
            f"{settings.root} belongs to user {owner}, and this is root",
            hint=f"Run it as that user: sudo -u '#{owner}' …",
        )


def _owner_of(path: Path) -> int:
    return path.stat().st_uid


class Local:
    """A root that no server holds; ours until the command ends."""

    def __init__(self, settings: Settings) -> None:
        """Raises: NotFound: there is no root. Locked: another process holds it."""
        if not has_root(settings):
            raise NotFound(
                f"There is no memory root at {settings.root}",
                hint="Run `federated-memory init`, set MEMORY_ROOT, or name a server with MCP_MEMORY_URL and "
                "MCP_MEMORY_TOKEN",
            )
        ensure_not_foreign(settings)
        from federated_memory.app import open_services
        from federated_memory.auth.caller import Caller, Grant
        from federated_memory.logs import set_up_logs

        set_up_logs("WARNING", settings.log_format)
        self.url = ""
        self.pid = 0
        self._caller: Caller = Caller(Grant("local", "admin", ""))
        self._services: Services = open_services(settings)

    def status(self) -> Status:
        """What the root holds; a root without a server is not ready."""
        found = self._services.status.status(self._caller)
        found.ready = False
        found.reasons = ["stopped: no server runs on this root"]
        return found

    def reindex(self, progress: Callable[[int, int], None]) -> IndexStatus:
        return self._services.status.reindex_now(self._caller, progress)

    def workspaces(self, *, machine: str, tool: str, project: str) -> list[WorkspaceRow]:
        wanted: dict[str, Any] = {"machine": machine, "tool": tool, "project": project}
        found: list[WorkspaceRow] = []
        cursor: str | None = None
        while True:
            page = self._services.workspaces.list(
                self._caller, **wanted, limit=PAGE, cursor=cursor, max_bytes=PAGE_BYTES
            )
            found += page.workspaces
            cursor = page.next_cursor
            if cursor is None:
                return found

    def workspace(self, workspace_id: str) -> WorkspaceRow:
        return self._services.workspaces.show(self._caller, workspace_id)

    def reissue(self, workspace_id: str) -> Registered:
        found = self._services.workspaces.reissue(self._caller, workspace_id)
        self._told(f"workspace reissue {workspace_id}")
        return found

    def tokens(self) -> list[TokenRow]:
        return self._services.tokens.list(self._caller)

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
        from federated_memory.auth.tokens import Scopes

        found = self._services.tokens.create(
            self._caller, name, role, read=tuple(read), write=tuple(write), machine=machine, expires=expires,
            scopes=Scopes(**{kind: tuple(globs) for kind, globs in scopes.items()}),
        )  # fmt: skip
        self._told(f"token create {name}")
        return found

    def revoke_token(self, name: str) -> TokenRow:
        found = self._services.tokens.revoke(self._caller, name)
        self._told(f"token revoke {name}")
        return found

    def invite(self, machine: str, *, read: list[str], expires: str, pin: bool) -> Invited:
        return self._services.enrolment.invite(self._caller, machine, read=tuple(read), expires=expires, pin=pin)

    def invitations(self) -> list[InvitationRow]:
        return self._services.enrolment.invitations(self._caller)

    def withdraw(self, invitation_id: str) -> InvitationRow:
        return self._services.enrolment.withdraw(self._caller, invitation_id)

    def operate(self, action: str, **arguments: object) -> dict[str, Any]:
        found = self._services.operations.run(self._caller, action, arguments)
        self._told(f"operation {action}")
        return found

    def ask(self, call: Call[_Result], **given: object) -> _Result:
        if call.needs_index:
            self._follow()
        found = call.here(self._services, self._caller, given_of(given))
        if call.method != "GET":
            self._told(call.path)
        return found

    def content(self, workspace_id: str, path: str | None, version: int | None) -> tuple[str, int, bytes]:
        return self._services.knowledge.content(self._caller, workspace_id, path, version)

    def transcript(self, workspace_id: str, session_id: str) -> Iterator[bytes]:
        return self._services.sessions.stream(self._services.sessions.find(self._caller, workspace_id, session_id))

    def put_document(self, workspace_id: str, path: str | None, data: bytes, binding: str) -> None:
        workspace = self._services.core.policy.writer_at(self._caller, workspace_id, binding, None)
        self._services.knowledge.put(self._caller, workspace, path, data, None)

    def put_session(self, workspace_id: str, session_id: str, data: bytes, agent: str, binding: str) -> str:
        workspace = self._services.core.policy.writer_at(self._caller, workspace_id, binding, None)
        upload = self._services.sessions.begin_upload(
            self._caller, workspace, session_id, encoding="identity", source={"agent": agent}
        )
        try:
            upload.feed(data)
            return upload.finish().status
        finally:
            upload.close()

    def _follow(self) -> None:
        """Bring the index up to date, as a server does behind its answers; one that cannot be is only slower."""
        from federated_memory.index.file import IndexFull, IndexUnusable

        with Progress("making the search index") as bar, contextlib.suppress(IndexFull, IndexUnusable):
            self._services.core.index.catch_up(bar.show)

    def _told(self, what: str) -> None:
        """For the audit log: what a running server writes there itself."""
        self._services.core.audit.write(who="local", role="admin", address="", what=what, outcome="ok", request="")

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        from federated_memory.app import close_services

        close_services(self._services)
