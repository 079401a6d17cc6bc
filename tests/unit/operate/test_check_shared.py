"""`check` of what agents share: each kind of row that leads nowhere is found, and mended where nothing is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.errors import Locked
from federated_memory.operate import check_shared
from federated_memory.operate.check import check_root
from federated_memory.operate.check_shared import RULES
from federated_memory.operate.repair import repair
from federated_memory.settings import Settings
from federated_memory.store.root import Root
from federated_memory.store.shared_state import Write
from tests.unit.operate.conftest import fill, only

BREAKS: dict[str, str] = {
    "memberships of rooms that are not there":
        "INSERT INTO room_members SELECT 'gone', workspace_id, user, role, status, joined_at, seen_at FROM room_members"
        " WHERE room = 'closed'",
    "memberships of workspaces that are not there":
        "INSERT INTO room_members SELECT room, 'nobody', user, role, status, joined_at, seen_at FROM room_members"
        " WHERE room = 'closed'",
    "tickets of rooms that take none": "UPDATE room_tickets SET room = 'open'",
    "receipts of messages that are not there": "UPDATE room_receipts SET number = 77",
    "receipts of messages in rooms that are not there": "",  # with the next
    "messages of rooms that are not there": "UPDATE room_messages SET room = 'gone' WHERE kind = 'memory'",
    "messages of a kind that there is not": "UPDATE room_messages SET kind = 'shout' WHERE kind = 'memory'",
    "receipts in a state that there is not": "UPDATE room_receipts SET state = 'eaten'",
    "messages that wait for somebody who is not in the room":
        "UPDATE room_messages SET room = 'closed' WHERE kind = 'notice'",
    "tasks of rooms that are not there": "UPDATE tasks SET room = 'gone' WHERE state = 'completed'",
    "unfinished tasks of workspaces that are not there": "UPDATE tasks SET requester = 'nobody' WHERE state = 'open'",
    "claimed tasks that nobody holds": "UPDATE tasks SET worker = '' WHERE state = 'claimed'",
    "claimed tasks whose worker is not in the room": "UPDATE tasks SET room = 'closed' WHERE state = 'claimed'",
    "tasks in a state that there is not": "UPDATE tasks SET state = 'lost' WHERE state = 'open'",
    "tasks that are done and were claimed by nobody": "UPDATE tasks SET attempt = 0 WHERE state = 'completed'",
    "changes of the shared state that say two things at once":
        "UPDATE state_changes SET operation = 'delete' WHERE key = 'a'",
    "keys of the shared state that lead to no value": "UPDATE state_keys SET number = 2 WHERE key = 'a'",
    "keys of the shared state that do not show their newest value":
        "UPDATE state_keys SET number = (SELECT min(number) FROM state_changes WHERE key = 'b') WHERE key = 'b'",
    "keys of the shared state that end at another time than set": "UPDATE state_keys SET expires_at = 1e12",
    "values of the shared state that no key leads to": "DELETE FROM state_keys WHERE key = 'b'",
    "values of the shared state that are no JSON": "UPDATE state_changes SET value = '{' WHERE key = 'a'",
    "versions of the shared state that would be given again":
        "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'state_changes'",
    "schemas of the shared state that are no JSON": "UPDATE state_schemas SET text = '{'",
}  # fmt: skip
"""What is found → how it comes to be."""


def share(root: Path) -> None:
    """Rooms, messages, tasks in every state, and shared state with some history."""
    services = open_services(Settings(root=root, mcp_token="a-token", sync_token="another"))  # type: ignore[arg-type]
    try:
        caller = Caller(Grant("tester", "ai", "0" * 32))
        found = [
            services.workspaces.register(caller, machine="box", tool="claude", project=name).binding
            for name in ("asks", "works")
        ]
        for binding in found:
            services.rooms.join(caller, "open", binding=binding)
        services.rooms.join(caller, "closed", closed=True, binding=found[0])
        together = services.collaboration
        together.messages.notify(caller, "open", "hello", binding=found[0])
        asks, works = (together.messages.agent(caller, binding) for binding in found)
        together.messages.announce_memory(asks, "open", "m1", "a note")
        for _ in range(3):
            together.tasks._add(asks, "open", "do it", "")
        for _ in range(2):
            (task,), _ = together.tasks._take(works, "open", 1, 600)
        together.tasks._submit(caller, task.task_id, True, "done", task.attempt, found[1])
        state = services.state
        for key, value in (("a", b"1"), ("b", b"1"), ("b", b"2"), ("gone", b"1"), ("gone", None)):
            state.write(caller, [Write(key, value)], found[0])
        state.set_schema(caller, "c/*", {"type": "string"}, on_violation="refuse", binding=found[0])
    finally:
        close_services(services)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    root = tmp_path_factory.mktemp("shared") / "memory"
    share(root)
    return root


@pytest.fixture
def memory(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "memory"))


def database(root: Path) -> sqlite3.Connection:
    return sqlite3.connect(root / "_meta" / "state.sqlite3", isolation_level=None)


def spoil(root: Path, sql: str) -> None:
    with closing(database(root)) as connection:
        connection.execute(sql)


def found(root: Path) -> set[str]:
    report = check_root(root, pause_seconds=0)
    return {what for what in BREAKS if any(f" {what}:" in finding.problem for finding in report.findings)}


def rows(root: Path) -> dict[str, list[tuple[object, ...]]]:
    tables = sorted({rule.table for rule in RULES} | {"rooms"})
    with closing(database(root)) as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def test_there_is_a_case_for_each_rule() -> None:
    assert set(BREAKS) == {rule.what for rule in RULES}


@pytest.mark.spec("CHECK-6")
def test_what_agents_share_is_well(memory: Path) -> None:
    assert check_root(memory, pause_seconds=0).findings == []


@pytest.mark.spec("CHECK-6")
def test_a_root_without_rooms_and_tasks_is_well(tmp_path: Path) -> None:
    fill(tmp_path / "memory")
    assert check_root(tmp_path / "memory", pause_seconds=0).findings == []


@pytest.mark.spec("CHECK-6")
@pytest.mark.parametrize("what", [what for what, sql in BREAKS.items() if sql])
def test_each_kind_of_row_that_leads_nowhere_is_found(memory: Path, what: str) -> None:
    spoil(memory, BREAKS[what])
    assert what in found(memory)


@pytest.mark.spec("CHECK-6")
def test_receipts_of_messages_in_rooms_that_are_not_there_are_found(memory: Path) -> None:
    spoil(memory, "UPDATE room_messages SET room = 'gone'")
    assert {"receipts of messages in rooms that are not there", "messages of rooms that are not there"} <= found(memory)


@pytest.mark.spec("CHECK-6")
def test_without_the_rules_none_of_it_is_found(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: what is found above is found by the rules, and by nothing else."""
    for what in ("claimed tasks that nobody holds", "values of the shared state that no key leads to"):
        spoil(memory, BREAKS[what])
    assert len(check_root(memory, pause_seconds=0).findings) == 2
    monkeypatch.setattr(check_shared, "RULES", ())
    assert check_root(memory, pause_seconds=0).findings == []


@pytest.mark.spec("CHECK-9")
@pytest.mark.parametrize("what", [rule.what for rule in RULES if rule.mend and BREAKS[rule.what]])
def test_what_can_be_mended_is_and_the_rows_are_kept(memory: Path, what: str) -> None:
    spoil(memory, BREAKS[what])
    report = check_root(memory, pause_seconds=0)
    before = rows(memory)

    moved = repair(report)

    assert check_root(memory, pause_seconds=0).is_clean
    place = {target for _, target in moved}
    assert len(place) == 1
    kept = [json.loads(line) for line in (memory / place.pop()).read_text().splitlines()]
    after = rows(memory)
    changed = {
        (table, row) for table, held in before.items() for row in held if row not in after[table]
    }  # fmt: skip
    assert {(item["table"], item["why"]) for item in kept} >= {
        (rule.table, what) for rule in RULES if rule.what == what
    }
    assert changed <= {(item["table"], _row(before, item)) for item in kept} | {
        ("state_keys", row) for row in before["state_keys"]
    }
    assert repair(check_root(memory, pause_seconds=0)) == []
    services = open_services(Settings(root=memory, mcp_token="a-token", sync_token="another"))  # type: ignore[arg-type]
    close_services(services)


def _row(before: dict[str, list[tuple[object, ...]]], item: dict[str, object]) -> tuple[object, ...]:
    values = list(item["row"].values())  # type: ignore[attr-defined]
    texts = [str(value) for value in values]
    return next(
        row for row in before[str(item["table"])]
        if [value.decode() if isinstance(value, bytes) else str(value) for value in row] == texts
    )  # fmt: skip


@pytest.mark.spec("CHECK-9")
def test_a_task_that_nobody_held_can_be_claimed_again_and_a_key_shows_its_newest_value(memory: Path) -> None:
    spoil(memory, BREAKS["claimed tasks that nobody holds"])
    spoil(memory, BREAKS["values of the shared state that no key leads to"])
    repair(check_root(memory, pause_seconds=0))

    services = open_services(Settings(root=memory, mcp_token="a-token", sync_token="another"))  # type: ignore[arg-type]
    try:
        value = services.core.state.get("b")
        assert value is not None
        assert value.value == b"2"
        assert services.core.state.get("gone") is None
        assert services.collaboration.tasks._tasks.claimed() == []
        assert services.collaboration.tasks._tasks.count_unfinished("open") == 2
    finally:
        close_services(services)


@pytest.mark.spec("CHECK-9")
def test_rows_are_not_mended_under_a_server_and_what_cannot_be_mended_stays(memory: Path) -> None:
    spoil(memory, BREAKS["tasks in a state that there is not"])
    report = check_root(memory, pause_seconds=0)
    assert "sqlite3" in only(report).advice
    assert repair(report) == []
    spoil(memory, BREAKS["claimed tasks that nobody holds"])
    report = check_root(memory, pause_seconds=0)
    server = Root(memory)
    try:
        with pytest.raises(Locked):
            repair(report)
    finally:
        server.close()
    assert found(memory) == {"tasks in a state that there is not", "claimed tasks that nobody holds"}


@pytest.mark.spec("CHECK-9")
def test_nothing_is_mended_when_the_rows_cannot_be_kept(memory: Path) -> None:
    spoil(memory, BREAKS["claimed tasks that nobody holds"])
    before = rows(memory)

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    call: Callable[[], object] = lambda: check_shared.mend_shared(  # noqa: E731
        memory / "_meta" / "state.sqlite3", None, full
    )
    with pytest.raises(OSError, match="space"):
        call()
    assert rows(memory) == before
