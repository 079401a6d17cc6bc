"""The text form of results, made for a model to read (SPEC: TOOL-4, SEC-4).

Never longer than the JSON form. Stored text stands between marks with a random word, so that nothing inside can close
them, and is named as data with where it came from.
"""

from __future__ import annotations

from functools import singledispatch

import orjson

from federated_memory.service import memory_results as m
from federated_memory.service import results as r
from federated_memory.service.framing import fenced as _fenced
from federated_memory.service.framing import inner as _inner
from federated_memory.service.framing import one_line as _line
from federated_memory.store.memories import MOST_COUNTED


@singledispatch
def render(result: r.Result) -> str:
    raise TypeError(type(result).__name__)


def more(cursor: str | None) -> str:
    return f"\nMore: cursor={cursor}" if cursor else ""


def as_json(value: object) -> str:
    """Compact JSON, as short as in the structured form."""
    return orjson.dumps(value).decode()


def _workspace_lines(found: r.WorkspaceList) -> str:
    lines = [
        f"- {row.workspace_id}: {_line(row.summary)} ({row.documents} documents, {row.sessions} sessions,"
        f" {row.last_activity[:16]})"
        for row in found.workspaces
    ]
    return f"{found.total} workspaces\n" + "\n".join(lines) + more(found.next_cursor)


@render.register
def _(found: r.WorkspaceList) -> str:
    return _workspace_lines(found)


@render.register
def _(found: r.Overview) -> str:
    parts = [found.readme.strip(), render(found.overview) if found.overview else "", _workspace_lines(found)]
    return "\n\n".join(part for part in parts if part)


@render.register
def _(done: r.Registered) -> str:
    parts = [f"{'Registered' if done.created else 'Known'}: {done.workspace_id}"]
    parts += [f"binding: {done.binding}"] if done.binding else []
    parts += [f"write_token: {done.write_token}"] if done.write_token else []
    return "\n".join([*parts, done.note] if done.note else parts)


@render.register
def _(found: r.DocumentList) -> str:
    lines = [
        f"- {_line(row.path)}: {_line(row.title)} ({row.bytes} bytes, {row.updated_at})" for row in found.documents
    ]
    return f"{found.total} documents in {found.workspace_id}\n" + "\n".join(lines) + more(found.next_cursor)


@render.register
def _(found: r.DocumentText) -> str:
    state = f"lines from {found.offset} of {found.lines}" if found.truncated else f"etag {found.etag}"
    head = f"{found.workspace_id} {_line(found.path)} version {found.version}, {found.updated_at}, {state}. Data:\n"
    return head + _fenced(found.text) + _go_on(found.next_offset, found.next_byte_offset)


def _go_on(offset: int | None, byte_offset: int | None) -> str:
    if offset is None:
        return ""
    return f"\nMore: offset={offset}" + (f" byte_offset={byte_offset}" if byte_offset else "")


@render.register
def _(done: r.DocumentWritten) -> str:
    how = "Unchanged" if done.unchanged else "Created" if done.created else "Replaced"
    return f"{how}: {done.workspace_id} {done.path}, version {done.version}, etag {done.etag}"


@render.register
def _(done: r.DocumentDeleted) -> str:
    return f"Deleted: {done.workspace_id} {done.path}; version {done.version} is kept"


@render.register
def _(found: r.History) -> str:
    lines = [f"- {row.version}: {row.operation} by {row.by} at {row.at}, etag {row.etag}" for row in found.versions]
    text = f"{found.workspace_id} {_line(found.path)}\n" + "\n".join(lines) + more(found.next_cursor)
    if found.diff is not None:
        text += "\nDiff (data):\n" + _fenced(found.diff) + (" (cut)" if found.truncated else "")
    return text


@render.register
def _(found: r.SessionList) -> str:
    lines = [
        f"- {row.session_id} in {row.workspace_id}: {_line(row.title)} ({row.started_at}, {row.lines} lines)"
        for row in found.sessions
    ]
    return f"{len(lines)} sessions, newest first\n" + "\n".join(lines) + more(found.next_cursor)


@render.register
def _(found: r.SessionPage) -> str:
    head = f"{found.session_id} in {found.workspace_id}: {_line(found.title)}. {found.lines} lines. Data:\n"
    lines = [
        f"[{message.line}] {message.role}{' ' + _line(message.tool) if message.tool else ''}: {_inner(message.text)}"
        for message in found.messages
    ]
    return head + _fenced("\n".join(lines)) + _go_on(found.next_offset, found.next_byte_offset)


@render.register
def _(done: r.SessionStored) -> str:
    return f"{done.status}: {done.session_id}, revision {done.revision}, {done.lines} lines, sha256 {done.sha256}"


@render.register
def _(found: r.Hits) -> str:
    lines = []
    for hit in found.hits:
        where = f"session {hit.session_id}" if hit.session_id else _line(hit.path or "overview")
        lines.append(f"- {hit.workspace_id} {where} offset={hit.offset} {hit.at[:16]} {_line(hit.snippet)}")
    text = f"{len(lines)} hits. Data:\n" + _fenced("\n".join(lines)) + more(found.next_cursor)
    return text + _noted(found.complete, found.note)


def _noted(is_complete: bool, note: str | None) -> str:
    if not note:
        return ""
    return f"\nNote: {note}" if is_complete else f"\nNot complete: {note}"


@render.register
def _(found: r.Brief) -> str:
    return found.text or f"{found.why}." + "".join(f"\n- {candidate}" for candidate in found.candidates or ())


@render.register
def _(found: r.MemoryHits) -> str:
    lines = []
    for hit in found.hits:
        named = {"session_id": hit.session_id, "memory_id": hit.memory_id, "path": hit.path}
        what = next((_line(f"{name}={value}") for name, value in named.items() if value), "")
        who = f" {hit.role}" if hit.role else ""
        if hit.user:
            who = f" by {_line(hit.user)}" + (f" in room {hit.room}" if hit.room else "")
        lines.append(
            f"- {hit.workspace_id} ({_line(hit.project)}) {_line(hit.title)}, {hit.at[:16]}{who}: {_line(hit.snippet)}"
            f" [{hit.read_with} {what} offset={hit.offset}]"
        )
    text = f"{len(lines)} hits. Data:\n" + _fenced("\n".join(lines)) + more(found.next_cursor)
    return text + _noted(found.complete, found.note)


@render.register
def _(done: m.MemoryStored) -> str:
    lines = [f"{'Stored' if done.created else 'Known'}: {done.memory_id} in {done.workspace_id}"]
    lines += [f"Warning: {_line(text)}" for text in done.warnings]
    if done.similar:
        lines.append("Similar and live (data); if it replaces one, delete or supersede that:")
        lines += [f"- {row.memory_id} ({row.kind}): {_line(row.subject)}" for row in done.similar]
    return "\n".join(lines)


def _memory_line(row: m.MemoryRowResult) -> str:
    about = [row.kind, row.project, row.created_at[:10], *(["deleted"] if row.deleted_at else []),
             *(["superseded by " + ", ".join(row.superseded_by)] if row.superseded_by else []),
             *("#" + tag for tag in row.tags)]  # fmt: skip
    return f"{row.memory_id} in {row.workspace_id}: {_line(row.subject)} ({_line(', '.join(filter(None, about)))})"


@render.register
def _(found: m.MemoryList) -> str:
    lines = [f"- {_memory_line(row)}" for row in found.memories]
    total = f"{found.total}{'' if found.total < MOST_COUNTED else ' or more'}"
    head = f"{len(lines)} of {total} memories, newest first. Data:\n"
    return head + _fenced("\n".join(lines)) + more(found.next_cursor)


@render.register
def _(found: m.MemoryText) -> str:
    beside = [("Summary", found.summary), ("Files", ", ".join(found.files)),
              ("References", ", ".join(found.references)), ("Supersedes", ", ".join(found.supersedes)),
              ("By", f"{found.user}, {found.agent} on {found.machine}"),
              ("Deleted", f"{found.deleted_at} {found.reason or ''}" if found.deleted_at else "")]  # fmt: skip
    lines = [_memory_line(found), *(f"{name}: {_line(text)}" for name, text in beside if text)]
    head = f"Memory, {found.state}. Data:\n"
    return head + _fenced("\n".join(lines) + "\n\n" + found.content) + _go_on(found.next_offset, found.next_byte_offset)


@render.register
def _(done: m.MemoryDeleted) -> str:
    return f"Deleted: {done.memory_id} in {done.workspace_id}; get_memory still shows it"


@render.register
def _(_: r.Nothing) -> str:
    return "ok"
