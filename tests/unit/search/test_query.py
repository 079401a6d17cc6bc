"""Queries: what is refused, what is understood, and that no words are an error."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.search import Exact, Mode, parse_query
from federated_memory.search.literals import literals_of
from federated_memory.search.query import plain
from federated_memory.search.ranking import Matcher
from federated_memory.search.ripgrep import find_ripgrep
from federated_memory.search.terms import parse_terms

QUICK = settings(max_examples=200, deadline=None, database=None)
TYPED = st.text(alphabet=st.sampled_from(list("ab ABz09_-.\"'/:*()^+#\\ \n\0’配置とß\ud83d𝄞İſ")), max_size=60)


def exact(text: str, mode: Mode) -> Exact:
    query = parse_query(text, mode)
    assert isinstance(query, Exact)
    return query


def matched_lines(text: str, mode: Mode, data: bytes) -> list[int]:
    data = plain(data)
    return [data.count(b"\n", 0, start) for start, _ in exact(text, mode).matches(data)]


@pytest.mark.spec("FIND-1")
@pytest.mark.parametrize(("mode", "most"), [("ranked", 20_000), ("literal", 2_000), ("regex", 2_000)])
def test_a_query_may_be_so_long(mode: Mode, most: int) -> None:
    parse_query("x" * most, mode)

    with pytest.raises(InvalidArgument, match=f"{most + 1} characters, at most {most} "):
        parse_query("x" * (most + 1), mode)


@pytest.mark.spec("FIND-1")
@pytest.mark.parametrize("mode", ["literal", "regex"])
@pytest.mark.parametrize("text", ["", " ", "\n\t", "a\ud800b"])
def test_blank_and_broken_text_is_refused(mode: Mode, text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_query(text, mode)


@pytest.mark.spec("FIND-3")
@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[a", "*a", "a**", r"(a)\1", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(?>a)", "a{1001}", "\\",
     r"\p{Nonsense}", r"(\pL{1,100}){1,10}", "(?#comment)a", "(?i"],
)  # fmt: skip
def test_what_re2_does_not_know_is_refused_with_what_is_allowed(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match=r"RE2|repeat counts"):
        parse_query(pattern, "regex")


@pytest.mark.spec("FIND-3")
@pytest.mark.parametrize(
    ("pattern", "lines"),
    [
        ("^foo$", [0, 3]),
        ("(?i)^FOO", [0, 3]),
        ("^$", [2]),
        ("x*", [0, 1, 2, 3, 4]),
        (r"\Abar", [1]),
        (r"foo\z", [0, 3]),
        ("(?-m)^bar", [1]),
        (r"o\s+b", []),
        ("(?s)o.b", []),
        ("[^a]{4}", [4]),
        (r"foo|r\b", [0, 1, 3]),
        ("é", [4]),
    ],
)
def test_a_pattern_is_matched_line_by_line(pattern: str, lines: list[int]) -> None:
    assert matched_lines(pattern, "regex", "foo\nbar\n\nfoo\r\nc\u00e9fé\n".encode()) == lines


@pytest.mark.spec("FIND-2")
def test_a_literal_is_exact_and_may_span_lines() -> None:
    assert matched_lines("a\na", "literal", b"a\r\na\na\nA\n") == [0, 1]
    assert matched_lines("(?i)a.*", "literal", b"a\n(?i)a.*\n") == [1]
    assert matched_lines("\ufffd", "literal", b"a\n\xff\n") == [1]


@pytest.mark.spec("FIND-3")
@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("fo+bar", ("fo", "bar")),
        (r"def test_\w*timeout\w*\(", ("def test_", "timeout", "(")),
        ("(ab|c)def", ("def",)),
        ("(abc)?de{2,3}f", ("de", "f")),
        ("[abc]def[^]x]", ("def",)),
        (r"\d+\.\pLx\p{Greek}y", (".", "x", "y")),
        ("a|b", ()),
        ("foo|", ()),
        ("a??b*c{0,3}", ()),
        (r"\x41bc", ()),
        (r"\Qa.c\E", ()),
        ("a(?i:b)c", ()),
        ("(" * 40 + "a" + ")" * 40, ()),
        ("{a}", ("{a}",)),
    ],
)
def test_literals_of_a_pattern(pattern: str, texts: tuple[str, ...]) -> None:
    assert literals_of(pattern).texts == texts


PIECES = st.sampled_from(
    ["a", "b", "ab", ".", "a+", "b*", "a?", "(ab)", "(a|b)", "(?:ba)+", "(b)?", "[ab]", "[^a]", "a{2}", "b{0,1}", "^",
     "$", r"\b", r"\w", r"\.", "|", "a+?", "(a(b)c)", "\\", "(", ")", "[", "{", "{,2}", "k", "(?i)"],
)  # fmt: skip


@pytest.mark.spec("FIND-3")
@settings(max_examples=400, deadline=None, database=None)
@given(st.lists(PIECES, min_size=1, max_size=6).map("".join), st.text(alphabet="abAB.c\nkK\u212a{}2,", max_size=12))
@example("(?i)k", "\u212a")
def test_every_match_holds_the_literals(pattern: str, text: str) -> None:
    try:
        query = exact(pattern, "regex")
    except InvalidArgument:
        return
    data = text.encode()
    for start, end in query.matches(data):
        found = data[start:end].decode()
        for literal in query.literals.texts:
            if query.literals.ignores_case:
                assert literal.lower() in found.lower()
            else:
                assert literal in found


@pytest.mark.spec("FIND-4")
@QUICK
@given(TYPED)
@example('"')
@example('-"a b" -c')
@example("a" * 2000)
@example(" ".join(f"w{n}" for n in range(500)))
@example('"' + "a " * 900 + '"')
@example("(" * 300)
@example("配" * 2000)
def test_no_words_are_an_error(text: str) -> None:
    terms = parse_terms(text)

    assert len(terms.wanted) <= 32
    Matcher(terms)
    Matcher(terms, by_line=True)


@pytest.mark.spec("FIND-4")
@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(TYPED, min_size=1, max_size=8))
def test_ripgrep_reads_the_terms_as_re2_does(typed: list[str]) -> None:
    program = find_ripgrep()
    assert program
    for text in typed:
        terms = parse_terms(text)
        pattern = "|".join(term.line_pattern(r"(?-u:\b)") for term in (*terms.wanted, *terms.excluded))
        done = subprocess.run([program, "-q", f"--regexp={pattern}"], input=b"", capture_output=True, check=False)
        assert done.returncode == 1 or not pattern, done.stderr


def names(text: str) -> list[str]:
    return [term.text for term in parse_terms(text).wanted]


def finds(query: str, text: str) -> bool:
    return any(True for _ in Matcher(parse_terms(query)).places(text.encode()))


@pytest.mark.spec("FIND-4")
def test_stop_words_are_dropped_unless_nothing_remains() -> None:
    assert names("how do the tokens rotate?") == ["rotate", "tokens"]
    assert sorted(names("to be or not")) == ["be", "not", "or", "to"]
    assert names("?!") == []


@pytest.mark.spec("FIND-4")
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("deploying", "we deploy it"),
        ("deploy", "deployments"),
        ("policies", "the policy"),
        ("run", "still running"),
        ("caching", "a cache"),
        ("migrate", "the migration"),
        ("tokens", "TOKEN"),
        ("session_id", "a sessionId here"),
        ("sessionId", "a session-id here"),
        ("config", "parseConfig"),
        ("config", "app_config_2"),
        ("a.b-c/d_e", "see a.b-c/d_e."),
        ("HTTPServer", "class http_server"),
        ("配置", "重新配置文件"),
        ("配置文件系统", "配置"),
        ("서버", "서버는"),
        ("c++", "in C++ code"),
        ("größe", "GRÖSSE oder GRÖßE"),
        ('"exact phrase"', "an exact\n  phrase"),
        ("don't", "don't"),
        ("agent’s", "the agents"),
        ("AND OR NOT NEAR/3", "NEAR/3"),
    ],
)
def test_a_term_is_found(query: str, text: str) -> None:
    assert finds(query, text)


@pytest.mark.spec("FIND-4")
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("go", "google cargo"),
        ("port", "report portal"),
        ("string", "str strs"),
        ("notes", "not"),
        ("thing", "th"),
        ("auth", "author"),
        ('"exact phrase"', "phrase exact"),
        ('"exact phrase"', "exact phrases"),
    ],
)
def test_a_term_is_not_found_in_other_words(query: str, text: str) -> None:
    assert not finds(query, text)
