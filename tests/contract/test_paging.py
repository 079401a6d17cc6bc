"""Results within their byte cap, and pages that add up to the whole (SPEC: PAGE-1 to PAGE-3)."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from federated_memory.transcripts import read_turns
from federated_memory.transcripts.reading import detect
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, Answer, Home, Server, Wire

FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ODD = [
    "",
    "\x00\x1b[31m\x7f",
    "é" * 700,
    "日本語" * 400,
    "🎉" * 300,
    '"\\' * 500,
    "a" * 3_000,
    "\u2028\u202e",
    "\t",
    "e\u0301",
]
LINES = st.lists(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=60)
    | st.sampled_from(ODD),
    max_size=12,
)
CAPS = st.integers(1_000, 4_000)


@pytest.fixture(scope="module")
def home(shared: Server) -> Home:
    return shared.settle()


@pytest.fixture(scope="module")
def wire(shared: Server) -> Wire:
    return shared.wire(ADMIN_TOKEN)


def call(wire: Wire, tool: str, **arguments: Any) -> Answer:
    """A call that must not fail, and whose forms must both be within the cap."""
    result = wire.call(tool, arguments).json["result"]
    answer = Answer(result["structuredContent"], result["content"][0]["text"], result["isError"])
    assert not answer.is_error, answer.text
    cap = arguments.get("max_bytes", 8_000)
    rows = next((value for value in answer.structured.values() if isinstance(value, list)), [])
    if len(rows) != 1 or tool in ("read_session", "read_knowledge"):
        assert len(orjson.dumps(answer.structured)) <= cap
        assert len(answer.text.encode()) <= cap
    return answer


def follow(wire: Wire, tool: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Every page of a text or transcript."""
    position: dict[str, Any] = {}
    for _ in range(2_000):
        found = call(wire, tool, **arguments, **position).structured
        yield found
        if "next_offset" not in found:
            return
        before = (position.get("offset", 0), position.get("byte_offset", 0))
        position = {"offset": found["next_offset"], "byte_offset": found.get("next_byte_offset", 0)}
        assert (position["offset"], position["byte_offset"]) > before, "a page that does not go on"
    raise AssertionError("the pages do not end")


# -- documents


@pytest.mark.spec("PAGE-1", "PAGE-3", "DOC-1")
@given(lines=LINES, end=st.sampled_from(["", "\n", "\n\n"]), cap=CAPS, limit=st.integers(1, 20))
@example(lines=["x" * 30_000, "y"], end="", cap=1_000, limit=20)
@example(lines=["🎉" * 5_000], end="\n", cap=1_000, limit=1)
@example(lines=["\x01" * 2_000], end="", cap=1_001, limit=9)
@FEW
def test_the_pages_of_a_document_add_up_to_it(
    shared: Server, home: Home, wire: Wire, lines: list[str], end: str, cap: int, limit: int
) -> None:
    text = "\n".join(lines) + end
    binding = shared.binding_for(ADMIN_TOKEN, home.workspace_id)
    call(wire, "write_knowledge", path="Über/lange Namen.md", text=text, binding=binding)
    where = {"workspace_id": home.workspace_id, "path": "Über/lange Namen.md", "max_bytes": cap}

    pages = list(follow(wire, "read_knowledge", **where))
    by_lines = list(follow(wire, "read_knowledge", **where, limit=limit))

    for found in (pages, by_lines):
        assert "".join(page["text"] for page in found) == text
        for page in found:
            is_whole = len(found) == 1
            assert page["truncated"] is not is_whole
            assert ("etag" in page) is is_whole
            assert page["lines"] == text.count("\n") + (not text.endswith("\n") and text != "")
    if len(pages) == 1:
        assert pages[0]["etag"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.spec("PAGE-1", "PAGE-3")
@pytest.mark.parametrize("cap", [1_000, 1_200, 65_536])
def test_a_path_of_the_longest_kind_leaves_room_for_text(shared: Server, wire: Wire, cap: int) -> None:
    home = shared.settle(f"long-{cap}")
    path = "/".join(["é" * 59, "日" * 39, "y" * 37, "x" * 117]) + ".md"
    text = "🎉\x01\n" * 50
    call(wire, "write_knowledge", path=path, text=text, binding=shared.binding_for(ADMIN_TOKEN, home.workspace_id))

    pages = list(follow(wire, "read_knowledge", workspace_id=home.workspace_id, path=path, max_bytes=cap))

    assert "".join(page["text"] for page in pages) == text


@pytest.mark.spec("PAGE-3")
@pytest.mark.parametrize(("offset", "whole"), [(0, True), (1, False), (2, False), (99, False)])
def test_a_read_from_the_middle_has_no_etag_even_when_it_reaches_the_end(
    server: Server, offset: int, whole: bool
) -> None:
    home, agent = server.settle(), server.agent()
    agent.ok("write_knowledge", path="a.md", text="one\ntwo\n", binding=home.binding)

    found = agent.ok("read_knowledge", path="a.md", workspace_id=home.workspace_id, offset=offset)

    assert ("etag" in found, found["truncated"], "next_offset" in found) == (whole, not whole, False)


@pytest.mark.spec("PAGE-3")
def test_an_old_version_of_a_document_is_paged_as_the_current_one(server: Server) -> None:
    home, wire = server.settle(), server.wire()
    for text in ("old\n" * 900, "new"):
        call(wire, "write_knowledge", path="a.md", text=text, binding=home.binding)

    pages = follow(wire, "read_knowledge", workspace_id=home.workspace_id, path="a.md", version=1, max_bytes=1_500)

    assert "".join(page["text"] for page in pages) == "old\n" * 900


@pytest.mark.spec("PAGE-1", "PAGE-3", "TOOL-1")
@given(lines=LINES, cap=CAPS)
@FEW
def test_an_overview_with_the_readme_stays_within_the_cap(
    shared: Server, home: Home, wire: Wire, lines: list[str], cap: int
) -> None:
    text = "\n".join(lines)
    binding = shared.binding_for(ADMIN_TOKEN, home.workspace_id)
    call(wire, "write_overview", text=text, binding=binding)

    found = call(wire, "get_overview", workspace_id=home.workspace_id, max_bytes=cap).structured

    overview = found["overview"]
    assert text.startswith(overview["text"])
    assert ("etag" in overview) is not overview["truncated"]
    assert overview["truncated"] or overview["text"] == text


@pytest.mark.spec("TOOL-1")
def test_an_overview_that_fits_comes_whole_with_its_etag(server: Server) -> None:
    home, agent = server.settle(), server.agent()
    written = agent.ok("write_overview", text="# Demo\n" + "what stands where\n" * 300, binding=home.binding)

    found = agent.ok("get_overview", workspace_id=home.workspace_id)["overview"]

    assert found.get("etag") == written["etag"]


@pytest.mark.spec("PAGE-1")
@given(old=LINES, new=LINES, cap=CAPS)
@FEW
def test_a_diff_stays_within_the_cap(
    shared: Server, home: Home, wire: Wire, old: list[str], new: list[str], cap: int
) -> None:
    binding = shared.binding_for(ADMIN_TOKEN, home.workspace_id)
    first = call(wire, "write_knowledge", path="d.md", text="\n".join(old), binding=binding).structured
    second = call(wire, "write_knowledge", path="d.md", text="\n".join(new), binding=binding).structured
    shared.services.core.journal.flush()

    found = call(
        wire, "knowledge_history", workspace_id=home.workspace_id, path="d.md",
        from_version=first["version"], to_version=second["version"], max_bytes=cap,
    ).structured  # fmt: skip

    assert isinstance(found["diff"], str)


@pytest.mark.spec("VER-1", "DOC-5")
def test_an_empty_version_can_be_read_as_soon_as_it_is_acknowledged(server: Server) -> None:
    home, agent = server.settle(), server.agent()
    agent.ok("write_knowledge", path="a.md", text="", binding=home.binding)

    answer = agent.call("read_knowledge", path="a.md", workspace_id=home.workspace_id, version=1)

    assert (answer.code, answer.structured.get("text")) == ("ok", "")


# -- transcripts


NUMBERS = itertools.count()


def put(shared: Server, home: Home, data: bytes, session_id: str = "") -> str:
    """A new session with this transcript."""
    session_id = session_id or f"s{next(NUMBERS)}"
    assert shared.http(ADMIN_TOKEN).put(home.url(f"/sessions/{session_id}"), data).code == "ok"
    return session_id


@pytest.mark.spec("PAGE-1", "PAGE-3")
@given(lines=LINES, end=st.sampled_from(["", "\n"]), cap=CAPS, limit=st.integers(1, 20))
@example(lines=["x" * 30_000, "", "y"], end="", cap=1_000, limit=20)
@FEW
def test_the_raw_pages_of_a_transcript_add_up_to_it(
    shared: Server, home: Home, wire: Wire, lines: list[str], end: str, cap: int, limit: int
) -> None:
    text = "\n".join(lines) + end
    session_id = put(shared, home, text.encode())
    where = {"workspace_id": home.workspace_id, "session_id": session_id, "format": "raw", "max_bytes": cap}
    expected = text.split("\n")[: -1 if text.endswith("\n") or not text else None]

    for extra in ({}, {"limit": limit}):
        found: dict[int, str] = {}
        for page in follow(wire, "read_session", **where, **extra):
            for message in page["messages"]:
                found[message["line"]] = found.get(message["line"], "") + message["text"]
        assert [found[number] for number in sorted(found)] == expected


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(ODD)
BLOCKS = st.one_of(
    TEXTS.map(lambda text: {"type": "text", "text": text}),
    TEXTS.map(lambda text: {"type": "thinking", "thinking": text}),
    TEXTS.map(lambda text: {"type": "tool_use", "name": "Bash", "input": {"command": text}}),
    TEXTS.map(lambda text: {"type": "tool_result", "content": [{"type": "text", "text": text}]}),
)
RECORDS = st.one_of(
    st.tuples(st.sampled_from(["user", "assistant"]), st.lists(BLOCKS, max_size=4) | TEXTS).map(
        lambda pair: {
            "type": pair[0], "sessionId": "s", "uuid": "u", "timestamp": "2026-11-20T08:00:00Z",
            "message": {"role": pair[0], "content": pair[1]},
        }
    ),
    st.just({"type": "progress", "uuid": "u"}),
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.spec("PAGE-1", "PAGE-3")
@given(records=st.lists(RECORDS, max_size=8), cap=CAPS, limit=st.integers(1, 5))
@example(
    records=[{"type": "user", "sessionId": "s", "uuid": "u", "message": {"role": "user", "content": '"\\' * 500}}],
    cap=1_000,
    limit=1,
)
@FEW
def test_the_messages_of_a_transcript_add_up_to_what_its_reader_finds(
    shared: Server, home: Home, wire: Wire, records: list[dict[str, Any]], cap: int, limit: int
) -> None:
    raw = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    session_id = put(shared, home, b"\n".join(raw) + b"\n")
    where = {"workspace_id": home.workspace_id, "session_id": session_id, "max_bytes": cap}
    turns = [turn for number, line in enumerate(raw) for turn in read_turns(detect(raw), line, number)]
    expected = {line: "".join(t.text for t in group) for line, group in itertools.groupby(turns, lambda t: t.line)}

    for extra in ({}, {"limit": limit}):
        found: dict[int, str] = {}
        roles: dict[int, list[str]] = {}
        for page in follow(wire, "read_session", **where, **extra):
            assert page["lines"] == len(raw) or not raw
            for message in page["messages"]:
                found[message["line"]] = found.get(message["line"], "") + message["text"]
                roles.setdefault(message["line"], []).append(message["role"])
        assert found == expected
        for line, group in itertools.groupby(turns, lambda t: t.line):
            wanted = [role for role, _ in itertools.groupby(t.role for t in group)]
            assert [role for role, _ in itertools.groupby(roles[line])] == wanted


@pytest.mark.spec("PAGE-1")
def test_a_transcript_with_a_long_title_stays_within_the_least_cap(server: Server) -> None:
    home, wire = server.settle(), server.wire(ADMIN_TOKEN)
    record = {"type": "user", "sessionId": "s", "uuid": "u", "message": {"role": "user", "content": "🎉" * 600}}
    put(server, home, json.dumps(record).encode(), "x" * 64)

    list(follow(wire, "read_session", workspace_id=home.workspace_id, session_id="x" * 64, max_bytes=1_000))


@pytest.mark.spec("PAGE-3")
@pytest.mark.parametrize(
    ("offset", "lines"), [(-1, [9]), (-3, [7, 8, 9]), (-99, list(range(10))), (8, [8, 9]), (10, []), (99, [])]
)
def test_offsets_count_lines_from_0_and_negative_ones_from_the_end(
    server: Server, offset: int, lines: list[int]
) -> None:
    home = server.settle()
    put(server, home, b"".join(b'{"role":"user","text":"line %d of them"}\n' % n for n in range(10)), "s")

    found = server.agent().ok("read_session", workspace_id=home.workspace_id, session_id="s", offset=offset)

    assert [message["line"] for message in found["messages"]] == lines
    assert found["truncated"] == (len(lines) < 10)


@pytest.mark.spec("PAGE-3", "ERR-2")
@pytest.mark.parametrize("byte_offset", [1, 2, 3, 50, 10**9, 2**63])
@pytest.mark.parametrize(
    ("form", "offset"),
    [
        ("raw", 0), ("raw", 1), ("raw", 2), ("raw", 3), ("raw", 4),
        ("messages", 0), ("messages", 1), ("messages", 2), ("messages", 3), ("messages", 4),
    ],
)  # fmt: skip
def test_a_byte_offset_that_no_page_gave_is_answered_cleanly(
    shared: Server, wire: Wire, home: Home, form: str, offset: int, byte_offset: int
) -> None:
    put(shared, home, "é\n\n{}\nnot json\n🎉".encode(), "odd")
    given = {"workspace_id": home.workspace_id, "session_id": "odd", "format": form}

    code = wire.code("read_session", {**given, "offset": offset, "byte_offset": byte_offset})

    assert code in ("ok", "invalid_argument")


# -- lists


def rows_of(wire: Wire, tool: str, name: str, **arguments: Any) -> list[dict[str, Any]]:
    """The rows of every page."""
    rows, cursor = [], None
    for _ in range(200):
        found = call(wire, tool, **arguments, **({"cursor": cursor} if cursor else {})).structured
        assert found[name] or cursor is None
        assert len(found[name]) <= arguments.get("limit", 1_000)
        rows += found[name]
        cursor = found["next_cursor"]
        if cursor is None:
            return rows
    raise AssertionError("the list does not end")


@pytest.fixture(scope="module")
def full(portal: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """12 workspaces; in the first, 12 documents of odd titles, 12 sessions of the same time, 12 versions."""
    with Server(portal, tmp_path_factory.mktemp("full") / "memory") as server:
        homes = [server.settle(f"p{number:02}") for number in range(12)]
        http = server.http(ADMIN_TOKEN)
        for number in range(12):
            title = ODD[number % len(ODD)].replace("\n", " ")[:300]
            http.put(homes[0].url(f"/knowledge/d{number:02}.md"), f"# needle {title}")
            http.put(homes[0].url("/knowledge/much.md"), f"version {number}")
            http.put(homes[number].url("/overview"), f"# needle {title}\n{title}")
            record = {"role": "user", "text": f"needle {number} {title}", "timestamp": "2026-11-20T08:00:00Z"}
            for place in (homes[0], homes[1]):
                http.put(place.url(f"/sessions/s{number:02}"), json.dumps(record).encode() + b"\n")
        yield server
    assert not server.errors


FIRST = "box-claude-p00"
LISTS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "list_workspaces": ("list_workspaces", "workspaces", {}, 12),
    "get_overview": ("get_overview", "workspaces", {}, 12),
    "list_knowledge": ("list_knowledge", "documents", {"workspace_id": FIRST}, 13),
    "knowledge_history": ("knowledge_history", "versions", {"workspace_id": FIRST, "path": "much.md"}, 12),
    "list_sessions": ("list_sessions", "sessions", {"workspace_id": FIRST}, 12),
    "list_sessions_all": ("list_sessions", "sessions", {}, 24),
    "search_knowledge literal": ("search_knowledge", "hits", {"query": "needle", "mode": "literal"}, 24),
    "search_knowledge regex": ("search_knowledge", "hits", {"query": "n.edle", "mode": "regex"}, 24),
    "search_knowledge ranked": ("search_knowledge", "hits", {"query": "needle"}, 24),
    "search_sessions literal": ("search_sessions", "hits", {"query": "needle", "mode": "literal"}, 24),
    "search_sessions regex": ("search_sessions", "hits", {"query": "n.edle", "mode": "regex"}, 24),
    "search_sessions ranked": ("search_sessions", "hits", {"query": "needle"}, 24),
}


@pytest.mark.spec("PAGE-1", "PAGE-2")
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("paging", [{"limit": 1}, {"limit": 5}, {"max_bytes": 1_000}, {"max_bytes": 3_000}])
def test_the_pages_of_a_list_add_up_to_it(full: Server, kind: str, paging: dict[str, int]) -> None:
    tool, name, arguments, count = LISTS[kind]
    wire = full.wire(AI_TOKEN)

    whole = rows_of(wire, tool, name, **arguments, max_bytes=65_536, limit=1_000)
    paged = rows_of(wire, tool, name, **arguments, **paging)

    assert len(whole) == count
    assert [key_of(row) for row in paged] == [key_of(row) for row in whole]


def key_of(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("workspace_id", "path", "session_id", "version", "offset"))


def order_of(tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """Lists of one order take each other's cursors: a place in it is a place in both."""
    return tool.replace("get_overview", "list_workspaces"), tool.startswith("search") and "mode" not in arguments


@pytest.mark.spec("PAGE-2")
@pytest.mark.parametrize("kind", LISTS)
def test_the_cursor_of_another_list_is_refused(full: Server, kind: str) -> None:
    tool, _, arguments, _ = LISTS[kind]
    wire = full.wire(AI_TOKEN)
    taken = {}
    for other, (their_tool, _, theirs, _) in LISTS.items():
        cursor = call(wire, their_tool, **theirs, limit=1).structured["next_cursor"]
        if order_of(tool, arguments) != order_of(their_tool, theirs):
            taken[other] = wire.code(tool, {**arguments, "cursor": cursor})

    assert {other: code for other, code in taken.items() if code != "invalid_argument"} == {}


@pytest.mark.spec("PAGE-2")
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(
    "cursor",
    [
        "!",
        "W10",
        "WzFd",
        "WyJhIl0",
        "W251bGxd",
        "WzFlNDAwXQ",
        "W1sxXV0",
        "WyJhIiwxLDJd",
        "e30",
        "é",
        "=",
        "a" * 4_000,
        "WyIiLCIiLCIiLCIiLCIiXQ",
        "WzAsMCwwXQ",
        "WzAuNSwgImEiLCAiYiIsIDFd",
        "WyJ4IiwgIngiLCAieCJd",
        "W3RydWVd",
        "Wy0xXQ",
    ],
)
def test_what_is_no_cursor_is_answered_cleanly(full: Server, kind: str, cursor: str) -> None:
    tool, _, arguments, _ = LISTS[kind]

    code = full.wire(AI_TOKEN).code(tool, {**arguments, "cursor": cursor})

    assert code in ("ok", "invalid_argument")


@pytest.mark.spec("PAGE-2")
def test_an_ended_list_has_a_null_cursor(full: Server) -> None:
    for tool, _, arguments, _ in LISTS.values():
        found = call(full.wire(), tool, **arguments, limit=1_000, max_bytes=65_536).structured
        assert "next_cursor" in found
        assert found["next_cursor"] is None
