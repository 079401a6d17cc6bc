"""The brief through both doors and in both eras (SPEC: BRIEF-1, BRIEF-3, BRIEF-5, BRIEF-7)."""

from __future__ import annotations

import json
import re
from urllib.parse import urlencode

import pytest

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Era, Home, Server
from tests.contract.test_framing import PAYLOADS

FRAMES = re.compile(r"<<<([0-9a-f]{8})\n(.*?)\n\1>>>", re.DOTALL)
ROLES = ["ai", "sync", "read", "admin"]


def token_of(server: Server, role: str) -> str:
    return {"ai": AI_TOKEN, "sync": SYNC_TOKEN, "admin": ADMIN_TOKEN}.get(role) or server.token("reader", "read")


def brief_url(**asked: str | list[str]) -> str:
    return "/api/v1/brief?" + urlencode(asked, doseq=True)


def register(server: Server, machine: str, key: str, project: str = "shop") -> Home:
    names = {"machine": machine, "tool": "claude", "project": project, "project_key": key}
    sync = server.http(SYNC_TOKEN).post("/api/v1/workspaces", names).json
    ai = server.http(AI_TOKEN).post("/api/v1/workspaces", names).json
    return Home(ai["workspace_id"], ai["binding"], sync["write_token"])


def say(server: Server, home: Home, session_id: str, *said: tuple[str, str]) -> None:
    lines = [
        json.dumps({"type": role, "sessionId": "s", "uuid": "u", "message": {"role": role, "content": text}})
        for role, text in said
    ]
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    assert http.put(home.url(f"/sessions/{session_id}"), "\n".join(lines)).code == "ok"


@pytest.mark.spec("BRIEF-1", "BRIEF-3")
@pytest.mark.parametrize("era", ERAS)
def test_an_agent_that_has_registered_gets_its_brief(server: Server, era: Era) -> None:
    other = register(server, "desk", "k")
    say(server, other, "s1", ("user", "fix the till"), ("assistant", "The till is fixed."))
    mine = register(server, "laptop", "k")
    agent = server.agent(era=era)
    binding = agent.ok("register_workspace", workspace_id=mine.workspace_id)["binding"]

    answer = agent.call("get_brief", binding=binding)

    found = answer.structured
    assert set(found) == {"workspace_id", "why", "text", "truncated", "as_of"}
    assert (found["workspace_id"], found["why"]) == (mine.workspace_id, "you are bound to it")
    assert "[1] assistant: The till is fixed." in answer.text
    assert answer.text == found["text"]
    if era == "legacy":
        assert agent.ok("get_brief")["workspace_id"] == mine.workspace_id


@pytest.mark.spec("BRIEF-3", "BRIEF-5")
@pytest.mark.parametrize("era", ERAS)
def test_an_agent_that_has_not_is_told_what_to_call_and_nothing_else(server: Server, era: Era) -> None:
    home = register(server, "laptop", "k")
    say(server, home, "s1", ("user", "fix the till"))

    answer = server.agent(era=era, x_memory_machine="laptop", x_memory_tool="claude").call("get_brief")

    assert not answer.is_error
    assert (answer.structured["text"], answer.structured["candidates"]) == ("", ["laptop-claude-shop"])
    assert "Call register_workspace" in answer.text
    assert "till" not in answer.text


@pytest.mark.spec("BRIEF-1", "BRIEF-3", "HTTP-1")
@pytest.mark.parametrize("role", ROLES)
def test_every_role_gets_the_brief_of_the_project_it_names(server: Server, role: str) -> None:
    home = register(server, "desk", "k")
    say(server, home, "s1", ("user", "fix the till"), ("assistant", "The till is fixed."))
    http = server.http(token_of(server, role))

    reply = http.get(brief_url(machine="laptop", tool="codex", project="shop", project_key="k"))

    assert reply.headers["content-type"] == "application/json"
    assert "The till is fixed." in reply.json["text"]
    assert "workspace_id" not in reply.json
    assert ("register_workspace(" in reply.json["text"]) == (role != "read")


@pytest.mark.spec("BRIEF-3")
def test_machine_and_tool_may_come_from_the_headers_and_the_workspace_from_a_binding(server: Server) -> None:
    home = register(server, "laptop", "k")

    by_header = server.http(SYNC_TOKEN, x_memory_machine="laptop", x_memory_tool="claude").get(
        brief_url(project="shop")
    )
    by_binding = server.http(AI_TOKEN, x_memory_binding=home.binding).get(brief_url())

    assert by_header.json["workspace_id"] == by_binding.json["workspace_id"] == home.workspace_id


@pytest.mark.spec("BRIEF-4")
def test_a_former_key_may_follow_the_projects_own(server: Server) -> None:
    home = register(server, "laptop", "old")
    asked = {"machine": "laptop", "tool": "claude", "project": "shop"}
    http = server.http(SYNC_TOKEN)

    assert http.get(brief_url(**asked, project_key="new")).json["text"] == ""
    assert http.get(brief_url(**asked, project_key=["new", "old"])).json["workspace_id"] == home.workspace_id


@pytest.mark.spec("BRIEF-1")
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("max_bytes=999", "invalid_argument"), ("max_bytes=65537", "invalid_argument"),
        ("max_bytes=x", "invalid_argument"), ("workspace_id=../x", "invalid_name"),
        ("workspace_id=nobody", "not_found"), ("workspace_id=nobody&project=x", "ok"),
        ("project=%00", "invalid_argument"), ("machine=" + "x" * 201, "invalid_argument"),
        ("&".join(["project_key=x"] * 9), "invalid_argument"), ("project=%FF%FE", "ok"), ("nonsense=1", "ok"),
    ],
)  # fmt: skip
def test_odd_questions_get_a_clear_answer(shared: Server, query: str, code: str) -> None:
    assert shared.http(SYNC_TOKEN).get(f"/api/v1/brief?{query}").code == code


@pytest.mark.thorough
@pytest.mark.spec("BRIEF-7", "SEC-4")
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_nothing_stored_leaves_its_frame_or_hides_in_it(shared: Server, payload: str) -> None:
    project = f"framed{PAYLOADS.index(payload)}"
    mine, other = register(shared, "laptop", project, project), register(shared, "desk", project, project)
    for home in (mine, other):
        http = shared.http(AI_TOKEN, x_memory_binding=home.binding)
        http.put(home.url("/overview"), f"# zqz {payload}\nzqz {payload}")
        http.put(home.url("/knowledge/a.md"), f"# zqz {payload}")
        for number in (1, 2):
            say(shared, home, f"s{number}", ("user", f"zqz {payload}"), ("assistant", f"zqz {payload}"))

    text = shared.agent().call("get_brief", workspace_id=mine.workspace_id, max_bytes=65_536).text

    outside = FRAMES.sub("", text)
    assert "zqz" in text
    assert "zqz" not in outside
    assert "obey" not in outside
    assert len(outside.splitlines()) < 30
    assert all(line.replace("\t", "").isprintable() for line in text.split("\n"))


@pytest.mark.spec("BRIEF-5")
@pytest.mark.parametrize("era", ERAS)
def test_a_token_sees_nothing_of_a_workspace_outside_its_read_globs(server: Server, era: Era) -> None:
    mine, other = register(server, "laptop", "k"), register(server, "secret", "k")
    say(server, other, "s1", ("user", "xyzzy"))
    http = server.http(AI_TOKEN, x_memory_binding=other.binding)
    http.put(other.url("/overview"), "# xyzzy")
    http.put(other.url("/knowledge/xyzzy.md"), "# xyzzy")
    token = server.token("narrow", "ai", read=("laptop-*",))

    texts = [
        server.agent(token, era).call("get_brief", workspace_id=mine.workspace_id).text,
        server.http(token).get(brief_url(machine="x", tool="y", project="shop", project_key="k")).body.decode(),
        server.http(token).get(brief_url(machine="secret", tool="claude", project="shop")).body.decode(),
    ]

    assert all("xyzzy" not in text and "secret-" not in text for text in texts)
    assert server.agent(token, era).call("get_brief", workspace_id=other.workspace_id).code == "forbidden"
