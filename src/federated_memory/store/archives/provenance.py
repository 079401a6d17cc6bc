"""`<session_id>.json` beside an archive: where the transcript came from (SPEC: ARCH-11).

It repeats what the state database knows, so that everything can be rebuilt from the files, and adds who uploaded it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from federated_memory.store.archives.rows import Archive
from federated_memory.store.changes import Actor

MAX_SOURCE_BYTES = 8 * 1024
_MAX_FILE_BYTES = 64 * 1024
_MAX_TEXT_CHARACTERS = 2000

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """`source` is what the uploader told of itself; unknown texts are empty."""

    session_id: str
    native_id: str = ""
    agent: str = ""
    source: dict[str, Scalar] = field(default_factory=dict)
    sha256: str = ""
    raw_bytes: int = 0
    lines: int = 0
    revision: int = 1
    title: str = ""
    started_at: str = ""
    ended_at: str = ""
    cwd: str = ""
    uploaded_at: str = ""
    updated_at: str = ""
    uploaded_by: str = ""

    def to_bytes(self) -> bytes:
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(known, ensure_ascii=False, indent=2).encode("utf-8") + b"\n"


def parse_provenance(data: bytes, session_id: str) -> Provenance | None:
    """None when `data` is not the provenance of that session; values of a wrong type count as unknown."""
    try:
        found = json.loads(data) if len(data) <= _MAX_FILE_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("session_id") != session_id:
        return None
    known: dict[str, object] = {"session_id": session_id}
    for item in fields(Provenance):
        value = found.get(item.name)
        if item.name == "source":
            known["source"] = clean_source(value if isinstance(value, dict) else None)
        elif item.type == "str" and isinstance(value, str):
            known[item.name] = clean_text(value)
        elif item.type == "int" and isinstance(value, int) and 0 <= value < 2**62:
            known[item.name] = int(value)
    return Provenance(**known)  # type: ignore[arg-type]


def provenance_of(
    row: Archive, known: Provenance | None, actor: Actor, source: Mapping[str, Scalar] | None = None
) -> Provenance:
    """Of an archive as it is now. Who uploaded it first, and when, stays; so does what `source` does not replace."""
    known = known or Provenance(row.session_id)
    return Provenance(
        session_id=row.session_id,
        native_id=row.native_id,
        agent=row.agent,
        source={**known.source, **(source or {})},
        sha256=row.sha256,
        raw_bytes=row.raw_bytes,
        lines=row.lines,
        revision=row.revision,
        title=row.title,
        started_at=row.started_at,
        ended_at=row.ended_at,
        cwd=row.cwd,
        uploaded_at=known.uploaded_at or row.updated_at,
        updated_at=row.updated_at,
        uploaded_by=known.uploaded_by or actor.name,
    )


def clean_source(source: Mapping[str, object] | None) -> dict[str, Scalar]:
    """The scalars among what an uploader told, at most 8 KiB of JSON; the rest is left out."""
    clean: dict[str, Scalar] = {}
    room = MAX_SOURCE_BYTES - 2
    for key, value in (source or {}).items():
        if not isinstance(key, str) or not (value is None or isinstance(value, (str, int, float))):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            continue
        if isinstance(value, int) and abs(value) >= 2**63:
            continue
        pair = {clean_text(key)[:64]: clean_text(value) if isinstance(value, str) else value}
        room -= len(json.dumps(pair, ensure_ascii=False).encode())
        if room < 0:
            break
        clean.update(pair)
    return clean


def clean_text(text: str) -> str:
    """One line of valid Unicode, at most 2,000 characters."""
    cut = text[:_MAX_TEXT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() else " " for character in cut).strip()
