"""Memories as files: what is written is read again, whatever an editor makes of it (SPEC: MEM-1, MEM-2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.store.memories import new_memory_id
from federated_memory.store.memory_file import (
    KINDS,
    VISIBILITIES,
    Memory,
    format_memory,
    memory_id_of,
    parse_memory,
    path_of,
    read_memory,
    subject_of,
    tombstone_id_of,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
NAMES = st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20), max_size=4).map(tuple)
MEMORIES = st.builds(
    Memory, st.just("20261121-101502-k3f9x2ma"), TEXT, kind=st.sampled_from(KINDS), subject=TEXT, summary=TEXT,
    project=TEXT, importance=st.integers(1, 5), tags=NAMES, files=NAMES, references=NAMES, supersedes=NAMES,
    created_at=TEXT, expires_at=TEXT, visibility=st.sampled_from(VISIBILITIES), room=TEXT, user=TEXT, agent=TEXT,
    machine=TEXT, session=TEXT, source=TEXT, deleted_at=TEXT, deleted_by=TEXT, reason=TEXT,
)  # fmt: skip


@pytest.mark.spec("MEM-1")
@given(MEMORIES)
def test_every_field_is_read_as_it_was_written(memory: Memory) -> None:
    data = format_memory(memory)
    read = read_memory(memory.memory_id, data)

    assert parse_memory(memory.memory_id, data) == read  # though that need not read what was just written
    assert read == replace(memory, subject=memory.subject or subject_of(memory.content))
    assert parse_memory(memory.memory_id, format_memory(read)) == read


@pytest.mark.spec("MEM-2")
@given(st.binary(max_size=300), st.sampled_from([b"", b"---\n", b"---\nkind: bug\n---\n", b"---\ntags: [a\n---\n"]))
def test_no_file_is_too_odd_to_be_read(data: bytes, head: bytes) -> None:
    memory = parse_memory("m", head + data)

    assert memory.kind in KINDS
    assert 1 <= memory.importance <= 5


@pytest.mark.spec("MEM-2")
def test_fields_of_an_editor_survive_in_what_is_left_of_it() -> None:
    data = b"---\nkind: bug\naliases: [one, two]\ncssclass: wide\nnested: {a: {b: c}}\n---\nIt leaks.\n"
    memory = parse_memory("m", data)

    assert memory.others == {"aliases": ["one", "two"], "cssclass": "wide", "nested": {"a": {"b": "c"}}}
    assert parse_memory("m", format_memory(memory)) == memory


@pytest.mark.spec("MEM-2")
@pytest.mark.parametrize(
    ("head", "kind", "importance", "visibility"),
    [
        (b"kind: poem\nimportance: 9\nvisibility: nobody\n", "note", 3, "workspace"),
        (b"kind: [bug]\nimportance: [1]\nvisibility:\n", "note", 3, "all"),
        (b"kind: bug\nimportance: 5\nvisibility: team\n", "bug", 5, "team"),
        (b"- a\n- b\n", "note", 3, "all"),
        (b"a: &x [1]\nb: *x\nsubject: no\n", "note", 3, "all"),
    ],
)
def test_what_makes_no_sense_falls_back_and_shows_to_fewer(
    head: bytes, kind: str, importance: int, visibility: str
) -> None:
    memory = parse_memory("m", b"---\n" + head + b"---\ntext\n")

    assert (memory.kind, memory.importance, memory.visibility) == (kind, importance, visibility)
    assert memory.content == "text"


@pytest.mark.spec("MEM-2")
def test_an_alias_bomb_in_front_matter_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    data = ("---\n" + "\n".join(lines) + "\ntags: *a29\n---\ntext\n").encode()

    assert parse_memory("m", data).tags == ()


@pytest.mark.spec("MEM-1")
def test_an_id_sorts_by_time_and_says_where_its_file_is() -> None:
    first, second = new_memory_id("2026-11-21T10:15:02.123Z"), new_memory_id("2026-12-01T00:00:00.000Z")

    assert first.startswith("20261121-101502-")
    assert first < second
    assert path_of(first) == f"2026/11/{first}.md"
    assert memory_id_of(path_of(first)) == first


@pytest.mark.spec("MEM-2")
@pytest.mark.parametrize(
    "path", ["a.md", "2026/13/a.md", "2026/11/.a.md", "2026/11/A.md", "2026/11/a.txt", "2026/11/b/a.md", "2026/11/.md"]
)
def test_a_name_that_no_memory_has_is_none(path: str) -> None:
    assert memory_id_of(path) is None


@pytest.mark.spec("MEM-2")
def test_a_tombstone_is_named_by_its_memory() -> None:
    assert tombstone_id_of("20261121-101502-k3f9x2ma.md") == "20261121-101502-k3f9x2ma"
    assert tombstone_id_of("x/a.md") is None
