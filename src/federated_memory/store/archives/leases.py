"""One upload per session at a time."""

from __future__ import annotations

import threading
import time

from federated_memory.errors import Locked
from federated_memory.names import SessionId, WorkspaceId


class Leases:
    """Sessions that somebody in this process is changing. Thread-safe."""

    def __init__(self) -> None:
        self._held: set[tuple[WorkspaceId, SessionId]] = set()
        self._freed = threading.Condition()

    def take(self, workspace_id: WorkspaceId, session_id: SessionId, wait_seconds: float) -> None:
        """Raises: Locked: somebody else held it all that time."""
        key = (workspace_id, session_id)
        deadline = time.monotonic() + wait_seconds
        with self._freed:
            while key in self._held:
                if not self._freed.wait(deadline - time.monotonic()):
                    raise Locked(f"Session {session_id} is being uploaded by another request", hint="Retry in a moment")
            self._held.add(key)

    def give_back(self, workspace_id: WorkspaceId, session_id: SessionId) -> None:
        with self._freed:
            self._held.discard((workspace_id, session_id))
            self._freed.notify_all()
