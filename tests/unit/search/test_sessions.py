"""Exact search over transcripts: what was said, completely, however the JSON spells it."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Mapping
from typing import cast, get_args

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument
from federated_memory.search import Mode, parse_query
from federated_memory.search.literals import Literals
from federated_memory.search.query import Exact, plain, plain_text
from federated_memory.search.raw_lines import filter_for, filter_for_exact, lines_with, whole_lines
from federated_memory.search.raw_pieces import piece_of
from federated_memory.store.members import LONGEST_MEMBER_BYTES
from federated_memory.transcripts import Agent, detect, read_turns, reader_of
from tests.unit.search.library import Library, Shelf, all_pages, claude, jsonl, keys

EXAMPLES = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = ["foo", "Foo", "tool", "image", "true", " ", "\n", '"', "\\", "é", "配置", "\\u0061", "\x1b", "k",
         "\u212a", "ſ", "data:image/png;base64,AAAA",
         "<command-name>/x</command-name><command-args>a foo</command-args>bar",
         "abc", "{\"command\": \"foo\\nbar\"}", "\t", "1e5", "100000.0", "\U0001f600"]  # fmt: skip
SAID = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map("".join)


def escaped(value: object, seed: int) -> bytes:
    """JSON of `value`, its characters spelled as escapes now and then, as any writer of JSON may."""
    rng = random.Random(seed)

    def text(value: str) -> str:
        spelled = []
        for character in value:
            plain_json = json.dumps(character, ensure_ascii=False)[1:-1]
            as_escape = json.dumps(character)[1:-1]
            if len(as_escape) == 1:
                as_escape = f"\\u{ord(character):04{rng.choice('xX')}}"
            spelled.append(as_escape if rng.random() < 0.15 else plain_json)
        return '"' + "".join(spelled) + '"'

    def spell(value: object) -> str:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{text(key)}:{spell(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(spell, value)) + "]"
        return json.dumps(value)

    return spell(value).encode()


def call(text: str) -> dict[str, object]:
    arguments = json.dumps({"command": ["bash", "-lc", text], "n": 1e22, "b": True})
    return {"type": "response_item", "timestamp": "2026-01-01T00:00:00.000Z",
            "payload": {"type": "function_call", "name": "shell", "arguments": arguments}}  # fmt: skip


def nameless(text: str) -> dict[str, object]:
    block = {"type": "tool_use", "input": {"q": text, "n": 100000.0}}
    return {"type": "assistant", "uuid": "u", "sessionId": "s", "message": {"role": "assistant", "content": [block]}}


SHAPES = [
    lambda text: claude("user", text),
    lambda text: claude("assistant", text),
    lambda text: claude("tool", text),
    call,
    nameless,
    lambda text: {"anything": [text, {"deep": text}]},
]
RECORDS = st.tuples(st.sampled_from(SHAPES), SAID, st.integers(0, 9)).map(
    lambda parts: escaped(parts[0](parts[1]), parts[2])
)
LINES = RECORDS | SAID.map(str.encode) | st.sampled_from([b"", b"{", b'{"a":"foo\xff"}', b"foo \xff", b'["foo"]'])
TRANSCRIPTS = st.lists(LINES.map(lambda line: line.replace(b"\n", b" ")), max_size=6).map(b"\n".join)
ASKED = st.lists(st.sampled_from([*WORDS, "oo", "ba", "mag", "too", "\r", "ool: "]), min_size=1, max_size=2).map(
    "".join
)
PATTERNS = st.lists(
    st.sampled_from(
        ["foo", "(?i)", "abc", "o+", "^", "$", r"\b", ".", "[a-z]", "|", "é", "k", r"\W", '"', "tool", "image"]
    ),
    min_size=1,
    max_size=4,
).map("".join)


def oracle(query: Exact, raw: bytes) -> set[tuple[int, str]]:
    """Line and role of every match, found by parsing everything."""
    lines = raw.removesuffix(b"\n").split(b"\n") if raw else []
    reader = detect(lines)
    return {
        (turn.line, turn.role)
        for number, line in enumerate(lines)
        for turn in read_turns(reader, line, number)
        if any(True for _ in query.matches(plain(turn.text.encode())))
    }


@pytest.mark.spec("FIND-8")
@EXAMPLES
@given(st.lists(TRANSCRIPTS, max_size=3), st.sampled_from(["literal", "regex"]), st.data())
def test_every_matching_turn_is_found_once(
    library: Library, transcripts: list[bytes], mode: Mode, data: st.DataObject
) -> None:
    asked = data.draw(ASKED if mode == "literal" else PATTERNS)
    assume(asked.strip())
    try:
        query = parse_query(asked, mode)
    except InvalidArgument:
        return
    assert isinstance(query, Exact)
    shelf = library.shelf()
    for number, raw in enumerate(transcripts):
        shelf.upload(f"s{number}", raw, agent="")
    wanted = {(f"s{number}", *hit) for number, raw in enumerate(transcripts) for hit in oracle(query, raw)}

    hits = all_pages(lambda limit, after: shelf.sessions(asked, mode, limit=limit, after=after), 2)

    assert [(hit.key, hit.line, hit.role) for hit in hits if (hit.key, hit.line, hit.role) not in wanted] == []
    assert {(hit.key, hit.line, hit.role) for hit in hits} == wanted
    assert len(hits) == len(wanted)
    assert hits == shelf.sessions(asked, mode, limit=1000).hits


COMMAND = "<command-name>/x</command-name><command-args>a foo</command-args>bar"


def number_call(number: str) -> bytes:
    arguments = json.dumps(f'{{"n": {number}}}')
    return (
        f'{{"type":"response_item","payload":{{"type":"function_call","name":"f","arguments":{arguments}}}}}'.encode()
    )


# Words that steer the readers into every branch.
KEYS = [
    "type", "role", "content", "text", "message", "payload", "timestamp", "summary", "prompt", "input", "name",
    "arguments", "output", "action", "command", "id", "info", "part", "parts", "messages", "state", "tool", "time",
    "title", "$set", "toolCalls", "thoughts", "subject", "args", "result", "functionCall", "functionResponse",
    "response", "inlineData", "mimeType", "namespace", "thinking", "attachment", "cmd", "mime", "sessionID", "uuid",
]  # fmt: skip
KINDS = [
    "user", "assistant", "tool", "text", "thinking", "tool_use", "tool_result", "image", "message", "reasoning",
    "response_item", "event_msg", "function_call", "function_call_output", "local_shell_call", "web_search_call",
    "attachment", "queued_command", "gemini", "info", "subtask", "file", "ses_1", "msg_1", "prt_1", "shell",
    "image/png", "thread_name_updated", "item_completed", "compacted", "<command-args>a b</command-args>c",
    "data:image/x;base64,A",
    "f(x=1, -2.5)->y && {g|h}~#1", '{"cmd": "a(b) => \'c\'", "n": -1.5}', "(", ")", "=>", "-1.5",
    "<system-reminder>a(b)</system-reminder>c(d)", "bash", "-lc",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.sampled_from(KINDS) | SAID | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.thorough
@pytest.mark.spec("FIND-9")
@settings(max_examples=300, deadline=None, database=None)
@given(
    st.sampled_from(get_args(Agent)),
    st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=8),
    st.integers(0, 99),
    st.data(),
)
def test_the_raw_line_of_any_text_passes_its_filter(
    agent: Agent, record: Mapping[str, object], seed: int, data: st.DataObject
) -> None:
    raw = escaped(record, seed).replace(b"\n", b" ")
    for turn in read_turns(reader_of(agent), raw, 0):
        start = data.draw(st.integers(0, len(turn.text) - 1))
        literal = turn.text[start : start + data.draw(st.integers(1, 12))]
        for literals in (Literals((literal,)), Literals((literal.swapcase(),), True)):
            lines = filter_for(literals)
            if literals.ignores_case and literal.swapcase().casefold() != literal.casefold():
                continue
            assert lines is None or list(lines_with(lines, raw, 0)), (literal, raw)


@pytest.mark.spec("FIND-9")
@pytest.mark.parametrize(
    ("agent", "raw", "literals"),
    [
        ("gemini", b'{"type":"gemini","content":[{"functionCall":{"args":{"q":"x"}}}]}', Literals(("tool",))),
        ("claude-code", jsonl([claude("user", COMMAND)]), Literals(("foobar",))),
        ("codex", number_call("1.5e3"), Literals(("1500",))),
        ("codex", number_call("12345678901234567890123"), Literals(("2345678901234568e",))),
        (
            "claude-code",
            rb'{"type":"user","message":{"role":"user","content":"\u212Aelvin"}}',
            Literals(("kelvin",), True),
        ),
        ("claude-code", rb'{"type":"user","message":{"role":"user","content":"\u017Fun"}}', Literals(("sun",), True)),
        ("claude-code", rb'{"type":"user","message":{"role":"user","content":"\u006Aump"}}', Literals(("jump",))),
        ("claude-code", rb'{"type":"user","message":{"role":"user","content":"Stra\u00DFe"}}', Literals(("ß",))),
        ("unknown", b'{"a":"data:image/png;base64,AAAA"}', Literals(("[image]",))),
    ],
)
def test_text_that_no_raw_line_spells_so_passes_the_filter(agent: Agent, raw: bytes, literals: Literals) -> None:
    (text,) = (
        turn.text for turn in read_turns(reader_of(agent), raw, 0) if turn.role != "system" or agent == "unknown"
    )
    lines = filter_for(literals)

    assert literals.texts[0].casefold() in text.casefold()
    assert lines is None or list(lines_with(lines, raw, 0))


def classes_of(text: str, number: int) -> str:
    """A pattern of classes that matches the text, spelled in one of some ways."""
    ways = {
        "a": ("[a-z]", r"\w", "[a-z_]"),
        "A": ("[A-Z]", r"\w", "[A-Za-z]"),
        "0": (r"\d", "[0-9]", r"\w"),
        "_": ("_",) * 3,
    }
    kinds = ["_" if sign == "_" else "0" if sign.isdigit() else "A" if sign.isupper() else "a" for sign in text]
    return "".join(ways[kind][(number >> at) % 3] for at, kind in enumerate(kinds))


@pytest.mark.thorough
@pytest.mark.spec("FIND-9")
@settings(max_examples=300, deadline=None, database=None)
@given(
    st.sampled_from(get_args(Agent)),
    st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=8),
    st.integers(0, 99),
    st.integers(0, 2**30),
)
def test_the_raw_line_of_any_text_passes_the_filter_of_its_kinds_of_characters(
    agent: Agent, record: Mapping[str, object], seed: int, number: int
) -> None:
    raw = escaped(record, seed).replace(b"\n", b" ")
    for turn in read_turns(reader_of(agent), raw, 0):
        for run in re.findall("[0-9A-Za-z_]{3,}", turn.text):
            query = parse_query(rf"\b{classes_of(run[:30], number)}", "regex")
            assert isinstance(query, Exact)
            lines = filter_for_exact(query)
            assert next(query.matches(plain_text(turn.text)), None) is not None
            assert lines is None or list(lines_with(lines, raw, 0)), (query.text, raw)


@pytest.mark.spec("FIND-9")
def test_a_tool_of_a_namespace_is_found_by_the_kind_of_its_name() -> None:
    """The reader joins what the raw line names apart."""
    call = {"type": "function_call", "namespace": "abc", "name": "defgh", "arguments": "{}"}
    raw = json.dumps({"type": "response_item", "payload": call}).encode()
    query = parse_query("[a-z]{3}__[a-z]{5}", "regex")
    assert isinstance(query, Exact)
    (turn,) = read_turns(reader_of("codex"), raw, 0)
    lines = filter_for_exact(query)

    assert turn.text.startswith("abc__defgh")
    assert lines is not None
    assert list(lines_with(lines, raw, 0))
    assert not list(lines_with(lines, raw.replace(b"namespace", b"other"), 0))


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        (r"\b[a-z]{4}_[0-9]{3}[a-z]\b", ("[a-z]{4}_[0-9]{3}[a-z]", False)),
        (r"(?i)x[a-f]+_\dzz", (r"(?i:x[a-f]+_\dzz)", True)),
        (r"ab_cd.*", ("ab_cd", False)),
        (r"[^a]bcd_[[:alpha:]]ef", ("bcd_", False)),
        (r"\pLxy_z\.", ("xy_z", False)),
        (r"\p{Greek}?xy_z", ("xy_z", False)),
        (r"a{2}{3}xyz", None),  # no repeat of a repeat
        (r"[a-z]{5}", None),  # says too little
        (r"\d{6}", None),  # numbers may be spelled otherwise
        (r"[0-9e]{9}", None),
        (r"t[a-p]{2}l", None),  # what readers write themselves
        (r"\x41bcd_efg", None),
        (r"\Qa_b_c\E", None),
        (r"abc_d|efg_h", None),
        (r"(abc_d)+", None),
    ],
)
def test_what_of_a_pattern_stands_in_raw_lines(pattern: str, piece: tuple[str, bool] | None) -> None:
    assert piece_of(pattern) == piece


@pytest.mark.spec("FIND-9")
def test_a_line_in_parts_is_told_unless_it_cannot_pass() -> None:
    members = [
        (0, b"a\nb\n"),
        (2, b"..nee"),
        (2, b"dle..\n"),
        (3, b"c\n"),
        (4, b"xx"),
        (4, b"xx"),
        (4, b"\n"),
        (5, b"d"),
    ]
    part = b"x" * (LONGEST_MEMBER_BYTES - 4)
    members = [(0, b"a\nb\n"), (2, part + b".nee"), (2, b"dle.\n"), (3, b"c\n"), (4, part + b"....")]
    members += [(4, part + b"...."), (4, b"\n"), (5, b"d")]

    def told(literals: Literals) -> list[int]:
        return [line for line, raw in whole_lines(members, filter_for(literals)) if raw is None]

    assert told(Literals(("needle",))) == [2]
    assert told(Literals(("other",))) == []
    assert told(Literals()) == [2, 4]
    assert [(line, raw) for line, raw in whole_lines(members, None) if raw] == [members[0], members[3], members[7]]
    assert list(lines_with(None, b"a\n\nb", 7)) == [(7, b"a\n"), (8, b"\n"), (9, b"b")]


@pytest.mark.spec("FIND-8")
@pytest.mark.parametrize(
    ("asked", "line"),
    [('say "hello"', 0), ("one\ntwo", 0), ("café", 1), ("caf", 1), ("back\\slash", 2), ("plain abc text", 3)],
)
def test_escapes_are_decoded_before_matching(shelf: Shelf, asked: str, line: int) -> None:
    raw = (
        rb'{"type":"user","uuid":"u","message":{"role":"user","content":"say \"hello\" to one\ntwo"}}' b"\n"
        rb'{"type":"user","uuid":"u","message":{"role":"user","content":"caf\u00e9"}}' b"\n"
        rb'{"type":"user","uuid":"u","message":{"role":"user","content":"back\\slash"}}' b"\n"
        rb'{"type":"user","uuid":"u","message":{"role":"user","content":"plain \u0061\u0062\u0063 text"}}' b"\n"
    )  # fmt: skip
    shelf.upload("s", raw)

    assert [hit.line for hit in shelf.sessions(asked, "literal").hits] == [line]


@pytest.mark.spec("FIND-8")
@pytest.mark.parametrize("asked", ["sessionId", "role", "2026-05", "\\n", "toolUseResult"])
def test_raw_json_is_not_searched(shelf: Shelf, asked: str) -> None:
    shelf.say("s", ("user", "hello\nthere"))

    assert shelf.sessions(asked, "literal").hits == []


@pytest.mark.spec("FIND-8")
def test_newest_sessions_come_first_and_roles_and_times_choose_turns(shelf: Shelf) -> None:
    shelf.say("old", ("user", "needle"), ("tool", "needle"), at="2026-01-01T00:00:00.000Z")
    shelf.say("new", ("assistant", "needle"), at="2026-02-01T00:00:00.000Z")

    assert [(hit.key, hit.role) for hit in shelf.sessions("needle", "literal").hits] == [
        ("new", "assistant"), ("old", "user"), ("old", "tool"),
    ]  # fmt: skip
    assert [hit.role for hit in shelf.sessions("needle", "literal", role="tool").hits] == ["tool"]
    assert keys(shelf.sessions("needle", "literal", since="2026-01-15")) == ["new"]
    assert keys(shelf.sessions("needle", "literal", until="2026-01-15")) == ["old", "old"]
    assert keys(shelf.sessions("needle", "regex", since="2027", until="2028")) == []
    assert keys(shelf.sessions("needle", "ranked", until="2026-01-15", role="user")) == ["old"]


@pytest.mark.spec("FIND-8")
def test_pages_go_on_while_a_session_grows(shelf: Shelf) -> None:
    shelf.say("b", *[("user", f"needle {n}") for n in range(3)])
    shelf.say("a", *[("user", f"needle {n}") for n in range(3)])
    first = shelf.sessions("needle", "literal", limit=2)
    shelf.say("b", *[("user", f"needle {n}") for n in range(5)])
    shelf.say("newer", ("user", "needle"), at="2026-09-01T00:00:00.000Z")

    rest = all_pages(
        lambda limit, after: shelf.sessions("needle", "literal", limit=limit, after=after or first.next), 2
    )

    seen = [(hit.key, hit.line) for hit in (*first.hits, *rest)]
    assert seen == [*(("b", n) for n in range(5)), *(("a", n) for n in range(3))]


@pytest.mark.spec("FIND-10")
def test_what_a_search_ran_out_of_time_for_is_on_the_next_page(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = "x" * 100_000
    for number in range(4):
        shelf.say(f"s{number}", *[("user", f"needle {filler}")] * 9)
    monkeypatch.setattr("federated_memory.search.hit.Budget.is_spent", lambda _: True)

    pages, after = [], None
    for _ in range(50):
        found = shelf.sessions("needle", "literal", after=after, limit=100)
        pages += [(hit.key, hit.line) for hit in found.hits]
        assert found.is_complete is (found.next is None), found.note
        if not (after := found.next):
            break

    assert pages == [(f"s{number}", line) for number in (3, 2, 1, 0) for line in range(9)]


@pytest.mark.spec("FIND-10")
def test_a_search_that_is_cancelled_says_so(shelf: Shelf) -> None:
    shelf.say("s", *[("user", "needle " + "x" * 100_000)] * 9)
    cancelled = threading.Event()
    cancelled.set()

    for mode in ("literal", "ranked"):
        found = shelf.sessions("needle", cast(Mode, mode), cancelled=cancelled)
        assert not found.is_complete
        assert "cancelled" in found.note


@pytest.mark.spec("FIND-10")
def test_a_damaged_session_is_told_and_does_not_hide_the_others(shelf: Shelf) -> None:
    shelf.say("good", ("user", "needle"))
    shelf.say("bad", ("user", "needle too"))
    (file,) = shelf.folder.glob("sessions/*/*/bad.jsonl.gz")
    data = bytearray(file.read_bytes())
    data[15:25] = b"\xff" * 10
    file.write_bytes(data)

    for mode in ("literal", "ranked"):
        found = shelf.sessions("needle", cast(Mode, mode))
        assert keys(found) == ["good"]
        assert not found.is_complete
        assert found.note == "sessions that could not be read to their end: 1"


@pytest.mark.spec("FIND-9")
def test_a_line_of_some_megabytes_is_searched_and_a_larger_one_told(shelf: Shelf) -> None:
    big = claude("user", "x " * 1_900_000 + "needle")
    too_big = claude("user", "y " * 5_000_000 + "needle")
    image = claude("user", "z" * 10_000_000)
    shelf.upload("s", jsonl([claude("user", "needle"), big, too_big, image, claude("user", "needle")]))

    found = shelf.sessions("needle", "literal")

    assert [hit.line for hit in found.hits] == [0, 1, 4]
    assert found.note == "lines of over 4 MiB, which were passed over: 1"
