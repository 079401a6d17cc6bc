"""The entry point: cursors, deadlines and threads that searches share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.search import Found, Mode, Search, parse_query
from tests.unit.search.library import Library, Shelf, keys

MODES: list[Mode] = ["literal", "regex", "ranked"]
SCALARS = st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4) | st.none() | st.booleans()
FUZZ = settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def fill(shelf: Shelf) -> None:
    for number in range(5):
        shelf.write(f"{number}.md", f"needle {number}\nthread\n")
        shelf.say(f"s{number}", ("user", f"needle {number}"), ("assistant", "thread"))


@pytest.fixture(scope="module")
def filled(library: Library) -> Shelf:
    shelf = library.shelf()
    fill(shelf)
    return shelf


@pytest.mark.spec("FIND-11")
@FUZZ
@given(st.sampled_from(MODES), st.booleans(), st.data())
def test_a_cursor_that_was_tampered_with_is_refused_or_answered(
    filled: Shelf, mode: Mode, is_knowledge: bool, data: st.DataObject
) -> None:
    search = filled.knowledge if is_knowledge else filled.sessions
    after = list(search("needle", mode, limit=2).next or ())
    assert after
    for _ in range(data.draw(st.integers(1, 3))):
        after[data.draw(st.integers(0, len(after) - 1))] = data.draw(SCALARS)
    after = after[: data.draw(st.integers(0, len(after)))] if data.draw(st.booleans()) else after

    with suppress(InvalidArgument):
        assert len(search("needle", mode, after=after).hits) <= 5


@pytest.mark.spec("FIND-11")
@pytest.mark.parametrize("mode", MODES)
def test_a_page_that_is_cut_goes_on_where_it_was_cut(filled: Shelf, mode: Mode) -> None:
    for search in (filled.knowledge, filled.sessions):
        whole = search("needle", mode)
        cut = whole.first(2)

        assert cut == search("needle", mode, limit=2)
        assert cut.hits + search("needle", mode, after=cut.next).hits == whole.hits
        assert whole.first(5) is whole


@pytest.mark.spec("FIND-11")
@pytest.mark.parametrize("mode", MODES)
def test_a_cursor_is_of_one_kind_of_search(filled: Shelf, mode: Mode) -> None:
    after = filled.knowledge("needle", mode, limit=1).next

    for query, other in (("needle", "literal"), ("needle", "ranked"), ("needle or thread", "ranked")):
        if (query, other) != ("needle", "literal" if mode == "regex" else mode):
            with pytest.raises(InvalidArgument, match="cursor"):
                filled.knowledge(query, other, after=after)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="cursor"):
        filled.sessions("needle", mode, after=after)


@pytest.mark.spec("FIND-10")
@pytest.mark.parametrize("mode", MODES)
def test_a_search_does_not_wait_for_busy_threads_longer_than_its_deadline(library: Library, mode: Mode) -> None:
    shelf = library.shelf()
    fill(shelf)
    search = Search(library.root, library.documents, library.archives, timeout_seconds=0.2)
    release = threading.Event()
    busy = [search._pool.submit(release.wait) for _ in range(2)]

    found = search.sessions(parse_query("needle", mode), [shelf.workspace_id])

    release.set()
    assert found.hits == []
    assert not found.is_complete
    assert "0.2 seconds" in found.note
    assert all(future.result() for future in busy)
    search.close()


@pytest.mark.spec("FIND-10")
def test_searches_at_the_same_time_do_not_disturb_each_other(filled: Shelf) -> None:
    def ask(number: int) -> list[Found]:
        mode = MODES[number % 3]
        return [
            filled.knowledge("needle", mode),
            filled.sessions("needle", mode, limit=1),
            filled.sessions("thread", mode),
        ]

    alone = [ask(number) for number in range(3)]
    with ThreadPoolExecutor(6) as callers:
        together = list(callers.map(ask, range(30)))

    assert together == alone * 10


@pytest.mark.spec("FIND-8")
@pytest.mark.parametrize("mode", MODES)
def test_no_workspace_is_no_hit(library: Library, mode: Mode) -> None:
    query = parse_query("needle", mode)

    assert library.search.knowledge(query, []) == library.search.sessions(query, []) == Found([])


@pytest.mark.spec("FIND-8")
def test_a_session_is_searched_as_its_agent_wrote_it(library: Library) -> None:
    shelf = library.shelf()
    raw = b'{"type":"user","uuid":"u","message":{"role":"user","content":"needle"}}\n'
    shelf.upload("told", raw, agent="claude-code")
    shelf.upload("named-freely", raw + b"\n", agent="My Agent 3")

    assert [hit.role for hit in shelf.sessions("needle", "literal").hits] == ["user", "user"]


@pytest.mark.spec("FIND-6")
def test_workspaces_are_merged_by_time(library: Library) -> None:
    first, second = library.shelf(), library.shelf()
    for number in range(4):
        shelf = (first, second)[number % 2]
        shelf.write(f"{number}.md", "needle")
        shelf.say(f"s{number}", ("user", "needle"), at=f"2026-01-0{number + 1}T00:00:00.000Z")
    query = parse_query("needle", "literal")
    ids = [first.workspace_id, second.workspace_id, first.workspace_id]

    assert keys(library.search.knowledge(query, ids)) == ["3.md", "2.md", "1.md", "0.md"]
    assert keys(library.search.sessions(query, ids)) == ["s3", "s2", "s1", "s0"]


@pytest.mark.spec("FIND-10")
def test_searches_end_with_their_owner(library: Library) -> None:
    search = Search(library.root, library.documents, library.archives, timeout_seconds=1)
    search.close()
    search.close()
