"""What the readers share: databases that are only looked at, and values of unknown shape."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from federated_memory.errors import InvalidArgument
from federated_memory.operate.importers.items import DocumentItem, Item, LeftOut

_SQLITE = b"SQLite format 3\0"
MAX_DOCUMENT_BYTES = 1024**2


def open_database(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, also beside the program that owns the file.

    Raises:
        InvalidArgument: It cannot be opened.
    """
    try:
        found = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        found.row_factory = None
        found.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise InvalidArgument(f"{path} cannot be read ({error})", hint="Name the database itself") from error
    return found


def tables_of(path: Path) -> frozenset[str]:
    """The tables of an SQLite file; none for any other file."""
    try:
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) != _SQLITE:
                return frozenset()
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be read ({error.strerror})", hint="Name what the other tool keeps"
        ) from error
    with closing(open_database(path)) as database:
        return frozenset(name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))


def rows_of(database: sqlite3.Connection, table: str) -> Iterator[dict[str, object]]:
    """Every row, by column name, in the order of its making."""
    cursor = database.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def document(source: str, path: str, file: Path) -> Item:
    """A Markdown file as a document, or why it cannot be one."""
    try:
        data = file.read_bytes()
        data.decode("utf-8")
    except OSError as error:
        return LeftOut(source, f"it cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return LeftOut(source, "it is not UTF-8")
    if len(data) > MAX_DOCUMENT_BYTES:
        return LeftOut(source, f"it is over {MAX_DOCUMENT_BYTES} bytes")
    return DocumentItem(source, path, data)


def text_of(value: object) -> str:
    """A text as it is; of anything else its JSON; nothing for null."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def texts_of(value: object) -> list[str]:
    """A list of texts, also from JSON inside a text, or from one text with commas."""
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        value = found if isinstance(found, list) else value.split(",")
    return [text for one in value if (text := text_of(one).strip())] if isinstance(value, list) else []


def is_past(at: str) -> bool:
    try:
        found = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        return False
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)) <= datetime.now(timezone.utc)
