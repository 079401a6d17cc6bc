"""`invite` on a root without a server (SPEC: CLI-13)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from federated_memory.service.invitation_lines import InvitationLines
from federated_memory.service.results import Invited
from tests.unit.cli.conftest import Cli

PIN = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def invited(**more: object) -> Invited:
    given = {
        "invitation_id": "0" * 12, "machine": "laptop", "read": ["*"], "created_at": "", "created_by": "local",
        "expires_at": "2026-11-21T12:00:00Z", "state": "open", "code": "a-_b" * 8, "url": "", **more,
    }  # fmt: skip
    return Invited.model_validate(given)


@pytest.mark.spec("CLI-13")
def test_a_line_for_a_trusted_server_has_neither_pin_nor_fingerprint() -> None:
    lines = InvitationLines.of(invited(), "https://memory.test:7443")

    code = "a-_b" * 8
    assert lines.invitation == f"https://memory.test:7443/#{code}"
    assert lines.shell == (
        f"curl -fsS https://memory.test:7443/client/install.sh | sh -s -- --invite 'https://memory.test:7443/#{code}'"
    )
    assert lines.powershell == (
        "curl.exe -fsS 'https://memory.test:7443/client/install.ps1' -o \"$env:TEMP\\memory-install.ps1\"; "
        "if ($LASTEXITCODE -eq 0) { powershell -NoProfile -ExecutionPolicy Bypass"
        f" -File \"$env:TEMP\\memory-install.ps1\" --invite 'https://memory.test:7443/#{code}' }}"
    )


@pytest.mark.spec("CLI-13")
def test_a_line_for_a_pinned_server_pins_the_download_and_hands_the_pin_on() -> None:
    lines = InvitationLines.of(invited(fingerprint="f" * 64, pin=PIN), "https://memory.test")

    download, _, install = lines.shell.partition(" | ")
    assert shlex.split(download) == ["curl", "-fsSk", "--pinnedpubkey", PIN, "https://memory.test/client/install.sh"]
    assert shlex.split(install) == [
        "sh", "-s", "--", "--invite", "https://memory.test/#" + "a-_b" * 8 + "." + "f" * 64, "--pin", PIN,
    ]  # fmt: skip
    assert f"-fsSk --pinnedpubkey '{PIN}'" in lines.powershell
    assert f"--pin '{PIN}' }}" in lines.powershell


@pytest.mark.spec("CLI-13")
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://10.0.0.5:8000", True), ("http://127.0.0.1:8000", False), ("https://10.0.0.5", False)],
)
def test_plain_http_elsewhere_is_allowed_by_the_line_itself(origin: str, allowed: bool) -> None:
    lines = InvitationLines.of(invited(), origin)

    assert ("--allow-http" in shlex.split(lines.shell)) is allowed
    assert ("--allow-http }" in lines.powershell) is allowed


@pytest.mark.spec("CLI-13")
@pytest.mark.parametrize("nasty", ["'", '"', "$x", "`x`", "; x", "&", "|"])
def test_whatever_the_url_holds_stays_one_argument(nasty: str) -> None:
    origin = f"https://memory.test/a{nasty}b"

    lines = InvitationLines.of(invited(), origin)

    assert f"{origin}/client/install.sh" in shlex.split(lines.shell)
    assert "'" + (origin + "/client/install.ps1").replace("'", "''") + "'" in lines.powershell


@pytest.mark.spec("CLI-13", "CLI-2")
def test_a_root_without_a_server_gives_an_invitation_and_says_what_is_missing(cli: Cli, made: Path) -> None:
    ran = cli("invite", "laptop", "--expires", "2h", "--read", "laptop-*", PORT="8123")

    assert ran.code == 0, ran.err
    found = re.search(r"--invite '(http://127\.0\.0\.1:8123/#[A-Za-z0-9_-]{32})'", ran.out)
    assert found
    assert "no server runs on this root" in ran.err
    assert "set PUBLIC_URL" in ran.err
    kept = json.loads((made / "_meta" / "tokens.json").read_text())["invitations"]
    assert [(row["machine"], row["read"]) for row in kept] == [("laptop", ["laptop-*"])]


@pytest.mark.spec("CLI-13", "CLI-2")
@pytest.mark.usefixtures("made")
def test_json_holds_the_invitation_and_both_commands(cli: Cli) -> None:
    ran = cli("invite", "laptop", "--json", PUBLIC_URL="http://10.1.2.3:8000")

    told = ran.json
    assert told["invitation"] == f"http://10.1.2.3:8000/#{told['code']}"
    assert told["commands"].keys() == {"sh", "powershell"}
    assert any("unencrypted" in note for note in told["notes"])


@pytest.mark.spec("CLI-13")
@pytest.mark.usefixtures("made")
def test_invitations_are_listed_and_withdrawn(cli: Cli) -> None:
    assert "No invitations" in cli("invite", "--list").out
    made = cli("invite", "laptop", "--json").json

    assert made["code"] not in cli("invite", "--list").out + cli("invite", "--list", "--json").out
    assert cli("invite", "--withdraw", made["invitation_id"]).out == "The invitation of laptop is withdrawn.\n"
    assert [row["state"] for row in cli("invite", "--list", "--json").json] == ["withdrawn"]
    assert cli("invite", "--withdraw", "nothing").code == 4


@pytest.mark.spec("CLI-13", "CLI-1")
@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 9), (["laptop", "--expires", "soon"], 9), (["laptop", "--expires", "9d"], 9), ([" "], 9),
        (["laptop", "--list"], 9), (["--list", "--withdraw", "x"], 2),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_do(cli: Cli, arguments: list[str], code: int) -> None:
    ran = cli("invite", *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert ran.err


@pytest.mark.spec("CLI-13", "CLI-4")
def test_without_a_root_there_is_nobody_to_invite_to(cli: Cli, memory: Path) -> None:
    assert cli("invite", "laptop").code == 4
    assert not memory.exists()
