"""What a caller wants remembered, checked before anything is kept (SPEC: MEM-9 to MEM-12)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from federated_memory.errors import InvalidArgument, TooLarge
from federated_memory.names import shown
from federated_memory.store.memory_file import KINDS, VISIBILITIES, MemoryKind, Visibility, subject_of
from federated_memory.transcripts.times import parse_time

MAX_CONTENT_BYTES = 64 * 1024
MAX_SUBJECT, MAX_SUMMARY, MAX_PROJECT = 200, 1_000, 200
MAX_ENTRIES, MAX_TAG, MAX_REFERENCE = 50, 64, 500
_MAX_TTL_SECONDS = 10 * 366 * 86_400
_PLACEHOLDER = re.compile(
    r"(?:todo|tbd|tba|fixme|n/?a|none|null|nil|undefined|unknown|untitled|no (?:subject|summary|title)|subject|summary"
    r"|title|string|text|placeholder|lorem ipsum.*|x+|\W*|[<\[{(].{0,40}[>\]})])[.!:]*",
    re.IGNORECASE | re.DOTALL,
)
_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1|\Z)|`+[^`\n]+`+", re.DOTALL | re.MULTILINE)
_CALL_TAG = re.compile(
    r"<(/?)(?:\w{1,12}:)?(parameter|invoke|function_calls?|tool_calls?|tool_use|function)\b(?:[^<>\n]*>?)"
)


@dataclass(frozen=True, slots=True)
class MemoryDraft:
    """What is to be remembered. `subject` None: the first line of the content; `project` empty: the workspace's."""

    content: str
    kind: str = "note"
    subject: str | None = None
    summary: str | None = None
    project: str = ""
    importance: int = 3
    tags: Sequence[str] = ()
    files: Sequence[str] = ()
    references: Sequence[str] = ()
    supersedes: Sequence[str] = ()
    expires_at: str | None = None
    ttl_seconds: int | None = None
    visibility: str = "all"
    room: str = ""


@dataclass(frozen=True, slots=True)
class CheckedDraft:
    """A draft that may be kept."""

    content: str
    kind: MemoryKind
    subject: str
    summary: str
    project: str
    importance: int
    tags: tuple[str, ...]
    files: tuple[str, ...]
    references: tuple[str, ...]
    supersedes: tuple[str, ...]
    expires_at: str
    visibility: Visibility


def checked(draft: MemoryDraft) -> CheckedDraft:
    """Raises: InvalidArgument, TooLarge: what is wrong with it, and what is allowed."""
    content = _content(draft.content)
    return CheckedDraft(
        content,
        kind=_one_of("kind", draft.kind, KINDS),
        subject=_subject(draft.subject, content),
        summary=_said("summary", draft.summary, MAX_SUMMARY),
        project=_line("project", draft.project, MAX_PROJECT).strip(),
        importance=_importance(draft.importance),
        tags=tuple(dict.fromkeys(tag.strip().removeprefix("#") for tag in _lines("tags", draft.tags, MAX_TAG))),
        files=_lines("files", draft.files, MAX_REFERENCE),
        references=_lines("references", draft.references, MAX_REFERENCE),
        supersedes=tuple(dict.fromkeys(_lines("supersedes", draft.supersedes, 64))),
        expires_at=_expires_at(draft.expires_at, draft.ttl_seconds),
        visibility=_one_of("visibility", draft.visibility, VISIBILITIES),
    )


def _content(text: str) -> str:
    size = len(_utf8("content", text))
    if not text.strip():
        raise InvalidArgument("content is blank", hint="Say in a sentence or two what the next session should know")
    if _PLACEHOLDER.fullmatch(text.strip()):
        raise InvalidArgument(
            "content is a placeholder", hint="Say in a sentence or two what the next session should know"
        )
    if size > MAX_CONTENT_BYTES:
        raise TooLarge(
            f"content has {size} bytes, at most {MAX_CONTENT_BYTES} are allowed",
            hint="Write it as a document with write_knowledge, and remember where it is",
        )
    if "\0" in text:
        raise InvalidArgument("content holds a NUL character", hint="Send text")
    _ensure_no_markup(text)
    return text


def _ensure_no_markup(text: str) -> None:
    """A call whose arguments ran into each other leaves tags that open or close nothing; code that shows some is
    between backticks."""
    balance: dict[str, int] = {}
    for closing, name in _CALL_TAG.findall(_FENCE.sub(" ", text)):
        balance[name] = balance.get(name, 0) + (-1 if closing else 1)
    broken = next((name for name, count in balance.items() if count), None)
    if broken is not None:
        raise InvalidArgument(
            f"content holds unfinished tool-call markup (a <{broken}> without its other end); nothing was stored",
            hint="Send the text alone and the other arguments by name; put markup that is meant in backticks",
        )


def _subject(text: str | None, content: str) -> str:
    if text is not None:
        return _said("subject", text, MAX_SUBJECT)
    return subject_of(content)


def _said(name: str, text: str | None, most: int) -> str:
    if text is None:
        return ""
    found = _line(name, text, most).strip()
    if not found:
        raise InvalidArgument(
            f"{name} is blank", hint=f"Say it in a line of at most {most} characters, or leave it out"
        )
    if _PLACEHOLDER.fullmatch(found):
        raise InvalidArgument(
            f"{name} is a placeholder: {shown(found, 40)}", hint=f"Say what it is about, or leave {name} out"
        )
    return found


def _line(name: str, text: str, most: int) -> str:
    _utf8(name, text)
    if len(text) > most:
        raise InvalidArgument(f"{name} has {len(text)} characters, at most {most} are allowed", hint="Shorten it")
    if any(ord(character) < 32 and character not in "\n\t" for character in text) or "\x7f" in text:
        raise InvalidArgument(f"{name} holds control characters", hint="Send plain text")
    return text


def _lines(name: str, values: Sequence[str], most: int) -> tuple[str, ...]:
    if len(values) > MAX_ENTRIES:
        raise InvalidArgument(
            f"{name} has {len(values)} entries, at most {MAX_ENTRIES} are allowed", hint="Keep the best"
        )
    for value in values:
        if not _line(name, value, most).strip() or "\n" in value:
            raise InvalidArgument(f"{name} has a blank entry, or one of several lines", hint="One short text for each")
    return tuple(values)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise InvalidArgument(f"{name} {shown(value, 40)} is not known", hint="It is one of " + ", ".join(allowed))
    return value


def _importance(value: int) -> int:
    if not 1 <= value <= 5:
        raise InvalidArgument(f"importance {value} is out of range", hint="It is 1 (trivia) to 5 (must be known)")
    return value


def _expires_at(text: str | None, ttl_seconds: int | None) -> str:
    if text and ttl_seconds is not None:
        raise InvalidArgument("Both expires_at and ttl_seconds are given", hint="Pass one of them")
    present = datetime.now(timezone.utc)
    if ttl_seconds is not None:
        if not 1 <= ttl_seconds <= _MAX_TTL_SECONDS:
            raise InvalidArgument("ttl_seconds is out of range", hint=f"It is 1 to {_MAX_TTL_SECONDS}")
        return _stamp(present + timedelta(seconds=ttl_seconds))
    if not text:
        return ""
    found = parse_time(text + "T23:59:59.999Z" if len(text) == len("2026-11-21") else text)
    if found is None:
        raise InvalidArgument("expires_at is no date or time", hint="Such as 2027-01-31 or 2027-01-31T08:00:00Z")
    if found <= _stamp(present):
        raise InvalidArgument("expires_at is in the past", hint="Pass a later time, or leave it out")
    return found


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} holds a lone surrogate", hint="Send valid Unicode") from None
