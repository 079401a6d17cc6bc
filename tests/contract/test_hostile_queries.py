"""No query is answered with anything but hits, or a refusal that says what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.harness import Server

TRACE = "panic: runtime error\n" + "  at zeppelin.dock (/srv/app/zeppelin.js:7:12)\n" * 180
QUERIES = {
    "10,000 characters": "zeppelin " * 1_100,
    "10,000 different words": "zeppelin " + " ".join(f"w{number}" for number in range(1_600)),
    "a stack trace": TRACE,
    "operators only": "AND OR NOT NEAR ( ) * ^ : - + \"\" '' -- ; { }",
    "open quotes": '"zeppelin "" "',
    "a NUL": "zeppelin\0mooring",
    "NULs only": "\0\0\0",
    "FTS5's own syntax": 'text : zeppelin* NEAR("a" "b", 3) ^zeppelin',
    "SQL": "'; DROP TABLE spoken; --",
    "excluded only": "-zeppelin",
    "spaces": " \t\n\u3000\u200b",
    "combining marks": "z\u0301" * 2_000,
    "right to left": "\u202ezeppelin\u202c",
    "one long word": "z" * 15_000,
    "hyphens": "-" * 5_000,
    "quotes": '"' * 5_000,
    "dots": "a." * 5_000,
    "humps": "aB" * 5_000,
    "CJK": "飛行船" * 3_000,
}
REFUSED = {
    "a back-reference": r"(zep)\1",
    "look-ahead": "zep(?=pelin)",
    "nested repeats": "((a{1,100}){1,100}){1,100}",
    "too large": "(?:a{1,1000}){1,10}" * 50,
    "unclosed": "zep(",
    "too long": "z" * 2_001,
}


def answer(server: Server, query: str, mode: str) -> dict[str, Any]:
    reply = server.wire().call("search_memory", {"query": query, "mode": mode})
    assert reply.status == 200
    result: dict[str, Any] = json.loads(reply.body)["result"]
    return result


@pytest.fixture
def stocked(server: Server) -> Server:
    home, agent = server.settle(), server.agent()
    agent.ok("write_knowledge", path="sky.md", text="# Sky\n\na zeppelin at its mooring\n", binding=home.binding)
    return server


@pytest.mark.thorough
@pytest.mark.spec("FIND-4", "FIND-1")
@pytest.mark.parametrize("name", QUERIES)
def test_no_words_are_an_error_in_a_ranked_search(stocked: Server, name: str) -> None:
    query = QUERIES[name]
    result = answer(stocked, query, "ranked")

    assert not result.get("isError"), result
    found = result["structuredContent"]
    assert found["complete"]
    if "zeppelin" in query and "-zeppelin" not in query:
        assert [hit["path"] for hit in found["hits"]] == ["sky.md"]


@pytest.mark.thorough
@pytest.mark.spec("FIND-1", "FIND-3", "ERR-2")
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("mode", ["literal", "regex"])
def test_an_exact_search_answers_or_says_what_is_allowed(stocked: Server, name: str, mode: str) -> None:
    result = answer(stocked, QUERIES[name], mode)

    if result.get("isError"):
        assert result["structuredContent"]["error"]["code"] == "invalid_argument"
        assert result["structuredContent"]["error"]["hint"]


@pytest.mark.spec("FIND-3")
@pytest.mark.parametrize("name", REFUSED)
def test_a_pattern_that_cannot_be_is_refused_saying_what_is_allowed(stocked: Server, name: str) -> None:
    error = answer(stocked, REFUSED[name], "regex")["structuredContent"]["error"]

    assert error["code"] == "invalid_argument"
    assert error["hint"]


@pytest.mark.spec("FIND-10")
def test_a_deadline_gives_a_partial_result_that_says_so(stocked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    search = stocked.services.core.search
    monkeypatch.setattr(search, "_timeout_seconds", 0.0)

    found = answer(stocked, "zeppelin", "literal")["structuredContent"]

    assert not found["complete"]
    assert "the search took over 0 seconds" in found["note"]


@pytest.mark.spec("FIND-1")
@pytest.mark.parametrize("query", ["zeppelin \ud800", "\udc00\ud800"])
@pytest.mark.parametrize("mode", ["ranked", "literal", "regex"])
def test_half_a_character_is_refused(stocked: Server, query: str, mode: str) -> None:
    error = answer(stocked, query, mode)["structuredContent"]["error"]

    assert error["code"] == "invalid_argument"
    assert "query" in error["message"]
