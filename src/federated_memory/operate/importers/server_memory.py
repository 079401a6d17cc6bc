"""@modelcontextprotocol/server-memory: the JSONL of its knowledge graph (SPEC: IMPORT-3).

Each observation and each relation becomes a note of its own, so that what is added there later comes in later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from federated_memory.operate.importers.items import Item, LeftOut, MemoryItem, short_digest
from federated_memory.operate.importers.reading import text_of

NAME = "server-memory"


def recognises(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        first = _parsed(file.readline(1024**2))
    return first is not None and first.get("type") in ("entity", "relation") and ("name" in first or "from" in first)


def read(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found = _parsed(line)
            kind = found.get("type") if found else None
            if found and kind == "entity":
                yield from _entity(found)
            elif found and kind == "relation":
                yield _relation(found)
            else:
                yield LeftOut(f"{NAME}: line {number}", "it is neither an entity nor a relation")


def _entity(found: dict[str, Any]) -> Iterator[Item]:
    name, kind = text_of(found.get("name")), text_of(found.get("entityType"))
    observations = found.get("observations")
    extra = {key: value for key, value in found.items() if key not in ("type", "name", "entityType", "observations")}
    others = {"entity": name, "entity_type": kind, **extra}
    tags = [kind] if kind else []
    texts = [text_of(one) for one in observations] if isinstance(observations, list) else []
    for text in texts:
        source = f"{NAME}:{_key(name)}:{short_digest(text)}"
        yield MemoryItem(
            source, f"{name}: {text}", subject=name, tags=tags, others={**others, "observation": text}, agent=NAME
        )
    if not texts:
        said = f"{name} ({kind})" if kind else name
        yield MemoryItem(
            f"{NAME}:{_key(name)}", f"{said}: known, nothing more", subject=name, tags=tags, others=others, agent=NAME
        )


def _relation(found: dict[str, Any]) -> Item:
    start, end, kind = (text_of(found.get(name)) for name in ("from", "to", "relationType"))
    source = f"{NAME}:relation:{short_digest(json.dumps([start, kind, end]))}"
    others = {key: value for key, value in found.items() if key != "type"}
    return MemoryItem(source, f"{start} {kind} {end}", subject=start, tags=["relation"], others=others, agent=NAME)


def _key(name: str) -> str:
    plain = "".join(letter for letter in name if letter.isprintable())[:100].strip()
    return plain if plain == name else f"{plain} {short_digest(name)}"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
