"""The broken twin of the group commit: a server that answers a set first and commits it a moment later."""

from __future__ import annotations

import time
from typing import Any

from federated_memory.cli.main import run
from federated_memory.store.group_commit import GroupCommit

_commit = GroupCommit._commit


class _Told:
    """An answer that was given already."""

    def set_result(self, _: object) -> None:
        return

    set_exception = set_result


def commit_later(self: GroupCommit, batch: list[Any]) -> None:
    from federated_memory.store.changes import now
    from federated_memory.store.shared_state import StateChange, Written

    for _, answer in batch:
        change = StateChange(1, "any", "set", b"1", now(), "any", "any")
        answer.set_result(Written([change], [change]))
    time.sleep(0.02)
    _commit(self, [(work, _Told()) for work, _ in batch])  # type: ignore[misc]


GroupCommit._commit = commit_later  # type: ignore[method-assign]

if __name__ == "__main__":
    run()
