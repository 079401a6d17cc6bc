"""Which archive files a workspace holds, as one walk over its `sessions/` finds them."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from federated_memory.errors import InvalidName
from federated_memory.fs import Folder, NotRegular
from federated_memory.names import SessionId, WorkspaceId, parse_session_id
from federated_memory.store.archives.files import REVISIONS, SUFFIX
from federated_memory.store.root import Root

_YEAR = re.compile(r"[0-9]{4}\Z")
_MONTH = re.compile(r"(?:0[1-9]|1[0-2])\Z")
_REVISION = re.compile(r"([1-9][0-9]{0,8})" + re.escape(SUFFIX) + r"\Z")


@dataclass(slots=True)
class SessionFiles:
    """Files of one session, by name below `sessions/`. More than one transcript is one too many."""

    transcripts: dict[str, os.stat_result] = field(default_factory=dict)
    revisions: dict[int, tuple[str, os.stat_result]] = field(default_factory=dict)
    provenances: list[str] = field(default_factory=list)


def walk_sessions(root: Root, workspace_id: WorkspaceId) -> dict[SessionId, SessionFiles]:
    """What is there of every session. Names that no session has are left alone, and so are symlinks.

    Raises:
        FileNotFoundError: The workspace has no folder.
    """
    found: defaultdict[SessionId, SessionFiles] = defaultdict(SessionFiles)
    for prefix, month in _months(root, workspace_id):
        for entry in month.entries():
            if entry.name.endswith(SUFFIX):
                session_id = _session_id(entry.name[: -len(SUFFIX)])
                if session_id and (status := _regular(entry)):
                    found[session_id].transcripts[prefix + entry.name] = status
            elif entry.name.endswith(".json") and (session_id := _session_id(entry.name[: -len(".json")])):
                found[session_id].provenances.append(prefix + entry.name)
        with suppress(FileNotFoundError, NotRegular), month.folder(REVISIONS) as folder:
            for session_id, name, number, status in _revisions(folder):
                found[session_id].revisions[number] = (f"{prefix}{REVISIONS}/{session_id}/{name}", status)
    return dict(found)


def find_session(root: Root, workspace_id: WorkspaceId, session_id: SessionId) -> SessionFiles:
    """The same for one session, without a look at the others."""
    found = SessionFiles()
    for prefix, month in _months(root, workspace_id):
        with suppress(FileNotFoundError):
            status = month.stat(f"{session_id}{SUFFIX}")
            if stat.S_ISREG(status.st_mode):
                found.transcripts[f"{prefix}{session_id}{SUFFIX}"] = status
        if month.exists(f"{session_id}.json"):
            found.provenances.append(f"{prefix}{session_id}.json")
        with suppress(FileNotFoundError, NotRegular), month.folder(REVISIONS, session_id) as folder:
            for name, number, status in _numbers(folder):
                found.revisions[number] = (f"{prefix}{REVISIONS}/{session_id}/{name}", status)
    return found


def _months(root: Root, workspace_id: WorkspaceId) -> Iterator[tuple[str, Folder]]:
    with root.workspace_folder(workspace_id) as workspace:
        try:
            sessions = workspace.folder("sessions")
        except (FileNotFoundError, NotRegular):
            return
        with sessions:
            for year in sessions.entries():
                if not _YEAR.match(year.name) or not year.is_dir(follow_symlinks=False):
                    continue
                with sessions.folder(year.name) as folder:
                    for month in folder.entries():
                        if _MONTH.match(month.name) and month.is_dir(follow_symlinks=False):
                            with folder.folder(month.name) as inner:
                                yield f"{year.name}/{month.name}/", inner


def _revisions(folder: Folder) -> Iterator[tuple[SessionId, str, int, os.stat_result]]:
    for entry in folder.entries():
        session_id = _session_id(entry.name)
        if session_id and entry.is_dir(follow_symlinks=False):
            with folder.folder(entry.name) as inner:
                for name, number, status in _numbers(inner):
                    yield session_id, name, number, status


def _numbers(folder: Folder) -> Iterator[tuple[str, int, os.stat_result]]:
    for entry in folder.entries():
        number = _REVISION.match(entry.name)
        if number and (status := _regular(entry)):
            yield entry.name, int(number[1]), status


def _session_id(text: str) -> SessionId | None:
    try:
        session_id = parse_session_id(text)
    except InvalidName:
        return None
    return session_id if session_id == text else None


def _regular(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False) if entry.is_file(follow_symlinks=False) else None
    except FileNotFoundError:  # gone since the folder was read
        return None
