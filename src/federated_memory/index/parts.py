"""The parts that SQLite keeps a table of words in, merged while nothing else is to do (SPEC: INDEX-12).

Each transaction adds a part, and a word is looked up in each of them. SQLite merges them too while it writes, but only
when there are many: to have few then would slow down every write.
"""

from __future__ import annotations

import sqlite3

_TABLES = ("spoken", "noted", "written", "heads", "word_grams")
_PAGES = 200
"""What one step writes, about: some hundredths of a second."""


def merge_parts(connection: sqlite3.Connection) -> bool:
    """One step, in a transaction of the caller's; False when there is nothing left to merge."""
    for table in _TABLES:
        before = connection.total_changes
        connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('merge', {_PAGES})")
        if connection.total_changes - before > 1:  # the command itself counts as one
            return True
    return False
