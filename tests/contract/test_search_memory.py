"""`search_memory`: one list over everything, its filters, its budget and its pages (SPEC: FIND-13)."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from tests.contract.harness import AI_TOKEN, ERAS, Agent, Era, Home, Server


def line(role: str, text: str, at: str = "2026-05-04T03:02:01.000Z") -> str:
    return json.dumps({"type": role, "sessionId": "s", "timestamp": at, "message": {"role": role, "content": text}})


def put(server: Server, home: Home, session_id: str, *lines: str) -> None:
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    assert http.put(home.url(f"/sessions/{session_id}"), "\n".join(lines).encode()).status == 201


@pytest.fixture
def agent(server: Server) -> Agent:
    """Of two machines, each with a document and a session about zeppelins."""
    agent = server.agent()
    for machine in ("box", "tower"):
        home = server.settle(machine=machine)
        agent.ok(
            "write_knowledge", path="sky/notes.md", text=f"# Sky\n\nzeppelins over {machine}", binding=home.binding
        )
        agent.ok("write_overview", text=f"This is about airships of {machine}", binding=home.binding)
        put(server, home, "s", line("user", f"where do zeppelins of {machine} land?", "2026-05-04T03:02:01.000Z"),
            line("assistant", f"In {machine}harbour, zeppelins land at dawn"))  # fmt: skip
    return agent


def found(agent: Agent, query: str, **arguments: Any) -> dict[str, Any]:
    return dict(agent.call("search_memory", query=query, **arguments).structured)


def places(answer: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(hit["kind"], hit["machine"], hit.get("path") or hit.get("session_id", "")) for hit in answer["hits"]}


EVERYTHING = {(kind, machine, key) for machine in ("box", "tower")
              for kind, key in (("knowledge", "sky/notes.md"), ("session", "s"))}  # fmt: skip


@pytest.mark.spec("FIND-13")
@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("era", ERAS)
def test_one_list_says_where_each_hit_is_from_and_how_to_read_on(server: Server, era: Era) -> None:
    other = server.agent(era=era)

    answer = found(other, "zeppelin")

    assert places(answer) == EVERYTHING
    for hit in answer["hits"]:
        assert hit["tool"] == "claude"
        assert hit["project"]
        assert "«zeppelins»" in hit["snippet"]
        where = {"workspace_id": hit["workspace_id"], "offset": hit["offset"]}
        if hit["kind"] == "session":
            read = other.call(hit["read_with"], session_id=hit["session_id"], **where)
        else:
            read = other.call(hit["read_with"], path=hit["path"], **where)
        assert "zeppelins" in read.text


@pytest.mark.spec("FIND-13")
def test_filters(agent: Agent) -> None:
    ids = {hit["machine"]: hit["workspace_id"] for hit in found(agent, "zeppelin")["hits"]}
    of_box = {place for place in EVERYTHING if place[1] == "box"}
    sessions = {place for place in EVERYTHING if place[0] == "session"}

    assert places(found(agent, "zeppelin", machine="BOX")) == of_box
    assert places(found(agent, "zeppelin", workspace_id=ids["box"])) == of_box
    assert places(found(agent, "zeppelin", workspace_id="box-*")) == of_box
    assert places(found(agent, "zeppelin", kinds=["session"])) == sessions
    assert places(found(agent, "zeppelin", kinds=["knowledge"])) == EVERYTHING - sessions
    assert places(found(agent, "zeppelin", role="user")) == sessions
    assert places(found(agent, "zeppelin", session_id="s")) == sessions
    assert places(found(agent, "zeppelin", until="2026-06-01")) == sessions
    assert places(found(agent, "zeppelin", since="2026-06-01")) == EVERYTHING - sessions
    assert places(found(agent, "zeppelin", tool="codex")) == set()
    assert places(found(agent, "zeppelin", project="no such")) == set()
    assert places(found(agent, "zeppelin", kinds=["memory"])) == set()
    assert {hit["kind"] for hit in found(agent, "airships")["hits"]} == {"overview"}


@pytest.mark.spec("FIND-13", "FIND-2", "FIND-3")
@pytest.mark.parametrize(("mode", "query"), [("literal", "zeppelins over"), ("regex", r"zeppelins? o\w+r")])
def test_exact_modes_go_over_everything_too(agent: Agent, mode: str, query: str) -> None:
    answer = found(agent, query, mode=mode)

    assert places(answer) == {place for place in EVERYTHING if place[0] == "knowledge"}
    assert answer["complete"]


@pytest.mark.spec("FIND-13", "PAGE-1")
@pytest.mark.parametrize("max_bytes", [1_000, 2_000, 8_000, 65_536])
def test_more_hits_with_shorter_snippets_rather_than_fewer(server: Server, max_bytes: int) -> None:
    home, agent = server.settle(), server.agent()
    for number in range(30):
        text = f"zeppelin {number} " + f"and what follows it at length {number} " * 12
        agent.ok("write_knowledge", path=f"n{number:02}.md", text=text, binding=home.binding)

    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(40):
        reply = agent.call("search_memory", query="zeppelin", max_bytes=max_bytes, limit=20, **cursor)
        assert len(orjson.dumps(reply.structured)) <= max_bytes
        assert len(reply.text.encode()) <= max_bytes
        seen += [hit["path"] for hit in reply.structured["hits"]]
        if reply.structured.get("next_cursor") is None:
            break
        cursor = {"cursor": reply.structured["next_cursor"]}

    assert sorted(seen) == [f"n{number:02}.md" for number in range(30)]


@pytest.mark.spec("FIND-13")
def test_a_passage_that_stands_in_many_places_is_shown_once(server: Server) -> None:
    home, agent = server.settle(), server.agent()
    for number in range(5):
        agent.ok("write_knowledge", path=f"copy{number}.md", text="the same zeppelin everywhere", binding=home.binding)

    assert len(found(agent, "zeppelin")["hits"]) == 1
