"""How search quality is measured: the figures, the labelled sets, and that what is measured is the real search."""

import json
from pathlib import Path

import pytest

from scripts.corpus.coding import coding_sessions
from scripts.corpus.conversations import conversations
from scripts.corpus.labelled import LabelledSet, LabelledText, Question
from scripts.corpus.package_docs import package_questions
from scripts.corpus.phrases import SLOT, families, fill, word_lists
from scripts.quality.__main__ import Asked, failures, main, report
from scripts.quality.metrics import Answer, Figures, distinct, percentile
from scripts.quality.reference import PlainSearch
from scripts.quality.stores import answer, filled, in_process


def answered(found: str, relevant: str, in_page: int = 10) -> Answer:
    """Names of one letter each."""
    return Answer(tuple(found), frozenset(relevant), in_page)


def test_any_counts_one_answering_name_among_the_first() -> None:
    assert [answered("abcde", "cz").any_at(places) for places in (1, 2, 3, 5)] == [0, 0, 1, 1]


def test_recall_is_the_share_of_answering_names_that_were_found() -> None:
    assert answered("abcde", "adyz").recall_at(5) == 0.5
    assert answered("abcde", "adyz").recall_at(3) == 0.25
    assert answered("", "a").recall_at(5) == 0


def test_figures_are_means_over_questions() -> None:
    figures = Figures.of([answered("ab", "a"), answered("xa", "a", in_page=1), answered("xyz", "a"), answered("", "a")])

    assert figures.questions == 4
    assert figures.any_at_1 == 0.25
    assert figures.any_at_5 == figures.recall_at_5 == figures.recall_at_10 == 0.5
    assert figures.mrr == (1 + 1 / 2) / 4
    assert figures.page == 0.25


def test_a_name_counts_once_at_its_first_place() -> None:
    assert distinct(["b", "a", "b", "c", "a"]) == ("b", "a", "c")


def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed() -> None:
    assert percentile([3, 1, 2, 4], 0.5) == 2
    assert percentile([3, 1, 2, 4], 0.95) == 4
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7], 0.5) == 7


def test_a_question_without_an_answer_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="nothing answers"):
        Question("Who?", "single", frozenset())


def test_plain_search_ranks_the_text_with_the_rarer_words_first() -> None:
    lines = {"a": ["the cat sat", "the dog ran"], "b": ["a cat, a heron"], "c": ["the dog"]}
    texts = [
        LabelledText(name, b"".join(json.dumps({"text": line}).encode() + b"\n" for line in said))
        for name, said in lines.items()
    ]
    plain = PlainSearch([LabelledSet("animals", "sessions", tuple(texts), ())])

    assert plain.find("Where is the cat with the heron?") == ["b", "a"]
    assert plain.find("nothing known") == []


def test_the_same_seed_gives_the_same_sets() -> None:
    assert list(conversations("dev", 2, 6)) == list(conversations("dev", 2, 6))
    assert list(coding_sessions("dev", 4)) == list(coding_sessions("dev", 4))
    assert package_questions("dev", 20) == package_questions("dev", 20)


def test_the_splits_share_no_text_and_no_question_about_documents() -> None:
    for make in (lambda split: conversations(split, 2, 6), lambda split: coding_sessions(split, 4)):
        names = [{text.name for each in make(split) for text in each.texts} for split in ("dev", "test")]
        assert not names[0] & names[1]
    asked = [{question.text for question in package_questions(split, 50).questions} for split in ("dev", "test")]
    assert not asked[0] & asked[1]


def test_every_question_is_answered_by_texts_of_its_set() -> None:
    for each in (*conversations("dev", 2, 8), *coding_sessions("dev", 4), package_questions("dev", 30)):
        names = {text.name for text in each.texts}
        assert each.questions
        assert all(question.relevant <= names for question in each.questions)


def test_an_answering_session_tells_what_the_question_names() -> None:
    (talk,) = conversations("dev", 1, 12)
    texts = {text.name: text.data.decode() for text in talk.texts}
    asked = [question for question in talk.questions if '"' in question.text]

    assert asked
    for question in asked:
        title = question.text.split('"')[1]
        assert all(json.dumps(f'"{title}"')[1:-1] in texts[name] for name in question.relevant)


def test_every_pattern_names_only_slots_that_can_be_filled() -> None:
    known = {"me", "you", "ago", "month", *word_lists()}
    for family in families().values():
        for patterns in family.patterns.values():
            assert {slot for pattern in patterns for slot in SLOT.findall(pattern)} <= known


def test_filling_a_pattern_reaches_into_its_values() -> None:
    assert (
        fill("{who} came. {who} saw.", {"who": "{me}'s mother", "me": "nora"})
        == "Nora's mother came. Nora's mother saw."
    )


def test_answers_come_from_the_real_search_of_a_real_root(tmp_path: Path) -> None:
    (talk,) = conversations("dev", 1, 6)
    workspaces = filled(tmp_path / "root", [talk])
    question = next(each for each in talk.questions if each.kind == "temporal")

    with in_process(tmp_path / "root") as searcher:
        found = answer(searcher, question.text, question.relevant, "sessions", workspaces[talk.name])
        nothing = answer(searcher, "qzvwkkpt", question.relevant, "sessions")

    assert found.found
    assert set(found.found) <= {text.name for text in talk.texts}
    assert nothing.place is None


def test_a_missed_floor_is_told_and_its_questions_are_listed() -> None:
    question = Question("Where?", "single", frozenset("a"))
    good, bad = answered("a", "a"), answered("xyz", "a")
    asked = [Asked("conversations", "own store", question, found, None) for found in (good, bad)]

    lines, missed = report(asked, "dev")

    assert any(line.startswith("conversations, own store") and "0.500" in line for line in lines)
    assert missed
    assert missed[0].startswith("MISSED conversations, own store: any_at_1 is 0.500")
    assert [json.loads(line)["found"] for line in failures(asked)] == [["x", "y", "z"]]


def test_an_unknown_group_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "nothing"]) == 2
    assert "conversations, coding, documents" in capsys.readouterr().err
