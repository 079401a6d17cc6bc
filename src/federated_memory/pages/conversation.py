"""A page of a transcript as a conversation (SPEC: SITE-8).

Pages follow the service's offsets, in lines: `line` shows what surrounds it, `start` begins there (`byte` inside its
text), `before` ends there. Whichever is asked, following the links forward shows every message once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from federated_memory.auth.caller import Caller
from federated_memory.pages.markdown import MOST_BYTES, rendered
from federated_memory.service.results import Message, SessionPage
from federated_memory.service.sessions import Sessions

if TYPE_CHECKING:
    from markupsafe import Markup

PAGE_LINES = 200
_PAGE_BYTES = 96 * 1024
_LEAD_LINES = 12
_SUMMARY_CHARACTERS = 140
_MOST_MARKDOWN = 24 * 1024
"""More of it on one page would take longer than a page may."""

Form = Literal["said", "folded"]


@dataclass(frozen=True, slots=True)
class Place:
    """What was asked for; the first that is set counts."""

    line: int | None = None
    before: int | None = None
    start: int = 0
    byte: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as it is shown. `html` or `text`; `summary` when it is folded away."""

    line: int
    speaker: str
    kind: str
    at: str | None
    form: Form
    summary: str
    text: str
    html: Markup | None
    is_hit: bool
    anchor: str
    """On the first message of a line."""


@dataclass(frozen=True, slots=True)
class Conversation:
    page: SessionPage
    entries: list[Entry]
    first: int
    """Number of the first line, and of the one after the last."""
    end: int
    has_hit: bool
    next_start: int | None
    next_byte: int | None


def conversation(sessions: Sessions, caller: Caller, workspace_id: str, session_id: str, place: Place) -> Conversation:
    """Raises: NotFound, Forbidden, InvalidArgument."""

    def read(start: int, byte: int = 0, limit: int = PAGE_LINES) -> Conversation:
        page = sessions.read(
            caller, workspace_id, session_id, offset=start, byte_offset=byte, limit=limit, max_bytes=_PAGE_BYTES
        )
        return _shown(page, place.line)

    if place.line is not None:
        found = read(max(0, place.line - _LEAD_LINES))
        if found.first < place.line and found.end <= place.line < found.page.lines:
            found = read(place.line)  # what leads up to it fills a page by itself
        return found
    if place.before is None:
        return read(place.start, place.byte)
    lines = max(1, min(place.before, PAGE_LINES))
    found = read(max(0, place.before - lines), limit=lines)
    while found.end < min(place.before, found.page.lines) and lines > 1:  # more than a page: what is nearest
        lines = max(1, min(lines // 2, found.end - found.first))
        found = read(place.before - lines, limit=lines)
    return found


def _shown(page: SessionPage, hit_line: int | None) -> Conversation:
    messages, cut_at = _within_markdown(page.messages)
    next_start = page.next_offset if cut_at is None else cut_at
    end = page.lines if next_start is None else next_start
    is_inside = cut_at is None and bool(page.next_byte_offset)
    entries = list(_entries(messages, hit_line))
    return Conversation(
        page=page,
        entries=entries,
        first=page.offset,
        end=end + 1 if is_inside else end,
        has_hit=any(entry.is_hit for entry in entries),
        next_start=next_start,
        next_byte=page.next_byte_offset if cut_at is None else None,
    )


def _within_markdown(messages: list[Message]) -> tuple[list[Message], int | None]:
    """The messages up to the line that would make too much Markdown for one page, and that line."""
    used = 0
    for message in messages:
        weight = len(message.text) if _is_said(message) and len(message.text) <= MOST_BYTES else 0
        if used and used + weight > _MOST_MARKDOWN:
            first = next(at for at, other in enumerate(messages) if other.line == message.line)
            if first:
                return messages[:first], message.line
        used += weight
    return messages, None


def _entries(messages: Iterable[Message], hit_line: int | None) -> Iterator[Entry]:
    previous = -1
    for message in messages:
        yield _entry(message, is_hit=message.line == hit_line, is_first=message.line != previous)
        previous = message.line


def _entry(message: Message, *, is_hit: bool, is_first: bool) -> Entry:
    is_said = _is_said(message)
    html = rendered(message.text) if is_said and len(message.text) <= MOST_BYTES else None
    entry = Entry(
        line=message.line,
        speaker=_speaker(message),
        kind=message.role if is_said or message.role != "assistant" else "call",
        at=message.at,
        form="said" if is_said else "folded",
        summary="",
        text=message.text,
        html=html,
        is_hit=is_hit,
        anchor=f"L{message.line}" if is_first else "",
    )
    return entry if is_said else replace(entry, summary=_summary(message))


def _is_said(message: Message) -> bool:
    return message.role in ("user", "assistant") and not message.tool


def _speaker(message: Message) -> str:
    match message.role:
        case "user":
            return "Person"
        case "assistant":
            return message.tool or "Agent"
        case "tool":
            return f"Result of {message.tool}" if message.tool else "Result"
        case _:
            return "Context"


def _summary(message: Message) -> str:
    """What the folded message begins with; a call without the name that stands before it."""
    text = (
        message.text.removeprefix(message.tool or "").lstrip(":").strip()
        if message.role == "assistant"
        else message.text
    )
    line = " ".join(text[: 4 * _SUMMARY_CHARACTERS].split())
    return line if len(line) <= _SUMMARY_CHARACTERS else line[:_SUMMARY_CHARACTERS] + "…"
