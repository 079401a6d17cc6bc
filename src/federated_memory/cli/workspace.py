"""`workspace`: being written."""

from __future__ import annotations

import argparse


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("workspace", help="")
    parser.set_defaults(run=lambda _: 1)
