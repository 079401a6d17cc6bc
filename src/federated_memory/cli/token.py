"""`token`: named tokens, each with its own rights (SPEC: CLI-7)."""

from __future__ import annotations

import argparse

from federated_memory.cli.output import json_option, print_json, print_line, print_pairs, print_table
from federated_memory.settings import load_settings

ROLES = ("ai", "sync", "read", "admin")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "token", help="create, list and revoke named tokens", description="Named tokens, each with its own rights."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    json = json_option()
    create = actions.add_parser(
        "create", parents=[json], help="make a token and show it once",
        description="Make a token. It is shown this once; the server keeps only its hash.",
    )  # fmt: skip
    create.add_argument("name", metavar="NAME", help="what the token is called in lists and in the history")
    create.add_argument("--role", required=True, choices=ROLES, help="what it is for")
    create.add_argument(
        "--read", action="append", default=[], metavar="GLOB", help="workspace ids it may read; again for more (all)"
    )
    create.add_argument(
        "--write", action="append", default=[], metavar="GLOB", help="workspace ids it may write; again for more (all)"
    )
    for kind, what in (("keys", "keys of the shared state"), ("rooms", "rooms")):
        for verb in ("read", "write"):
            create.add_argument(
                f"--{verb}-{kind}", action="append", metavar="GLOB",
                help=f"{what} it may {verb}; again for more (all; none when its workspaces are limited)",
            )  # fmt: skip
    create.add_argument("--machine", default="", metavar="NAME", help="write only workspaces of this machine")
    create.add_argument("--expires", default="", metavar="TIME", help="end after 90d, 12h, 2w, … (never)")
    create.set_defaults(run=run_create)
    actions.add_parser(
        "list", parents=[json], help="show every named token", description="Every named token, without its secret."
    ).set_defaults(run=run_list)
    revoke = actions.add_parser(
        "revoke", parents=[json], help="end a token at once",
        description="End a token; its open streams end within a second.",
    )  # fmt: skip
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=run_revoke)


def run_create(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        made = backend.create_token(
            options.name,
            options.role,
            read=options.read,
            write=options.write,
            machine=options.machine,
            expires=options.expires,
            scopes={
                name: getattr(options, name)
                for name in ("read_keys", "write_keys", "read_rooms", "write_rooms")
                if getattr(options, name) is not None
            },
        )
    if options.json:
        print_json(made.as_dict())
        return 0
    print_pairs(
        [
            ("Token", made.name),
            ("Role", made.role),
            ("Reads", " ".join(made.read)),
            ("Writes", " ".join(made.write) or "nothing"),
            ("Keys", f"reads {' '.join(made.read_keys) or 'none'}, writes {' '.join(made.write_keys) or 'none'}"),
            ("Rooms", f"reads {' '.join(made.read_rooms) or 'none'}, writes {' '.join(made.write_rooms) or 'none'}"),
            *([("Machine", made.machine)] if made.machine else []),
            ("Expires", made.expires_at or "never"),
            ("Secret", made.token),
        ]
    )
    print_line("Keep the secret now: it is not shown again.")
    return 0


def run_list(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        rows = backend.tokens()
    if options.json:
        print_json([row.as_dict() for row in rows])
    elif not rows:
        print_line("No named tokens. Make one with `federated-memory token create`.")
    else:
        print_table(
            ("NAME", "ROLE", "STATE", "READS", "WRITES", "MACHINE", "CREATED", "EXPIRES"),
            [
                (
                    row.name, row.role, row.state, " ".join(row.read), " ".join(row.write), row.machine,
                    row.created_at[:10], (row.expires_at or "never")[:10],
                )
                for row in rows
            ],
        )  # fmt: skip
    return 0


def run_revoke(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        row = backend.revoke_token(options.name)
    if options.json:
        print_json(row.as_dict())
    else:
        print_line(f"Token {row.name} is revoked.")
    return 0
