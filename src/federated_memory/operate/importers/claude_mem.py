"""claude-mem: its database, `~/.claude-mem/claude-mem.db` (SPEC: IMPORT-4).

Observations, summaries and directives become notes; prompts become transcripts, with the row of their session. Rows of
any other table are kept too, in a transcript of their own, so that nothing is lost that a version before or after
this one keeps.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from federated_memory.operate.importers.items import Item, MemoryItem, SessionItem, session_id
from federated_memory.operate.importers.reading import open_database, rows_of, tables_of, text_of, texts_of

NAME = "claude-mem"
_KINDS = {
    "bugfix": "bug", "feature": "implementation", "refactor": "implementation", "change": "implementation",
    "discovery": "context", "decision": "decision",
}  # fmt: skip
_SUMMARY = ("request", "investigated", "learned", "completed", "next_steps", "notes")
_NOTES = frozenset({"observations", "session_summaries", "directives"})
_SESSIONS = frozenset({"sdk_sessions", "user_prompts"})
_WORKINGS = ("schema_versions", "sqlite_")


def recognises(path: Path) -> bool:
    return path.is_file() and {"observations", "sdk_sessions"} <= tables_of(path)


def read(path: Path) -> Iterator[Item]:
    tables = tables_of(path)
    with closing(open_database(path)) as database:
        sessions = [*rows_of(database, "sdk_sessions")] if "sdk_sessions" in tables else []
        named = {row.get("memory_session_id"): row for row in sessions}
        for row in rows_of(database, "observations"):
            yield _observation(row, named)
        if "session_summaries" in tables:
            yield from (_summary(row, named) for row in rows_of(database, "session_summaries"))
        if "directives" in tables:
            yield from (_directive(row) for row in rows_of(database, "directives"))
        yield from _transcripts(database, sessions, tables)
        yield from _others(database, tables)


def _observation(row: dict[str, Any], named: dict[Any, dict[str, Any]]) -> Item:
    facts = texts_of(row.get("facts")) if row.get("facts") else []
    parts = [text_of(row.get("subtitle")), text_of(row.get("narrative")), text_of(row.get("text"))]
    parts += ["\n".join(f"- {fact}" for fact in facts)]
    title = text_of(row.get("title"))
    files = [*texts_of(row.get("files_read") or ""), *texts_of(row.get("files_modified") or "")]
    kind = text_of(row.get("type"))
    used = ("id", "project", "title", "created_at", "concepts")
    return MemoryItem(
        _source(row, "observation"),
        "\n\n".join(filter(str.strip, parts)) or title,
        kind=_KINDS.get(kind, "note"),
        subject=title,
        project=text_of(row.get("project")),
        tags=[*dict.fromkeys(filter(None, [kind, *texts_of(row.get("concepts") or "")]))],
        files=[*dict.fromkeys(files)],
        created_at=text_of(row.get("created_at")),
        others=_rest(row, used),
        agent=_agent(row, named),
        session=_session(row, named),
    )


def _summary(row: dict[str, Any], named: dict[Any, dict[str, Any]]) -> Item:
    said = [(name, text_of(row.get(name)).strip()) for name in _SUMMARY]
    content = "\n\n".join(f"{name.replace('_', ' ').capitalize()}: {text}" for name, text in said if text)
    files = [*texts_of(row.get("files_read") or ""), *texts_of(row.get("files_edited") or "")]
    return MemoryItem(
        _source(row, "summary"),
        content or "A session without a summary",
        kind="summary",
        subject=text_of(row.get("request")),
        project=text_of(row.get("project")),
        files=[*dict.fromkeys(files)],
        created_at=text_of(row.get("created_at")),
        others=_rest(row, ("id", "project", "created_at")),
        agent=_agent(row, named),
        session=_session(row, named),
    )


def _directive(row: dict[str, Any]) -> Item:
    source = f"{NAME}:directive:{row.get('created_at_epoch')}:{row.get('id')}"
    return MemoryItem(
        source, text_of(row.get("content")), kind="config", project=text_of(row.get("project")), importance=5,
        tags=["directive"], created_at=text_of(row.get("created_at")), agent="claude",
        others=_rest(row, ("id", "project", "content", "created_at")),
    )  # fmt: skip


def _transcripts(
    database: sqlite3.Connection, sessions: list[dict[str, Any]], tables: frozenset[str]
) -> Iterator[Item]:
    prompts: dict[str, list[dict[str, object]]] = {}
    for row in rows_of(database, "user_prompts") if "user_prompts" in tables else ():
        prompts.setdefault(text_of(row.get("content_session_id") or row.get("claude_session_id")), []).append(row)
    for row in sessions:
        native_id = text_of(row.get("content_session_id") or row.get("claude_session_id") or row.get("sdk_session_id"))
        head = {"type": "system", "session_id": native_id, "timestamp": row.get("started_at"), "claude_mem": row}
        yield _transcript(native_id, [head, *map(_prompt, prompts.pop(native_id, []))])
    for native_id, rows in prompts.items():
        yield _transcript(native_id or "unknown", [*map(_prompt, rows)])


def _prompt(row: dict[str, Any]) -> dict[str, object]:
    rest = _rest(row, ("prompt_text", "created_at", "content_session_id"))
    return {"role": "user", "timestamp": row.get("created_at"), "text": row.get("prompt_text"), "claude_mem": rest}


def _transcript(native_id: str, lines: list[dict[str, Any]]) -> Item:
    data = "".join(json.dumps(line, ensure_ascii=False, default=_bytes) + "\n" for line in lines).encode()
    return SessionItem(f"{NAME}:session:{native_id}", session_id(NAME, native_id), data, NAME)


def _others(database: sqlite3.Connection, tables: frozenset[str]) -> Iterator[Item]:
    for table in sorted(tables - _NOTES - _SESSIONS):
        if table.startswith(_WORKINGS) or "_fts" in table:
            continue
        lines = [{"table": table, "row": row} for row in rows_of(database, table)]
        if lines:
            yield _transcript(f"table-{table}", lines)


def _source(row: dict[str, Any], what: str) -> str:
    """Row numbers alone are the same in every database."""
    return f"{NAME}:{what}:{row.get('memory_session_id') or row.get('sdk_session_id')}:{row.get('id')}"


def _agent(row: dict[str, Any], named: dict[Any, dict[str, Any]]) -> str:
    return text_of(named.get(row.get("memory_session_id"), {}).get("platform_source")) or "claude"


def _session(row: dict[str, Any], named: dict[Any, dict[str, Any]]) -> str:
    session = named.get(row.get("memory_session_id"), {})
    return text_of(session.get("content_session_id") or row.get("memory_session_id"))


def _rest(row: dict[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in used and value not in (None, "", "[]")}


def _bytes(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
