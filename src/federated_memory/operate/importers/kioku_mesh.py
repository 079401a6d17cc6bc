"""kioku-mesh: the `raw.db` of its local mode, and what `kioku-mesh search --format json` prints (SPEC: IMPORT-2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from federated_memory.errors import InvalidArgument
from federated_memory.operate.importers.items import Item, LeftOut, MemoryItem
from federated_memory.operate.importers.reading import is_past, open_database, tables_of, text_of, texts_of

NAME = "kioku-mesh"
_VISIBILITIES = {"": "all", "mesh": "all", "team": "team", "user": "workspace"}
_OURS = frozenset({
    "content", "agent_family", "client_id", "session_id", "project", "tags", "observation_id", "created_at",
    "memory_type", "importance", "subject", "summary", "source_files", "references", "supersedes", "expires_at",
})  # fmt: skip


def recognises(path: Path) -> bool:
    if path.is_dir():
        return False
    if "local_obs" in tables_of(path):
        return True
    with path.open("rb") as file:
        head = file.read(4096)
    return head.lstrip()[:1] in (b"[", b"{") and b'"observation_id"' in head


def read(path: Path) -> Iterator[Item]:
    if "local_obs" not in tables_of(path):
        yield from _searched(path)
        return
    with closing(open_database(path)) as database:
        deleted = dict(database.execute("SELECT observation_id, tomb_json FROM local_tomb"))
        for observation_id, payload in database.execute("SELECT observation_id, payload_json FROM local_obs"):
            if observation_id in deleted:
                yield LeftOut(_source(observation_id), "deleted there", is_meant=True)
                continue
            try:
                found = json.loads(payload)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                yield LeftOut(_source(observation_id), "its record is no JSON object")
                continue
            yield _item({"observation_id": observation_id, **found})


def _searched(path: Path) -> Iterator[Item]:
    """Raises: InvalidArgument: no JSON of observations."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidArgument(
            f"{path} is no JSON", hint="Name what `kioku-mesh search --format json` printed"
        ) from error
    rows = found if isinstance(found, list) else [found]
    for number, row in enumerate(rows):
        if isinstance(row, dict) and row.get("observation_id"):
            yield _item(row)
        else:
            yield LeftOut(f"{NAME}: row {number}", "it has no observation_id")


def _item(found: dict[str, Any]) -> Item:
    source = _source(found["observation_id"])
    expires_at = text_of(found.get("expires_at"))
    if is_past(expires_at):
        return LeftOut(source, "expired there", is_meant=True)
    others = {name: value for name, value in found.items() if name not in _OURS and value not in ("", [], None)}
    importance = found.get("importance")
    return MemoryItem(
        source,
        text_of(found.get("content")),
        kind=text_of(found.get("memory_type")) or "note",
        subject=text_of(found.get("subject")),
        summary=text_of(found.get("summary")),
        project=text_of(found.get("project")),
        importance=importance if isinstance(importance, int) and 1 <= importance <= 5 else 2,
        tags=texts_of(found.get("tags")),
        files=texts_of(found.get("source_files")),
        references=texts_of(found.get("references")),
        supersedes=[_source(one) for one in texts_of(found.get("supersedes"))],
        created_at=text_of(found.get("created_at")),
        expires_at=expires_at,
        visibility=_VISIBILITIES.get(text_of(found.get("visibility")), "workspace"),
        agent=text_of(found.get("agent_family")),
        machine=text_of(found.get("client_id")),
        session=text_of(found.get("session_id")),
        others=others,
    )


def _source(observation_id: object) -> str:
    return f"{NAME}:{observation_id}"
