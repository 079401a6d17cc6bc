"""The index follows the feed, goes on where it stopped, and is made anew when it has to be."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from federated_memory.index import library
from federated_memory.index.file import SCHEMA_VERSION, IndexFull, IndexUnusable
from federated_memory.index.parts import merge_parts
from federated_memory.index.sessions import Stopped
from tests.unit.index.rig import Rig, call, keys, turn


@pytest.mark.spec("INDEX-1")
def test_writes_edits_by_hand_and_deletions_arrive(rig: Rig) -> None:
    rig.write("kept.md", "# Kept\n\nabout zeppelins\n")
    rig.write("gone.md", "about zeppelins\n")
    rig.write_overview("# Demo\n\na zeppelin service\n")
    rig.upload("s", turn("user", "where do zeppelins land?"))
    rig.catch_up()
    rig.delete("gone.md")
    rig.edit_by_hand("new/by hand.md", "zeppelin, by hand\n")
    rig.scan.workspace("home")  # type: ignore[arg-type]
    rig.catch_up()

    assert rig.contents() == rig.rebuilt()
    assert sorted(keys(rig.memory("zeppelin"))) == ["kept.md", "new/by hand.md", "overview.md", "s"]


@pytest.mark.spec("INDEX-4")
def test_of_a_session_that_grew_only_the_new_lines_are_indexed(rig: Rig) -> None:
    rig.upload("s", b"".join(turn("user", f"turn number {number}") for number in range(300)))
    rig.catch_up()
    before = rig.rows_written()

    rig.append("s", turn("assistant", "the zeppelin has landed"))
    rig.catch_up()

    assert rig.rows_written() == before + 1
    assert [hit.line for hit in rig.sessions("zeppelin").hits] == [300]
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-4")
def test_many_small_appends_cost_a_row_each_and_end_as_one_upload_does(rig: Rig) -> None:
    lines = [turn("user", f"turn number {number} {'x' * (number * 7 % 900)}") for number in range(120)]
    rig.upload("s", lines[0])
    for line in lines[1:]:
        rig.append("s", line)
        rig.catch_up()

    assert rig.rows_written() == len(lines)
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-4")
def test_an_unterminated_last_line_is_indexed_and_read_again_when_it_goes_on(rig: Rig) -> None:
    first, second = turn("user", "a zeppelin"), turn("assistant", "and a submarine, in full")
    rig.upload("s", first + second[:40])
    rig.catch_up()
    assert rig.contents() == rig.rebuilt()

    rig.append("s", second[40:] + turn("user", "thanks"))
    rig.catch_up()

    assert [hit.line for hit in rig.sessions("submarine").hits] == [1]
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-4")
def test_what_a_session_held_before_it_diverged_is_found_no_more(rig: Rig) -> None:
    rig.upload("s", turn("user", "about zeppelins") * 3)
    rig.catch_up()
    rig.upload("s", turn("user", "about submarines") * 4)
    rig.catch_up()

    assert rig.sessions("zeppelins").hits == []
    assert rig.sessions("zeppelins", "literal").hits == []
    assert len(rig.sessions("submarines", "literal").hits) == 4
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-4")
def test_a_long_session_is_indexed_in_steps_and_goes_on_after_a_stop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_memory.index.sessions._STEP_BYTES", 300_000)
    monkeypatch.setattr("federated_memory.index.catchup._TRANSACTION_BYTES", 1)
    rig.upload("s", b"".join(turn("user", f"{number} {'filler ' * 300}") for number in range(900)))

    class Killed(BaseException):
        pass

    def die(*_: int) -> None:
        raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            rig.follower.catch_up(die)
        rig.reopen()
    written = rig.rows_written()
    rig.catch_up()

    assert 100 < written < 900
    assert rig.rows_written() == 900
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-4", "FIND-9")
def test_a_line_of_over_4_mib_is_left_to_a_scan(rig: Rig) -> None:
    rig.upload("s", turn("user", "before") + turn("user", "needle " + "x" * 5_000_000) + turn("user", "after needle"))
    rig.catch_up()

    assert [hit.line for hit in rig.sessions("after").hits] == [2]
    found = rig.sessions("needle", "literal")
    assert [hit.line for hit in found.hits] == [2]
    assert "4 MiB" in found.note
    rig.append("s", turn("user", "later"))
    rig.catch_up()
    assert rig.contents() == rig.rebuilt()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")


def without_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE spoken")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"no database at all " * 5_000),
    "truncated": truncate,
    "newer": newer,
    "without a table": without_a_table,
}


@pytest.mark.spec("INDEX-9")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_anew_and_searches_answer_meanwhile(rig: Rig, damage: str) -> None:
    rig.write("note.md", "about zeppelins\n" + "filler words\n" * 2_000)
    rig.upload("s", turn("user", "where do zeppelins land?"))
    rig.catch_up()
    rig.close()
    DAMAGES[damage](rig.index_path)
    rig.open()

    before = rig.memory("zeppelins")
    with pytest.MonkeyPatch.context():
        for _ in range(2):  # damage that only shows in use is found by the first
            try:
                rig.catch_up()
            except IndexUnusable:
                continue
    after = rig.memory("zeppelins")

    assert sorted(keys(before)) == sorted(keys(after)) == ["note.md", "s"]
    assert "searched directly" in before.note
    assert after.note == ""
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-9")
def test_an_index_of_another_root_is_never_served(rig: Rig, tmp_path: Path) -> None:
    other = Rig(tmp_path / "other")
    other.write("secret.md", "about zeppelins\n")
    other.write("note.md", "about zeppelins\n")
    other.catch_up()
    other.close()
    rig.write("note.md", "about submarines\n")
    rig.close()
    rig.index_path.unlink(missing_ok=True)
    other.index_path.rename(rig.index_path)
    rig.open()

    assert rig.memory("zeppelins").hits == []
    rig.catch_up()
    assert rig.memory("zeppelins").hits == []
    assert keys(rig.memory("submarines")) == ["note.md"]
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-9")
def test_an_index_that_is_ahead_of_a_restored_state_is_compared_with_the_files(rig: Rig) -> None:
    rig.write("note.md", "about submarines\n")
    rig.write("later.md", "about zeppelins\n")
    rig.catch_up()
    rig.close()
    with closing(sqlite3.connect(rig.index_path)) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'cursor'")
        connection.commit()
    rig.open()
    rig.delete("later.md")

    assert rig.memory("zeppelins").hits == []
    rig.catch_up()
    assert rig.memory("zeppelins").hits == []
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-1")
def test_a_second_writer_loses_no_rows(rig: Rig) -> None:
    """Two followers of one file, as two processes would be; each change is indexed by whoever comes first."""
    from federated_memory.index import Follower
    from federated_memory.index.file import IndexFile

    second = IndexFile(rig.index_path)
    other = Follower(rig.root, rig.documents, rig.archives, second)
    for number in range(6):
        rig.write(f"{number}.md", f"note {number}\n")
        rig.upload(f"s{number}", turn("user", f"said {number}"))
        (rig.follower if number % 2 else other).catch_up()
    rig.append("s1", turn("user", "more"))
    other.catch_up()
    rig.append("s1", turn("user", "and more"))
    rig.catch_up()
    other.catch_up()
    other.close()

    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("FIND-8")
def test_rows_of_other_sessions_take_no_place_of_those_that_are_asked_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows lie in the order of their arrival, sessions are asked for by their time."""
    for name, value in (("candidates._FEW_ROWS", 1), ("candidates._MANY_ROWS", 2), ("candidates._FIRST_ROWS", 2)):
        monkeypatch.setattr(f"federated_memory.search.{name}", value)
    monkeypatch.setattr("federated_memory.index.reader._FETCH", 1)
    for number, day in enumerate((9, 1, 2, 3, 4, 8)):
        rig.upload(f"s{number}", turn("user", f"a needle of {number}", at=f"2026-01-0{day}T00:00:00Z"))
        rig.catch_up()

    assert {hit.key for hit in rig.sessions("needle of", "literal").hits} == {f"s{number}" for number in range(6)}


@pytest.mark.spec("INDEX-1")
def test_a_rebuild_forgets_what_is_dead_and_finds_the_same(rig: Rig) -> None:
    for number in range(5):
        rig.upload("s", turn("user", f"version {number}") * 3)
        rig.catch_up()
    assert rig.rows_written() == 15

    rig.follower.rebuild()
    rig.catch_up()

    assert rig.rows_written() == 3
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-3")
def test_calls_and_answers_of_this_memory_rank_below_all_else(rig: Rig) -> None:
    echo = "2 hits. Data:\n<<<0a1b2c3d\n- home s offset=3 how zeppelins land, zeppelin zeppelin\n0a1b2c3d>>>"
    rig.upload("echo", call("mcp__federated-memory__search_memory", query="how zeppelins land") + turn("tool", echo))
    rig.upload("said", turn("user", "x " * 400 + "zeppelins somewhere"))
    rig.upload("tool", turn("tool", "y " * 400 + "zeppelins somewhere"))
    rig.catch_up()

    assert keys(rig.memory("how do zeppelins land")) == ["said", "tool", "echo"]


@pytest.mark.spec("INDEX-9")
def test_the_floor_of_free_space_stops_indexing_and_nothing_else(rig: Rig) -> None:
    rig.follower._min_free_bytes = 2**62
    rig.write("note.md", "about zeppelins\n")

    with pytest.raises(IndexFull):
        rig.catch_up()
    found = rig.memory("zeppelins")
    rig.follower._min_free_bytes = 0
    rig.catch_up()

    assert keys(found) == ["note.md"]
    assert "searched directly" in found.note
    assert rig.memory("zeppelins").note == ""


@pytest.mark.spec("INDEX-1")
def test_a_stop_in_the_middle_undoes_the_transaction_and_loses_nothing(rig: Rig) -> None:
    rig.upload("s", turn("user", "about zeppelins") * 50)
    rig.follower._stopping.set()
    with pytest.raises(Stopped):
        rig.catch_up()
    rig.reopen()
    rig.catch_up()

    assert rig.rows_written() == 50
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-8")
def test_a_search_waits_for_the_follower_and_sees_every_write(rig: Rig) -> None:
    rig.follower.start()
    for number in range(30):
        rig.write(f"{number}.md", f"zeppelin{number}\n")
        assert keys(rig.memory(f"zeppelin{number}")) == [f"{number}.md"]
    rig.follower.stop()


REPLACED: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "replaced by garbage": lambda path: replace(path, b"no database at all " * 5_000),
    "replaced by nothing": lambda path: replace(path, b""),
    "replaced by a newer one": lambda path: (replace(path, path.read_bytes()), newer(path)),
    "garbage in the middle": lambda path: overwrite(path, 4_096, b"garbage!" * 4_096),
    "truncated": lambda path: os.truncate(path, 8_192),
}


def replace(path: Path, data: bytes) -> None:
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.spec("INDEX-9")
@pytest.mark.parametrize("damage", REPLACED)
def test_an_index_that_is_damaged_or_replaced_while_it_is_used_is_made_anew(rig: Rig, damage: str) -> None:
    for number in range(40):
        rig.upload(f"s{number}", turn("user", f"zeppelin {number} " + "filler words " * 300))
    rig.catch_up()
    rig.reopen()  # so that it is all in the file, and no page of it in memory
    REPLACED[damage](rig.index_path)

    during = rig.memory("zeppelin", limit=100)
    rig.write("later.md", "about a zeppelin\n")
    for _ in range(3):
        try:
            rig.catch_up()
            rig.memory("zeppelin")
        except IndexUnusable:
            continue

    assert len(during.hits) == 40
    assert len(rig.memory("zeppelin", limit=100).hits) == 41
    assert len(rig.memory("filler words 300", "literal").hits) == 0
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-9")
def test_a_disk_that_fills_while_indexing_undoes_the_transaction_and_searches_go_on(rig: Rig) -> None:
    rig.write("first.md", "about zeppelins\n")
    rig.catch_up()
    before = rig.contents()
    assert rig.file._writer is not None
    (pages,) = rig.file._writer.execute("PRAGMA page_count").fetchone()
    rig.file._writer.execute(f"PRAGMA max_page_count={pages}")
    for number in range(10):
        rig.upload(f"s{number}", turn("user", f"zeppelin {number} " + f"filler{number} " * 5_000))

    with pytest.raises(IndexFull):
        rig.catch_up()
    during = rig.memory("zeppelin", limit=100)
    rig.file._writer.execute("PRAGMA max_page_count=1000000")
    assert rig.contents() == before
    rig.catch_up()

    assert len(during.hits) == 11
    assert "searched directly" in during.note
    assert rig.memory("zeppelin", limit=100).note == ""
    assert rig.contents() == rig.rebuilt()


@pytest.mark.spec("INDEX-9")
def test_the_index_leaves_room_for_writes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(rig.root), "free_bytes", lambda _: 150 * 1024**2)
    rig.follower._min_free_bytes = 100 * 1024**2
    rig.write("note.md", "about zeppelins\n")

    with pytest.raises(IndexFull):
        rig.catch_up()
    with monkeypatch.context() as twin:  # an index that goes as far as writes do would take their last room
        twin.setattr("federated_memory.index.catchup._ROOM_FOR_WRITES", 0)
        rig.catch_up()


@pytest.mark.spec("INDEX-2", "INDEX-4")
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"  ", id="an open line that says nothing"),
        pytest.param(
            turn("user", "first")[:-3] + b',"more":[{"type":"text","text":"second"},{"type":"text","text":"third"}]}}',
            id="an open line",
        ),
        pytest.param(
            b'{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"alpha"},'
            b'{"type":"tool_use","name":"Bash","input":{"command":"ls beta"}}]}}',
            id="an open line with several turns",
        ),
    ],
)
def test_lines_before_an_open_one_stay_when_it_grows(rig: Rig, begun: bytes) -> None:
    rig.upload("s", turn("user", "zebra one") + turn("assistant", "zebra two") + begun)
    rig.catch_up()

    rig.append("s", b"\n" + turn("user", "zebra three"))
    rig.catch_up()

    assert rig.contents() == rig.rebuilt()


def test_the_log_of_large_transactions_is_short_again_at_rest(rig: Rig) -> None:
    log = rig.index_path.with_name(f"{rig.index_path.name}-wal")
    words = (f"word{number:x}" for number in range(500_000))
    rig.upload("s", b"".join(turn("user", " ".join(islice(words, 1_000))) for _ in range(500)))
    with rig.file.reading() as connection:
        connection.execute("SELECT * FROM meta").fetchall()
        rig.catch_up()
        assert log.stat().st_size > 4 * 1024**2

    rig.catch_up()
    assert log.stat().st_size == 0
    assert len(rig.sessions("word7a11f", "literal").hits) == 1


@pytest.mark.spec("INDEX-12")
def test_parts_are_merged_while_nothing_changes(rig: Rig) -> None:
    for number in range(12):
        rig.upload(f"s{number}", turn("user", f"zeppelin number {number}, kept in shed{number:02}"))
        rig.write(f"{number}.md", f"about zeppelin {number}\n")
        rig.catch_up()
    contents, found = rig.contents(), rig.memory("zeppelin shed07")

    rig.follower.put_in_order(lambda: True)
    assert can_be_merged(rig)
    rig.follower.put_in_order()

    assert not can_be_merged(rig)
    assert rig.contents() == contents == rig.rebuilt()
    assert rig.memory("zeppelin shed07").hits == found.hits


def can_be_merged(rig: Rig) -> bool:
    with rig.file.writing() as connection:
        return merge_parts(connection)


@pytest.mark.spec("INDEX-12")
def test_a_full_disk_puts_merging_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        rig.upload(f"s{number}", turn("user", f"zeppelin number {number}"))
        rig.catch_up()
    with monkeypatch.context() as patch:
        patch.setattr(rig.follower, "_ensure_space", _no_space)
        rig.follower.put_in_order()
        assert keys(rig.memory("zeppelin"))

    assert can_be_merged(rig)


def _no_space() -> None:
    raise IndexFull("no room")


def test_pythons_collector_passes_over_what_a_reader_keeps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_MANY", 4)
    gc.unfreeze()
    for number in range(4):
        rig.upload(f"s{number}", turn("user", f"zeppelin number {number}"))
    rig.catch_up()
    try:
        assert keys(rig.memory("zeppelin"))
        frozen = gc.get_freeze_count()
        assert keys(rig.memory("number"))

        assert frozen
        assert gc.get_freeze_count() <= frozen  # not with every search
    finally:
        gc.unfreeze()
