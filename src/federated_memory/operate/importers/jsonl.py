"""Our own JSONL, as `export --format jsonl` writes it: an object a line (SPEC: EXPORT-3, IMPORT-8)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from federated_memory.operate.importers.items import DocumentItem, Item, LeftOut, MemoryItem, SessionItem
from federated_memory.operate.importers.reading import is_past

NAME = "jsonl"
FORMAT = "federated-memory"
VERSION = 1
KEPT_ID = "memory_id:"
"""Begins the source of a note that keeps the id it has."""
_FIELDS = frozenset(one.name for one in fields(MemoryItem))


def recognises(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        first = _parsed(file.readline(1024**2))
    return first is not None and first.get("format") == FORMAT


def names_of(path: Path) -> dict[str, str]:
    """Who the workspace was that was exported; what is not told is left out."""
    with path.open("rb") as file:
        first = _parsed(file.readline(1024**2)) or {}
    names = ("workspace_id", "machine", "tool", "project")
    return {name: first[name] for name in names if isinstance(first.get(name), str) and first[name]}


def read(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                found = _parsed(line)
                yield from _items(found, number) if found else [LeftOut(f"line {number}", "it is no JSON object")]


def _items(found: dict[str, Any], number: int) -> Iterator[Item]:
    match found.get("type"):
        case "memory" if isinstance(found.get("memory_id"), str) and isinstance(found.get("content"), str):
            yield _memory(found)
        case "document" if isinstance(found.get("path"), str):
            yield DocumentItem(f"document:{found['path']}", found["path"], _bytes(found))
        case "session" if isinstance(found.get("session_id"), str):
            name = found["session_id"]
            yield SessionItem(f"session:{name}", name, _bytes(found), str(found.get("agent", "")))
        case "workspace":
            return
        case _:
            yield LeftOut(f"line {number}", "it is nothing that this version knows")


def _memory(found: dict[str, Any]) -> Item:
    source = KEPT_ID + found["memory_id"]
    if is_past(str(found.get("expires_at") or "")):
        return LeftOut(source, "expired", is_meant=True)
    given = {name: value for name, value in found.items() if name in _FIELDS and value is not None}
    others = {**found.get("others", {})}
    if found.get("source"):
        others["source"] = found["source"]
    supersedes = [KEPT_ID + one for one in found.get("supersedes") or ()]
    return MemoryItem(**{**given, "source": source, "supersedes": supersedes, "others": others})


def _bytes(found: dict[str, Any]) -> bytes:
    text = found.get("text")
    return text.encode() if isinstance(text, str) else base64.b64decode(str(found.get("base64", "")))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
