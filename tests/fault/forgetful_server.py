"""Broken twins of the server, one at a time by `FORGETS`: each acknowledges what the next start does not know."""

from __future__ import annotations

import os
import secrets
from typing import Any

from federated_memory.auth.tokens import Tokens
from federated_memory.cli.main import run
from federated_memory.store.journal import Journal
from federated_memory.store.root import Root

_revoke = Tokens.revoke


def revoke_until_the_next_start(self: Tokens, name: str) -> Any:
    file, before = "tokens.json", self._root.meta.read("tokens.json")
    done = _revoke(self, name)
    self._root.meta.replace(file, before)
    return done


def leave_the_journal(self: Journal) -> int:
    """What was acknowledged in the last second is thrown away instead of finished."""
    with self._root.database.transaction() as transaction:
        return int(transaction.execute("DELETE FROM journal").rowcount)


def another_key(_: Root) -> bytes:
    return secrets.token_bytes(32)


if __name__ == "__main__":
    match os.environ["FORGETS"]:
        case "revocations":
            Tokens.revoke = revoke_until_the_next_start  # type: ignore[method-assign]
        case "texts":
            Journal.recover = leave_the_journal  # type: ignore[method-assign]
        case "bindings":
            Root.secret_key = another_key  # type: ignore[method-assign]
    run()
