"""The versions of one document: `.versions/<path>/<number>.md` and `log.jsonl` (SPEC: VER-1 to VER-4).

Versions count from 1 and include the current text. The log has one line per write, in order:
version, etag, at, by, source, operation. A deletion is a line with the version it deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from federated_memory.fs import Folder

LOG = "log.jsonl"


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


def keep(folder: Folder, entry: Version, text: bytes | None) -> None:
    """Add a version's copy (None: a deletion has none) and its log line. Not durable: the journal holds both.

    Raises:
        OSError: A step failed; `settle` makes it whole.
    """
    if text is not None:
        folder.create(file_name(entry.version), text, sync=False)
    folder.append(LOG, _line(entry))


def sync(folder: Folder, versions: Iterable[int]) -> None:
    """Make what `keep` wrote durable."""
    for version in versions:
        with suppress(FileNotFoundError):  # a deletion has no copy of its own
            folder.sync_file(file_name(version))
    folder.sync_file(LOG)
    folder.sync_names()


def settle(folder: Folder, entries: Iterable[tuple[Version, bytes | None]]) -> None:
    """Make what `keep` did, or was about to do before a crash, whole and durable. May be called again at any time."""
    log = read_log(folder)
    for entry, text in entries:
        if text is not None:
            name = file_name(entry.version)
            try:
                intact = folder.read(name) == text
            except FileNotFoundError:
                intact = False
            if intact:
                folder.sync_file(name)
            else:
                folder.replace(name, text)
        if entry not in log:
            folder.append(LOG, _line_break_if_torn(folder) + _line(entry))
    folder.sync_file(LOG)
    folder.sync_names()


def _line(entry: Version) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n"


def _line_break_if_torn(folder: Folder) -> bytes:
    try:
        data = folder.read(LOG)
    except FileNotFoundError:
        return b""
    return b"" if not data or data.endswith(b"\n") else b"\n"
