"""Patterns that hang backtracking engines are refused or simply answered."""

from __future__ import annotations

import pytest

from federated_memory.errors import InvalidArgument
from tests.unit.search.library import Library, Shelf, jsonl

PATTERNS = [
    "(a+)+$", "(a+)+b", "(a|aa)+$", "(a|a?)+$", "(.*a){20}", "(.*a){200}", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(.*)(.*)(.*)(.*)(.*)[^a]$", r"[\s\S]{1,1000}x", ".{1,1000}b", r"(\pL{1,100}){1,10}", "(?:a?){500}a{500}",
    "(a?){30}a{30}", r"(\w{1,50}\W{1,50}){1,10}zzz", "((((a*)*)*)*)*b", "(?i)(s|k|ſ)+$", "(a{0,1000}b?){1}c",
    ".*.*.*.*.*=.*", "(?:.*,){30}P", r"[^\n]*[^\n]*[^\n]*z$", r"(\pL|\pN|\w)+!", r"(?:(?:\d+\.)*\d+)*x",
    "(a.{0,100}){3}zq", r"\b(\w+\s*)+\.$", r"(?i)(\pL{1,20}\s?){1,10}zq", "(ab|a.{0,300}b|c){2,5}z", r"\pL{900}",
    "(?:[a-q][^u-z]{13})x|[a-q][^u-z]{100}y", "(((a{1,10}){1,10}){1,10}){1,10}", "(?s)(.*)*(.*)*(.*)*\\z",
    "(" * 900 + "a" + ")*" * 900, r"\C{1000}", "|".join("ab" * 9 + str(n) for n in range(90)), "(^)*(a*^)*$",
]  # fmt: skip
TEXTS = ["a" * 100_000, "a" * 200 + "\n" + "aaaa,bbbb;" * 5_000, "the config: 1.2.3.4, größe 配置 " * 2_000]


@pytest.fixture(scope="module")
def filled(library: Library) -> Shelf:
    shelf = library.shelf()
    for number, text in enumerate(TEXTS):
        shelf.write(f"{number}.md", text)
    records = ({"type": "user", "uuid": "u", "message": {"role": "user", "content": text}} for text in TEXTS)
    shelf.upload("s", jsonl(records))
    return shelf


@pytest.mark.spec("FIND-3")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern[:40])
def test_an_evil_pattern_is_refused_or_answered(filled: Shelf, pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        found = [filled.knowledge(pattern, "regex", limit=3), filled.sessions(pattern, "regex", limit=3)]
    except InvalidArgument:
        found = []
    assert all(page.is_complete for page in found)
    assert capfd.readouterr() == ("", "")  # RE2 would log the pattern
