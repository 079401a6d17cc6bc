"""Memories over MCP in both eras and over HTTP (SPEC: MEM-1 to MEM-15)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller
from federated_memory.names import WorkspaceId
from federated_memory.settings import load_settings
from federated_memory.store.changes import Actor
from federated_memory.store.document import Key
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Era, Home, Server

KEY = "AKIA" + "QWERTYUIOPASDFGH"
"""Looks like a secret, and is none."""


@pytest.fixture
def home(server: Server) -> Home:
    return server.settle("home")


def store(server: Server, home: Home, content: str, **more: Any) -> str:
    return str(server.agent().ok("store_memory", content=content, binding=home.binding, **more)["memory_id"])


def found(server: Server, query: str, **more: Any) -> list[str]:
    """What the search found, once each; an exact one tells every line that matches."""
    hits = server.agent().ok("search_memory", query=query, **more)["hits"]
    return list(dict.fromkeys(hit.get("memory_id", hit["kind"]) for hit in hits))


def listed(server: Server, **more: Any) -> list[str]:
    return [row["memory_id"] for row in server.agent().ok("list_memories", **more)["memories"]]


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


# -- stored and read


@pytest.mark.spec("MEM-1", "MEM-3")
@pytest.mark.parametrize("era", ERAS)
def test_every_field_comes_back_as_it_was_given(server: Server, home: Home, era: Era) -> None:
    agent = server.agent(era=era)
    given: dict[str, Any] = {
        "content": "Port  7443 → TLS.\r\n\r\n---\nüñí 漢字 \u202e\x1b[1m tail \n\n",
        "kind": "decision", "subject": "no: 'Ports'", "summary": "# one line: yes", "project": "Other: project",
        "importance": 5, "tags": ["a b", "Ü", "- x"],
        "files": ["src/a b.py", "C:\\x"], "references": ["https://example.org/?a=1#b"], "visibility": "team",
    }  # fmt: skip
    stored = agent.ok("store_memory", **given, expires_at="2099-01-31", binding=home.binding)

    read = agent.ok("get_memory", memory_id=stored["memory_id"], binding=home.binding)

    assert {name: read[name] for name in given} == given
    assert read["expires_at"] == stored["expires_at"] == "2099-01-31T23:59:59.999Z"
    assert (read["workspace_id"], read["machine"], read["agent"]) == (home.workspace_id, "box", "claude")
    assert read["user"]
    assert len(read["session"]) == 12
    assert read["created_at"] == stored["created_at"]
    assert read["state"] == "live"


@pytest.mark.spec("MEM-1")
def test_a_memory_is_one_markdown_file_that_a_person_edits(server: Server, home: Home) -> None:
    memory_id = store(server, home, "The proxy listens on 7443.", tags=["net"])
    path = only(server.root, f"{memory_id}.md")
    text = path.read_text()
    assert text.startswith("---\nid: ")
    assert text.endswith("---\nThe proxy listens on 7443.\n")

    path.write_text(text.replace("tags: [net]", "tags: [edited]\naliases: [x]").replace("7443", "8443"))
    server.services.core.scan.workspace(WorkspaceId(home.workspace_id))

    read = server.agent().ok("get_memory", memory_id=memory_id)
    assert (read["content"], read["tags"]) == ("The proxy listens on 8443.", ["edited"])
    assert found(server, "8443") == [memory_id]
    assert listed(server, tags=["edited"]) == [memory_id]
    assert "aliases: [x]" in path.read_text()


@pytest.mark.spec("MEM-2")
def test_a_file_put_there_by_hand_is_a_memory_and_an_odd_name_is_none(server: Server, home: Home) -> None:
    folder = server.root / "workspaces" / home.workspace_id / "memories" / "2026" / "10"
    folder.mkdir(parents=True)
    (folder / "by-hand.md").write_text("just text about zebras\n")
    (folder / "Not Legal.md").write_text("just text about zebras\n")

    server.services.core.scan.workspace(WorkspaceId(home.workspace_id))

    assert listed(server) == ["by-hand"]
    assert found(server, "zebras") == ["by-hand"]
    assert server.agent().ok("get_memory", memory_id="by-hand")["content"] == "just text about zebras"


@pytest.mark.spec("MEM-3")
def test_who_stored_it_is_never_an_argument(server: Server, home: Home) -> None:
    for name in ("user", "agent", "machine", "session"):
        answer = server.agent().call("store_memory", content="It works.", binding=home.binding, **{name: "root"})
        assert answer.code == "invalid_argument"
    assert listed(server) == []


@pytest.mark.spec("MEM-9")
@pytest.mark.parametrize("era", ERAS)
def test_a_blank_or_placeholder_subject_is_told_what_is_allowed(server: Server, home: Home, era: Era) -> None:
    agent = server.agent(era=era)
    for field in ("subject", "summary"):
        for text in (" ", "TODO", "n/a"):
            answer = agent.call("store_memory", content="It works.", binding=home.binding, **{field: text})
            assert answer.code == "invalid_argument"
            assert f"{field} " in answer.text
    assert agent.call("store_memory", content="It works.", kind="poem", binding=home.binding).code == "invalid_argument"
    assert agent.call("store_memory", content="x y", importance=6, binding=home.binding).code == "invalid_argument"
    assert listed(server) == []


@pytest.mark.spec("MEM-11")
def test_a_secret_is_replaced_and_that_is_said(server: Server, home: Home) -> None:
    stored = server.agent().ok(
        "store_memory", content=f"key {KEY} of the bucket", subject=f"k {KEY}", binding=home.binding
    )

    assert "REDACTED" in stored["warnings"][0]
    assert KEY not in json.dumps(server.agent().ok("get_memory", memory_id=stored["memory_id"]))
    assert not [path for path in server.root.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.spec("MEM-11")
def test_where_secrets_are_refused_nothing_is_kept(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", secret_policy="refuse") as server:
        home = server.settle("home")
        answer = server.agent().call("store_memory", content=f"key {KEY} of the bucket", binding=home.binding)
        assert (answer.code, KEY in answer.text) == ("invalid_argument", False)
        assert listed(server) == []


# -- found


@pytest.mark.spec("MEM-4")
def test_it_is_found_with_everything_else_at_once(server: Server, home: Home) -> None:
    agent = server.agent()
    agent.ok("write_knowledge", path="ports.md", text="# Ports\n\nzanzibar is the port", binding=home.binding)
    line = json.dumps({"type": "user", "message": {"role": "user", "content": "where is zanzibar"}})
    server.http(AI_TOKEN, x_memory_binding=home.binding).put(home.url("/sessions/s1"), line + "\n")
    memory_id = store(server, home, "zanzibar listens on 7443", subject="The zanzibar proxy")

    for mode in ("ranked", "literal", "regex"):
        assert sorted(found(server, "zanzibar", mode=mode)) == sorted(["knowledge", "session", memory_id])
        assert found(server, "zanzibar", mode=mode, kinds=["memory"]) == [memory_id]
        assert found(server, "zanzibar", mode=mode, kinds=["knowledge"]) == ["knowledge"]
    hit = agent.ok("search_memory", query="zanzibar", kinds=["memory"])["hits"][0]
    assert (hit["read_with"], hit["title"]) == ("get_memory", "The zanzibar proxy")
    assert "«zanzibar»" in hit["snippet"]


@pytest.mark.spec("MEM-4")
def test_by_all_its_filters(server: Server, home: Home) -> None:
    other = server.settle("other", machine="laptop")
    a = store(server, home, "quokka one", kind="bug", tags=["Net", "tls"], project="Alpha")
    b = store(server, home, "quokka two", kind="decision", tags=["net"])
    c = str(server.agent().ok("store_memory", content="quokka three", binding=other.binding)["memory_id"])
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {a, b, c}), ({"memory_kind": "bug"}, {a}), ({"memory_kind": "bug,decision"}, {a, b}),
        ({"tags": ["net"]}, {a, b}), ({"tags": ["NET", "#tls"]}, {a}), ({"project": "alpha"}, {a}),
        ({"project": "home"}, {b}), ({"machine": "laptop"}, {c}), ({"tool": "claude"}, {a, b, c}),
        ({"agent": "Claude"}, {a, b, c}), ({"agent": "nobody"}, set()), ({"workspace_id": "box-*"}, {a, b}),
        ({"workspace_id": other.workspace_id}, {c}), ({"until": "2020-01-01"}, set()),
        ({"since": "2020-01-01"}, {a, b, c}), ({"as_of": "2020-01-01"}, set()),
    ]  # fmt: skip

    for filters, expected in cases:
        assert set(found(server, "quokka", **filters)) == expected, filters
        assert set(listed(server, **filters)) == expected, filters
    assert server.agent().call("list_memories", memory_kind="poem").code == "invalid_argument"


@pytest.mark.spec("MEM-4")
@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("Die Datenbankverbindung bricht ab", "bankverb"), ("数据库连接失败", "连接"), ("接続が切れる", "切"),
        ("the Y axis is inverted", "y"), ("use -X for it", "X"), ("Émile's café", "cafe"),
        ("call fetch_user_profile first", "fetch_user_profile"), ("call fetch_user_profile first", "profile"),
    ],
)  # fmt: skip
def test_parts_of_words_signs_and_short_words_find_it(server: Server, home: Home, content: str, query: str) -> None:
    store(server, home, "nothing of the kind")
    memory_id = store(server, home, content, subject="Something")

    assert found(server, query)[:1] == [memory_id]


@pytest.mark.spec("MEM-4")
def test_when_nothing_holds_all_words_that_is_said(server: Server, home: Home) -> None:
    store(server, home, "alpha is here", subject="One")
    store(server, home, "omega is there", subject="Two")

    answer = server.agent().ok("search_memory", query="alpha omega")

    assert len(answer["hits"]) == 2
    assert "all of the words" in answer["note"]


@pytest.mark.spec("MEM-4")
def test_lists_and_answers_keep_to_their_bytes_and_go_on(server: Server, home: Home) -> None:
    ids = [store(server, home, f"walrus number {number} " + "x" * 200) for number in range(30)]
    seen: list[str] = []
    cursor = None
    while True:
        page = server.agent().ok("list_memories", max_bytes=2_000, cursor=cursor)
        assert len(json.dumps(page).encode()) <= 2_000
        assert page["total"] == 30
        seen += [row["memory_id"] for row in page["memories"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(ids, reverse=True) or sorted(seen) == sorted(ids)
    assert len(set(seen)) == 30


@pytest.mark.spec("MEM-3")
def test_a_long_memory_is_read_by_pages(server: Server, home: Home) -> None:
    content = "\n".join(f"line {number}" for number in range(3_000))
    memory_id = store(server, home, content)
    text, offset = "", 0
    while True:
        page = server.agent().ok("get_memory", memory_id=memory_id, offset=offset)
        text += page["content"]
        if "next_offset" not in page:
            break
        offset = page["next_offset"]
    assert text == content


# -- replaced, deleted, expired


@pytest.mark.spec("MEM-5")
@pytest.mark.parametrize("era", ERAS)
def test_superseding_hides_and_deleting_the_newer_revives(server: Server, home: Home, era: Era) -> None:
    agent = server.agent(era=era)
    old = agent.ok(
        "store_memory", content="heron port 1", kind="decision", subject="Port of heron", binding=home.binding
    )
    new = agent.ok(
        "store_memory", content="heron port 2", kind="decision", subject="Port of heron", supersedes=[old["memory_id"]],
        binding=home.binding,
    )  # fmt: skip
    ids = old["memory_id"], new["memory_id"]

    for mode in ("ranked", "literal"):
        assert found(server, "heron", mode=mode) == [ids[1]]
        assert set(found(server, "heron", mode=mode, include_superseded=True)) == set(ids)
    assert listed(server) == [ids[1]]
    assert agent.ok("get_memory", memory_id=ids[0])["superseded_by"] == [ids[1]]
    assert agent.ok("get_memory", memory_id=ids[0])["state"] == "superseded"
    agent.ok("delete_memory", memory_id=ids[1], reason="wrong", binding=home.binding)
    assert found(server, "heron") == [ids[0]]
    assert listed(server) == [ids[0]]


@pytest.mark.spec("MEM-5")
def test_only_ones_own_are_superseded(server: Server, home: Home) -> None:
    other = server.settle("other")
    theirs = str(server.agent().ok("store_memory", content="theirs is this", binding=other.binding)["memory_id"])

    answer = server.agent().call("store_memory", content="mine is that", supersedes=[theirs], binding=home.binding)

    assert answer.code == "not_found"
    assert listed(server) == [theirs]


@pytest.mark.spec("MEM-5")
def test_a_decision_is_told_of_live_ones_on_its_subject_and_nothing_is_done(server: Server, home: Home) -> None:
    old = store(server, home, "heron is on port 1", kind="decision", subject="Port of the heron proxy")
    store(server, home, "unrelated", kind="decision", subject="Colour of the bike shed")

    stored = server.agent().ok(
        "store_memory", content="heron moves", kind="config", subject="Heron proxy port", binding=home.binding
    )
    note = server.agent().ok("store_memory", content="heron", subject="Port of the heron proxy", binding=home.binding)

    assert [row["memory_id"] for row in stored["similar"]] == [old]
    assert note["similar"] == []
    assert old in listed(server)


@pytest.mark.spec("MEM-6")
def test_as_of_answers_with_what_was_known_then(server: Server, home: Home) -> None:
    agent = server.agent()
    first = agent.ok("store_memory", content="ibis port 1", binding=home.binding)
    second = agent.ok("store_memory", content="ibis port 2", supersedes=[first["memory_id"]], binding=home.binding)
    gone = agent.ok("delete_memory", memory_id=second["memory_id"], binding=home.binding)
    between = {"as_of": second["created_at"]}

    assert found(server, "ibis", as_of=first["created_at"]) == [first["memory_id"]]
    assert found(server, "ibis", **between) == [second["memory_id"]]
    assert found(server, "ibis", mode="literal", **between) == [second["memory_id"]]
    assert listed(server, **between) == [second["memory_id"]]
    assert listed(server, as_of=gone["deleted_at"]) == [first["memory_id"]]


@pytest.mark.spec("MEM-7")
@pytest.mark.parametrize("era", ERAS)
def test_a_deleted_one_is_hidden_at_once_and_leaves_a_tombstone(server: Server, home: Home, era: Era) -> None:
    agent = server.agent(era=era)
    memory_id = agent.ok("store_memory", content="dodo was here", binding=home.binding)["memory_id"]

    agent.ok("delete_memory", memory_id=memory_id, reason="it is extinct", binding=home.binding)

    for mode in ("ranked", "literal"):
        assert found(server, "dodo", mode=mode) == []
        assert found(server, "dodo", mode=mode, include_hidden=True) == [memory_id]
    assert listed(server) == []
    assert listed(server, include_hidden=True) == [memory_id]
    read = agent.ok("get_memory", memory_id=memory_id)
    assert (read["state"], read["reason"], read["content"]) == ("deleted", "it is extinct", "dodo was here")
    assert not (server.root / "workspaces" / home.workspace_id / "memories/2026").exists() or not list(
        (server.root / "workspaces" / home.workspace_id / "memories").glob("20*/*/*.md")
    )
    again = agent.ok("delete_memory", memory_id=memory_id, binding=home.binding)
    assert again["deleted_at"] == read["deleted_at"]


@pytest.mark.spec("MEM-7")
def test_a_sync_of_the_same_file_does_not_bring_it_back(server: Server, home: Home) -> None:
    memory_id = store(server, home, "dodo was here")
    path = only(server.root, f"{memory_id}.md")
    data = path.read_bytes()
    server.agent().ok("delete_memory", memory_id=memory_id, binding=home.binding)

    path.write_bytes(data)
    server.services.core.scan.workspace(WorkspaceId(home.workspace_id))

    for more in ({}, {"mode": "literal"}):
        assert found(server, "dodo", **more) == []
    assert listed(server) == []


@pytest.mark.spec("MEM-7")
def test_an_import_of_the_same_source_does_not_bring_it_back_even_after_gc(server: Server, home: Home) -> None:
    body = {"workspace_id": home.workspace_id, "memories": [{"content": "dodo was here", "source": "old:1"}]}
    sync = server.http(SYNC_TOKEN, x_write_token=home.write_token)
    assert sync.post("/api/v1/memories/import", body).json["created"] == 1
    (memory_id,) = listed(server)
    server.agent().ok("delete_memory", memory_id=memory_id, binding=home.binding)

    assert sync.post("/api/v1/memories/import", body).json["deleted"] == 1
    gc = {"keep_versions": 1, "keep_days": 0, "apply": True}
    assert server.http(ADMIN_TOKEN).post("/api/v1/operations/gc", gc).json["memories"] == 1
    assert listed(server, include_hidden=True) == []
    assert not list(server.root.rglob(f"{memory_id}.md"))
    assert sync.post("/api/v1/memories/import", body).json["deleted"] == 1
    assert listed(server, include_hidden=True) == []


@pytest.mark.spec("MEM-7")
def test_what_has_expired_is_hidden_and_collected(server: Server, home: Home) -> None:
    folder = server.root / "workspaces" / home.workspace_id / "memories" / "2026" / "10"
    folder.mkdir(parents=True)
    (folder / "old.md").write_text("---\nexpires_at: '2026-10-02T00:00:00.000Z'\n---\nemu until October\n")
    server.services.core.scan.workspace(WorkspaceId(home.workspace_id))

    assert found(server, "emu") == found(server, "emu", mode="literal") == listed(server) == []
    assert found(server, "emu", include_hidden=True) == listed(server, include_hidden=True) == ["old"]
    assert server.agent().ok("get_memory", memory_id="old")["state"] == "expired"
    gc = {"keep_versions": 1, "keep_days": 0, "apply": True}
    assert server.http(ADMIN_TOKEN).post("/api/v1/operations/gc", {**gc, "apply": False}).json["memories"] == 1
    assert (folder / "old.md").exists()
    assert server.http(ADMIN_TOKEN).post("/api/v1/operations/gc", gc).json["memories"] == 1
    assert not (folder / "old.md").exists()


@pytest.mark.spec("MEM-7")
def test_many_are_deleted_by_what_they_have_in_common(server: Server, home: Home) -> None:
    other = server.settle("other", machine="laptop")
    kept = str(server.agent().ok("store_memory", content="kept for good", binding=other.binding)["memory_id"])
    for number in range(5):
        store(server, home, f"number {number} of many")
    admin = server.http(ADMIN_TOKEN)

    assert admin.post("/api/v1/memories/delete", {"dry_run": False}).code == "invalid_argument"
    dry = admin.post("/api/v1/memories/delete", {"machine": "box"}).json
    assert (dry["count"], dry["dry_run"], len(listed(server))) == (5, True, 6)
    done = admin.post("/api/v1/memories/delete", {"machine": "box", "reason": "old machine", "dry_run": False}).json
    assert done["count"] == 5
    assert listed(server) == [kept]


@pytest.mark.spec("MEM-8")
def test_a_purged_one_is_gone_from_every_file(server: Server, home: Home) -> None:
    memory_id = store(server, home, "marmot 5f3a secret plan")
    data = only(server.root, f"{memory_id}.md").read_bytes()
    path = only(server.root, f"{memory_id}.md")
    server.services.core.journal.flush()
    purge = {"kind": "memory", "workspace_id": home.workspace_id, "key": memory_id}

    assert server.http(ADMIN_TOKEN).post("/api/v1/operations/purge", purge).json["files"] == 1

    assert not [one for one in server.root.rglob("*") if one.is_file() and b"marmot 5f3a" in one.read_bytes()]
    path.write_bytes(data)
    server.services.core.scan.workspace(WorkspaceId(home.workspace_id))
    assert listed(server, include_hidden=True) == []


# -- who sees what


@pytest.mark.spec("MEM-13")
@pytest.mark.parametrize("era", ERAS)
def test_visibility_holds_on_every_way_to_it(server: Server, home: Home, era: Era) -> None:
    mate = server.settle("home", machine="laptop")
    stranger = server.settle("elsewhere")
    ids = {
        name: store(server, home, f"lynx {name}", visibility=name, subject=f"lynx of {name}")
        for name in ("workspace", "team", "all")
    }
    expected = {
        None: {"all"}, home.binding: {"workspace", "team", "all"}, mate.binding: {"team", "all"},
        stranger.binding: {"all"},
    }  # fmt: skip

    for binding, names in expected.items():
        agent = server.agent(era=era)
        wanted = {ids[name] for name in names}
        given = {"binding": binding} if binding else {}
        for mode in ("ranked", "literal", "regex"):
            hits = agent.ok("search_memory", query="lynx", mode=mode, **given)["hits"]
            assert {hit["memory_id"] for hit in hits} == wanted
        assert {row["memory_id"] for row in agent.ok("list_memories", **given)["memories"]} == wanted
        for memory_id in ids.values():
            code = agent.call("get_memory", memory_id=memory_id, **given).code
            assert code == ("ok" if memory_id in wanted else "not_found")
        brief = agent.ok("get_brief", workspace_id=home.workspace_id, **given)["text"]
        assert {memory_id for memory_id in ids.values() if memory_id in brief} == wanted
        headers = {"x_memory_binding": binding} if binding else {}
        http = server.http(AI_TOKEN, **headers)
        assert {row["memory_id"] for row in http.get("/api/v1/memories").json["memories"]} == wanted
        assert {hit["memory_id"] for hit in http.get("/api/v1/search?query=lynx").json["hits"]} == wanted
        for memory_id in ids.values():
            assert http.get(f"/api/v1/memories/{memory_id}").status == (200 if memory_id in wanted else 404)
        uri = f"memory://{home.workspace_id}/memories/{ids['workspace']}"
        named = {"mcp_name": uri} if era != "legacy" else {}
        reply = server.wire(AI_TOKEN, era).post("resources/read", {"uri": uri}, **named)
        assert "No memory" in reply.json["error"]["message"]
    assert server.agent(SYNC_TOKEN).call("get_memory", memory_id=ids["team"]).code == "not_found"
    assert server.agent(ADMIN_TOKEN).ok("get_memory", memory_id=ids["workspace"])["visibility"] == "workspace"


@pytest.mark.spec("MEM-13")
def test_a_binding_of_another_token_opens_nothing(server: Server, home: Home) -> None:
    store(server, home, "lynx here", visibility="workspace")
    named = server.token("other", "ai")

    assert server.agent(named).call("search_memory", query="lynx", binding=home.binding).code == "not_bound"
    assert server.agent(named).call("list_memories", binding=home.binding).code == "not_bound"


@pytest.mark.spec("MEM-14")
def test_a_project_is_found_by_all_its_names(server: Server, home: Home) -> None:
    memory_id = store(server, home, "okapi here")
    admin = server.http(ADMIN_TOKEN)
    assert listed(server, project="old name") == []

    admin.request("PUT", "/api/v1/project-aliases", b'{"alias": "Old Name", "project": "home"}')
    assert listed(server, project="old name") == found(server, "okapi", project="OLD NAME") == [memory_id]
    (server.root / "_meta" / "project-aliases.json").write_text('{"third": "home"}')
    assert listed(server, project="third") == [memory_id]
    assert listed(server, project="old name") == []
    (server.root / "_meta" / "project-aliases.json").write_text("not json")
    assert listed(server, project="home") == [memory_id]


@pytest.mark.spec("BRIEF-9")
def test_the_brief_names_the_most_important_by_kind_within_its_bytes(server: Server, home: Home) -> None:
    mate = server.settle("home", machine="laptop")
    top = store(server, home, "never deploy on Friday", kind="decision", importance=5)
    theirs = str(
        server.agent().ok("store_memory", content="the cache key is wrong", kind="bug", binding=mate.binding)[
            "memory_id"
        ]
    )
    for number in range(60):
        store(server, home, f"trivia {number} " + "x" * 300, importance=1)

    for size in (1_000, 2_000, 4_000, 9_000):
        brief = server.agent().ok("get_brief", workspace_id=home.workspace_id, max_bytes=size)
        assert len(orjson.dumps(brief)) <= size
    assert top in brief["text"]
    assert theirs in brief["text"]
    assert brief["text"].index(theirs) > brief["text"].index(top)
    assert "list_memories" in brief["text"]


# -- over HTTP, and by others than agents


@pytest.mark.spec("MEM-15")
def test_the_same_over_http(server: Server, home: Home) -> None:
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)

    stored = http.post("/api/v1/memories", {"content": "gecko on the wall", "kind": "bug", "tags": ["a"]})
    assert stored.status == 201
    memory_id = stored.json["memory_id"]
    assert http.get(f"/api/v1/memories/{memory_id}").json["content"] == "gecko on the wall"
    assert [row["memory_id"] for row in http.get("/api/v1/memories?memory_kind=bug&tags=a").json["memories"]] == [
        memory_id
    ]
    assert http.get("/api/v1/memories?include_hidden=maybe").code == "invalid_argument"
    assert http.post("/api/v1/memories", {"content": "x", "nonsense": 1}).code == "invalid_argument"
    assert http.delete(f"/api/v1/memories/{memory_id}?reason=gone").json["deleted_at"]
    assert http.get("/api/v1/memories").json["memories"] == []


@pytest.mark.spec("MEM-15")
def test_an_import_twice_changes_nothing_and_a_dry_run_stores_nothing(server: Server, home: Home) -> None:
    memories = [
        {"content": f"note {number} from elsewhere", "source": f"old:{number}", "created_at": "2024-05-06T07:08:09Z",
         "user": "ann", "agent": "codex", "machine": "mac", "session": "s"}
        for number in range(3)
    ]  # fmt: skip
    body = {"workspace_id": home.workspace_id, "memories": memories}
    sync = server.http(SYNC_TOKEN, x_write_token=home.write_token)

    assert sync.post("/api/v1/memories/import", {**body, "dry_run": True}).json["created"] == 3
    assert listed(server) == []
    assert sync.post("/api/v1/memories/import", body).json["created"] == 3
    before = server.files()
    assert sync.post("/api/v1/memories/import", body).json["unchanged"] == 3
    assert {k: v for k, v in server.files().items() if "workspaces/" in k} == {
        k: v for k, v in before.items() if "workspaces/" in k
    }
    read = server.agent().ok("get_memory", memory_id=listed(server)[0])
    assert (read["user"], read["agent"], read["machine"], read["created_at"]) == (
        "ann", "codex", "mac", "2024-05-06T07:08:09.000Z",
    )  # fmt: skip
    assert found(server, "elsewhere", since="2025-01-01") == []


@pytest.mark.spec("RES-1", "MEM-4")
@pytest.mark.parametrize("era", ERAS)
def test_a_memory_is_a_resource(server: Server, home: Home, era: Era) -> None:
    memory_id = store(server, home, "gecko on the wall")
    uri = f"memory://{home.workspace_id}/memories/{memory_id}"

    named = {"mcp_name": uri} if era != "legacy" else {}
    reply = server.wire(AI_TOKEN, era).post("resources/read", {"uri": uri}, **named)

    assert "gecko on the wall" in reply.json["result"]["contents"][0]["text"]


@pytest.mark.spec("MEM-1")
def test_a_memory_outlives_the_state_database(server: Server, home: Home) -> None:
    """Rows are made anew from files: the file is the truth."""
    memory_id = store(server, home, "gecko on the wall", tags=["kept"])
    core = server.services.core
    core.journal.flush()
    with core.root.database.transaction() as transaction:
        for table in ("documents", "memories", "memory_supersedes"):
            transaction.execute(f"DELETE FROM {table}")

    core.scan.workspace(WorkspaceId(home.workspace_id))

    assert listed(server, tags=["kept"]) == [memory_id]


@pytest.mark.spec("MEM-7")
def test_a_crash_between_the_two_steps_of_a_deletion_leaves_it_deleted(server: Server, home: Home) -> None:
    memory_id = store(server, home, "gecko on the wall")
    core = server.services.core
    (row,) = core.memories.rows.find(memory_id)
    key = Key(WorkspaceId(home.workspace_id), "memory", row.file)  # type: ignore[arg-type]
    data = core.documents.read(key)[1]
    core.memories.delete(row, "", Actor("test"))
    core.documents.write(key, data, Actor("test"))  # as if the second step had never been

    assert listed(server) == found(server, "gecko") == []
    (row,) = core.memories.rows.find(memory_id)
    core.memories.delete(row, "", Actor("test"))
    assert not list((server.root / "workspaces" / home.workspace_id / "memories").glob("20*/*/*.md"))


@pytest.mark.spec("MEM-12")
def test_what_is_acknowledged_is_there_whatever_happens_next(server: Server, home: Home, tmp_path: Path) -> None:
    content = "gecko on the wall\n" * 50
    memory_id = store(server, home, content)
    copy = tmp_path / "copy"
    shutil.copytree(server.root, copy, ignore=shutil.ignore_patterns("index.sqlite3*", "lock"))

    services = open_services(load_settings(root=copy))
    try:
        admin = Caller(server.grant(ADMIN_TOKEN))
        assert services.memories.get(admin, memory_id, max_bytes=8_000).content == content
    finally:
        close_services(services)


@pytest.mark.spec("MEM-12")
def test_on_a_full_disk_nothing_is_half_kept(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory") as server:
        home = server.settle("home")
        memory_id = store(server, home, "gecko on the wall")
    with Server(portal, tmp_path / "memory", min_free_bytes=2**60) as server:
        binding = server.binding_for(AI_TOKEN, home.workspace_id)
        assert server.agent().call("store_memory", content="one more", binding=binding).code == "storage_full"
        assert listed(server) == found(server, "gecko") == [memory_id]
