"""What other tools keep, laid down as they keep it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors" / "importers"


def sample(folder: Path, name: str) -> Path:
    """The file or folder of one tool, made in `folder`."""
    match name:
        case "kioku-mesh":
            return _database(folder / "raw.db", "kioku-raw.sql")
        case "claude-mem":
            return _database(folder / "claude-mem.db", "claude-mem.sql")
        case "server-memory":
            return Path(shutil.copy(VECTORS / "server-memory.jsonl", folder / "memory.jsonl"))
        case "basic-memory" | "specstory":
            return Path(shutil.copytree(VECTORS / name, folder / name))
        case "instructions":
            return _project(folder / "shop")
    raise AssertionError(name)


def _database(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.executescript((VECTORS / script).read_text())
    return path


def _project(folder: Path) -> Path:
    for name in (
        "CLAUDE.md",
        "AGENTS.md",
        "web/CLAUDE.md",
        ".claude/rules/style.md",
        "README.md",
        "node_modules/CLAUDE.md",
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {name}\n\nUse tabs.\n")
    return folder
