"""Where archives lie below a workspace's `sessions/`: `YYYY/MM/<id>.jsonl.gz`, `<id>.json`, `.revisions/<id>/<n>.…`."""

from __future__ import annotations

import errno
import os

from federated_memory.fs import Folder
from federated_memory.names import SessionId, WorkspaceId
from federated_memory.store.archives.provenance import Provenance, parse_provenance
from federated_memory.store.archives.rows import Archive
from federated_memory.store.archives.staging import copy_bytes
from federated_memory.store.root import Root

SUFFIX = ".jsonl.gz"
REVISIONS = ".revisions"
_CANNOT_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def file_of(session_id: SessionId, started_at: str) -> str:
    """Where a new archive goes: by the month the session began, for good."""
    return f"{started_at[:4]}/{started_at[5:7]}/{session_id}{SUFFIX}"


def revision_file_of(archive: Archive) -> str:
    """Where a transcript goes when another one replaces it."""
    month = archive.file.rsplit("/", 1)[0]
    return f"{month}/{REVISIONS}/{archive.session_id}/{archive.revision}{SUFFIX}"


def provenance_file_of(archive: Archive) -> str:
    """Beside the session's current transcript, also for one that it replaced."""
    year, month, *_ = archive.file.split("/")
    return f"{year}/{month}/{provenance_name(archive.session_id)}"


def name_of(archive: Archive) -> str:
    return archive.file.rsplit("/", 1)[1]


def provenance_name(session_id: str) -> str:
    return f"{session_id}.json"


def open_folder(root: Root, workspace_id: WorkspaceId, file: str, *, create: bool = False) -> Folder:
    """The folder that holds `file`. Raises: FileNotFoundError: it, or the workspace's, is missing."""
    with root.workspace_folder(workspace_id) as workspace:
        return workspace.folder("sessions", *file.split("/")[:-1], create=create)


def open_archive(root: Root, archive: Archive) -> int:
    """A descriptor of the archive's file; the caller closes it."""
    with open_folder(root, archive.workspace_id, archive.file) as folder:
        return folder.open_file(name_of(archive))


def is_as_seen(found: os.stat_result, archive: Archive) -> bool:
    """Has nobody but us written the file? A copy that keeps size and time, such as a restored backup, passes."""
    return found.st_size == archive.gzip_bytes and found.st_mtime_ns == archive.modified_ns


def read_provenance(folder: Folder, session_id: str) -> Provenance | None:
    try:
        return parse_provenance(folder.read(provenance_name(session_id), 1 << 20), session_id)
    except OSError:
        return None


def link_or_copy(folder: Folder, name: str, target: Folder, target_name: str) -> None:
    """A second name for a file; where the file system has no such thing, a durable copy of it.

    Raises:
        FileExistsError: The name is taken.
    """
    try:
        folder.link(name, target, target_name)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        source = folder.open_file(name)
        try:
            copy = target.open_file(target_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                copy_bytes(source, copy, os.fstat(source).st_size)
                os.fsync(copy)
            finally:
                os.close(copy)
        finally:
            os.close(source)
