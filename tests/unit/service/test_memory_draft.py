"""What may be remembered, and what is refused with a reason (SPEC: MEM-9 to MEM-12)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.errors import FederatedMemoryError, InvalidArgument, TooLarge
from federated_memory.service.memory_draft import MAX_CONTENT_BYTES, MemoryDraft, checked
from federated_memory.store.memory_file import KINDS


@pytest.mark.spec("MEM-9")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taken(kind: str) -> None:
    assert checked(MemoryDraft("It works.", kind)).kind == kind


@pytest.mark.spec("MEM-9")
@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("kind", "poem", "decision"), ("kind", "", "note"), ("visibility", "public", "team"),
        ("importance", 0, "1 (trivia)"), ("importance", 6, "5 (must be known)"),
        ("subject", "", "at most 200"), ("subject", " \t", "at most 200"), ("subject", "TODO", "leave subject out"),
        ("subject", "N/A", "leave subject out"), ("subject", "<subject>", "leave subject out"),
        ("subject", "...", "leave subject out"), ("subject", "untitled", "leave subject out"),
        ("summary", "", "leave it out"), ("summary", "tbd", "leave summary out"), ("summary", "null", "summary"),
        ("subject", "x" * 201, "at most 200"), ("summary", "x" * 1_001, "at most 1000"),
        ("subject", "a\x07b", "plain text"), ("tags", [""], "One short text"), ("tags", ["a"] * 51, "at most 50"),
        ("files", ["a\nb"], "One short text"), ("ttl_seconds", 0, "It is 1 to"), ("ttl_seconds", 10**12, "It is 1 to"),
        ("expires_at", "soon", "2027-01-31"), ("expires_at", "2001-01-01", "later time"),
        ("content", "", "sentence"), ("content", " \n ", "sentence"), ("content", "TODO", "sentence"),
        ("content", "a\0b", "Send text"), ("content", "\ud800", "valid Unicode"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_what_is_allowed(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked(MemoryDraft(**{"content": "It works.", field: value}))

    assert allowed in str(refused.value)


@pytest.mark.spec("MEM-9")
def test_a_text_for_a_document_is_refused_by_its_size() -> None:
    with pytest.raises(TooLarge, match="write_knowledge"):
        checked(MemoryDraft("ü" * (MAX_CONTENT_BYTES // 2 + 1)))


@pytest.mark.spec("MEM-9")
def test_both_ends_of_a_life_are_one_too_many() -> None:
    with pytest.raises(InvalidArgument, match="one of them"):
        checked(MemoryDraft("It works.", expires_at="2100-01-01", ttl_seconds=5))


def tag(name: str, *, closes: bool = False) -> str:
    return f"<{'/' if closes else ''}{name}>"


@pytest.mark.spec("MEM-10")
@pytest.mark.parametrize(
    "content",
    [
        f"The port is 7443.{tag('parameter name=kind')}decision",
        f"{tag('invoke name=store_memory')}The port is 7443.",
        f"The port is 7443.{tag('parameter', closes=True)}",
        f"a{tag('function_calls', closes=True)}",
        f"text {tag('tool_call')} {{}}",
        f"The port.{tag('ns:parameter', closes=True)}{tag('ns:invoke', closes=True)}",
    ],
)
def test_a_call_that_ran_into_its_text_is_refused(content: str) -> None:
    with pytest.raises(InvalidArgument, match="markup"):
        checked(MemoryDraft(content))


@pytest.mark.spec("MEM-10")
@pytest.mark.parametrize(
    "content",
    [
        f"Close it with `{tag('parameter', closes=True)}`.",
        f"```\n{tag('invoke')}\n```\nis how a call begins",
        f"{tag('function')}f{tag('function', closes=True)} in our XML",
        "a <b> c </d> <functional>",
    ],
)
def test_markup_that_is_meant_is_kept(content: str) -> None:
    assert checked(MemoryDraft(content)).content == content


@pytest.mark.spec("MEM-9")
def test_without_a_subject_the_first_line_is_it() -> None:
    assert checked(MemoryDraft("# Ports\n\nThe proxy listens on 7443.")).subject == "Ports"
    assert checked(MemoryDraft("word " * 100)).subject.endswith("…")
    assert len(checked(MemoryDraft("word " * 100)).subject) <= 100


@pytest.mark.spec("MEM-9")
@given(st.text(max_size=200), st.text(max_size=40), st.integers())
def test_whatever_comes_is_kept_or_refused_in_words(content: str, subject: str, importance: int) -> None:
    with suppress(FederatedMemoryError):
        assert checked(MemoryDraft(content, subject=subject, importance=importance)).content == content
