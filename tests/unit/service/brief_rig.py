"""Services over a real root, and short ways to fill it."""

from __future__ import annotations

import json
from pathlib import Path

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.service.brief_scope import Asked
from federated_memory.service.results import Brief
from federated_memory.settings import load_settings
from federated_memory.store.changes import Actor
from federated_memory.store.document import OVERVIEW, Key
from federated_memory.store.registry import Workspace

ACTOR = Actor("tester")
SYNC = Caller(Grant("sync", "sync", "s" * 32))


def agent(**limits: object) -> Caller:
    """An AI caller; `machine` and `tool` are what its headers say, the rest limits its token."""
    headers = {name: str(limits.pop(name)) for name in ("session",) if name in limits}
    return Caller(Grant("ai", "ai", "a" * 32, **limits), **headers)  # type: ignore[arg-type]


def said(role: str, text: str, at: str = "2026-11-20T08:00:00Z", **more: object) -> bytes:
    """A line of Claude Code's."""
    message = {"role": role, "content": text}
    record = {"type": role, "sessionId": "s", "uuid": "u", "timestamp": at, "message": message, **more}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


class Rig:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.services = open_services(
            load_settings(_env_file=None, root=root, mcp_token="m" * 20, sync_token="s" * 20, min_free_bytes=0)
        )

    def close(self) -> None:
        close_services(self.services)

    def workspace(self, machine: str = "desk", project: str = "shop", key: str = "", tool: str = "codex") -> str:
        return self.services.workspaces.register(
            SYNC, machine=machine, tool=tool, project=project, project_key=key
        ).workspace_id

    def known(self, workspace_id: str) -> Workspace:
        return self.services.core.registry.get(workspace_id)

    def overview(self, workspace_id: str, text: str) -> None:
        key = Key(self.known(workspace_id).workspace_id, "overview", OVERVIEW)
        self.services.core.documents.write(key, text.encode(), ACTOR)

    def knowledge(self, workspace_id: str, path: str, text: str) -> None:
        self.services.knowledge.put(SYNC, self.known(workspace_id), path, text.encode(), None)

    def session(self, workspace_id: str, session_id: str, *lines: bytes, **source: str) -> None:
        upload = self.services.sessions.begin_upload(
            SYNC, self.known(workspace_id), session_id, encoding="identity", source=source
        )
        upload.feed(b"".join(lines))
        upload.finish()
        upload.close()

    def fill(self, workspace_id: str, mark: str) -> None:
        """The mark in everything that a workspace holds."""
        self.overview(workspace_id, f"# {mark} overview")
        self.session(workspace_id, f"s-{mark}", said("user", f"{mark} asked"), said("assistant", f"{mark} answered"))
        self.knowledge(workspace_id, f"{mark}.md", f"# {mark} title")

    def brief(self, caller: Caller | None = None, max_bytes: int = 9_000, **asked: object) -> Brief:
        return self.services.briefing.brief(caller or agent(), Asked(**asked), max_bytes)  # type: ignore[arg-type]
