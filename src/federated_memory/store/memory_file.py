"""A memory as a Markdown file with front matter (SPEC: MEM-1, MEM-2).

The text after the front matter is the content, byte for byte, and one newline. What an editor adds to the front matter
stays in the file; fields of ours that make no sense fall back to their defaults.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import yaml

MemoryKind = Literal[
    "note", "decision", "implementation", "context", "skill", "status", "bug", "pattern", "config", "summary"
]
Visibility = Literal["workspace", "team", "all"]
KINDS: tuple[MemoryKind, ...] = get_args(MemoryKind)
VISIBILITIES: tuple[Visibility, ...] = get_args(Visibility)
USUAL_IMPORTANCE = 3
MOST_TITLE = 120
_MOST_HEAD_BYTES = 64 * 1024
_HEAD = re.compile(rb"---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z\Z")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?\Z")
_PATH = re.compile(r"[0-9]{4}/(?:0[1-9]|1[0-2])/([^/]+)\.md\Z")
_TEXTS = ("subject", "summary", "project", "created_at", "expires_at", "room", "user", "agent", "machine", "session",
          "source", "deleted_at", "deleted_by", "reason")  # fmt: skip
_LISTS = ("tags", "files", "references", "supersedes")
_MOST_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class Memory:
    """One note. Times are RFC 3339 UTC; an empty text means that nothing is known.

    Without a `subject` it is the first line of the content. `user`, `agent`, `machine` and `session` say who stored
    it: the token's name, the tool, the machine, and which of the agent's sessions. `source` names what an import took
    it from. `others` is what the front matter holds besides.
    """

    memory_id: str
    content: str
    kind: MemoryKind = "note"
    subject: str = ""
    summary: str = ""
    project: str = ""
    importance: int = USUAL_IMPORTANCE
    tags: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()
    created_at: str = ""
    expires_at: str = ""
    visibility: Visibility = "all"
    room: str = ""
    user: str = ""
    agent: str = ""
    machine: str = ""
    session: str = ""
    source: str = ""
    deleted_at: str = ""
    deleted_by: str = ""
    reason: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)


def memory_title(data: bytes, memory_id: str) -> str:
    """The subject, as a document has a title."""
    return (parse_memory(memory_id, data).subject or memory_id)[:MOST_TITLE]


@functools.lru_cache(maxsize=8)  # as with `parse_memory`
def subject_of(content: str) -> str:
    """The first line, which is what a memory is about unless somebody says otherwise."""
    first = next((line.strip("#*- \t") for line in content.splitlines() if line.strip("#*- \t")), content.strip())
    visible = first if first.isprintable() else "".join(filter(str.isprintable, first))
    visible = visible.strip() or "note"
    return visible if len(visible) <= 100 else visible[:99].rsplit(" ", 1)[0].rstrip() + "…"


def made_at(memory_id: str, data: bytes, updated_at: str) -> str:
    """When a memory was stored, as far as it says so."""
    told = parse_memory(memory_id, data).created_at
    return told if _TIME.match(told) else updated_at


def path_of(memory_id: str) -> str:
    """Where below `memories/` a memory that we named is: its id begins with its date."""
    return f"{memory_id[:4]}/{memory_id[4:6]}/{memory_id}.md"


def called_after(path: str) -> str:
    """The id that the file of a memory, or of what is left of one, is called after."""
    return path.rsplit("/", 1)[-1].removesuffix(".md")


def memory_id_of(path: str) -> str | None:
    """The memory that a file below `memories/` is; None when no memory has such a name."""
    match = _PATH.match(path)
    return match[1] if match and _ID.match(match[1]) else None


def tombstone_id_of(path: str) -> str | None:
    """The memory that a file below `memories/.tombstones/` was."""
    name = path.removesuffix(".md")
    return name if name != path and _ID.match(name) else None


def format_memory(memory: Memory) -> bytes:
    """The whole file."""
    head: dict[str, object] = {"id": memory.memory_id, "kind": memory.kind}
    if memory.subject and memory.subject != subject_of(memory.content):
        head["subject"] = memory.subject
    for name in ("summary", "project"):
        if value := getattr(memory, name):
            head[name] = value
    if memory.importance != USUAL_IMPORTANCE:
        head["importance"] = memory.importance
    for name in _LISTS:
        if value := getattr(memory, name):
            head[name] = list(value)
    if memory.visibility != "all":
        head["visibility"] = memory.visibility
    for name in _TEXTS[3:]:
        if value := getattr(memory, name):
            head[name] = value
    head.update(memory.others)
    dumped = _dumped(head)
    data = b"---\n" + dumped + b"---\n" + memory.content.encode() + b"\n"
    if memory.subject and not memory.others and len(dumped) < _MOST_HEAD_BYTES // 2:
        _parsed.keep((memory.memory_id, data), memory)  # reading it back is the larger half of the work on a text
    return data


def _dumped(head: Mapping[str, object]) -> bytes:
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        dict(head), Dumper=dumper, allow_unicode=True, sort_keys=False, width=2**31 - 1, default_flow_style=None
    )
    return text.encode("utf-8", "replace")


class _Parsed:
    """The last few memories by their files' text: a write asks for the title, the row and the index's rows of one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: dict[tuple[str, bytes], Memory] = {}

    def get(self, key: tuple[str, bytes]) -> Memory | None:
        return self._known.get(key)

    def keep(self, key: tuple[str, bytes], memory: Memory) -> None:
        with self._lock:
            self._known[key] = memory
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]


_parsed = _Parsed(8)


def parse_memory(memory_id: str, data: bytes) -> Memory:
    """The memory in a file of that name; a file without front matter is its content alone."""
    found = _parsed.get((memory_id, data))
    if found is None:
        found = read_memory(memory_id, data)
        _parsed.keep((memory_id, data), found)
    return found


def read_memory(memory_id: str, data: bytes) -> Memory:
    """`parse_memory`, from the text and nothing that is known of it."""
    head, content = split(data)
    told = _loaded(head)
    known = {name: told.get(name) for name in ("id", "kind", "importance", "visibility", *_TEXTS, *_LISTS)}
    memory = Memory(
        memory_id,
        content.decode("utf-8", "replace"),
        kind=known["kind"] if known["kind"] in KINDS else "note",
        importance=_importance(known["importance"]),
        visibility=_visibility(known["visibility"]),
        others={name: value for name, value in told.items() if name not in known},
    )
    texts: dict[str, Any] = {name: _text(known[name]) for name in _TEXTS}
    texts["subject"] = texts["subject"] or subject_of(memory.content)
    lists: dict[str, Any] = {name: _texts(known[name]) for name in _LISTS}
    return replace(memory, **texts, **lists)


def split(data: bytes) -> tuple[bytes, bytes]:
    """Front matter and content; the newline that `format_memory` adds is not the content's."""
    match = _HEAD.match(data, 0, _MOST_HEAD_BYTES) if data.startswith(b"---") else None
    head, content = (match[1], data[match.end() :]) if match else (b"", data)
    return head, content[:-1] if content.endswith(b"\n") else content


def searched_text(memory_id: str, data: bytes) -> bytes:
    """What a search looks at: the content, so that lines are those of the content, then what stands beside it."""
    memory = parse_memory(memory_id, data)
    beside = [memory.subject, memory.summary, " ".join(memory.tags), *memory.files, *memory.references]
    more = [part for part in beside if part and part not in memory.content]  # mostly, the subject is its first line
    return "\n".join([memory.content, *more]).encode("utf-8", "replace")


def _loaded(head: bytes) -> dict[str, Any]:
    """Every scalar as it is written: YAML's own types would make a boolean of the subject `no`."""
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        found = yaml.load(head.decode("utf-8", "replace"), Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def _importance(value: object) -> int:
    return int(value) if isinstance(value, str) and value in ("1", "2", "3", "4", "5") else USUAL_IMPORTANCE


def _visibility(value: object) -> Visibility:
    """What cannot be understood is not shown to everybody."""
    if value in (None, ""):
        return "all"
    return next((known for known in VISIBILITIES if known == value), "workspace")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(one for one in value[:_MOST_ENTRIES] if isinstance(one, str)) if isinstance(value, list) else ()
