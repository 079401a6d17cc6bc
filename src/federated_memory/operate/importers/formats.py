"""All that can be imported, by name (SPEC: IMPORT-1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.operate.importers import claude_mem, jsonl, kioku_mesh, markdown_folders, server_memory, specstory
from federated_memory.operate.importers.items import Item


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    about: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Iterator[Item]]
    is_of_a_project: bool = False
    """What it holds belongs to the project whose folder it is in."""


FORMATS = (
    Format(jsonl.NAME, "what `export --format jsonl` wrote", jsonl.recognises, jsonl.read),
    Format(kioku_mesh.NAME, "raw.db, or the JSON of its search", kioku_mesh.recognises, kioku_mesh.read),
    Format(claude_mem.NAME, "claude-mem.db", claude_mem.recognises, claude_mem.read),
    Format(server_memory.NAME, "memory.jsonl, its knowledge graph", server_memory.recognises, server_memory.read),
    Format(specstory.NAME, ".specstory/history", specstory.recognises, specstory.read, is_of_a_project=True),
    Format(
        markdown_folders.BASIC_MEMORY, "a folder of notes", markdown_folders.is_basic_memory,
        markdown_folders.read_basic_memory,
    ),
    Format(
        markdown_folders.INSTRUCTIONS, "CLAUDE.md, AGENTS.md and the like of a project",
        markdown_folders.is_instructions, markdown_folders.read_instructions, is_of_a_project=True,
    ),
)  # fmt: skip
NAMES = tuple(form.name for form in FORMATS)


def format_of(path: Path, name: str = "") -> Format:
    """The format of that name, else the one that `path` has.

    Raises:
        NotFound: There is nothing at `path`.
        InvalidArgument: It has none of them.
    """
    if not path.exists():
        raise NotFound(f"There is nothing at {path}", hint="Name the file or folder that the other tool keeps")
    if name:
        return next(form for form in FORMATS if form.name == name)
    found = next((form for form in FORMATS if form.recognises(path)), None)
    if found is None:
        raise InvalidArgument(
            f"{path} is nothing that is known here", hint="Say what it is with --from: " + ", ".join(NAMES)
        )
    return found
