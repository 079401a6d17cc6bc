"""`search`, `get`, `list`, `history`, `diff`, `restore-version`, `brief` on a root that no server holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.cli.read import Address, address
from federated_memory.errors import FederatedMemoryError
from federated_memory.settings import Settings
from tests.unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("filled")

ADMIN = Caller(Grant("tester", "admin", "0" * 32))
SHOP = "box-claude-shop"
MAIL = f"{SHOP}/design/mail.md"
LINES = (
    '{"type":"user","message":{"role":"user","content":"where do mails go?"},"timestamp":"2026-11-20T08:00:00Z"}\n'
    '{"type":"assistant","message":{"role":"assistant","content":"To the outbox."},"timestamp":"2026-11-20T08:01Z"}\n'
)
STEERING = "\x1b]0;owned\x07"


@pytest.fixture
def filled(made: Path) -> None:
    """A root with a document of two versions, an overview and a session that two workspaces have."""
    services = open_services(Settings(root=made))
    try:
        bound = services.workspaces.register(ADMIN, machine="box", tool="claude", project="shop")
        for text in ("# Mail\n\nThe queue sends mails.\n", f"# Mail\n\nThe outbox sends mails.{STEERING}\n"):
            services.knowledge.write(ADMIN, "design/mail.md", text, binding=bound.binding)
        services.knowledge.write_overview(ADMIN, "# Shop\n\nSells things.\n", binding=bound.binding)
        services.workspaces.register(ADMIN, machine="box", tool="codex", project="shop")
        for workspace_id, session_id in ((SHOP, "s1"), (SHOP, "s2"), ("box-codex-shop", "s2")):
            services.sessions.upload(
                ADMIN, workspace_id, None, session_id, content=LINES, content_base64=None, encoding=None, source=None
            )
    finally:
        close_services(services)


# -- addresses


@pytest.mark.spec("CLI-25")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MAIL, Address("knowledge", SHOP, "design/mail.md")),
        (f"memory://{SHOP}/knowledge/design/mail.md", Address("knowledge", SHOP, "design/mail.md")),
        (f"{SHOP}/overview.md", Address("overview", SHOP, "overview.md")),
        (f"memory://{SHOP}/overview", Address("overview", SHOP, "overview.md")),
        (f"{SHOP}/s1", Address("session", SHOP, "s1")),
        (f"{SHOP}/s1:12", Address("session", SHOP, "s1", 12)),
        (f"memory://{SHOP}/sessions/s1", Address("session", SHOP, "s1")),
        (f"memory://{SHOP}/memories/m1", Address("memory", SHOP, "m1")),
        ("s1", Address("any", "", "s1")),
    ],
)
def test_an_address_says_what_it_means(text: str, expected: Address) -> None:
    assert address(text) == expected


@pytest.mark.spec("CLI-25")
def test_what_is_no_address_says_how_one_looks() -> None:
    with pytest.raises(FederatedMemoryError, match="is no address"):
        address(f"{SHOP}/a/b")


# -- get


@pytest.mark.spec("CLI-25")
def test_a_piped_document_is_exactly_what_is_stored(cli: Cli) -> None:
    ran = cli("get", MAIL)

    assert (ran.code, ran.out) == (0, f"# Mail\n\nThe outbox sends mails.{STEERING}\n")
    assert cli("get", MAIL, "--version", "1").out == "# Mail\n\nThe queue sends mails.\n"
    assert cli("get", MAIL, "--json").json["version"] == 2
    assert cli("get", SHOP).out == "# Shop\n\nSells things.\n"


@pytest.mark.spec("CLI-25")
def test_a_session_is_read_as_a_conversation_or_as_it_is(cli: Cli) -> None:
    ran = cli("get", "s1")

    assert ran.code == 0
    assert ran.out.index("where do mails go?") < ran.out.index("To the outbox.")
    assert cli("get", f"{SHOP}/s1", "--raw").out == LINES
    assert "where" not in cli("get", "s1:1").out
    assert "To the" not in cli("get", "s1", "--lines", "1").out
    last = cli("get", "s1", "--offset", "-1", "--json").json
    assert [message["line"] for message in last["messages"]] == [1]
    assert last["lines"] == 2


@pytest.mark.spec("CLI-25")
def test_an_id_in_two_workspaces_is_a_conflict_that_names_both(cli: Cli) -> None:
    ran = cli("get", "s2")

    assert (ran.code, ran.out) == (5, "")
    assert f"{SHOP}/s2" in ran.err
    assert "box-codex-shop/s2" in ran.err


@pytest.mark.spec("CLI-25", "CLI-1")
def test_nothing_of_that_name_says_where_names_come_from(cli: Cli) -> None:
    ran = cli("get", "nothing-here")

    assert (ran.code, ran.out) == (4, "")
    assert "Nothing is called nothing-here" in ran.err


# -- lists


@pytest.mark.spec("CLI-26")
def test_lists_print_what_get_takes(cli: Cli) -> None:
    assert MAIL in cli("list", "knowledge").out
    sessions = cli("list", "sessions", "--json").json
    assert {(row["workspace_id"], row["session_id"]) for row in sessions} == {
        (SHOP, "s1"), (SHOP, "s2"), ("box-codex-shop", "s2"),
    }  # fmt: skip
    assert [row["session_id"] for row in cli("list", "sessions", "--tool", "codex", "--json").json] == ["s2"]
    assert len(cli("list", "sessions", "--project", "SHOP", "--limit", "2", "--json").json) == 2
    assert cli("list", "knowledge", "--workspace", SHOP, "--prefix", "other/").out == "No knowledge.\n"
    assert len(cli("list", "workspaces", "--json").json) == 2


# -- search and brief


@pytest.mark.spec("CLI-23")
def test_search_prints_what_get_takes_and_leaves_no_index_behind(cli: Cli) -> None:
    ran = cli("search", "outbox", "--json")

    assert ran.code == 0
    assert {hit["kind"] for hit in ran.json["hits"]} == {"knowledge", "session"}
    assert ran.json["complete"] is True
    assert "note" not in ran.json
    table = cli("search", "outbox").out
    assert MAIL in table
    assert "\x1b" not in table
    assert [hit["kind"] for hit in cli("search", "outbox", "--kind", "knowledge", "--json").json["hits"]] == [
        "knowledge"
    ]


@pytest.mark.spec("CLI-23")
def test_a_search_without_a_hit_has_an_exit_code_of_its_own(cli: Cli) -> None:
    ran = cli("search", "zebra")

    assert (ran.code, ran.out) == (1, "Nothing found.\n")
    assert cli("search", "outbox", "--since", "tomorrow").code == 9


@pytest.mark.spec("CLI-24")
def test_brief_is_that_of_the_folder_or_of_a_workspace(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    named = cli("brief", "--workspace", SHOP)

    assert named.code == 0
    assert "Sells things." in named.out
    assert "Sells things." in cli("brief", "--project", "shop").out
    unsure = cli("brief", "--project", "nowhere")
    assert unsure.code == 1
    assert "Nothing is known of this project" in unsure.out


# -- versions


@pytest.mark.spec("CLI-27")
def test_history_diff_and_restore_go_together(cli: Cli) -> None:
    assert [row["version"] for row in cli("history", MAIL, "--json").json] == [2, 1]
    diff = cli("diff", MAIL)
    assert diff.code == 1
    assert "-The queue sends mails." in diff.out
    assert "+The outbox sends mails." in diff.out
    assert "\x1b" not in diff.out
    assert cli("diff", MAIL, "1", "1").code == 0

    assert cli("restore-version", MAIL, "1").code == 0
    assert cli("get", MAIL).out == "# Mail\n\nThe queue sends mails.\n"
    assert cli("history", MAIL, "--json").json[0]["operation"] == "restore"
    assert "already" in cli("restore-version", MAIL, "1").out


@pytest.mark.spec("CLI-27", "CLI-1")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("history", SHOP), 9),
        (("history", "nowhere/a.md"), 4),
        (("diff", f"{SHOP}/none.md"), 4),
        (("restore-version", MAIL, "9"), 4),
        (("restore-version", "nowhere/a.md", "1"), 4),
    ],
)
def test_a_version_that_is_not_there_changes_nothing(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    ran = cli(*arguments)

    assert (ran.code, ran.out) == (code, "")
    assert len(cli("list", "workspaces", "--json").json) == 2
