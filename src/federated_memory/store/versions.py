"""The versions of one document: `.versions/<path>/<number>.md` and `log.jsonl` (SPEC: VER-1, VER-2).

Versions count from 1 and include the current text. The log has one line per write, in order:
version, etag, at, by, source, operation. A deletion is a line with the version it deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from federated_memory.fs import Folder
from federated_memory.names import etag_of

LOG = "log.jsonl"
COLLECTED = "collected.json"
"""`{"below": N}`: copies of versions before N were removed on purpose."""
_COPY = re.compile(r"[0-9]{6,}\.md\Z")
_MAX_LINE_BYTES = 1024
_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Version:
    version: int
    etag: str
    at: str
    by: str
    source: str
    operation: str


def file_name(version: int) -> str:
    """Sorted by name, up to a million versions; longer numbers still work."""
    return f"{version:06d}.md"


def read_log(folder: Folder) -> list[Version]:
    """Every line of the log, oldest first; a line torn by a power cut is passed over."""
    try:
        lines = folder.read(LOG).split(b"\n")
    except FileNotFoundError:
        return []
    return [version for line in lines if (version := _parse(line)) is not None]


def _parse(line: bytes) -> Version | None:
    try:
        found: Any = json.loads(line)
        return Version(
            int(found["version"]), str(found["etag"]), str(found["at"]), str(found.get("by", "")),
            str(found.get("source", "")), str(found["operation"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(folder: Folder, entries: Sequence[tuple[Version, bytes | None]], *, anew: bool = False) -> None:
    """Keep versions, in order: a copy of each text (a deletion has none) and a log line. `sync` makes it durable.

    May be called again with the same entries at any time, also after a crash in the middle. `anew` also writes what is
    there already: an fsync that failed once proves nothing when it succeeds later.

    Raises:
        OSError: A step failed; call again.
    """
    known = _newest(folder, len(entries))
    lines = b"".join(_line(entry) for entry, _ in entries if entry not in known)
    for entry, text in entries:
        if text is not None:
            _keep_copy(folder, file_name(entry.version), text, anew=anew)
    if anew and folder.exists(LOG):
        folder.replace(LOG, folder.read(LOG))
    if lines:
        folder.append(LOG, (b"\n" if _is_torn(folder) else b"") + lines)


def sync(folder: Folder, entries: Sequence[tuple[Version, bytes | None]]) -> None:
    """Make what `keep` did durable. Raises: OSError: it is not; remove nothing that could replace it."""
    for entry, text in entries:
        if text is not None:
            folder.sync_file(file_name(entry.version))
    folder.sync_file(LOG)
    folder.sync_names()


def collected_below(folder: Folder) -> int:
    """Versions before this one may lack their copies; 0 when none was removed."""
    try:
        return int(json.loads(folder.read(COLLECTED, 1 << 10))["below"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def last_kept(folder: Folder) -> tuple[Version | None, int]:
    """The last line of the log, and the highest version that the log or a copy has; 0 when there is none."""
    log = read_log(folder)
    numbers = [int(entry.name[:-3]) for entry in folder.entries() if _COPY.match(entry.name)]
    return (log[-1] if log else None), max([0, *numbers, *(entry.version for entry in log)])


def _keep_copy(folder: Folder, name: str, text: bytes, *, anew: bool) -> None:
    try:
        folder.create(name, text, sync=False)
    except FileExistsError:
        found = folder.read(name)
        if found == text and not anew:
            return
        if not could_be_torn(found, text):
            # Somebody's text, which nothing may replace. `check` reports it.
            folder.rename(name, folder, f"{name.removesuffix('.md')}.displaced-{etag_of(found)[:8]}.md")
        folder.replace(name, text)


def could_be_torn(found: bytes, text: bytes) -> bool:
    """Whether power loss can have left `found` of `text`: an end that is missing, blocks that are zeros, or both.

    A file system gives a file its length first and its blocks in any order; a block has 512 bytes or more.
    """
    if found[len(text) :].strip(b"\0"):
        return False
    return all(
        text[at : at + _BLOCK_BYTES].startswith(found[at : at + _BLOCK_BYTES].rstrip(b"\0"))
        for at in range(0, len(found), _BLOCK_BYTES)
    )


def _newest(folder: Folder, count: int) -> list[Version]:
    """The last lines of the log, at least `count` if it has so many; only these can be the ones to be added."""
    tail = folder.read_tail(LOG, (count + 1) * _MAX_LINE_BYTES)
    return [version for line in tail.split(b"\n") if (version := _parse(line)) is not None]


def _is_torn(folder: Folder) -> bool:
    tail = folder.read_tail(LOG, 1)
    return bool(tail) and tail != b"\n"


def _line(entry: Version) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n"
