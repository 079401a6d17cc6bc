"""Changing an archive file whose raw bytes stay what they are: a torn tail cut off, members cut anew."""

from __future__ import annotations

import os
from dataclasses import replace

from federated_memory.errors import Unavailable
from federated_memory.fs import Folder
from federated_memory.names import WorkspaceId
from federated_memory.store.archives.member_scan import Scanned, scan_members
from federated_memory.store.archives.staging import Stage
from federated_memory.store.members import MemberWriter, first_boundary
from federated_memory.store.root import Root


def cut(root: Root, workspace_id: WorkspaceId, folder: Folder, name: str, size: int) -> os.stat_result:
    """Make a file end after `size` bytes; what the file is then. A second name of it keeps all of them."""
    descriptor = folder.open_file(name, os.O_RDWR)
    try:
        with root.locked(workspace_id):
            if os.fstat(descriptor).st_nlink > 1:
                stage = Stage(root, copy_from=descriptor, copy_bytes=size)
                return _put(root, folder, name, stage)
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
            return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def cut_anew(
    root: Root, workspace_id: WorkspaceId, folder: Folder, name: str, scanned: Scanned
) -> tuple[Scanned, os.stat_result]:
    """Write a whole file from elsewhere again, in members of ours; what it holds and is then.

    Raises:
        Unavailable: Somebody changes it at this moment.
    """
    stage = Stage(root)
    descriptor = folder.open_file(name)
    try:
        writer = MemberWriter(stage.write, first_boundary())
        scan_members(descriptor, sink=writer.feed)
        end = writer.finish()
        if end.digest.hexdigest() != scanned.sha256:
            raise Unavailable("A transcript's file changes while it is read", hint="Retry")
        with root.locked(workspace_id):
            found = _put(root, folder, name, stage)
    finally:
        os.close(descriptor)
        stage.discard()
    return replace(scanned, members=writer.members, gzip_bytes=end.gzip_offset, is_ours=True), found


def _put(root: Root, folder: Folder, name: str, stage: Stage) -> os.stat_result:
    root.temporary.rename(stage.seal(), folder, name)
    folder.sync_names()
    return folder.stat(name)
