"""A workspace as JSONL, an object a line (SPEC: EXPORT-3)."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from federated_memory.cli.calls import DOCUMENTS, EXPORT, SESSIONS, every
from federated_memory.errors import NotFound
from federated_memory.operate.importers.jsonl import FORMAT, VERSION

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend

_OVERVIEW = "overview.md"


def lines(backend: Backend, workspace_id: str, counts: Counter[str]) -> Iterator[str]:
    """Who it is; its memories, oldest first; its overview and documents as they are now; its transcripts."""
    row = backend.workspace(workspace_id)
    told = {"workspace_id": row.workspace_id, "machine": row.machine, "tool": row.tool, "project": row.project}
    yield _line({"format": FORMAT, "version": VERSION, "type": "workspace", **told})
    for memory in reversed(every(backend, EXPORT, "memories", workspace_id=row.workspace_id)):
        counts["memory"] += 1
        yield _line({"type": "memory", **memory.as_dict()})
    for path in [None, *(one.path for one in every(backend, DOCUMENTS, "documents", workspace_id=row.workspace_id))]:
        try:
            _, _, data = backend.content(row.workspace_id, path, None)
        except NotFound:  # no overview, or deleted meanwhile
            continue
        counts["document"] += 1
        yield _line({"type": "document", "path": path or _OVERVIEW, **_text(data)})
    for session in reversed(every(backend, SESSIONS, "sessions", workspace_id=row.workspace_id)):
        counts["session"] += 1
        data = b"".join(backend.transcript(row.workspace_id, session.session_id))
        yield _line({"type": "session", "session_id": session.session_id, "agent": session.agent, **_text(data)})


def _text(data: bytes) -> dict[str, Any]:
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
