"""`save`, `delete`, `list` and `get` of memories, on a root that no server holds."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from federated_memory.cli import exchange, find
from federated_memory.operate.importers import formats
from federated_memory.store import memory_file
from tests.unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("made")


def saved(cli: Cli, *arguments: str) -> str:
    ran = cli("save", *arguments)
    assert ran.code == 0, ran
    return ran.out.strip()


class Piped(io.TextIOWrapper):
    """Standard input that is no terminal."""


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> object:
    def piped(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", Piped(io.BytesIO(data)))

    return piped


def test_what_the_options_offer_is_what_there_is() -> None:
    assert find.KINDS == memory_file.KINDS
    assert tuple(sorted(formats.NAMES, key=exchange._FORMATS.index)) == exchange._FORMATS


@pytest.mark.spec("CLI-30")
def test_what_is_saved_is_found_listed_and_read(cli: Cli, tmp_path: Path) -> None:
    memory_id = saved(
        cli, "The outbox sends mails.", "--kind", "decision", "--subject", "Mails", "--tag", "mail", "--tag", "queue",
        "--file", "src/mail.py", "--reference", "#67", "--importance", "5",
    )  # fmt: skip

    assert re.fullmatch(r"\d{8}-\d{6}-\w{8}", memory_id)
    found = cli("get", memory_id, "--json").json
    assert (found["kind"], found["subject"], found["importance"]) == ("decision", "Mails", 5)
    assert (found["tags"], found["files"], found["references"]) == (["mail", "queue"], ["src/mail.py"], ["#67"])
    assert found["project"] == tmp_path.name
    assert cli("get", memory_id).out == "The outbox sends mails.\n"
    assert [row["memory_id"] for row in cli("list", "--json").json] == [memory_id]
    assert cli("list", "--memory-kind", "bug", "--json").json == []
    assert cli("search", "outbox", "--memory-kind", "bug", "--tag", "mail").code == 1
    assert cli("search", "outbox", "--memory-kind", "decision", "--tag", "mail").code == 0
    assert [row["memory_id"] for row in cli("list", "--tag", "mail", "--json").json] == [memory_id]
    assert cli("search", "outbox", "--json").json["hits"][0]["memory_id"] == memory_id
    assert memory_id in cli("search", "outbox").out


@pytest.mark.spec("CLI-30")
def test_a_memory_is_piped_in_as_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# Häh?\n\n  two lines\n"
    monkeypatch.setattr("sys.stdin", Piped(io.BytesIO(text.encode())))

    assert cli("get", saved(cli, "-")).out == text
    monkeypatch.setattr("sys.stdin", Piped(io.BytesIO(b"\xff")))
    assert cli("save", "-").code == 9


@pytest.mark.spec("CLI-30")
def test_a_second_decision_on_a_subject_names_the_first_and_replaces_it_when_told(cli: Cli) -> None:
    first = saved(cli, "Redis sends mails.", "--kind", "decision", "--subject", "How mails are sent")

    ran = cli("save", "The outbox does.", "--kind", "decision", "--subject", "How mails are sent", "--json")
    assert [one["memory_id"] for one in ran.json["similar"]] == [first]
    third = saved(cli, "A cron job does.", "--kind", "decision", "--subject", "Mails", "--supersedes", first)

    assert first not in cli("list").out
    shown = {row["memory_id"]: row for row in cli("list", "--all", "--json").json}
    assert shown[first]["superseded_by"] == [third]
    assert "superseded" in cli("list", "--all").out


@pytest.mark.spec("CLI-30", "CLI-1")
@pytest.mark.parametrize(
    "arguments", [("TODO",), ("x", "--importance", "9"), ("x", "--expires", "yesterday"), ("x", "--subject", "")]
)
def test_what_is_refused_stores_nothing_and_says_what_is_allowed(cli: Cli, arguments: tuple[str, ...]) -> None:
    ran = cli("save", *arguments)

    assert (ran.code, ran.out) == (9, "")
    assert cli("list", "--json").json == []


@pytest.mark.spec("CLI-31")
def test_a_deleted_memory_is_hidden_and_keeps_its_reason(cli: Cli) -> None:
    memory_id = saved(cli, "The outbox sends mails.")

    assert cli("delete", memory_id, "--dry-run").code == 0
    assert memory_id in cli("list").out
    assert cli("delete", memory_id, "--reason", "it was wrong").code == 0

    assert cli("list", "--json").json == []
    assert cli("get", memory_id, "--json").json["reason"] == "it was wrong"
    assert cli("search", "outbox").code == 1
    assert cli("search", "outbox", "--all").code == 0


@pytest.mark.spec("CLI-31")
def test_many_are_deleted_only_when_somebody_says_so(cli: Cli) -> None:
    kept = saved(cli, "Of another project.", "--project", "other")
    for number in range(3):
        saved(cli, f"Number {number}.", "--project", "shop")

    assert "3 memories would be deleted" in cli("delete", "--project", "shop", "--dry-run").out
    unsure = cli("delete", "--project", "shop")
    assert (unsure.code, unsure.out) == (9, "")
    assert "3 memories" in unsure.err
    assert len(cli("list", "--json").json) == 4

    assert cli("delete", "--project", "shop", "--yes", "--json").json["count"] == 3
    assert [row["memory_id"] for row in cli("list", "--json").json] == [kept]
    assert "0 memories deleted" in cli("delete", "--project", "shop").out


@pytest.mark.spec("CLI-31")
def test_conditions_are_machine_tool_and_time(cli: Cli) -> None:
    saved(cli, "One.")

    for conditions in (("--machine", "elsewhere"), ("--tool", "codex"), ("--before", "2020-01-01")):
        assert cli("delete", *conditions, "--dry-run", "--json").json["count"] == 0
    for conditions in (("--tool", "cli"), ("--since", "2020-01-01"), ("--before", "2100-01-01")):
        assert cli("delete", *conditions, "--dry-run", "--json").json["count"] == 1


@pytest.mark.spec("CLI-31", "CLI-1")
@pytest.mark.parametrize(
    ("arguments", "code"), [((), 9), (("x", "--project", "shop"), 9), (("20200101-000000-abcdefgh",), 4)]
)
def test_deleting_nothing_in_particular_is_refused(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    assert cli("delete", *arguments, "--yes").code == code
