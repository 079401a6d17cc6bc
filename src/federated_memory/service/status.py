"""Whether this server can do its work, and how much it holds."""

from __future__ import annotations

from federated_memory import __version__
from federated_memory.auth.caller import Caller
from federated_memory.service.core import Core
from federated_memory.service.results import Status


class StatusService:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.is_recovered = False
        """Set once everything a crash may have left has been put right."""

    def reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        core = self._core
        found = []
        if not self.is_recovered:
            found.append("recovering: looking at the files after the start")
        if not core.journal.is_settled:
            found.append("disk: an acknowledged write waits for the disk to recover")
        if core.root.free_bytes() < core.settings.min_free_bytes:
            found.append("disk: less free than MEMORY_MIN_FREE_BYTES; writes are refused")
        return found

    def status(self, caller: Caller) -> Status:
        self._core.policy.ensure_role(caller, ("admin",))
        core = self._core
        documents, sessions, size = core.root.database.row(
            "SELECT coalesce(sum(documents), 0), coalesce(sum(sessions), 0), coalesce(sum(bytes), 0) FROM counts"
        ) or (0, 0, 0)
        reasons = self.reasons()
        return Status(
            version=__version__,
            root=str(core.root.path),
            workspaces=len(core.registry.all()),
            documents=documents,
            sessions=sessions,
            bytes=size,
            last_change=core.root.feed.head(),
            free_bytes=core.root.free_bytes(),
            uploads=core.tokens.takes_uploads,
            ready=not reasons,
            reasons=reasons,
        )
