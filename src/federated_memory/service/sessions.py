"""Sessions: list, read as messages or raw, download, upload, plan."""

from __future__ import annotations

import base64
import binascii
import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import orjson

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.names import ETag, parse_document_path, parse_session_id, parse_workspace_id
from federated_memory.service.core import Core
from federated_memory.service.pages import (
    ENVELOPE_BYTES,
    CursorKey,
    cut_text,
    decode_cursor,
    encode_cursor,
    fit_rows,
    json_bytes,
)
from federated_memory.service.results import Message, SessionList, SessionPage, SessionRow, SessionStored
from federated_memory.service.secrets import LineGuard, line_guard
from federated_memory.service.times import parse_since, parse_until
from federated_memory.store.archive import Archive, Archives, Upload
from federated_memory.store.document import Key
from federated_memory.store.inflate import InflateLimits, Inflater, inflater
from federated_memory.store.registry import Workspace
from federated_memory.transcripts import Reader, read_turns, reader_of

_BATCH_LINES, _BATCH_BYTES = 64, 4 * 1024**2
_MOST_SCANNED_BYTES = 16 * 1024**2
"""A page may pass over lines that say nothing, but not over the whole of a long transcript."""
_MAX_PLAN_ENTRIES = 100_000


class SessionUpload:
    """One transcript on its way in. Blocking; after `finish` or an error, `close` it."""

    def __init__(
        self, decoder: Inflater, upload: Upload, workspace_id: str, session_id: str, guard: LineGuard | None = None
    ) -> None:
        self._decoder = decoder
        self._upload = upload
        self._guard = guard
        self._names = {"workspace_id": workspace_id, "session_id": session_id}
        self._finished = False

    def feed(self, data: bytes) -> None:
        """Raises: TooLarge, InvalidArgument, StorageFull, Conflict: nothing is stored."""
        for piece in self._decoder.feed(data):
            if self._guard:
                self._guard.feed(piece)
            self._upload.feed(piece)

    def finish(self) -> SessionStored:
        self._decoder.finish()
        if self._guard:
            self._guard.finish()
        done = self._upload.finish()
        self._finished = True
        return SessionStored(
            **self._names,
            status=done.status,
            revision=done.revision,
            sha256=done.sha256,
            bytes=done.raw_bytes,
            lines=done.lines,
            title=done.title,
        )

    def close(self) -> None:
        if not self._finished:
            self._upload.abort()


class Sessions:
    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def _archives(self) -> Archives:
        return self._core.archives

    # -- reading

    def list(
        self,
        caller: Caller,
        workspace_id: str = "",
        *,
        tool: str = "",
        since: str | None = None,
        until: str | None = None,
        limit: int,
        cursor: str | None,
        max_bytes: int,
    ) -> SessionList:
        """Transcripts that the caller may read, newest first; without a workspace, those of all."""
        position = decode_cursor(cursor, "sessions", str, str, str)
        window = {"since": parse_since(since), "until": parse_until(until)}
        found = heapq.merge(
            *(
                self._newest(workspace, limit + 1, position, window)
                for workspace in self._core.policy.chosen(caller, workspace_id, tool)
            ),
            key=_order,
            reverse=True,
        )
        rows, more = fit_rows((_row(archive) for archive in found), limit, max_bytes)
        last = rows[-1] if more else None
        return SessionList(
            sessions=rows,
            next_cursor=encode_cursor("sessions", [last.started_at, last.session_id, last.workspace_id])
            if last
            else None,
        )

    def _newest(
        self, workspace: Workspace, limit: int, position: CursorKey | None, window: Mapping[str, str | None]
    ) -> Iterable[Archive]:
        after = None
        if position:
            started_at, session_id, workspace_id = map(str, position)
            # The same session may stand in several workspaces; those that sort after the last one come next.
            comes_next = workspace.workspace_id < workspace_id
            after = (started_at, session_id + "\0" if comes_next else session_id)
        return self._archives.newest(workspace.workspace_id, **window, after=after, limit=limit)

    def locate(self, caller: Caller, session_id: str) -> SessionList:
        """The sessions of that id in all workspaces that the caller may read. Raises: NotFound: none of them has it."""
        wanted = parse_session_id(session_id)
        found = []
        for workspace in self._core.policy.chosen(caller, "", ""):
            with contextlib.suppress(NotFound):
                found.append(_row(self._archives.find(workspace.workspace_id, wanted)))
        if not found:
            raise NotFound(f"No session {wanted}", hint="list_sessions and search hits name them")
        return SessionList(sessions=found)

    def find(self, caller: Caller, workspace_id: str, session_id: str, revision: int | None = None) -> Archive:
        """Raises: NotFound, Forbidden."""
        wanted = workspace_id or self._core.policy.bound_workspace(caller) or ""
        if not wanted:
            raise InvalidArgument("workspace_id missing", hint="list_sessions and search hits name it")
        workspace = self._core.policy.reader(caller, parse_workspace_id(wanted))
        return self._archives.find(workspace.workspace_id, parse_session_id(session_id), revision)

    def stream(self, archive: Archive) -> Iterator[bytes]:
        """The raw bytes of a transcript that `find` gave."""
        return self._archives.stream(archive)

    def read(
        self,
        caller: Caller,
        workspace_id: str,
        session_id: str,
        *,
        offset: int = 0,
        byte_offset: int = 0,
        limit: int = 1_000_000,
        form: Literal["messages", "raw"] = "messages",
        revision: int | None = None,
        max_bytes: int,
    ) -> SessionPage:
        """A page of lines from `offset`, as messages or raw; negative offsets count from the end."""
        archive = self.find(caller, workspace_id, session_id, revision)
        start = max(0, archive.lines + offset) if offset < 0 else offset
        title = cut_text(archive.title, max_bytes // 5)  # or nothing is left for what was said
        page = SessionPage(
            workspace_id=archive.workspace_id, session_id=archive.session_id, title=title,
            agent=archive.agent, revision=archive.revision, sha256=archive.sha256, lines=archive.lines,
            offset=start, messages=[],
        )  # fmt: skip
        budget = max_bytes - json_bytes(page.model_dump_json()) - ENVELOPE_BYTES // 2
        self._fill(page, archive, start, min(limit, max(0, archive.lines - start)), byte_offset, form, budget)
        page.truncated = page.next_offset is not None or start > 0
        return page

    def _fill(
        self, page: SessionPage, archive: Archive, start: int, limit: int, skip: int, form: str, budget: int
    ) -> None:
        reader = reader_of(archive.agent)
        scanned = 0
        for line, raw in self._lines(archive, start, limit):
            if scanned > _MOST_SCANNED_BYTES:
                page.next_offset = line
                return
            scanned += len(raw)
            messages = _raw(raw, line) if form == "raw" else _messages(reader, raw, line)
            given = skip if line == start else 0
            for message in _from_byte(messages, given):
                size = len(orjson.dumps(message.as_dict())) + 1
                if size > budget and page.messages:
                    page.next_offset, page.next_byte_offset = line, given or None
                    return
                if size > budget:
                    message.text = cut_text(message.text, max(1, budget - (size - json_bytes(message.text))))
                    page.messages.append(message)
                    page.next_offset, page.next_byte_offset = line, given + _size(message)
                    return
                page.messages.append(message)
                budget -= size
                given += _size(message)
        following = start + limit
        page.next_offset = following if following < archive.lines else None

    def _lines(self, archive: Archive, start: int, limit: int) -> Iterator[tuple[int, bytes]]:
        end = start + limit
        while start < end:
            batch = self._archives.read_lines(archive, start, min(_BATCH_LINES, end - start), _BATCH_BYTES)
            if not batch:
                return
            yield from ((line.number, line.data) for line in batch)
            start = batch[-1].number + 1

    # -- writing

    def begin_upload(
        self,
        caller: Caller,
        workspace: Workspace,
        session_id: str,
        *,
        encoding: str,
        offset: int | None = None,
        if_match: ETag | None = None,
        source: Mapping[str, object] | None = None,
    ) -> SessionUpload:
        """Begin storing a transcript: the whole of it, or (with `offset`) what follows the bytes that are held."""
        settings = self._core.settings
        decoder = inflater(
            encoding,
            InflateLimits(
                max_bytes=settings.max_session_bytes,
                max_ratio=settings.max_ratio,
                max_members=settings.max_gzip_members,
            ),
        )
        known_as = parse_session_id(session_id)
        begin = (
            self._archives.receive
            if offset is None
            else partial(self._archives.append, offset=offset, if_match=if_match)
        )
        upload = begin(workspace.workspace_id, known_as, native_id=session_id, actor=caller.actor, source=source)
        return SessionUpload(decoder, upload, workspace.workspace_id, known_as, line_guard(settings))

    def upload(
        self,
        caller: Caller,
        workspace_id: str,
        write_token: str | None,
        session_id: str,
        *,
        content: str | None,
        content_base64: str | None,
        encoding: str | None,
        source: Mapping[str, object] | None,
    ) -> SessionStored:
        """A whole transcript inside a tool call."""
        workspace = self._core.policy.uploader(caller, parse_workspace_id(workspace_id), write_token)
        data, coding = _content(content, content_base64, encoding)
        upload = self.begin_upload(caller, workspace, session_id, encoding=coding, source=source)
        try:
            upload.feed(data)
            return upload.finish()
        finally:
            upload.close()

    def plan(self, caller: Caller, workspace_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """What of a client's files is not here: knowledge paths that differ, sessions and the offset to send from.

        A session whose held bytes may be a beginning of the client's gets their count and etag, for a PATCH; offset 0
        asks for the whole transcript.
        """
        workspace = self._core.policy.reader(caller, parse_workspace_id(workspace_id))
        knowledge, sessions = _plan_of(wanted)
        self._core.scan.workspace(workspace.workspace_id, ["knowledge"])
        differing = []
        for path, digest in knowledge.items():
            document = self._core.documents.find(Key(workspace.workspace_id, "knowledge", parse_document_path(path)))
            is_held = document is not None and not document.deleted and document.etag == digest
            if not is_held and not self._core.tombstones.has(workspace.workspace_id, "text", digest):
                differing.append(path)
        needed: dict[str, dict[str, object]] = {}
        for session_id, told in sessions.items():
            if self._core.tombstones.has(workspace.workspace_id, "session", parse_session_id(session_id)):
                continue  # purged: asking for it would only be refused
            try:
                held = self._archives.find(workspace.workspace_id, parse_session_id(session_id))
            except NotFound:
                needed[session_id] = {"offset": 0}
                continue
            if held.sha256 == told["sha256"]:
                continue
            grows = held.raw_bytes < told["bytes"]
            needed[session_id] = {"offset": held.raw_bytes, "etag": held.sha256} if grows else {"offset": 0}
        return {"knowledge": differing, "sessions": needed}


def _order(archive: Archive) -> tuple[str, str, str]:
    return archive.started_at, archive.session_id, archive.workspace_id


def _row(archive: Archive) -> SessionRow:
    return SessionRow(
        workspace_id=archive.workspace_id,
        session_id=archive.session_id,
        title=archive.title,
        agent=archive.agent,
        started_at=archive.started_at,
        ended_at=archive.ended_at,
        lines=archive.lines,
        bytes=archive.raw_bytes,
        sha256=archive.sha256,
        revision=archive.revision,
    )


def _raw(raw: bytes, line: int) -> list[Message]:
    return [Message(line=line, role="raw", text=raw.decode("utf-8", "replace"))]


def _messages(reader: Reader, raw: bytes, line: int) -> list[Message]:
    return [
        Message(line=turn.line, role=turn.role, at=turn.at, tool=turn.tool_name, text=turn.text)
        for turn in read_turns(reader, raw, line)
    ]


def _size(message: Message) -> int:
    return len(message.text.encode("utf-8", "surrogatepass"))


def _from_byte(messages: Iterable[Message], skip: int) -> Iterator[Message]:
    """The messages of a line without the first `skip` bytes of their texts."""
    for message in messages:
        size = _size(message)
        if skip and skip >= size:
            skip -= size
            continue
        if skip:
            data = message.text.encode("utf-8", "surrogatepass")
            if data[skip] & 0xC0 == 0x80:
                raise InvalidArgument("`byte_offset` is inside a character", hint="Pass `next_byte_offset` or nothing")
            message.text = data[skip:].decode("utf-8", "surrogatepass")
            skip = 0
        yield message


def _content(content: str | None, content_base64: str | None, encoding: str | None) -> tuple[bytes, str]:
    if (content is None) == (content_base64 is None):
        raise InvalidArgument("Pass either content or content_base64", hint="content is JSONL text")
    if content is not None:
        if encoding:
            raise InvalidArgument("encoding belongs to content_base64", hint="Leave it out")
        try:
            return content.encode("utf-8"), "identity"
        except UnicodeEncodeError:
            raise InvalidArgument("content holds a lone surrogate", hint="Pass it as content_base64") from None
    try:
        return base64.b64decode(content_base64 or "", validate=True), encoding or "identity"
    except (binascii.Error, ValueError):
        raise InvalidArgument("content_base64 is not base64", hint="Use the standard alphabet with padding") from None


def _plan_of(wanted: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    knowledge, sessions = wanted.get("knowledge", {}), wanted.get("sessions", {})
    is_plan = (
        wanted.keys() <= {"knowledge", "sessions"}
        and isinstance(knowledge, dict)
        and isinstance(sessions, dict)
        and all(isinstance(digest, str) for digest in knowledge.values())
        and all(
            isinstance(told, dict) and isinstance(told.get("bytes"), int) and isinstance(told.get("sha256"), str)
            for told in sessions.values()
        )
    )
    if not is_plan:
        raise InvalidArgument(
            "Not a plan", hint='Send {"knowledge": {path: sha256}, "sessions": {id: {"bytes": n, "sha256": digest}}}'
        )
    if len(knowledge) + len(sessions) > _MAX_PLAN_ENTRIES:
        raise InvalidArgument(f"A plan has at most {_MAX_PLAN_ENTRIES} entries", hint="Send it in parts")
    return knowledge, sessions
