"""In a large store most sources hold one of the words: the promising ones come first, and none is lost (FIND-7)."""

from __future__ import annotations

import pytest

from federated_memory.search import holders
from tests.unit.index.rig import Rig, keys, turn

MANY = 23


@pytest.fixture
def full(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(holders, "_MOST_PROMISING", 5)
    for number in range(MANY):
        rig.write(f"{number}.md", f"a zeppelin, number {number}\n")
        rig.upload(f"s{number}", turn("user", f"the hangar, number {number}") * 3)
    rig.write("both.md", "the zeppelin in the hangar\n")
    rig.upload("both", turn("user", "that zeppelin") + turn("assistant", "in which hangar?"))
    rig.write("titled.md", "# Zeppelin hangar\n\nnothing more\n")
    rig.catch_up()
    return rig


@pytest.mark.spec("FIND-7", "INDEX-6")
def test_what_holds_all_of_the_words_comes_first(full: Rig) -> None:
    found = full.memory("zeppelin hangar", limit=10)

    assert sorted(keys(found)[:3]) == ["both", "both.md", "titled.md"]
    assert "nothing holds all" not in found.note


@pytest.mark.spec("FIND-7")
def test_pages_go_on_to_the_last_one_and_show_each_once(full: Rig) -> None:
    shown: list[str] = []
    scores: list[float] = []
    after = None
    while True:
        found = full.memory("zeppelin hangar", limit=7, after=after)
        shown += keys(found)
        scores += [hit.score for hit in found.hits]
        after = found.next
        if after is None:
            break

    assert len(shown) == len(set(shown)) == 2 * MANY + 3
    assert scores == sorted(scores, reverse=True)
    assert all("«" in hit.snippet for hit in found.hits)
