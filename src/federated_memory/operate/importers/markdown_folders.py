"""Folders of Markdown: basic-memory's notes; CLAUDE.md, AGENTS.md and their like (SPEC: IMPORT-5, IMPORT-7)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from federated_memory.operate.importers.items import Item, LeftOut
from federated_memory.operate.importers.reading import document

BASIC_MEMORY, INSTRUCTIONS = "basic-memory", "instructions"
_SKIPPED = frozenset({".git", ".hg", ".svn", ".obsidian", ".venv", "venv", "node_modules", "__pycache__", ".cache"})
_NAMES = frozenset({"claude.md", "claude.local.md", "agents.md", "agent.md", "agents.override.md", "gemini.md"})
_RULES = (".claude/rules/", ".cursor/rules/")
_RULE_FILES = frozenset({".cursorrules", ".windsurfrules", "copilot-instructions.md"})


def is_basic_memory(path: Path) -> bool:
    """Whether a note in the folder has the front matter that basic-memory writes."""
    if not path.is_dir():
        return False
    for number, file in enumerate(_files(path)):
        if file.suffix == ".md" and _has_permalink(file):
            return True
        if number > 200:
            return False
    return False


def read_basic_memory(path: Path) -> Iterator[Item]:
    """Every note as it is; observations and relations are in its text, and so are found."""
    for file in _files(path):
        place = file.relative_to(path).as_posix()
        source = f"{BASIC_MEMORY}:{place}"
        if file.suffix.lower() in (".md", ".markdown"):
            wanted = place if place.endswith(".md") else f"{place}.md"
            yield document(source, f"{BASIC_MEMORY}/{wanted}", file)
        else:
            yield LeftOut(source, "it is no Markdown")


def is_instructions(path: Path) -> bool:
    if path.is_dir():
        return any(_is_told(file.relative_to(path).as_posix()) for file in path.iterdir() if file.is_file())
    return path.name.lower() in _NAMES | _RULE_FILES


def read_instructions(path: Path) -> Iterator[Item]:
    """What agents are told in a project: the files of that name anywhere in it, each under its path."""
    if not path.is_dir():
        yield document(f"{INSTRUCTIONS}:{path.name}", f"{INSTRUCTIONS}/{_shown(path.name)}", path)
        return
    for file in _files(path):
        place = file.relative_to(path).as_posix()
        if _is_told(place):
            yield document(f"{INSTRUCTIONS}:{place}", f"{INSTRUCTIONS}/{_shown(place)}", file)


def _is_told(place: str) -> bool:
    name = place.rpartition("/")[2].lower()
    is_rule = any(rules in f"/{place}" for rules in (f"/{one}" for one in _RULES)) and name.endswith((".md", ".mdc"))
    return name in _NAMES or name in _RULE_FILES or is_rule


def _shown(place: str) -> str:
    """A path without leading dots, which documents may not have: `.claude/CLAUDE.md` is `claude/CLAUDE.md`."""
    plain = "/".join(part.lstrip(".") for part in place.split("/"))
    return plain if plain.endswith(".md") else f"{plain}.md"


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, by path; no link is followed."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not (Path(top) / name).is_symlink())
        for name in sorted(names):
            file = Path(top) / name
            if file.is_file() and not file.is_symlink():
                yield file


def _has_permalink(file: Path) -> bool:
    with file.open("rb") as opened:
        head = opened.read(4096)
    return head.startswith(b"---") and b"\npermalink:" in head.partition(b"\n---")[0]
