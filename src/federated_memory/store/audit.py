"""`_meta/audit.jsonl`: every write and every refused write, one JSON line each, only ever appended (SPEC: AUDIT-1).

Who, what, from where and how it ended; never text. The change feed is the durable record of what was acknowledged; this
log also tells of what was refused, and is not fsynced line by line.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from datetime import datetime, timezone

from federated_memory.errors import FederatedMemoryError
from federated_memory.fs import Folder
from federated_memory.store.changes import now

logger = logging.getLogger(__name__)

NAME = "audit.jsonl"
_OLD = re.compile(r"audit-\d{8}T\d{12}Z\.jsonl\Z")
_MOST_CHARACTERS = 600


class Audit:
    """Thread-safe. At `max_bytes` the file is renamed to `audit-<time>.jsonl`, of which `keep` stay; 0 bytes: off."""

    def __init__(self, meta: Folder, *, max_bytes: int, keep: int) -> None:
        self._meta = meta
        self._max_bytes = max_bytes
        self._keep = keep
        self._lock = threading.Lock()
        self.failed = 0
        """Lines that the disk refused."""

    def write(
        self, *, who: str, role: str, address: str, what: str, outcome: str, request: str, **about: object
    ) -> None:
        """Add a line. Whatever the disk says, the write that it tells of has ended before, so nothing is raised."""
        if not self._max_bytes:
            return
        told = {key: str(value)[:_MOST_CHARACTERS] for key, value in about.items() if value not in (None, "")}
        line = {
            "at": now(), "who": who, "role": role, "from": address, "what": what[:_MOST_CHARACTERS],
            "outcome": outcome, **told, "request": request,
        }  # fmt: skip
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                self._rotate(len(data))
                self._meta.append(NAME, data)
            except (OSError, FederatedMemoryError) as error:
                if not self.failed:
                    logger.error("audit log cannot be written", extra={"error": type(error).__name__})
                self.failed += 1

    def _rotate(self, more: int) -> None:
        try:
            size = self._meta.stat(NAME).st_size
        except FileNotFoundError:
            return
        if size + more <= self._max_bytes:
            return
        self._meta.sync_file(NAME)
        self._meta.rename(NAME, self._meta, datetime.now(timezone.utc).strftime("audit-%Y%m%dT%H%M%S%fZ.jsonl"))
        old = sorted(entry.name for entry in self._meta.entries() if _OLD.match(entry.name))
        for name in old[: max(0, len(old) - self._keep)]:
            self._meta.remove(name)
