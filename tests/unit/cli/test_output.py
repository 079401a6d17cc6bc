"""What commands print, piped and on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from federated_memory.cli import output
from federated_memory.cli.output import Progress, plain, print_json, print_pairs, print_table, size


@pytest.mark.spec("CLI-2")
def test_a_piped_table_is_plain_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "COUNT"), [("a" * 300, 7), ("b", 1_000)])

    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "NAME" + " " * 298 + "COUNT"
    assert first == "a" * 300 + "      7"
    assert second == "b" + " " * 299 + "   1000"


@pytest.mark.spec("CLI-2")
def test_wide_letters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("記憶", "x"), ("abcd", "y")])

    assert capsys.readouterr().out == "A     B\n記憶  x\nabcd  y\n"


@pytest.mark.spec("CLI-2")
def test_on_a_terminal_the_widest_column_is_cut_to_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")

    print_table(("NAME", "SUMMARY"), [("workspace", "記憶 " * 40), ("other", "short")])

    lines = capsys.readouterr().out.splitlines()
    assert all(output._width(line) <= 40 for line in lines)
    assert lines[1].startswith("workspace  記憶") and lines[1].endswith("…")  # noqa: PT018


@pytest.mark.spec("CLI-2")
@pytest.mark.parametrize("hostile", ["\x1b]0;owned\x07", "a\rb", "\u202eabc", "a\nb", "\udcff", "\x9b31m"])
def test_nothing_stored_can_steer_a_terminal(capsys: pytest.CaptureFixture[str], hostile: str) -> None:
    print_table(("A",), [(hostile,)])
    print_pairs([("A", hostile)])

    printed = capsys.readouterr().out
    assert plain(hostile).isprintable()
    assert printed.replace("\n", "").isprintable()
    assert printed.count("\n") == 3


@pytest.mark.spec("CLI-2")
def test_json_is_ascii_and_says_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"path": "Über uns.md", "odd": "\udcff", "none": None}

    print_json(value)

    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == value


@pytest.mark.spec("CLI-2")
def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Progress("Checking") as progress:
        progress.show(1, 2)
    assert capsys.readouterr().err == ""

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("Checking") as progress:
        progress.show(1, 2)
        progress.show(1, 2)
    printed = capsys.readouterr().err
    assert printed.count("50%") == 1
    assert printed.endswith("\r")


@pytest.mark.spec("CLI-2")
@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1_234_567, "1.2 MB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes_are_for_people(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.spec("CLI-2")
def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    code = "from federated_memory.cli.output import print_line\nfor n in range(100_000): print_line(str(n))"
    ran = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    assert ran.stdout
    assert ran.stderr

    ran.stdout.readline()
    ran.stdout.close()

    assert ran.stderr.read() == b""
    ran.stderr.close()
    assert ran.wait() == 141
