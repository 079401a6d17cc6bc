"""Ranked search: sensible order, every kind of word, stable pages."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_memory.search import Found
from tests.unit.search.library import Library, Shelf, all_pages, keys

EXAMPLES = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.spec("FIND-7")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_more_of_the_terms_and_rarer_ones_come_first(shelf: Shelf) -> None:
    shelf.write("common.md", "server server server server server\n" * 5)
    shelf.write("rare.md", "a zeppelin and words to make it as long as others are\n" * 3)
    shelf.write("both.md", "the server of the zeppelin\n")
    for number in range(5):
        shelf.write(f"{number}.md", f"server number {number}\n")

    found = shelf.knowledge("zeppelin server", limit=100)

    assert keys(found)[:2] == ["both.md", "rare.md"]
    assert len(found.hits) == 8
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)


@pytest.mark.spec("FIND-7")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_title_and_path_count(shelf: Shelf) -> None:
    shelf.write("text.md", "# Notes\n\nabout rotation of keys\n")
    shelf.write("title.md", "# Rotation\n\nabout rotation of keys\n")
    shelf.write("ops/rotation.md", "# Other\n\nnothing of the kind\n")

    found = shelf.knowledge("rotation")

    assert keys(found)[0] == "title.md"
    assert set(keys(found)) == {"title.md", "text.md", "ops/rotation.md"}
    assert [hit.snippet for hit in found.hits if hit.key == "ops/rotation.md"] == ["# Other\nnothing of the kind"]


@pytest.mark.spec("FIND-7")
def test_of_equals_the_newest_is_first(shelf: Shelf) -> None:
    for path in ("a.md", "c.md", "b.md"):
        shelf.write(path, "same needle")

    assert keys(shelf.knowledge("needle")) == ["b.md", "c.md", "a.md"]


@pytest.mark.spec("FIND-7")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_a_document_is_found_once_at_its_best_passage(shelf: Shelf) -> None:
    filler = "nothing here\n" * 30
    shelf.write("note.md", f"token alone\n{filler}rotate the token\n{filler}rotate alone\n")

    (hit,) = shelf.knowledge("token rotation rotate").hits

    assert hit.line == 31
    assert hit.snippet == "nothing here\n«rotate» the «token»\nnothing here"


@pytest.mark.spec("FIND-7")
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("deploying", "how to deploy"),
        ("session_id", "the sessionId"),
        ("app/config.py", "see app/config.py:12"),
        ("config", "parse_config()"),
        ("配置", "请修改配置文件"),
        ("C++", "written in C++."),
        ('"wrapped phrase"', "a wrapped\n> phrase"),
        ("'quoted' AND (operators* OR ^x)", "operators"),
        ("the", "the"),
    ],
)
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_words_of_every_kind_are_found(shelf: Shelf, query: str, text: str) -> None:
    shelf.write("other.md", "unrelated words")
    shelf.write("note.md", text)
    shelf.say("s", ("user", "unrelated words"), ("assistant", text))

    assert keys(shelf.knowledge(query)) == ["note.md"]
    assert [hit.line for hit in shelf.sessions(query).hits] == [1]


@pytest.mark.spec("FIND-7")
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("needle", ["a.md", "b.md", "c.md"]),
        ("needle -red", ["b.md", "c.md"]),
        ('needle -"red hot" -blue', ["b.md"]),
        ('"hot needle"', ["a.md", "b.md"]),
        ("-red -needle", ["a.md", "b.md", "c.md"]),
    ],
)
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_phrases_and_exclusions(shelf: Shelf, query: str, wanted: list[str]) -> None:
    shelf.write("a.md", "red\nhot\nneedle")
    shelf.write("b.md", "hot needle")
    shelf.write("c.md", "needle blue")
    shelf.say("a", ("user", "red\nhot\nneedle"))
    shelf.say("b", ("user", "hot needle"))
    shelf.say("c", ("user", "needle blue"))

    assert sorted(keys(shelf.knowledge(query))) == wanted
    assert sorted(f"{key}.md" for key in keys(shelf.sessions(query))) == wanted


@pytest.mark.spec("FIND-7")
@pytest.mark.usefixtures("with_or_without_ripgrep")
def test_the_overview_is_searched(shelf: Shelf) -> None:
    shelf.write_overview("# Demo\n\nA zeppelin service\n")

    (hit,) = shelf.knowledge("zeppelin").hits

    assert (hit.kind, hit.key, hit.line, hit.title) == ("overview", "overview.md", 2, "Demo — A zeppelin service")


@pytest.mark.spec("FIND-4")
@pytest.mark.parametrize("query", ["", "  ", "?!", "\ud800", "\0"])
def test_nothing_to_look_for_is_nothing_to_find(shelf: Shelf, query: str) -> None:
    shelf.write("a.md", "a")

    assert shelf.knowledge(query).hits == shelf.sessions(query).hits == []
    assert "nothing to look for" in shelf.knowledge(query).note


@pytest.mark.spec("FIND-7")
@EXAMPLES
@given(
    st.dictionaries(
        st.sampled_from([f"{name}.md" for name in "abcdef"]),
        st.lists(st.sampled_from(["foo", "bar", "fooBar", "-", "\n", "bars", "配置", "qux"]), max_size=8).map(" ".join),
        max_size=6,
    ),
    st.lists(st.sampled_from(["foo", "bar", '"foo bar"', "-qux", "配置", "fooBar"]), min_size=1, max_size=3).map(
        " ".join
    ),
)
def test_ripgrep_and_reading_find_the_same_and_pages_add_up(
    library: Library, texts: dict[str, str], query: str
) -> None:
    shelf = library.shelf()
    for path, text in texts.items():
        shelf.write(path, text)
    whole = shelf.knowledge(query, limit=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("federated_memory.search.ripgrep.find_ripgrep", lambda: None)
        read = shelf.knowledge(query, limit=100)

    assert set(keys(read)) == set(keys(whole))
    assert all_pages(lambda limit, after: shelf.knowledge(query, limit=limit, after=after), 2) == whole.hits


@pytest.mark.spec("FIND-11")
def test_later_pages_repeat_nothing_whatever_is_written_in_between(shelf: Shelf) -> None:
    for number in range(6):
        shelf.write(f"{number}.md", "needle " * (number + 1) + "thread " * (number % 2))
        shelf.say(f"s{number}", ("user", "needle " * (number + 1) + "thread " * (number % 2)))

    for search in (shelf.knowledge, shelf.sessions):
        seen: list[str] = []
        after = None
        while True:
            found: Found = search("needle thread", limit=2, after=after)
            seen += keys(found)
            shelf.write(f"new{len(seen)}.md", "needle needle needle " * 5)
            shelf.write("5.md", f"needle thread {len(seen)}")
            shelf.say(f"new{len(seen)}", ("user", "thread " * 30))
            if (after := found.next) is None:
                break
        assert len(seen) == len(set(seen))
        assert len(seen) >= 5


@pytest.mark.spec("FIND-7")
def test_what_people_and_agents_said_comes_before_tool_output(shelf: Shelf) -> None:
    shelf.say("tool", ("tool", "needle in a haystack"))
    shelf.say("user", ("user", "needle in a haystack"))
    shelf.say("agent", ("assistant", "needle in a haystack"))

    assert keys(shelf.sessions("needle"))[2] == "tool"


@pytest.mark.spec("FIND-7")
def test_a_session_gives_three_turns_at_most_and_its_others_come_later(shelf: Shelf) -> None:
    shelf.say("many", *[("user", f"needle number {n}") for n in range(9)])
    shelf.say("one", ("user", "a needle somewhere among so many other words that tell of something else entirely"))

    assert keys(shelf.sessions("needle")) == ["many", "one", "many", "many"]


@pytest.mark.spec("FIND-7")
def test_a_turn_counts_for_more_where_the_rest_of_the_query_was_said_too(shelf: Shelf) -> None:
    shelf.say("apart", ("user", "token"), ("user", "unrelated"))
    shelf.say("together", ("user", "token"), ("assistant", "rotation"))
    shelf.say("newest", ("user", "token"), ("user", "unrelated"))

    assert keys(shelf.sessions("token rotation"))[0] == "together"


@pytest.mark.spec("FIND-7")
def test_the_best_turn_is_found_among_many(shelf: Shelf) -> None:
    said = [("user", f"needle {n} " + "needle " * (n % 5)) for n in range(300)]
    said[200] = ("assistant", "the zeppelin needle")
    shelf.say("s", *said)

    hits = shelf.sessions("needle zeppelin").hits

    assert hits[0].line == 200
    assert hits[0].snippet == "the «zeppelin» «needle»"
