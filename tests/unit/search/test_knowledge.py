"""Exact search over documents: complete, in order, on what is on disk now."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.search import Found, Mode, parse_query
from federated_memory.search.query import Exact, plain
from tests.unit.search.library import Library, Shelf, all_pages, keys, places

WORDS = ["foo", "Foo", "bar", " ", "\n", "\r\n", "é", "配置", "ﬀ", "\0", "x.y", "(", "-e", "\u212a", "ſ", "", "\t", "«"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=14).map("".join).map(str.encode)
BYTES = TEXTS | st.lists(st.sampled_from([b"foo", b"\xff", b"\n", b"\xc3", b"bar"]), max_size=8).map(b"".join)
PATHS = st.sampled_from(["a.md", "b.md", "c/a.md", "c/d/e.md", "Über uns.md", "overview.md"])
LITERALS = st.lists(st.sampled_from([word for word in WORDS if word] + ["\ufffd"]), min_size=1, max_size=3).map("".join)
PATTERNS = st.lists(
    st.sampled_from(["foo", "(?i)", "bar", "o+", "^", "$", r"\b", ".", "[a-z]", "|", "é", "k", "s", r"\(", " ", "x*"]),
    min_size=1,
    max_size=4,
).map("".join)
EXAMPLES = settings(
    max_examples=50, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def lines_of(text: bytes) -> list[bytes]:
    return plain(text).removesuffix(b"\n").split(b"\n") if text else []


def oracle(query: Exact, text: bytes) -> list[int]:
    """The matching lines, found the plain way."""
    if query.mode == "regex":
        import re2

        options = re2.Options()
        options.log_errors = False
        pattern = re2.compile(query.text, options)
        return [number for number, line in enumerate(lines_of(text)) if pattern.search(line)]
    data, needle = plain(text), query.text.replace("\r\n", "\n").encode()
    starts = [at for at in range(len(data)) if data.startswith(needle, at)]
    return sorted({data.count(b"\n", 0, at) for at in starts})


@pytest.mark.spec("FIND-6")
@EXAMPLES
@given(st.dictionaries(PATHS, BYTES, max_size=5), TEXTS, st.sampled_from(["literal", "regex"]), st.data())
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_every_matching_line_is_found_once(
    library: Library,
    texts: dict[str, bytes],
    overview: bytes,
    mode: Mode,
    data: st.DataObject,
) -> None:
    asked = data.draw(LITERALS if mode == "literal" else PATTERNS)
    assume(asked.strip())
    try:
        query = parse_query(asked, mode)
    except InvalidArgument:
        return
    assert isinstance(query, Exact)
    shelf = library.shelf()
    shelf.write_overview(overview.decode())
    for path, text in texts.items():
        shelf.write(path, text)
    wanted = {("overview", "overview.md", line) for line in oracle(query, overview)}
    wanted |= {("knowledge", path, line) for path, text in texts.items() for line in oracle(query, text)}

    hits = all_pages(lambda limit, after: shelf.knowledge(asked, mode, limit=limit, after=after), 3)

    assert len(hits) == len(wanted)
    assert {(hit.kind, hit.key, hit.line) for hit in hits} == wanted
    assert hits == shelf.knowledge(asked, mode, limit=1000).hits
    newest = [hit.at for hit in hits]
    assert newest == sorted(newest, reverse=True)


@pytest.mark.spec("FIND-6")
def test_newest_documents_come_first_and_lines_in_order(shelf: Shelf) -> None:
    for path in ("old.md", "new.md"):
        shelf.write(path, "needle\n\nneedle\n")
    shelf.write("old.md", "needle\n\nneedle again\n")

    assert places(shelf.knowledge("needle", "literal")) == [("old.md", 0), ("old.md", 2), ("new.md", 0), ("new.md", 2)]


@pytest.mark.spec("FIND-6")
def test_pages_go_on_where_the_last_one_ended_whatever_is_written_in_between(shelf: Shelf) -> None:
    for number in range(6):
        shelf.write(f"{number}.md", "needle\nneedle\n")
    first = shelf.knowledge("needle", "literal", limit=5)
    shelf.write("5.md", "needle needle\nneedle\n")
    shelf.write("another.md", "needle\n")

    rest = all_pages(
        lambda limit, after: shelf.knowledge("needle", "literal", limit=limit, after=after or first.next), 2
    )

    assert places(first) == [("5.md", 0), ("5.md", 1), ("4.md", 0), ("4.md", 1), ("3.md", 0)]
    assert [(hit.key, hit.line) for hit in rest] == [("3.md", 1), *((f"{n}.md", m) for n in (2, 1, 0) for m in (0, 1))]


@pytest.mark.spec("FIND-6")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_edits_by_hand_are_found(shelf: Shelf) -> None:
    shelf.write("note.md", "old words")
    (shelf.folder / "knowledge" / "note.md").write_text("new words")
    (shelf.folder / "knowledge" / "made by hand.md").write_text("more new words")

    assert sorted(keys(shelf.knowledge("new words", "literal"))) == ["made by hand.md", "note.md"]
    assert keys(shelf.knowledge("old words", "literal")) == []


@pytest.mark.spec("FIND-5")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_only_documents_are_searched(shelf: Shelf, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("needle")
    shelf.write("real.md", "nothing")
    shelf.write("real.md", "needle")
    shelf.write("gone.md", "needle")
    knowledge = shelf.folder / "knowledge"
    (knowledge / "gone.md").unlink()
    (knowledge / "link.md").symlink_to(outside / "secret.md")
    (knowledge / "folder").symlink_to(outside)
    (knowledge / ".hidden.md").write_text("needle")
    (knowledge / ".hidden").mkdir()
    (knowledge / ".hidden" / "note.md").write_text("needle")
    (knowledge / "note.txt").write_text("needle")
    (knowledge / "bad:name.md").write_text("needle")
    (knowledge / ".gitignore").write_text("real.md\n")
    os.mkfifo(knowledge / "pipe.md")

    for mode in ("literal", "regex", "ranked"):
        assert keys(shelf.knowledge("needle", mode)) == ["real.md"], mode
    assert keys(shelf.knowledge("need[l]e", "regex")) == ["real.md"]


@pytest.mark.spec("FIND-5")
def test_a_workspace_that_is_a_symlink_is_not_searched(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "note.md").write_text("needle")
    (shelf.folder / "knowledge").rmdir()
    (shelf.folder / "knowledge").symlink_to(tmp_path / "elsewhere")
    (shelf.folder / "overview.md").symlink_to(tmp_path / "elsewhere" / "note.md")

    for mode in ("literal", "ranked"):
        assert shelf.knowledge("needle", mode) == Found([])


@pytest.mark.spec("FIND-6")
def test_times_choose_documents_by_their_last_change(shelf: Shelf) -> None:
    shelf.write("note.md", "needle")
    at = shelf.knowledge("needle", "literal").hits[0].at

    assert keys(shelf.knowledge("needle", "literal", since=at)) == ["note.md"]
    assert keys(shelf.knowledge("needle", "literal", until=at)) == []
    assert keys(shelf.knowledge("needle", "ranked", until=at)) == []
    assert keys(shelf.knowledge("needle", "ranked", since="2020-01-01", until="2999")) == ["note.md"]


@pytest.mark.spec("FIND-6")
def test_other_workspaces_are_not_searched(library: Library) -> None:
    mine, theirs = library.shelf(), library.shelf()
    theirs.write("note.md", "needle")

    assert mine.knowledge("needle", "literal").hits == []
    found = library.search.knowledge(parse_query("needle", "literal"), [mine.workspace_id, theirs.workspace_id])
    assert [hit.workspace_id for hit in found.hits] == [theirs.workspace_id]


@pytest.mark.spec("FIND-11")
@pytest.mark.parametrize("after", [[], ["x"], [1, 2, 3, 4, 5], ["a", "b", "c", "d", "e"], [True] * 5])
def test_a_cursor_of_another_search_is_refused(shelf: Shelf, after: list[object]) -> None:
    for mode in ("literal", "ranked"):
        with pytest.raises(InvalidArgument, match="cursor"):
            shelf.knowledge("needle", mode, after=after)
        with pytest.raises(InvalidArgument, match="cursor"):
            shelf.sessions("needle", mode, after=after)


@pytest.mark.spec("FIND-10")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_a_search_that_is_cancelled_says_so(shelf: Shelf) -> None:
    shelf.write("a.md", "needle")
    cancelled = threading.Event()
    cancelled.set()

    for mode in ("literal", "ranked"):
        found = shelf.knowledge("needle", mode, cancelled=cancelled)
        assert not found.is_complete
        assert "cancelled" in found.note


@pytest.mark.spec("FIND-10")
def test_what_a_search_ran_out_of_time_for_is_on_the_next_page(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = library.shelf()
    for number in range(4):
        shelf.write(f"{number}.md", "needle\n")
    spent = iter([False] * 2 + [True] * 100)
    with monkeypatch.context() as patch:
        patch.setattr("federated_memory.search.hit.Budget.is_spent", lambda _: next(spent))
        found = shelf.knowledge("needle|x", "regex")

    rest = shelf.knowledge("needle|x", "regex", after=found.next)
    assert not found.is_complete
    assert "documents were searched" in found.note
    assert keys(found) == ["3.md", "2.md"]
    assert keys(found) + keys(rest) == ["3.md", "2.md", "1.md", "0.md"]


@pytest.mark.spec("FIND-6")
def test_few_documents_are_searched_without_a_process(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federated_memory.search.knowledge._FEW_DOCUMENTS", 32)
    monkeypatch.setattr("federated_memory.search.corpus.Ripgrep", None)
    shelf.write("note.md", "one\na needle\n")

    assert keys(shelf.knowledge("needle", "literal")) == ["note.md"]
