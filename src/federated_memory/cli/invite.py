"""`invite`: one line for another machine, which trades it for tokens of its own (SPEC: CLI-13)."""

from __future__ import annotations

import argparse
import sys

from federated_memory.cli.output import json_option, plain, print_json, print_line, print_table
from federated_memory.errors import InvalidArgument
from federated_memory.settings import Settings, load_settings


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "invite",
        parents=[json_option()],
        help="let another machine in, with one line to run there",
        description="Print one line to run on another machine. It installs the client there and gets that machine "
        "tokens of its own, once. Inviting a machine again replaces its tokens when the line is run.",
    )
    parser.add_argument("machine", metavar="MACHINE", nargs="?", help="what the other machine is called")
    parser.add_argument("--expires", default="", metavar="TIME", help="good for 15m (the default), 2h, 1d, …")
    parser.add_argument(
        "--read", action="append", default=[], metavar="GLOB", help="workspace ids it may read; again for more (all)"
    )
    parser.add_argument(
        "--pin", action="store_true", help="tell it the certificate, also when this machine trusts it by itself"
    )
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--list", action="store_true", help="show the invitations instead")
    others.add_argument("--withdraw", metavar="ID", help="end an open invitation instead")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.list or options.withdraw:
        if options.machine:
            raise InvalidArgument("--list and --withdraw take no machine", hint="Leave one of them out")
        return _list(options) if options.list else _withdraw(options)
    if not options.machine:
        raise InvalidArgument("Which machine?", hint="Name it: federated-memory invite laptop")
    from federated_memory.cli.backend import open_backend
    from federated_memory.service.invitation_lines import InvitationLines, warnings_of

    settings = load_settings()
    with open_backend(settings) as backend:
        made = backend.invite(options.machine, read=options.read, expires=options.expires, pin=options.pin)
        here = backend.url
    lines = InvitationLines.of(made, made.url or here or _own_url(settings))
    warnings = [*made.notes, *warnings_of(lines.origin, is_served=bool(here))]
    if options.json:
        shown = {**made.as_dict(), "url": lines.origin, "invitation": lines.invitation, "notes": warnings}
        print_json({**shown, "commands": {"sh": lines.shell, "powershell": lines.powershell}})
        return 0
    print_line(f"Run this on {made.machine}, once, before {made.expires_at.replace('T', ' ').replace('Z', ' UTC')}:")
    print_line()
    print_line("Linux, macOS:")
    print_line(f"  {lines.shell}")
    print_line("Windows (PowerShell):")
    print_line(f"  {lines.powershell}")
    for warning in warnings:
        print(f"federated-memory: {plain(warning)}", file=sys.stderr)
    return 0


def _own_url(settings: Settings) -> str:
    host = settings.host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _list(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        rows = backend.invitations()
    if options.json:
        print_json([row.as_dict() for row in rows])
    elif not rows:
        print_line("No invitations. Make one with `federated-memory invite MACHINE`.")
    else:
        print_table(
            ("ID", "MACHINE", "STATE", "READS", "CREATED", "EXPIRES", "USED FROM"),
            [
                (
                    row.invitation_id, row.machine, row.state, " ".join(row.read), row.created_at[:16],
                    row.expires_at[:16], row.used_from or "",
                )
                for row in rows
            ],
        )  # fmt: skip
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        row = backend.withdraw(options.withdraw)
    if options.json:
        print_json(row.as_dict())
    else:
        print_line(f"The invitation of {row.machine} is {row.state}.")
    return 0
