"""What is run on a machine that was invited, for people to copy (SPEC: CLI-13, SITE-10)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from federated_memory.service.results import Invited
from federated_memory.settings import is_loopback


@dataclass(frozen=True, slots=True)
class InvitationLines:
    """What is run on the other machine. Nothing in them is stored anywhere."""

    origin: str
    invitation: str
    shell: str
    powershell: str

    @classmethod
    def of(cls, made: Invited, origin: str) -> InvitationLines:
        secret = f"{made.code}.{made.fingerprint}" if made.fingerprint else made.code
        invitation = f"{origin}/#{secret}"
        # A key pin is checked also where -k leaves the certificate's issuer unchecked.
        flags = ["-fsSk", "--pinnedpubkey", made.pin] if made.pin else ["-fsS"]
        more = ["--invite", invitation, *(["--pin", made.pin] if made.pin else [])]
        if origin.startswith("http://") and not is_here(origin):
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


def is_here(origin: str) -> bool:
    return is_loopback(urlsplit(origin).hostname or "")


def warnings_of(origin: str, *, is_served: bool) -> list[str]:
    found = []
    if not is_served:
        found.append("no server runs on this root: start it before the line is run")
    if is_here(origin):
        found.append(f"other machines cannot reach {origin}: set PUBLIC_URL to an address that they can, and restart")
    elif origin.startswith("http://"):
        found.append(f"tokens and transcripts travel unencrypted to {origin}: put TLS in front, or stay in a VPN")
    return found
