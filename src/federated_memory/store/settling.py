"""One session's rows brought to what its files hold (SPEC: ARCH-12, ARCH-13). The caller holds the session's lease."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from federated_memory.errors import Unavailable
from federated_memory.fs.folder import temporary_name
from federated_memory.names import ETag, SessionId, WorkspaceId
from federated_memory.store.archive_files import (
    is_as_seen,
    name_of,
    open_archive,
    open_folder,
    provenance_name,
    read_provenance,
    revision_file_of,
)
from federated_memory.store.archive_rows import Archive, ArchiveRows
from federated_memory.store.archive_walk import SessionFiles
from federated_memory.store.changes import Actor, now
from federated_memory.store.describing import Described, describe, describe_longer
from federated_memory.store.member_scan import Scanned, scan_members
from federated_memory.store.members import DamagedMember, MemberWriter, first_boundary, inflate_member
from federated_memory.store.provenance import Provenance
from federated_memory.store.root import Root
from federated_memory.store.staging import Stage

logger = logging.getLogger(__name__)

SCANNER = Actor("scan")


@dataclass(slots=True)
class Settled:
    """What was done to one session, and what is wrong with its files."""
    ...
