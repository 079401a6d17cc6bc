"""What a grant allows by itself (SPEC: AUTH-6, BIND-4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.auth.caller import Grant, Role

IDS = st.text(alphabet="abc-.", min_size=1, max_size=10)


def grant(role: Role = "ai", **globs: tuple[str, ...]) -> Grant:
    return Grant("t", role, "f", **globs)  # type: ignore[arg-type]


@pytest.mark.spec("AUTH-6")
@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("*", ["a", "a-b.c"], []),
        ("a-*", ["a-", "a-b"], ["a", "b-a-b", "A-b"]),
        ("a-claude-x", ["a-claude-x"], ["a-claude-xy", "a-claude-", "xa-claude-x"]),
        ("a?c", ["abc", "a.c"], ["ac", "abbc"]),
        ("[ab]-*", ["a-x", "b-x"], ["c-x", "[ab]-x"]),
        ("[!a]*", ["b", "c-a"], ["a", "ab"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_globs_match_whole_ids(glob: str, matches: list[str], others: list[str]) -> None:
    for can in (grant(read=(glob,)).reads, grant(write=(glob,)).writes):
        assert [name for name in [*matches, *others] if can(name)] == matches


@pytest.mark.spec("AUTH-6")
@given(IDS)
def test_without_globs_of_its_own_a_token_reads_and_writes_all_but_an_empty_list_nothing(name: str) -> None:
    assert grant().reads(name)
    assert grant().writes(name)
    assert not grant(read=(), write=()).reads(name)
    assert not grant(read=(), write=()).writes(name)
    assert grant("admin", read=(), write=()).writes(name)


@pytest.mark.spec("BIND-4")
@given(IDS)
def test_one_write_glob_without_wildcards_names_the_only_workspace(name: str) -> None:
    assert grant(write=(name,)).only_workspace == name
    assert grant(write=(name, name + "a")).only_workspace is None


@pytest.mark.spec("BIND-4")
@pytest.mark.parametrize("write", [(), ("*",), ("a*",), ("a?",), ("[a]",), ("",)])
def test_what_may_admit_more_or_nothing_names_none(write: tuple[str, ...]) -> None:
    assert grant(write=write).only_workspace is None
