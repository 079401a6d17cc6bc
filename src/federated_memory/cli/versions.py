"""`history`, `diff` and `restore-version` of a document (SPEC: CLI-27)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from federated_memory.cli.find import minute
from federated_memory.cli.output import (
    Style,
    json_option,
    plain,
    print_json,
    print_line,
    print_raw,
    print_table,
    styled,
)
from federated_memory.cli.read import Address, address
from federated_memory.errors import InvalidArgument
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.cli.protocol import Backend
    from federated_memory.service.results import VersionRow

_NO_DIFFERENCE, _DIFFERENT = 0, 1
_LINE_STYLES: dict[str, Style] = {"+": "added", "-": "removed", "@": "dim"}


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    history = verbs.add_parser(
        "history", parents=[json_option()], help="the versions of a document",
        description="Every text that a document ever had, newest first.",
    )  # fmt: skip
    diff = verbs.add_parser(
        "diff", parents=[json_option()], help="what changed between two versions",
        description="The unified diff of two versions; of the newest two if none is named, of one and the newest if "
        "one is. Exit code 1: they differ.",
    )  # fmt: skip
    restore = verbs.add_parser(
        "restore-version", parents=[json_option()], help="bring an old version back",
        description="Make a new version that equals an old one; also brings a deleted document back. Nothing is lost.",
    )  # fmt: skip
    for parser in (history, diff, restore):
        parser.add_argument("document", metavar="WORKSPACE/PATH.md")
    history.set_defaults(run=run_history)
    diff.add_argument("from_version", nargs="?", type=int, metavar="FROM")
    diff.add_argument("to_version", nargs="?", type=int, metavar="TO")
    diff.set_defaults(run=run_diff)
    restore.add_argument("version", type=int, metavar="N", help="as history numbers it")
    restore.set_defaults(run=run_restore)


def run_history(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    wanted = _document(options.document)
    with open_backend(load_settings()) as backend:
        rows = _versions(backend, wanted)
    if options.json:
        print_json([row.as_dict() for row in rows])
    else:
        print_table(
            ("VERSION", "WHEN", "WHAT", "BY", "FROM"),
            [(str(row.version), minute(row.at), row.operation, row.by, row.source) for row in rows],
        )
    return 0


def run_diff(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.calls import HISTORY, MOST_BYTES

    wanted = _document(options.document)
    with open_backend(load_settings()) as backend:
        older, newer = _compared(backend, wanted, options.from_version, options.to_version)
        found = backend.ask(
            HISTORY, workspace_id=wanted.workspace_id, path=wanted.name, from_version=older, to_version=newer,
            limit=1, max_bytes=MOST_BYTES,
        )  # fmt: skip
    text = found.diff or ""
    if options.json:
        print_json({"document": options.document, "from_version": older, "to_version": newer, "diff": text})
    else:
        for line in text.splitlines():
            style = None if line.startswith(("+++", "---")) else _LINE_STYLES.get(line[:1])
            print_raw(styled(plain(line), style) if style else plain(line))
    return _DIFFERENT if text else _NO_DIFFERENCE


def run_restore(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.cli.calls import RESTORE
    from federated_memory.cli.place import bound

    wanted = _document(options.document)
    with open_backend(load_settings()) as backend:
        workspace_id, binding = bound(backend, wanted.workspace_id)
        done = backend.ask(
            RESTORE, workspace_id=workspace_id, path=wanted.name, version=options.version, binding=binding
        )
    if options.json:
        print_json(done.as_dict())
    elif done.unchanged:
        print_line(f"{options.document} is version {options.version} already.")
    else:
        print_line(f"{options.document} is version {done.version} now, equal to version {options.version}.")
    return 0


def _document(text: str) -> Address:
    """Raises: InvalidArgument: not a document's address."""
    wanted = address(text)
    if wanted.kind != "knowledge":
        raise InvalidArgument(f"{text} is no document", hint="Name it WORKSPACE/path.md, as `list knowledge` does")
    return wanted


def _compared(backend: Backend, wanted: Address, older: int | None, newer: int | None) -> tuple[int, int]:
    """The two versions to compare; those that are not named are the newest."""
    if older is not None and newer is not None:
        return older, newer
    numbers = [row.version for row in _versions(backend, wanted)]
    if older is None and len(numbers) < 2:
        raise InvalidArgument(f"{wanted.name} has one version", hint="There is nothing to compare it with")
    return (numbers[1] if older is None else older), numbers[0]


def _versions(backend: Backend, wanted: Address) -> list[VersionRow]:
    from federated_memory.cli.calls import HISTORY, every

    return every(backend, HISTORY, "versions", workspace_id=wanted.workspace_id, path=wanted.name)
