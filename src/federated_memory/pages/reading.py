"""A page of a document that is worth rendering: around a hit, or where the last one ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from federated_memory.pages.asked import Asked
from federated_memory.pages.markdown import MOST_BYTES, rendered
from federated_memory.service.knowledge import Knowledge
from federated_memory.service.results import DocumentText

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Reading:
    text: DocumentText
    html: Markup


def reading(knowledge: Knowledge, asked: Asked, workspace_id: str, path: str | None) -> Reading:
    """What the query asks: `start` and `byte`, where to go on; `line`, what to mark; `version`."""
    start, byte, line = asked.number("start"), asked.number("byte") or 0, asked.number("line")
    version = asked.number("version")

    def read(offset: int) -> DocumentText:
        return knowledge.read(
            asked.caller, workspace_id, path, version=version, offset=offset, byte_offset=byte, max_bytes=MOST_BYTES
        )

    text = read(start or 0)
    if start is None and line is not None and text.next_offset is not None and line >= text.next_offset:
        text = read(line)
    hit = line - text.offset if line is not None and line >= text.offset else None
    return Reading(text, rendered(text.text, hit))
