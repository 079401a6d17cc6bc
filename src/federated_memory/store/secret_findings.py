"""How many of which kind of secret were found in what is stored; derived, and made anew when the rules change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federated_memory.store.changes import Kind
from federated_memory.store.database import Database

_TABLE = """
CREATE TABLE IF NOT EXISTS secret_findings (
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,            -- knowledge | overview | session
    key TEXT NOT NULL,             -- path or session id
    revision INTEGER NOT NULL,     -- of a session; else 0
    lines INTEGER NOT NULL,        -- of a session: whole lines that were looked at; else 0
    counts TEXT NOT NULL,          -- JSON: kind of secret -> how many
    PRIMARY KEY (workspace_id, kind, key)
) WITHOUT ROWID
"""
_CURSOR = "secrets"


@dataclass(frozen=True, slots=True)
class Flag:
    """What was found in one document or session; never its text."""

    workspace_id: str
    kind: Kind
    key: str
    revision: int
    lines: int
    counts: Mapping[str, int]


class SecretFindings:
    """The table is made by the first `commit`: opening a root on a full disk must not need it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_made = False

    def cursor(self, version: str) -> int:
        """The last change that was looked at with these rules; 0 when they are others than before."""
        row = self._database.row("SELECT value FROM node WHERE key = ?", _CURSOR)
        known, _, number = str(row[0]).partition(" ") if row else ("", "", "")
        return int(number) if known == version else 0

    def find(self, workspace_id: str, kind: str, key: str) -> Flag | None:
        rows = self._rows("WHERE workspace_id = ? AND kind = ? AND key = ?", workspace_id, kind, key)
        return rows[0] if rows else None

    def flagged(self) -> list[Flag]:
        """Everything in which something was found, by workspace and name."""
        return self._rows("WHERE counts <> '{}' ORDER BY workspace_id, kind, key")

    def _rows(self, where: str, *parameters: object) -> list[Flag]:
        if not self._exists():
            return []
        found = self._database.rows(
            f"SELECT workspace_id, kind, key, revision, lines, counts FROM secret_findings {where}", *parameters
        )
        return [
            Flag(workspace_id, kind, key, revision, lines, json.loads(counts))
            for workspace_id, kind, key, revision, lines, counts in found
        ]

    def _exists(self) -> bool:
        if not self._is_made:
            self._is_made = bool(self._database.rows("SELECT 1 FROM sqlite_master WHERE name = 'secret_findings'"))
        return self._is_made

    def commit(self, version: str, number: int, found: Iterable[Flag], gone: Iterable[tuple[str, str, str]]) -> None:
        """Note what was found up to a change, in one transaction: each one makes the writers of others wait.

        Number 0 begins anew.
        """
        rows = [(flag.workspace_id, flag.kind, flag.key, flag.revision, flag.lines, _json(flag)) for flag in found]
        with self._database.transaction() as transaction:
            transaction.execute(_TABLE)
            if number == 0:
                transaction.execute("DELETE FROM secret_findings")
            transaction.executemany("INSERT OR REPLACE INTO secret_findings VALUES (?, ?, ?, ?, ?, ?)", rows)
            transaction.executemany(
                "DELETE FROM secret_findings WHERE workspace_id = ? AND kind = ? AND key = ?", list(gone)
            )
            transaction.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (_CURSOR, f"{version} {number}"))


def _json(flag: Flag) -> str:
    return json.dumps(dict(flag.counts), sort_keys=True)
