"""`completion`: the scripts, as the shells that are there run them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from federated_memory.cli.completion import commands
from federated_memory.cli.main import build_parser
from tests.unit.cli.conftest import Cli

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _federated_memory
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.spec("CLI-28")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["fedmem", "sea"], {"search"}),
        (["fedmem", "token", "c"], {"create"}),
        (["fedmem", "search", "--mode", ""], {"ranked", "literal", "regex"}),
        (["fedmem", "search", "word", "--mod"], {"--mode"}),
        (["fedmem", "list", "s"], {"sessions"}),
        (["fedmem", "completion", ""], {"bash", "zsh", "fish"}),
        (["fedmem", "search", "--since", ""], {""}),
    ],
)
def test_bash_finishes_what_is_typed(cli: Cli, tmp_path: Path, typed: list[str], expected: set[str]) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(cli("completion", "bash").out)

    done = subprocess.run(["bash", "-c", ASK, "bash", str(script), *typed], capture_output=True, text=True, check=True)

    assert set(done.stdout.splitlines()) == expected
    assert done.stderr == ""


@pytest.mark.spec("CLI-28")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_holds_every_command_and_reads_as_its_shell_does(cli: Cli, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "completion"
    script.write_text(cli("completion", shell).out)

    for command in commands(build_parser()):
        assert command.path in script.read_text()
    if path := shutil.which(shell):
        done = subprocess.run([path, "-n", str(script)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
