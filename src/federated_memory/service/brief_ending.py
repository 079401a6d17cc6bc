"""How a session ended: the last things a person and the agent said, read from the archive's tail (SPEC: BRIEF-6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from federated_memory.errors import NotFound
from federated_memory.service.core import Core
from federated_memory.store.archive import Archive, Archives
from federated_memory.store.registry import Workspace
from federated_memory.transcripts import Reader, Turn, reader_of
from federated_memory.transcripts.values import parse_record

TITLE = "# Memory brief"
"""How every brief begins: an agent may keep it under the user's name."""
_SESSIONS = 4
_PAGE, _PAGES, _LATEST_CHANGES = 16, 12, 300
"""How far back the last sessions are looked for, among those of sub-agents."""
_EXCHANGES = 2
_MOST_LINES = 2_000
_MOST_BYTES = 12 * 1024**2
_MOST_LINE_BYTES = 4 * 1024**2
_BATCHES = (16, 64, 256)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a person asked, and the agent's last words before the next request; either may be unknown."""

    request: Turn | None
    answer: Turn | None


def latest_sessions(core: Core, workspace: Workspace) -> list[Archive]:
    """The latest of a workspace, in no order: those begun last, and those stored last, begun perhaps long ago."""
    stored = core.root.database.rows(
        "SELECT DISTINCT key FROM (SELECT kind, key FROM changes WHERE workspace_id = ?"
        " ORDER BY sequence DESC LIMIT ?) WHERE kind = 'session' LIMIT ?",
        workspace.workspace_id, _LATEST_CHANGES, _PAGE,
    )  # fmt: skip
    found = {archive.session_id: archive for archive in _begun_last(core.archives, workspace)}
    for (session_id,) in stored:
        with suppress(NotFound):  # removed since
            archive = core.archives.find(workspace.workspace_id, session_id)
            if not _is_part(core.archives, archive):
                found[session_id] = archive
    return list(found.values())


def _begun_last(archives: Archives, workspace: Workspace) -> Iterator[Archive]:
    wanted, after = _SESSIONS, None
    for _ in range(_PAGES):
        page = archives.newest(workspace.workspace_id, after=after, limit=_PAGE)
        for archive in page:
            if not _is_part(archives, archive):
                yield archive
                wanted -= 1
            if not wanted:
                return
        if len(page) < _PAGE:
            return
        after = (page[-1].started_at, page[-1].session_id)


def _is_part(archives: Archives, archive: Archive) -> bool:
    """A sub-agent's transcript is part of another session, and a session may have many of them."""
    source = archives.provenance(archive).source
    return archive.session_id.startswith("agent-") or bool(source.get("parent-id") or source.get("parent_id"))


def ending_of(archives: Archives, archive: Archive) -> list[Exchange]:
    """The last exchanges, newest first. A bounded part of the transcript is looked at.

    Raises:
        NotFound, Unavailable: The archive is gone, or its end is damaged.
    """
    found: list[Exchange] = []
    answer: Turn | None = None
    for turn in _said_last(archives, archive):
        if turn.role == "assistant":
            answer = answer or turn
            continue
        found.append(Exchange(turn, answer))
        answer = None
        if len(found) == _EXCHANGES:
            return found
    if answer is not None:
        found.append(Exchange(None, answer))
    return found


def _said_last(archives: Archives, archive: Archive) -> Iterator[Turn]:
    """What people and the agent itself said, the last first: no calls, no results, nothing injected, no sub-agents."""
    reader = reader_of(archive.agent)
    for number, raw in _lines_from_the_end(archives, archive):
        for turn in reversed(_turns(reader, raw, number)):
            is_words = turn.role == "user" or (turn.role == "assistant" and turn.tool_name is None)
            if is_words and turn.text != "[image]" and not turn.text.lstrip().startswith(TITLE):
                yield turn


def _turns(reader: Reader, raw: bytes, number: int) -> list[Turn]:
    record = parse_record(raw)
    if record is None or record.get("isSidechain") is True:
        return []
    return list(reader.turns(record, number))


def _lines_from_the_end(archives: Archives, archive: Archive) -> Iterator[tuple[int, bytes]]:
    """Lines that are whole, the last first."""
    end, room = archive.lines, _MOST_BYTES
    least = max(0, archive.lines - _MOST_LINES)
    batches = iter(_BATCHES)
    size = _BATCHES[0]
    while end > least and room > 0:
        size = next(batches, size)
        start = max(least, end - size)
        batch: list[tuple[int, bytes]] = []
        following = start
        while following < end and room > 0:
            lines = archives.read_lines(archive, following, end - following, _MOST_LINE_BYTES)
            if not lines:
                return
            batch += ((line.number, line.data) for line in lines if len(line.data) == line.total_bytes)
            room -= sum(len(line.data) for line in lines)
            following = lines[-1].number + 1
        if following < end:
            return  # the end of this batch was not reached: what came before it is not the last
        yield from reversed(batch)
        end = start
