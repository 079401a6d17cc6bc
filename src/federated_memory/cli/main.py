"""The command's entry point: arguments, the verb, and errors as exit codes (SPEC: CLI-1, ERR-3)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from federated_memory import __version__
from federated_memory.cli import (
    backup,
    check,
    completion,
    doctor,
    exchange,
    find,
    init,
    invite,
    mcp,
    migrate,
    read,
    reindex,
    remember,
    serve,
    status,
    tend,
    token,
    up,
    versions,
    workspace,
)
from federated_memory.errors import FederatedMemoryError

VERBS = (
    serve, up, init, remember, find, read, versions, status, invite, token, workspace, exchange, mcp, doctor, check,
    reindex, backup, tend, migrate, completion,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="federated-memory",
        description="A memory server for coding agents.",
        epilog="Settings come from the environment and a .env file. Exit codes: 0 fine, 1 problem found, 2 usage, "
        "4 and above an error, see SPEC.md.",
    )
    parser.add_argument("--version", action="version", version=f"federated-memory {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(verbs)
    parser.set_defaults(parser=parser)  # `completion` tells a shell of all of it
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except FederatedMemoryError as error:
        from federated_memory import boundary

        print(f"federated-memory: {boundary.as_text(error)}", file=sys.stderr)
        return boundary.outcome_of(error).exit_code
    except KeyboardInterrupt:
        return 130
    return code


def run() -> None:
    """The command, as the shell calls it."""
    os.umask(0o077)  # whatever is made is the owner's alone, the state database included
    sys.exit(main())
