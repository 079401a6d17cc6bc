"""`reindex`: make the index anew from the files (SPEC: INDEX-10)."""

from __future__ import annotations

import argparse

from federated_memory.cli.output import Progress, json_option, print_json, print_line
from federated_memory.settings import load_settings


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "reindex",
        parents=[json_option()],
        help="make the search index anew",
        description="Make the search index anew from the files, on a running server or without one. Nothing is lost, "
        "and searches answer meanwhile. Exit code 1: it could not be finished.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend, Progress("Indexing", is_shown=not options.json) as progress:
        found = backend.reindex(progress.show)
    is_done = found.state in ("current", "behind")
    if options.json:
        print_json({"ok": is_done, **found.as_dict()})
    elif is_done:
        print_line("The index is made anew.")
    else:
        print_line(f"The index is not whole: {found.problem or 'it is still being made'}.")
    return 0 if is_done else 1
