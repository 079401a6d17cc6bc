"""One workspace merged into another: both kept where they differ, versions too, and nobody who sends is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federated_memory.names import WorkspaceId
from federated_memory.store.changes import Actor
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Http, Server
from tests.contract.test_moving import LINE, is_sound, operate, url

OTHER = LINE.replace(b"xyzzy", b"plugh")
SCANNER = Actor("tester")


def sender(server: Server, home: Home) -> Http:
    return server.http(SYNC_TOKEN, x_write_token=home.write_token)


def put(http: Http, home: Home, place: str, *texts: bytes) -> None:
    for text in texts:
        reply = http.request("PUT", url(home.workspace_id, place), text)
        assert reply.status < 300, reply


def two(server: Server) -> tuple[Home, Home]:
    """`old` and `new`, with what is theirs alone, what both have, and what both have and differ in."""
    old, new = server.settle("old"), server.settle("new")
    for home, mine, line in ((old, b"old", LINE), (new, b"new", OTHER)):
        http = sender(server, home)
        put(http, home, f"knowledge/only/{mine.decode()}.md", b"# 1", b"# 2 " + mine)
        put(http, home, "knowledge/same.md", b"# xyzzy same")
        put(http, home, "knowledge/both.md", b"# 1 " + mine, b"# xyzzy 2 " + mine)
        put(http, home, "knowledge/gone.md", b"# gone " + mine)
        http.request("DELETE", url(home.workspace_id, "knowledge/gone.md"))
        put(http, home, "overview", b"# Overview " + mine)
        put(http, home, f"sessions/only-{mine.decode()}", line, line * 2, b"{}\n" + line)
        put(http, home, "sessions/equal", LINE * 3)
        put(http, home, "sessions/both", line)
    return old, new


def merge(server: Server, old: Home, new: Home, **arguments: Any) -> Any:
    reply = operate(server, "merge", workspace_id=old.workspace_id, into=new.workspace_id, apply=True, **arguments)
    assert reply.status == 200, reply
    return reply.json


@pytest.mark.spec("WS-6")
def test_both_are_kept_with_every_version(server: Server) -> None:
    old, new = two(server)

    done = merge(server, old, new)

    assert (done["documents"], done["sessions"], done["known"], done["beside"]) == (4, 2, 2, 4)
    assert is_sound(server)
    http = server.http(ADMIN_TOKEN)
    top = f"from-{old.workspace_id}"
    (other,) = [to for name, to in done["renamed"] if name == "both"]
    for place, text in {
        "knowledge/only/old.md": b"# 2 old",
        "knowledge/only/old.md?version=1": b"# 1",
        "knowledge/only/new.md": b"# 2 new",
        "knowledge/same.md": b"# xyzzy same",
        "knowledge/both.md": b"# xyzzy 2 new",
        "knowledge/both.md?version=1": b"# 1 new",
        f"knowledge/{top}/both.md": b"# xyzzy 2 old",
        f"knowledge/{top}/both.md?version=1": b"# 1 old",
        f"knowledge/{top}/gone.md?version=1": b"# gone old",
        "overview": b"# Overview new",
        f"knowledge/{top}/overview.md": b"# Overview old",
        "sessions/only-old": b"{}\n" + LINE,
        "sessions/only-old?revision=1": LINE * 2,
        "sessions/equal": LINE * 3,
        "sessions/both": OTHER,
        f"sessions/{other}": LINE,
    }.items():
        assert http.request("GET", url(new.workspace_id, place)).body == text, place
    rows = server.http(AI_TOKEN).request("GET", "/api/v1/workspaces").json["workspaces"]
    assert [(row["workspace_id"], row["documents"], row["sessions"]) for row in rows] == [(new.workspace_id, 6, 5)]
    assert not (server.root / "workspaces" / old.workspace_id).exists()


@pytest.mark.spec("WS-6")
def test_nothing_moves_before_it_is_told_to(server: Server) -> None:
    old, new = two(server)
    server.services.core.journal.flush()
    before = server.files()

    told = operate(server, "merge", workspace_id=old.workspace_id, into=new.workspace_id)

    assert told.json["applied"] is False
    assert {key: told.json[key] for key in ("documents", "sessions", "beside", "renamed")} == {
        key: value
        for key, value in merge(server, old, new).items()
        if key in ("documents", "sessions", "beside", "renamed")
    }
    assert before != server.files()
    assert {name for name in before if old.workspace_id in name}


@pytest.mark.spec("WS-6", "FEED-1", "INDEX-1")
def test_search_finds_everything_in_its_new_place_and_nothing_in_the_old(server: Server) -> None:
    old, new = two(server)
    core = server.services.core
    assert core.index.wait_for(core.root.feed.head(), 30)

    merge(server, old, new)

    assert core.index.wait_for(core.root.feed.head(), 30)
    hits = json.loads(server.wire().call("search_memory", {"query": "xyzzy", "limit": 50}).body)
    found = hits["result"]["structuredContent"]["hits"]
    assert {hit["workspace_id"] for hit in found} == {new.workspace_id}
    assert {hit["path"] for hit in found if hit["kind"] == "knowledge"} == {
        "both.md", "same.md", f"from-{old.workspace_id}/both.md",
    }  # fmt: skip
    changes = core.root.feed.after(0, 10_000)
    for workspace_id in (old.workspace_id, new.workspace_id):
        mine = [change for change in changes if change.workspace_id == workspace_id]
        assert [change.sequence for change in mine] == list(range(1, len(mine) + 1))
        assert (mine[-1].kind, mine[-1].operation) == ("workspace", "merged")


@pytest.mark.spec("WS-7")
def test_who_sends_to_the_old_id_with_its_old_token_is_led_to_the_new_one(server: Server) -> None:
    old, new = two(server)
    merge(server, old, new)
    http = sender(server, old)

    assert http.request("PUT", url(old.workspace_id, "knowledge/later.md"), b"# later").status == 201
    more = http.request("PATCH", url(old.workspace_id, "sessions/only-old"), LINE, upload_offset=str(len(LINE) + 3))
    assert more.status == 200, more
    again = http.post("/api/v1/workspaces", {"machine": "box", "tool": "claude", "project": "old"})
    assert (again.json["workspace_id"], "write_token" in again.json) == (new.workspace_id, False)
    assert server.wire().code("write_knowledge", {"path": "d.md", "text": "# D", "binding": old.binding}) == "ok"
    assert sender(server, new).request("PUT", url(new.workspace_id, "knowledge/own.md"), b"# own").status == 201
    read = server.http(AI_TOKEN).request("GET", url(new.workspace_id, "knowledge/later.md"))
    assert read.body == b"# later"
    assert server.http(ADMIN_TOKEN).post(f"/api/v1/workspaces/{new.workspace_id}/reissue", {}).status == 200
    for home in (old, new):
        assert sender(server, home).request("PUT", url(home.workspace_id, "knowledge/x.md"), b"x").code == "forbidden"
    assert is_sound(server)


@pytest.mark.spec("WS-7", "AUTH-7", "ENROL-4")
def test_rights_go_by_the_target_and_a_lost_machine_ends_its_tokens(server: Server) -> None:
    old, new = server.settle("old", machine="laptop"), server.settle("new")
    put(sender(server, old), old, "knowledge/a.md", b"# a")
    limited = server.token("laptop", "sync", machine="laptop")

    notes = merge(server, old, new)["notes"]

    assert [note for note in notes if "laptop" in note]
    refused = server.http(limited, x_write_token=old.write_token).request(
        "PUT", url(old.workspace_id, "knowledge/b.md"), b"# b"
    )
    assert refused.code == "forbidden"
    server.services.core.registry.end_write_tokens("laptop")
    assert sender(server, old).request("PUT", url(old.workspace_id, "knowledge/b.md"), b"x").code == "forbidden"
    assert sender(server, new).request("PUT", url(new.workspace_id, "knowledge/b.md"), b"x").status == 201


@pytest.mark.spec("WS-6")
@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("box-claude-old", "box-claude-old", "conflict"),
        ("box-claude-old", "nothing", "not_found"),
        ("nothing", "box-claude-new", "not_found"),
        ("box-claude-old", "box-claude-shut", "conflict"),
        ("../x", "box-claude-new", "invalid_name"),
    ],
)
def test_what_cannot_be_merged_is_refused_and_left(server: Server, source: str, target: str, code: str) -> None:
    two(server)
    server.settle("shut")
    operate(server, "archive", workspace_id="box-claude-shut")
    server.services.core.journal.flush()
    before = server.files()

    assert operate(server, "merge", workspace_id=source, into=target, apply=True).code == code
    assert server.files() == before


@pytest.mark.spec("WS-6", "PURGE-2")
def test_what_was_purged_does_not_come_back_by_a_merge(server: Server) -> None:
    old, new = two(server)
    put(sender(server, new), new, "knowledge/secret.md", b"# secret")
    operate(server, "purge", kind="knowledge", workspace_id=new.workspace_id, key="secret.md")
    put(sender(server, old), old, "knowledge/other.md", b"# secret")
    put(sender(server, old), old, "knowledge/mine.md", b"# my secret")
    operate(server, "purge", kind="knowledge", workspace_id=old.workspace_id, key="mine.md")
    place = {"workspace_id": old.workspace_id, "into": new.workspace_id}

    assert "purged" in operate(server, "merge", **place).json["notes"][0]
    assert operate(server, "merge", **place, apply=True).code == "conflict"
    operate(server, "purge", kind="knowledge", workspace_id=old.workspace_id, key="other.md")
    merge(server, old, new)

    assert sender(server, new).request("PUT", url(new.workspace_id, "knowledge/z.md"), b"# my secret").status == 403
    assert is_sound(server)


@pytest.mark.spec("WS-6", "NAME-5")
def test_names_that_differ_in_case_are_kept_apart(server: Server) -> None:
    old, new = server.settle("old"), server.settle("new")
    put(sender(server, new), new, "knowledge/Docs/Notes.md", b"# new")
    deep = "/".join(("x" * 110, "y" * 110, "z" * 100, "long" * 15 + ".md"))
    for path in ("docs/Notes.md", "docs/else.md", deep):
        put(sender(server, old), old, f"knowledge/{path}", b"# " + path.encode())
    put(sender(server, new), new, f"knowledge/{deep}", b"# n")

    renamed = dict(merge(server, old, new)["renamed"])

    assert renamed["docs/else.md"] == f"from-{old.workspace_id}/docs/else.md"
    assert len(renamed) == 3
    for path, to in renamed.items():
        found = server.http(ADMIN_TOKEN).request("GET", url(new.workspace_id, f"knowledge/{to}"))
        assert found.body == b"# " + path.encode()
    assert is_sound(server)


@pytest.mark.spec("WS-6")
def test_what_is_no_document_is_put_aside(server: Server) -> None:
    old, new = two(server)
    server.services.core.journal.flush()
    (server.root / "workspaces" / old.workspace_id / "knowledge" / "picture.png").write_bytes(b"png")

    merge(server, old, new)

    (kept,) = (server.root / "_meta" / "quarantine").rglob("picture.png")
    assert kept.read_bytes() == b"png"
    assert is_sound(server)


@pytest.mark.spec("WS-6")
@pytest.mark.parametrize("after", [0, 1, 3, 5, 7, 8])
def test_a_merge_that_was_interrupted_is_finished(server: Server, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    old, new = two(server)
    merging = server.services.operations._merging
    left = [after]

    def killed(name: str) -> Any:
        real = getattr(type(merging), name)

        def step(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*arguments)

        return step

    with monkeypatch.context() as patched:
        for name in ("_move_document", "_move_session", "_remove_folder"):
            patched.setattr(type(merging), name, killed(name))
        with pytest.raises(KeyboardInterrupt):
            merging.merge(WorkspaceId(old.workspace_id), WorkspaceId(new.workspace_id), SCANNER, is_dry=False)
    assert (server.root / "workspaces" / old.workspace_id).exists()  # the broken twin stops here

    merging.finish()
    merging.finish()

    assert not (server.root / "workspaces" / old.workspace_id).exists()
    body = server.http(ADMIN_TOKEN).request("GET", url(new.workspace_id, f"knowledge/from-{old.workspace_id}/both.md"))
    assert body.body == b"# xyzzy 2 old"
    assert server.http(ADMIN_TOKEN).request("GET", url(new.workspace_id, "sessions/only-old")).body == b"{}\n" + LINE
    assert is_sound(server)


def remember(server: Server, home: Home, text: str) -> str:
    reply = server.wire().call("store_memory", {"content": text, "kind": "decision", "binding": home.binding})
    return str(reply.json["result"]["structuredContent"]["memory_id"])


@pytest.mark.spec("WS-6", "MEM-1", "MEM-7")
def test_memories_go_along_with_their_ids_and_deletions(server: Server) -> None:
    old, new = two(server)
    kept, gone = remember(server, old, "The quokka port is 4711."), remember(server, old, "The quokka port is 1.")
    theirs = remember(server, new, "The quokka sleeps.")
    assert server.wire().code("delete_memory", {"memory_id": gone, "reason": "wrong", "binding": old.binding}) == "ok"

    merge(server, old, new)

    assert is_sound(server)
    listed = json.loads(server.wire().call("list_memories", {"workspace_id": new.workspace_id}).body)
    rows = listed["result"]["structuredContent"]["memories"]
    assert {(row["memory_id"], row["workspace_id"]) for row in rows} == {
        (kept, new.workspace_id), (theirs, new.workspace_id),
    }  # fmt: skip
    core = server.services.core
    assert core.index.wait_for(core.root.feed.head(), 30)
    found = json.loads(server.wire().call("search_memory", {"query": "quokka"}).body)["result"]["structuredContent"]
    assert {hit["workspace_id"] for hit in found["hits"]} == {new.workspace_id}
    assert remember(server, old, "Stored under the old binding.") not in (kept, gone, theirs)
    assert is_sound(server)


@pytest.mark.spec("WS-6", "MEM-1")
def test_a_memory_that_differs_in_the_two_refuses_the_merge(server: Server) -> None:
    old, new = two(server)
    memory_id = remember(server, old, "One.")
    server.services.core.journal.flush()
    (file,) = (server.root / "workspaces" / old.workspace_id / "memories").rglob(f"{memory_id}.md")
    copy = server.root / "workspaces" / new.workspace_id / file.relative_to(file.parents[3])
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(file.read_bytes().replace(b"One.", b"Two."))
    place = {"workspace_id": old.workspace_id, "into": new.workspace_id}

    assert memory_id in operate(server, "merge", **place).json["notes"][0]
    assert operate(server, "merge", **place, apply=True).code == "conflict"

    copy.write_bytes(file.read_bytes())
    merge(server, old, new)
    assert is_sound(server)
