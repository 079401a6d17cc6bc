"""Two agents and their workspaces: one shared token, or named ones; sessions, bindings, write tokens."""

from __future__ import annotations

import base64
import contextlib
import json
import string
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from federated_memory.auth.binding import Bindings
from tests.contract.harness import AI_TOKEN, ERAS, SYNC_TOKEN, Era, Server

HOME, AWAY = "box-claude-home", "box-claude-away"
NAMES = {"machine": "box", "tool": "claude", "project": "home"}


def overview_of(server: Server, workspace_id: str) -> str:
    reply = server.http(AI_TOKEN).get(f"/api/v1/workspaces/{workspace_id}/overview")
    return reply.body.decode() if reply.status == 200 else ""


@pytest.mark.spec("BIND-1", "BIND-3", "WS-1")
@pytest.mark.parametrize("era", ERAS)
def test_each_of_two_agents_reads_the_others_workspace_and_writes_only_its_own(server: Server, era: Era) -> None:
    one, two = server.agent(era=era), server.agent(era=era)
    mine, theirs = one.register("home"), two.register("away")
    one.ok("write_knowledge", path="a.md", text="of one", binding=mine)
    two.ok("write_knowledge", path="a.md", text="of two", binding=theirs)

    assert one.ok("read_knowledge", workspace_id=AWAY, path="a.md")["text"] == "of two"
    assert two.ok("read_knowledge", workspace_id=HOME, path="a.md")["text"] == "of one"


# -- protocol versions with sessions


@pytest.mark.spec("BIND-2")
def test_a_session_keeps_its_binding_and_reads_its_workspace_by_default(server: Server) -> None:
    agent = server.agent(era="legacy")
    agent.register("home")

    written = agent.ok("write_knowledge", path="a.md", text="no binding passed")

    assert written["workspace_id"] == HOME
    assert agent.ok("read_knowledge", path="a.md")["text"] == "no binding passed"
    assert agent.ok("list_knowledge")["workspace_id"] == HOME


@pytest.mark.spec("BIND-3")
def test_a_bound_session_does_not_become_anothers_by_registering(server: Server) -> None:
    agent = server.agent(era="legacy")
    agent.register("home")

    answer = agent.call("register_workspace", machine="box", tool="claude", project="away")

    assert answer.code == "conflict"
    assert HOME in answer.text
    assert agent.ok("write_overview", text="still home")["workspace_id"] == HOME
    assert AWAY not in server.files()
    assert [row["workspace_id"] for row in agent.ok("list_workspaces")["workspaces"]] == [HOME]


@pytest.mark.spec("BIND-3")
def test_a_bound_session_does_not_become_anothers_by_its_binding(server: Server) -> None:
    one, two = server.agent(era="legacy"), server.agent(era="legacy")
    one.register("home")
    theirs = two.register("away")

    codes = [
        one.call("write_overview", text="mine now", binding=theirs).code,
        one.call("write_knowledge", path="a.md", text="mine now", binding=theirs).code,
    ]

    assert codes == ["conflict"] * 2
    assert overview_of(server, AWAY) == ""


@pytest.mark.spec("BIND-3")
def test_registering_the_same_workspace_again_is_welcome_in_a_session(server: Server) -> None:
    agent = server.agent(era="legacy")

    assert agent.register("home") != agent.register("home")
    assert agent.ok("write_overview", text="x")["workspace_id"] == HOME


@pytest.mark.spec("BIND-2", "BIND-3")
def test_another_session_of_the_same_token_is_not_bound_by_the_first(server: Server) -> None:
    server.agent(era="legacy").register("home")

    assert server.agent(era="legacy").call("write_overview", text="x").code == "not_bound"


@pytest.mark.spec("BIND-2")
def test_a_session_of_another_token_is_as_if_it_did_not_exist(server: Server) -> None:
    wire = server.wire(era="legacy")
    assert wire.code("register_workspace", NAMES) == "ok"
    thief = server.wire(server.token("thief", "ai"), era="legacy")

    codes = [
        thief.code("write_overview", {"text": "x"}, mcp_session_id=session)
        for session in (wire.session, "0" * 32, wire.session[:-1] + "?")
    ]

    assert codes == ["404"] * 3
    assert overview_of(server, HOME) == ""


@pytest.mark.spec("BIND-2")
def test_an_id_that_a_client_chose_never_becomes_a_session(server: Server) -> None:
    wire = server.wire(era="legacy")
    offer = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}

    reply = wire.post("initialize", offer, mcp_session_id="chosen")

    assert reply.status == 404
    assert wire.code("list_workspaces", {}, mcp_session_id="chosen") == "404"


@pytest.mark.spec("BIND-2")
def test_an_ended_session_is_not_bound_any_more(server: Server) -> None:
    wire = server.wire(era="legacy")
    wire.code("register_workspace", NAMES)
    headers = [(b"authorization", f"Bearer {AI_TOKEN}".encode()), (b"mcp-session-id", wire.session.encode())]

    server.exchange("DELETE", b"/mcp", [*headers, (b"mcp-protocol-version", b"2025-11-25")])

    assert wire.code("write_overview", {"text": "x"}) == "404"


@pytest.mark.spec("BIND-3")
def test_of_many_registrations_at_once_a_session_keeps_exactly_one(server: Server) -> None:
    agent = server.agent(era="legacy")
    start = threading.Barrier(8)

    def register(number: int) -> tuple[str, str]:
        start.wait()
        answer = agent.call("register_workspace", machine="box", tool="claude", project=f"p{number}")
        return answer.code, answer.structured.get("workspace_id", "")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(register, range(8)))

    bound = [workspace_id for code, workspace_id in found if code == "ok"]
    assert sorted({code for code, _ in found}) == ["conflict", "ok"]
    assert bound == [agent.ok("write_overview", text="x")["workspace_id"]]


@pytest.mark.spec("BIND-3")
def test_two_registrations_that_meet_do_not_both_bind_a_session(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = server.agent(era="legacy")
    bindings, meeting = server.services.core.policy.bindings, threading.Barrier(2)
    issue = bindings.issue

    def issue_together(workspace_id: str, fingerprint: str) -> str:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=1)
        return issue(workspace_id, fingerprint)

    monkeypatch.setattr(bindings, "issue", issue_together)
    with ThreadPoolExecutor(2) as pool:
        codes = pool.map(
            lambda name: agent.call("register_workspace", machine="box", tool="claude", project=name).code, "ab"
        )

        assert sorted(codes) == ["conflict", "ok"]


@pytest.mark.spec("BIND-1", "BIND-5")
def test_a_session_loses_its_binding_when_that_expires(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = server.agent(era="legacy")
    agent.register("home")

    now = time.time()
    monkeypatch.setattr("federated_memory.auth.binding.time.time", lambda: now + 31 * 86_400)

    assert agent.call("write_overview", text="x").code == "not_bound"


# -- 2026-07-28: no sessions


@pytest.mark.spec("BIND-2")
def test_a_session_header_counts_for_nothing_without_sessions(server: Server) -> None:
    legacy = server.wire(era="legacy")
    assert legacy.code("register_workspace", NAMES) == "ok"
    modern = server.wire()

    codes = [
        modern.code("write_overview", {"text": "x"}, mcp_session_id=session)
        for session in (legacy.session, "chosen", "")
    ]
    modern.code("register_workspace", NAMES, mcp_session_id="chosen")
    codes.append(modern.code("write_overview", {"text": "x"}, mcp_session_id="chosen"))

    assert codes == ["not_bound"] * 4
    assert overview_of(server, HOME) == ""


@pytest.mark.spec("BIND-2")
def test_a_header_of_one_era_does_not_open_the_other(server: Server) -> None:
    """The era is the header's, whatever the body says of itself, and a session needs its era."""
    legacy = server.wire(era="legacy")
    legacy.code("register_workspace", NAMES)
    modern = server.wire()

    assert legacy.code("write_overview", {"text": "x"}, mcp_protocol_version="2026-07-28") in ("400", "not_bound")
    assert modern.code("write_overview", {"text": "x"}, mcp_protocol_version="2025-11-25") in ("400", "404")
    assert overview_of(server, HOME) == ""


@pytest.mark.spec("BIND-1", "BIND-3")
def test_without_sessions_the_binding_says_which_workspace(server: Server) -> None:
    agent = server.agent()
    home, away = agent.register("home"), agent.register("away")

    agent.ok("write_overview", text="of home", binding=home)
    agent.ok("write_overview", text="of away", binding=away)

    assert (overview_of(server, HOME), overview_of(server, AWAY)) == ("of home", "of away")
    assert agent.call("write_overview", text="of nobody").code == "not_bound"


# -- bindings themselves


@pytest.mark.spec("BIND-4")
@pytest.mark.parametrize("era", ERAS)
def test_a_write_without_a_binding_says_what_to_call(server: Server, era: Era) -> None:
    answer = server.agent(era=era).call("write_knowledge", path="a.md", text="x")

    assert answer.code == "not_bound"
    assert "register_workspace" in answer.text


@pytest.mark.spec("BIND-5")
@pytest.mark.parametrize("era", ERAS)
def test_the_binding_of_another_token_is_refused(server: Server, era: Era) -> None:
    binding = server.agent().register("home")
    thief = server.agent(server.token("thief", "ai"), era)

    assert thief.call("write_overview", text="x", binding=binding).code == "not_bound"
    assert server.http(server.token("other", "ai"), x_memory_binding=binding).put(
        f"/api/v1/workspaces/{HOME}/overview", b"x"
    ).code == "not_bound"  # fmt: skip
    assert overview_of(server, HOME) == ""


@pytest.mark.spec("BIND-5")
def test_a_revoked_and_remade_token_does_not_inherit_bindings(server: Server) -> None:
    binding = server.agent(server.token("laptop", "ai")).register("home")
    server.services.core.tokens.revoke("laptop")

    again = server.agent(server.token("laptop", "ai"))

    assert again.call("write_overview", text="x", binding=binding).code == "not_bound"


@pytest.mark.spec("BIND-1", "BIND-5")
def test_an_expired_binding_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = server.agent()
    binding = agent.register("home")
    now = time.time()

    monkeypatch.setattr("federated_memory.auth.binding.time.time", lambda: now + 29.9 * 86_400)
    before = agent.call("write_overview", text="x", binding=binding).code
    monkeypatch.setattr("federated_memory.auth.binding.time.time", lambda: now + 30.1 * 86_400)
    after = agent.call("write_overview", text="y", binding=binding).code

    assert (before, after) == ("ok", "not_bound")


@pytest.mark.spec("BIND-5", "SEC-2")
def test_every_change_of_one_character_makes_a_binding_void(server: Server) -> None:
    home = server.settle()
    policy, grant = server.services.core.policy, server.grant(AI_TOKEN)
    good = home.binding
    forged = {
        good[:position] + character + good[position + 1 :]
        for position in range(len(good))
        for character in string.ascii_letters + string.digits + "-_.=+/ "
    } - {good}
    forged |= {good[:position] + good[position + 1 :] for position in range(len(good))}
    forged |= {good + extra for extra in ("=", ".", "a", " ", "\n", ".a")} | {good[:end] for end in range(1, len(good))}

    accepted = [text for text in forged if _parses(policy.bindings, text, grant.fingerprint)]

    assert len(forged) > 10_000
    assert accepted == []


def _parses(bindings: Bindings, text: str, fingerprint: str) -> bool:
    from federated_memory.errors import NotBound

    try:
        bindings.parse(text, fingerprint)
    except NotBound:
        return False
    return True


@pytest.mark.spec("BIND-5")
@pytest.mark.parametrize(
    "forged",
    [
        "fmb1..", "fmb1", ".", "fmb1.W10.", "fmb2.a.b", "\x00", "fmb1.\u00e4.\u00e4", "fmb1.a.b.c", "a" * 2_000,
        "fmb1." + base64.urlsafe_b64encode(b'["box-claude-home","' + b"0" * 32 + b'","n",9999999999]').decode() + ".x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("era", ERAS)
def test_a_forged_binding_is_refused(shared: Server, forged: str, era: Era) -> None:
    assert shared.wire(era=era).code("write_overview", {"text": "x", "binding": forged}) == "not_bound"


@pytest.mark.spec("BIND-5")
def test_a_binding_signed_with_another_key_is_refused(server: Server) -> None:
    agent = server.agent()
    agent.register("home")
    forged = Bindings(b"another key", days=30).issue(HOME, server.grant(AI_TOKEN).fingerprint)

    assert agent.call("write_overview", text="x", binding=forged).code == "not_bound"


@pytest.mark.spec("BIND-1", "SEC-2")
def test_a_binding_holds_neither_the_token_nor_the_key(server: Server) -> None:
    binding = server.settle().binding
    body = binding.split(".")[1]
    inside = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()

    assert len(json.loads(inside)) == 4
    assert AI_TOKEN not in inside
    assert (server.root / "_meta" / "secret.key").read_text() not in binding


@pytest.mark.spec("BIND-1")
def test_bindings_outlive_a_restart(server: Server) -> None:
    home = server.settle()
    server.__exit__()

    with server:
        assert server.agent().ok("write_overview", text="x", binding=home.binding)["version"] == 1


# -- named tokens


@pytest.mark.spec("AUTH-6", "AUTH-7", "BIND-5")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("limit", ["write", "machine"])
def test_named_tokens_neither_write_nor_register_the_others_workspace(server: Server, limit: str, era: Era) -> None:
    limits = (
        [{"write": ("one-*",)}, {"write": ("two-*",)}] if limit == "write" else [{"machine": "one"}, {"machine": "two"}]
    )
    one, two = (server.agent(server.token(f"t{number}", "ai", **limit), era) for number, limit in enumerate(limits))
    mine = one.register("home", machine="one")
    one.ok("write_overview", text="of one", binding=mine)

    answers = {
        "the other's names": two.call("register_workspace", machine="one", tool="claude", project="home"),
        "the other's id": two.call("register_workspace", workspace_id="one-claude-home"),
        "the other's id, own names": two.call(
            "register_workspace", machine="two", tool="claude", project="home", workspace_id="one-claude-home"
        ),
        "the other's binding": two.call("write_overview", text="of two", binding=mine),
    }

    assert {name: answer.code for name, answer in answers.items()} == {
        "the other's names": "forbidden",
        "the other's id": "forbidden",
        # By its machine it may, but the id is taken; by its globs it may not.
        "the other's id, own names": "forbidden" if limit == "write" else "conflict",
        "the other's binding": "not_bound",
    }
    assert not [answer for answer in answers.values() if "binding" in answer.structured]
    assert overview_of(server, "one-claude-home") == "of one"
    assert two.ok("get_overview", workspace_id="one-claude-home")["overview"]["text"] == "of one"


@pytest.mark.spec("AUTH-7")
def test_a_machine_is_what_the_registry_says_never_the_spelling_of_an_id(server: Server) -> None:
    server.settle("home", machine="two")
    agent = server.agent(server.token("t", "ai", machine="one"))
    agent.ok("register_workspace", machine="ONE", tool="claude", project="x", workspace_id="two-claude-x")

    assert agent.call("register_workspace", workspace_id="two-claude-home").code == "forbidden"
    assert agent.call("register_workspace", machine="two", tool="claude", project="y").code == "forbidden"
    assert agent.ok("register_workspace", workspace_id="two-claude-x")["created"] is False


@pytest.mark.spec("BIND-4")
@pytest.mark.parametrize("era", ERAS)
def test_one_write_glob_of_exactly_one_workspace_implies_the_binding(server: Server, era: Era) -> None:
    server.settle("home")
    agent = server.agent(server.token("one", "ai", write=(HOME,)), era)

    written = agent.ok("write_overview", text="implied")

    assert written["workspace_id"] == HOME
    assert agent.ok("list_knowledge")["workspace_id"] == HOME


@pytest.mark.spec("BIND-4")
@pytest.mark.parametrize("write", [("box-*",), ("box-claude-hom?",), ("box-claude-[h]ome",), (HOME, AWAY)])
def test_other_write_globs_imply_no_binding(server: Server, write: tuple[str, ...]) -> None:
    server.settle("home")

    assert server.agent(server.token("t", "ai", write=write)).call("write_overview", text="x").code == "not_bound"


@pytest.mark.spec("BIND-4")
def test_an_implied_workspace_that_does_not_exist_is_not_bound(server: Server) -> None:
    agent = server.agent(server.token("t", "ai", write=("nobody",)))

    assert agent.call("write_overview", text="x").code == "not_bound"


# -- write tokens


@pytest.mark.spec("WS-3")
def test_a_hundred_first_registrations_at_once_give_exactly_one_write_token(server: Server) -> None:
    clients = [server.http(SYNC_TOKEN) for _ in range(20)]

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda n: clients[n % 20].post("/api/v1/workspaces", NAMES), range(100)))

    given = [reply.json["write_token"] for reply in replies if "write_token" in reply.json]
    assert len(given) == 1
    assert sorted(reply.status for reply in replies) == [200] * 99 + [201]
    assert {reply.json["workspace_id"] for reply in replies} == {HOME}
    put = server.http(SYNC_TOKEN, x_write_token=given[0]).put(f"/api/v1/workspaces/{HOME}/overview", b"x")
    assert put.code == "ok"


@pytest.mark.spec("WS-3")
def test_the_first_sync_caller_gets_the_write_token_of_a_workspace_that_an_agent_made(server: Server) -> None:
    made = server.agent().ok("register_workspace", **NAMES)
    sync = server.agent(SYNC_TOKEN)

    first, second = sync.ok("register_workspace", **NAMES), sync.ok("register_workspace", **NAMES)

    assert made["created"] is True
    assert "write_token" not in made
    assert "binding" in made
    assert first["created"] is False
    assert first["write_token"].startswith("wt_")
    assert "binding" not in first
    assert "write_token" not in second
    assert "reissue" in second["note"]


@pytest.mark.spec("WS-3", "AUTH-8")
def test_a_reissued_write_token_ends_the_old_one(server: Server) -> None:
    home = server.settle()
    admin = server.http(server.token("root", "admin"))

    reissued = admin.request("POST", home.url("/reissue")).json["write_token"]

    codes = [
        server.http(SYNC_TOKEN, x_write_token=token).put(home.url("/overview"), b"x").code
        for token in (home.write_token, reissued)
    ]
    assert codes == ["forbidden", "ok"]


@pytest.mark.spec("WS-3", "SEC-2")
def test_write_tokens_are_stored_hashed(server: Server) -> None:
    home = server.settle()
    server.services.core.journal.flush()

    holders = [
        path for path in server.root.rglob("*") if path.is_file() and home.write_token.encode() in path.read_bytes()
    ]

    assert holders == []


# -- names of workspaces


@pytest.mark.spec("WS-1")
def test_the_same_names_in_another_case_give_the_same_workspace(server: Server) -> None:
    agent = server.agent()
    agent.ok("register_workspace", machine="Box", tool="Claude", project="Home")

    again = agent.ok("register_workspace", machine="bOX", tool="claude", project="HOME")

    assert (again["workspace_id"], again["created"]) == (HOME, False)


@pytest.mark.spec("WS-1")
def test_an_id_of_other_names_is_a_conflict(server: Server) -> None:
    server.settle()

    answer = server.agent().call(
        "register_workspace", machine="box", tool="claude", project="else", workspace_id=HOME
    )  # fmt: skip

    assert answer.code == "conflict"


@pytest.mark.spec("WS-1")
def test_workspace_id_overrides_the_id_made_of_the_names(server: Server) -> None:
    made = server.agent().ok("register_workspace", **NAMES, workspace_id="mine")

    assert made["workspace_id"] == "mine"


@pytest.mark.spec("WS-2")
@pytest.mark.parametrize("era", ERAS)
def test_machine_and_tool_default_to_the_headers_of_the_client(server: Server, era: Era) -> None:
    agent = server.agent(era=era, x_memory_machine="Laptop", x_memory_tool="codex")

    made = agent.ok("register_workspace", project="demo")

    assert made["workspace_id"] == "laptop-codex-demo"


@pytest.mark.spec("WS-2")
def test_a_registered_id_alone_is_enough(server: Server) -> None:
    server.settle()

    known = server.agent().ok("register_workspace", workspace_id=HOME)

    assert (known["workspace_id"], known["created"]) == (HOME, False)


@pytest.mark.spec("WS-2", "TOOL-5")
def test_names_that_are_missing_are_named(server: Server) -> None:
    answer = server.agent().call("register_workspace", machine="box")

    assert answer.code == "invalid_argument"
    assert "tool and project missing" in answer.text
