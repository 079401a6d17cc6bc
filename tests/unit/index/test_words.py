"""What is found, whatever form it was written or asked in."""

from __future__ import annotations

import pytest

from federated_memory.search.terms import parse_terms
from tests.unit.index.rig import Rig, keys, turn


@pytest.mark.spec("INDEX-5")
@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("the caches were invalidated", "invalidate cache"),
        ("Über die Brücke", "uber die brucke"),
        ("raise ConnectionResetError here", "connection reset"),
        ("raise ConnectionResetError here", "connectionreseterror"),
        ("call parse_session_id first", "session"),
        ("see src/federated/names.py", "names.py"),
        ("the flag --max-bytes", "max-bytes"),
        ("don't panic", "dont panic"),
        ("日本語のテキスト", "テキスト"),
        ("x y zz", "zz"),
        ("C++ and Rust", "C++"),
    ],
)
def test_a_form_finds_another(rig: Rig, text: str, query: str) -> None:
    rig.write("note.md", f"# Heading\n\n{text}\n")
    rig.upload("s", turn("user", f"so I wrote that {text} today"))
    rig.write("other.md", "nothing of the kind")

    rig.catch_up()

    assert sorted(keys(rig.memory(query))) == ["note.md", "s"]


@pytest.mark.spec("INDEX-5")
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("order-7f3a-0012", {"whole"}),
        ("order-7f3a-0012 part", {"whole", "part"}),
        ("order-7f3a-0013", {"whole", "part", "number"}),
        ("order-number", {"whole", "part", "number"}),
        ("src/order-7f3a-0012.py", {"whole", "part", "number", "path", "file.md"}),
    ],
)
def test_what_names_one_thing_is_found_by_its_parts_when_it_stands_nowhere_whole(
    rig: Rig, query: str, wanted: set[str]
) -> None:
    texts = {"whole": "see order-7f3a-0012", "part": "a part of an order", "number": "the order number"}
    for name, text in {**texts, "path": "src/main.py"}.items():
        rig.upload(name, turn("user", text))
    if "/" in query:
        rig.write("file.md", f"{query} is a path")
    rig.catch_up()

    assert set(keys(rig.memory(query))) == wanted


@pytest.mark.spec("FIND-4")
@pytest.mark.parametrize("is_indexed", [True, False])
def test_what_the_same_thing_is_called_too_is_found_after_the_word_itself(rig: Rig, is_indexed: bool) -> None:
    rig.upload("same", turn("user", "I had the car repaired"))
    rig.upload("alike", turn("user", "I bought a vehicle"))
    rig.upload("other", turn("user", "I had a bad dream"))
    if is_indexed:
        rig.catch_up()

    found = rig.memory("car")

    assert keys(found) == ["same", "alike"]
    assert "«vehicle»" in found.hits[1].snippet
    assert keys(rig.memory("car -vehicle")) == ["same"]


@pytest.mark.spec("FIND-4")
def test_another_word_for_it_is_no_second_word_of_the_query(rig: Rig) -> None:
    rig.upload("alike", turn("user", "we purchased a vehicle"))
    rig.catch_up()

    assert not rig.memory("buy car").note  # something holds both
    assert "nothing holds all" in rig.memory("automobile zebra").note


@pytest.mark.spec("FIND-1")
def test_own_words_come_before_others_for_them_when_there_is_no_room_for_all() -> None:
    query = " ".join(["car", "buy", *(f"word{number}x" for number in range(29)), "zebra"])

    terms = parse_terms(query).wanted

    assert len(terms) == 32
    assert {"car", "buy", "zebra"} <= {term.text for term in terms}
    assert not any(term.alike_of for term in terms)


@pytest.mark.spec("INDEX-5")
@pytest.mark.parametrize(
    "query", ['"', "AND OR NOT", "zebra*", "(zebra", "zebra^2", "text:zebra", "NEAR(zebra)", "''zebra"]
)
def test_operators_are_words(rig: Rig, query: str) -> None:
    rig.write("note.md", "a zebra and text near it")

    rig.catch_up()

    found = rig.memory(query)
    assert found.is_complete
    if "zebra" in query:
        assert keys(found) == ["note.md"]


@pytest.mark.spec("FIND-4")
@pytest.mark.parametrize("is_indexed", [True, False])
def test_options_of_a_command_exclude_nothing_and_words_do(rig: Rig, is_indexed: bool) -> None:
    rig.write("command.md", "curl -X POST localhost:1717/scheduler --all -rf")
    rig.write("other.md", "curl is a program, 日本 too")
    if is_indexed:
        rig.catch_up()

    assert keys(rig.memory("curl -X POST localhost:1717/scheduler --all -rf"))[0] == "command.md"
    assert keys(rig.memory("curl -post")) == ["other.md"]
    assert keys(rig.memory("curl -日本")) == ["command.md"]


@pytest.mark.spec("INDEX-6")
def test_rarer_words_count_more_and_titles_more_than_text(rig: Rig) -> None:
    for number in range(20):
        rig.write(f"common{number}.md", "the server answers requests")
    rig.write("rare.md", "the server has a flywheel")
    rig.write("flywheel.md", "# Flywheel\n\nit turns")

    rig.catch_up()

    assert keys(rig.memory("server flywheel"))[:2] in (["rare.md", "flywheel.md"], ["flywheel.md", "rare.md"])
    assert keys(rig.memory("flywheel"))[0] == "flywheel.md"


@pytest.mark.spec("INDEX-6")
def test_only_the_newest_places_of_a_very_common_word_count_and_a_note_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_FEW_ROWS", 20), ("_LEAST_ROWS", 10), ("MOST_ROWS", 50)):
        monkeypatch.setattr(f"federated_memory.search.evidence.{name}", value)
    for number in range(80):
        rig.upload(f"s{number:02}", turn("user", f"ubiquitous {number}"))
    rig.catch_up()

    found = rig.memory("ubiquitous", limit=100)

    assert "ubiquitous" in found.note
    assert "s79" in keys(found)


@pytest.mark.spec("INDEX-7")
def test_a_hit_shows_what_stands_in_the_file_now(rig: Rig) -> None:
    rig.write("note.md", "the zebra is old")
    rig.write("gone.md", "another zebra")
    rig.catch_up()
    rig.edit_by_hand("note.md", "the zebra is new")
    rig.edit_by_hand("gone.md", None)

    found = rig.memory("zebra")

    assert keys(found) == ["note.md"]
    assert found.hits[0].snippet == "the «zebra» is new"


@pytest.mark.spec("INDEX-2")
def test_catching_up_again_changes_nothing(rig: Rig) -> None:
    rig.write("note.md", "text")
    rig.upload("s", turn("user", "hello"))
    rig.catch_up()
    rows, contents = rig.rows_written(), rig.contents()
    rig.follower._state = type(rig.follower.state)(0, True)  # as if the changes came again

    rig.catch_up()

    assert rig.rows_written() == rows
    assert rig.contents() == contents
