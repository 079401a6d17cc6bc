"""A hit shows where the index sees a term that no pattern knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from federated_memory.search.marking import Marking
from federated_memory.search.terms import parse_terms


@pytest.fixture
def marking() -> Iterator[Marking]:
    found = Marking()
    yield found
    found.close()


def marked(marking: Marking, query: str, text: str) -> list[str]:
    data = text.encode()
    return [data[start:end].decode() for start, end in marking.of(parse_terms(query).wanted).first(data)]


@pytest.mark.spec("INDEX-7")
@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("candid", "of all Candidates one", ["Candidates"]),
        ("happy", "unhappily, with happiness", ["happiness"]),  # `unhappily` is another word
        ("generate", "a snake_generator_case", ["generator"]),  # a sign ends a word
        ("candid", "candidatés", ["candidatés"]),  # beyond ASCII: as SQLite folds it
        ("relate", "x relational", ["relational"]),
        ('"see also"', "we saw; seeing also", ["seeing also"]),
        ("car", "nothing of it", []),
        ("candid", "", []),
    ],
)
def test_the_first_word_that_the_index_takes_for_the_term(
    marking: Marking, query: str, text: str, found: list[str]
) -> None:
    assert marked(marking, query, text) == found


def test_long_texts_are_looked_through_for_words_that_begin_alike(marking: Marking) -> None:
    text = "word " * 40_000

    assert marked(marking, "candid", text + "candidate") == ["candidate"]
    assert marked(marking, "candid", text + "candidaté") == []  # SQLite would take long
