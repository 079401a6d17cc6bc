"""An archive with a damaged member: the rest is found, and what is missing is told (SPEC: FIND-10)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from federated_memory.search import Mode
from tests.unit.index.rig import HOME, Rig, turn

LINES = 600


def lines_of_a_session() -> list[bytes]:
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefgh", k=8)) for _ in range(5_000)]
    return [turn("user", f"zeppelin {number} {' '.join(chance.choices(words, k=200))}") for number in range(LINES)]


def upload_and_damage(rig: Rig) -> set[int]:
    """A session of several members, one in the middle damaged; the numbers of the lines that are whole."""
    rig.upload("s", b"".join(lines_of_a_session()))
    archive = rig.archives.find(HOME, "s")  # type: ignore[arg-type]
    members = rig.archives.layout(archive)
    assert len(members) >= 4
    broken, following = members[1], members[2]
    (file,) = Path(rig.path, "workspaces", HOME, "sessions").rglob("s.jsonl.gz")
    with file.open("r+b") as opened:
        opened.seek(broken.gzip_offset + broken.gzip_bytes // 2)
        opened.write(b"damage" * 10)
    return set(range(LINES)) - set(range(broken.first_line, following.first_line))


def found_lines(rig: Rig, query: str, mode: Mode) -> tuple[set[int], list[str]]:
    lines: set[int] = set()
    notes: list[str] = []
    after = None
    while True:
        page = rig.sessions(query, mode, limit=200, after=after)
        lines |= {hit.line for hit in page.hits}
        notes.append(page.note)
        after = page.next
        if after is None:
            return lines, notes


@pytest.mark.spec("FIND-10", "INDEX-4")
@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.parametrize(("mode", "query"), [("literal", "zeppelin"), ("regex", r"zep+elin \d")])
def test_every_line_outside_of_the_damage_is_found(rig: Rig, is_indexed: bool, mode: Mode, query: str) -> None:
    whole = upload_and_damage(rig)
    if is_indexed:
        rig.catch_up()

    lines, notes = found_lines(rig, query, mode)

    assert lines == whole
    assert any("could not be read" in note for note in notes)


@pytest.mark.spec("FIND-10", "INDEX-4")
def test_what_stands_after_the_damage_is_ranked_and_sending_it_whole_heals_it(rig: Rig) -> None:
    upload_and_damage(rig)
    rig.catch_up()

    assert [hit.line for hit in rig.sessions(f"zeppelin {LINES - 1}").hits][:1] == [LINES - 1]

    rig.upload("s", b"".join([*lines_of_a_session(), turn("user", "a submarine")]))
    rig.catch_up()
    assert found_lines(rig, "zeppelin", "literal") == (set(range(LINES)), [""] * 3)
    assert [hit.line for hit in rig.sessions("submarine").hits] == [LINES]
