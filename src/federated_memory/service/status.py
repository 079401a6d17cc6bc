"""Whether this server can do its work, and how much it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from federated_memory import __version__
from federated_memory.auth.caller import Caller
from federated_memory.names import fold
from federated_memory.service.core import Core
from federated_memory.service.results import IndexStatus, SecretFlags, SecretRow, Status
from federated_memory.service.secrets import Secrets
from federated_memory.store.secret_findings import Flag

_MOST_SECRETS = 50


class StatusService:
    def __init__(self, core: Core, secrets: Secrets) -> None:
        self._core = core
        self._secrets = secrets
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
        if core.index.state.problem:
            found.append(f"index: {core.index.state.problem}")
        return found

    def index(self) -> IndexStatus:
        """How far the index follows."""
        state = self._core.index.state
        behind = max(0, self._core.root.feed.head() - state.cursor)
        if state.problem:
            word: Literal["current", "behind", "building", "failing"] = "failing"
        elif not state.is_whole:
            word = "building"
        else:
            word = "behind" if behind else "current"
        return IndexStatus(state=word, behind=behind, done=state.done, total=state.total, problem=state.problem or None)

    def reindex(self, caller: Caller) -> IndexStatus:
        """Let the index be made anew, in the background; searches read the files meanwhile."""
        self._core.policy.ensure_role(caller, ("admin",))
        self._core.index.rebuild()
        return self.index()

    def reindex_now(self, caller: Caller, progress: Callable[[int, int], None]) -> IndexStatus:
        """Make the index anew before this returns: where no server does it in the background."""
        self._core.policy.ensure_role(caller, ("admin",))
        problem = self._core.index.make_anew(progress)
        return self.index().model_copy(update={"state": "failing", "problem": problem} if problem else {})

    def status(self, caller: Caller) -> Status:
        self._core.policy.ensure_role(caller, ("admin",))
        core = self._core
        documents, sessions, size = core.root.database.row(
            "SELECT coalesce(sum(documents), 0), coalesce(sum(sessions), 0), coalesce(sum(bytes), 0) FROM counts"
        ) or (0, 0, 0)
        reasons = self.reasons()
        found = self._flags(self._secrets.flagged())
        return Status(
            version=__version__,
            root=str(core.root.path),
            workspaces=len(core.registry.all()),
            documents=documents,
            sessions=sessions,
            memories=core.memories.total(),
            bytes=size,
            last_change=core.root.feed.head(),
            free_bytes=core.root.free_bytes(),
            uploads=core.tokens.takes_uploads,
            index=self.index(),
            ready=not reasons,
            reasons=reasons,
            secrets=found.secrets,
            secrets_total=found.total,
            secrets_pending=found.pending,
        )

    def flags(self, caller: Caller, *, machine: str = "") -> SecretFlags:
        """Where secrets were found in what the caller may read, of one machine or of all."""
        readable = {
            workspace.workspace_id
            for workspace in self._core.policy.readable(caller, self._core.registry.all())
            if not machine or fold(workspace.machine) == fold(machine)
        }
        return self._flags([flag for flag in self._secrets.flagged() if flag.workspace_id in readable])

    def _flags(self, flagged: Sequence[Flag]) -> SecretFlags:
        return SecretFlags(
            secrets=[
                SecretRow(workspace_id=flag.workspace_id, kind=flag.kind, name=flag.key, counts=dict(flag.counts))
                for flag in flagged[:_MOST_SECRETS]
                if flag.kind != "workspace"
            ],
            total=len(flagged),
            pending=self._secrets.pending,
        )
