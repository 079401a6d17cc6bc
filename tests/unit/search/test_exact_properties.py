"""Exact searches agree with a scan of every turn, whatever is stored and asked."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.index.holding import expression_of
from federated_memory.index.reader import View
from federated_memory.search import Mode, candidates, parse_query
from federated_memory.search.query import Exact, plain_text
from federated_memory.transcripts import read_turns, reader_of
from tests.unit.index.rig import HOME, Rig

PIECES = st.sampled_from([
    "needle", "Needle", "NEEDLE", "ne", "edl", "K", "k", "\u212a", "\u0130", "i\u0307", "ß", "SS", "\ufb03", "日本語",
    "語",
    "é", "e\u0301", " ", "\n", "\r\n", "\t", '"', "\\", "\\n", "/", "<", "\u2028", "\0", "\ufffd", "\U0001f680",
    "a.b-c",
    "12", "1e5", "%", "_", "tool", "Bash", "xyz" * 40,
    "(", ")", "=>", ", ", ":", "'", "{", "}", "[image]", "-1.50", "&&",
    "data:image/png;base64,iVBOR", "<command-name>/x</command-name><command-args>a b</command-args>",
])  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=8).map("".join)
ROLES = st.sampled_from(["user", "assistant", "tool", "system", "Nora"])
SESSIONS = st.lists(st.lists(st.tuples(ROLES, TEXTS), min_size=1, max_size=6), min_size=1, max_size=3)
LITERALS = st.lists(PIECES, min_size=1, max_size=3).map("".join)
PATTERNS = st.lists(
    st.sampled_from([
        "needle", "(?i:needle)", "ne+dle?", "[a-k]", r"\d", ".", "日", "K", "é", "^", "$", r"\b", r"\s", "(ne|xy)",
        "x{3}",
        "l*", r"\.", "[^n]", "\u0130", "edl", "(?i:k)", "_", "[a-n]{3}", r"\w{2}", "[A-Z]+",
    ]),
    min_size=1, max_size=4,
).map("".join)  # fmt: skip
QUERIES = st.tuples(st.just("literal"), LITERALS) | st.tuples(st.just("regex"), PATTERNS | LITERALS)
CHECKED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

Places = set[tuple[str, int, str]]


def raw_of(session: list[tuple[str, str]], ascii_only: bool) -> bytes:
    records = [{"role": role, "content": text, "session_id": "s"} for role, text in session]
    return b"".join(json.dumps(record, ensure_ascii=ascii_only).encode() + b"\n" for record in records)


def every_turn(rig: Rig, query: Exact) -> Places:
    """The oracle: each turn of each line, read and matched."""
    found: Places = set()
    for archive in rig.archives.newest(HOME, limit=10):
        reader = reader_of("unknown")
        for line in rig.archives.read_lines(archive, 0, 100, 1_000_000):
            for turn in read_turns(reader, line.data, line.number):
                if next(query.matches(plain_text(turn.text)), None) is not None:
                    found.add((archive.session_id, turn.line, turn.role))
    return found


def searched(rig: Rig, text: str, mode: Mode) -> Places:
    found: Places = set()
    after = None
    while True:
        page = rig.sessions(text, mode, limit=2, after=after)
        assert page.is_complete, page.note
        places = [(hit.key, hit.line, hit.role) for hit in page.hits]
        assert found.isdisjoint(places)
        found.update(places)
        after = page.next
        if after is None:
            return found


def ask(rig: Rig, queries: list[tuple[Mode, str]], how: str) -> None:
    for mode, text in queries:
        try:
            query = parse_query(text, mode)
        except InvalidArgument:
            continue
        assert isinstance(query, Exact)
        assert searched(rig, text, mode) == every_turn(rig, query), (how, mode, text)


def agree(sessions: list[list[tuple[str, str]]], queries: list[tuple[Mode, str]], ascii_only: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder) / "root")
        try:
            for number, session in enumerate(sessions):
                rig.upload(f"s{number}", raw_of(session, ascii_only))
            ask(rig, queries, "not indexed")
            rig.catch_up()
            ask(rig, queries, "asked for at once")
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(candidates, "_FEW_ROWS", 0)
                patched.setattr(candidates, "_FIRST_ROWS", 1)
                ask(rig, queries, "asked for session by session")
        finally:
            rig.close()


GIVEN = given(SESSIONS, st.lists(QUERIES, min_size=4, max_size=10), st.booleans())


@pytest.mark.spec("FIND-2", "FIND-3", "FIND-8", "FIND-9")
def test_literal_and_regex_find_what_a_scan_of_every_turn_finds() -> None:
    CHECKED(GIVEN(agree))()


def test_the_property_finds_a_broken_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin takes the ends of a text for the ends of words."""
    monkeypatch.setattr(View, "holding", lambda _, texts: expression_of(texts, lambda part: [part.text]))
    quick = settings(CHECKED, phases=[Phase.generate], max_examples=300, report_multiple_bugs=False)

    def twin(sessions: list[list[tuple[str, str]]], queries: list[tuple[Mode, str]], ascii_only: bool) -> None:
        agree(sessions, queries, ascii_only)

    with pytest.raises(AssertionError):
        quick(GIVEN(twin))()
