"""`invite`: one line for another machine, which trades it for tokens of its own (SPEC: CLI-13)."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from federated_memory.cli.output import json_option, plain, print_json, print_line, print_table
from federated_memory.errors import InvalidArgument
from federated_memory.settings import Settings, is_loopback, load_settings

if TYPE_CHECKING:
    from federated_memory.service.results import Invited


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

    settings = load_settings()
    with open_backend(settings) as backend:
        made = backend.invite(options.machine, read=options.read, expires=options.expires, pin=options.pin)
        here = backend.url
    lines = Lines.of(made, made.url or here or _own_url(settings))
    warnings = [*made.notes, *_warnings(lines.origin, is_served=bool(here))]
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


@dataclass(frozen=True, slots=True)
class Lines:
    """What is run on the other machine. Nothing in them is stored anywhere."""

    origin: str
    invitation: str
    shell: str
    powershell: str

    @classmethod
    def of(cls, made: Invited, origin: str) -> Lines:
        secret = f"{made.code}.{made.fingerprint}" if made.fingerprint else made.code
        invitation = f"{origin}/#{secret}"
        # A key pin is checked also where -k leaves the certificate's issuer unchecked.
        flags = ["-fsSk", "--pinnedpubkey", made.pin] if made.pin else ["-fsS"]
        more = ["--invite", invitation, *(["--pin", made.pin] if made.pin else [])]
        if origin.startswith("http://") and not _is_here(origin):
            more.append("--allow-http")
        file = '"$env:TEMP\\memory-install.ps1"'
        return cls(
            origin=origin,
            invitation=invitation,
            shell=f"curl {shlex.join([*flags, f'{origin}/client/install.sh'])} | sh -s -- {shlex.join(more)}",
            powershell=f"curl.exe {_for_powershell([*flags, f'{origin}/client/install.ps1'])} -o {file}; "
            f"if ($LASTEXITCODE -eq 0) {{ powershell -NoProfile -ExecutionPolicy Bypass -File {file} "
            f"{_for_powershell(more)} }}",
        )


def _for_powershell(arguments: list[str]) -> str:
    """Single-quoted, where nothing is special but the quote itself; plain flags as they are."""
    return " ".join(
        argument if argument.replace("-", "").isalnum() else "'" + argument.replace("'", "''") + "'"
        for argument in arguments
    )


def _own_url(settings: Settings) -> str:
    host = settings.host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _is_here(origin: str) -> bool:
    return is_loopback(urlsplit(origin).hostname or "")


def _warnings(origin: str, *, is_served: bool) -> list[str]:
    found = []
    if not is_served:
        found.append("no server runs on this root: start it before the line is run")
    if _is_here(origin):
        found.append(f"other machines cannot reach {origin}: set PUBLIC_URL to an address that they can, and restart")
    elif origin.startswith("http://"):
        found.append(f"tokens and transcripts travel unencrypted to {origin}: put TLS in front, or stay in a VPN")
    return found


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
