"""`_meta/state.sqlite3`: whole, without gaps, and its counts right (SPEC: CHECK-6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from federated_memory.operate.check_shared import BACKUP, WHERE, check_shared
from federated_memory.operate.findings import Finding, error, info, warning
from federated_memory.operate.state_file import StateFile
from federated_memory.store.database import SCHEMA_VERSION

_MOST_GAPS = 5


def check_state(state: StateFile, registered: Collection[str] | None = None) -> Iterator[Finding]:
    """`registered`: the workspaces; None: nobody knows them.

    Raises: sqlite3.Error: so damaged that it cannot even be asked."""
    for (problem,) in state.rows("PRAGMA integrity_check(20)"):
        if problem != "ok":
            yield error(WHERE, f"is damaged: {problem}", BACKUP)
    for table, row, parent, _ in state.rows("PRAGMA foreign_key_check"):
        if table == "room_receipts":  # `check_shared` tells of those, and they can be mended
            continue
        yield error(WHERE, f"row {row} of {table} has no {parent}", BACKUP)
    (version,) = state.row("PRAGMA user_version")
    if version > SCHEMA_VERSION:
        yield error(
            WHERE,
            f"has schema {version}, this version reads up to {SCHEMA_VERSION}",
            "Check it with the version that wrote it",
        )
        return
    if version < SCHEMA_VERSION:
        yield info(WHERE, f"has schema {version}, not yet {SCHEMA_VERSION}", "The next start brings it up to date")
    yield from _feed(state)
    yield from _counts(state)
    yield from check_shared(state, registered)
    (pending,) = state.row("SELECT count(*) FROM journal")
    if pending:
        yield info(
            WHERE,
            f"{pending:,} acknowledged writes wait to be durable as files",
            "A running server sees to it within seconds, else the next start",
        )


def _feed(state: StateFile) -> Iterator[Finding]:
    """Changes are numbered from 1, and those of each workspace as well."""
    gaps = state.rows(
        "SELECT before + 1, number - 1 FROM (SELECT number, lag(number, 1, 0) OVER (ORDER BY number) AS before"
        " FROM changes) WHERE number != before + 1 LIMIT ?", _MOST_GAPS,
    )  # fmt: skip
    for first, last in gaps:
        yield error(WHERE, f"the change feed lacks the numbers {first} to {last}", BACKUP)
    (newest,) = state.row("SELECT coalesce(max(number), 0) FROM changes")
    given = state.rows("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
    if given and given[0][0] != newest:
        yield error(WHERE, f"the change feed ends with {newest}, but {given[0][0]} numbers were given", BACKUP)
    sequences = state.rows(
        "SELECT workspace_id, before + 1, sequence - 1 FROM (SELECT workspace_id, sequence, lag(sequence, 1, 0)"
        " OVER (PARTITION BY workspace_id ORDER BY sequence) AS before FROM changes)"
        " WHERE sequence != before + 1 LIMIT ?", _MOST_GAPS,
    )  # fmt: skip
    for workspace_id, first, last in sequences:
        yield error(WHERE, f"the changes of {workspace_id} lack the sequence numbers {first} to {last}", BACKUP)


def _counts(state: StateFile) -> Iterator[Finding]:
    """What triggers counted is what a count finds."""
    for workspace_id, *counted in state.rows(
        "SELECT c.workspace_id, c.documents, c.sessions, c.bytes,"
        " coalesce(d.number, 0), coalesce(a.number, 0), coalesce(d.size, 0) + coalesce(a.size, 0) FROM counts c"
        " LEFT JOIN (SELECT workspace_id, count(*) AS number, sum(bytes) AS size FROM documents"
        "  WHERE kind = 'knowledge' AND deleted = 0 GROUP BY workspace_id) d USING (workspace_id)"
        " LEFT JOIN (SELECT workspace_id, count(*) AS number, sum(raw_bytes) AS size FROM archives"
        "  WHERE current = 1 GROUP BY workspace_id) a USING (workspace_id)"
    ):
        if counted[:3] != counted[3:]:
            documents, sessions, size = counted[3:]
            yield warning(
                WHERE,
                f"shows wrong counts of {workspace_id}, which has {documents} documents, {sessions} sessions, "
                f"{size} bytes",
                "Report this; nothing is lost",
            )
