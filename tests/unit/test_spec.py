"""The specification and its tests cite each other (SPEC: CODE-2). Files are parsed, never imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCES = TESTS.parent / "src" / "federated_memory"
PROMISES = frozenset(
    re.findall(r"^- \*\*([A-Z]+-\d+)\*\* ", (TESTS.parent / "SPEC.md").read_text(encoding="utf-8"), re.MULTILINE)
)


def citations(path: Path) -> Iterator[tuple[str, int]]:
    """Every id in a `pytest.mark.spec(…)` of a file, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: not a plain id"
                yield str(argument.value), node.lineno


def mentions(path: Path) -> Iterator[tuple[str, int]]:
    """Every id that a source names as `SPEC: STORE-3`, lists and ranges included, with its line."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"\(SPEC: ([^)]*)\)", text):
        line = text.count("\n", 0, found.start()) + 1
        for first, last in re.findall(r"([A-Z]+-\d+)(?: to ([A-Z]+-\d+))?", found[1]):
            kind, start = first.split("-")
            for number in range(int(start), int(last.split("-")[1] if last else start) + 1):
                yield f"{kind}-{number}", line


def cited() -> dict[str, list[str]]:
    """Id → where it is cited."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        for promise, line in citations(path):
            found.setdefault(promise, []).append(f"{path.relative_to(TESTS)}:{line}")
    return found


@pytest.mark.spec("CODE-2")
def test_every_promise_is_cited_by_a_test() -> None:
    assert sorted(PROMISES - cited().keys()) == []


@pytest.mark.spec("CODE-2")
def test_every_citation_of_a_test_is_a_promise() -> None:
    assert {promise: places for promise, places in cited().items() if promise not in PROMISES} == {}


@pytest.mark.spec("CODE-2")
def test_every_citation_of_the_code_is_a_promise() -> None:
    unknown = [
        f"{path.relative_to(SOURCES)}:{line} {promise}"
        for path in sorted(SOURCES.rglob("*.py"))
        for promise, line in mentions(path)
        if promise not in PROMISES
    ]

    assert unknown == []


@pytest.mark.spec("CODE-2")
def test_the_specification_makes_promises_and_each_only_once() -> None:
    text = (TESTS.parent / "SPEC.md").read_text(encoding="utf-8")

    assert len(PROMISES) > 60
    assert len(re.findall(r"^- \*\*([A-Z]+-\d+)\*\* ", text, re.MULTILINE)) == len(PROMISES)
