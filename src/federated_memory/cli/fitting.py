"""What another tool kept, made into what a workspace takes, without losing any of it (SPEC: IMPORT-9)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from federated_memory.errors import InvalidArgument, TooLarge
from federated_memory.operate.importers.items import DocumentItem, LeftOut, MemoryItem, short_digest
from federated_memory.operate.importers.jsonl import KEPT_ID
from federated_memory.service.memory_draft import (
    MAX_ENTRIES,
    MAX_PROJECT,
    MAX_REFERENCE,
    MAX_SUBJECT,
    MAX_SUMMARY,
    MAX_TAG,
    MemoryDraft,
    checked,
)
from federated_memory.store.memories import imported_id
from federated_memory.store.memory_file import KINDS

Row = dict[str, Any]
"""A memory as the import takes it."""


def memory_ids(workspace_id: str, items: Sequence[MemoryItem]) -> dict[str, str]:
    """Source -> the id that its note has or will have."""
    return {
        item.source: item.source.removeprefix(KEPT_ID)
        if item.source.startswith(KEPT_ID)
        else imported_id(workspace_id, item.source, item.created_at)
        for item in items
    }


def fitted(item: MemoryItem, ids: Mapping[str, str]) -> Row | DocumentItem | LeftOut:
    """The note, what does not fit a field kept beside it; too long a text or one that is refused as a document."""
    others = dict(item.others)
    content = item.content.replace("\0", "\ufffd")
    if not content.strip():
        content = item.summary or item.subject
    if not content.strip():
        return LeftOut(item.source, "it is empty")

    def kept(name: str, value: Any, original: Any) -> Any:
        if value != original:
            others[name] = original
        return value

    row: Row = {
        "content": content,
        "kind": kept("kind", item.kind if item.kind in KINDS else "note", item.kind),
        "subject": kept("subject", _line(item.subject, MAX_SUBJECT), item.subject) or None,
        "summary": kept("summary", _line(item.summary, MAX_SUMMARY), item.summary) or None,
        "project": kept("project", _line(item.project, MAX_PROJECT), item.project),
        "importance": item.importance,
        "tags": kept("tags", _entries(item.tags, MAX_TAG), list(item.tags)),
        "files": kept("files", _entries(item.files, MAX_REFERENCE), list(item.files)),
        "references": kept("references", _entries(item.references, MAX_REFERENCE), list(item.references)),
        "supersedes": [ids[one] for one in item.supersedes if one in ids][:MAX_ENTRIES],
        "expires_at": item.expires_at or None,
        "visibility": item.visibility,
    }
    if missing := [one for one in item.supersedes if one not in ids]:
        others["supersedes"] = [*others.get("supersedes", []), *missing]
    if problem := _problem(row):
        named = {name: row.pop(name) for name in ("subject", "summary") if row[name] and _problem(row)}
        row |= dict.fromkeys(named)  # a placeholder, such as `n/a`
        others |= named
        problem = _problem(row)
    if problem:
        return _document(item, problem)
    who = {"created_at": item.created_at, "user": item.user, "agent": item.agent, "machine": item.machine,
           "session": item.session, "room": item.room}  # fmt: skip
    if item.source.startswith(KEPT_ID):
        row |= {"memory_id": item.source.removeprefix(KEPT_ID), "source": str(others.pop("source", ""))}
    else:
        row["source"] = item.source[:250] + (short_digest(item.source) if len(item.source) > 250 else "")
    return {**row, **who, "others": others}


def _problem(row: Row) -> str:
    try:
        checked(MemoryDraft(**{name: value for name, value in row.items() if value is not None}))
    except (InvalidArgument, TooLarge) as error:
        return error.message
    return ""


def _document(item: MemoryItem, why: str) -> DocumentItem:
    """The whole note with its fields in front, each as JSON, which is YAML too."""
    told = {one.name: getattr(item, one.name) for one in fields(item) if one.name != "content"}
    told["kept_as_document"] = why
    head = [f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}" for name, value in told.items() if value]
    text = "---\n" + "\n".join(head) + "\n---\n" + item.content + "\n"
    return DocumentItem(item.source, f"imported/{short_digest(item.source)}.md", text.encode("utf-8", "replace"))


def _line(text: str, most: int) -> str:
    plain = " ".join("".join(letter if ord(letter) >= 32 and letter != "\x7f" else " " for letter in text).split())
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def _entries(texts: Sequence[str], most: int) -> list[str]:
    return [text for text in texts if text.strip() and text.isprintable() and len(text) <= most][:MAX_ENTRIES]
