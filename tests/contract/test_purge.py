"""What was purged is nowhere any more, and no sync brings it back."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from federated_memory.names import etag_of
from federated_memory.operate.check import check_root
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Http, Reply, Server

CANARY = b"zanzibarcanary"
LINE = b'{"type":"user","message":{"role":"user","content":"%s"},"timestamp":"2026-11-20T08:00:00Z"}\n' % CANARY
OTHER = LINE.replace(CANARY, b"harmless")


def operate(server: Server, action: str, **arguments: Any) -> Reply:
    body = json.dumps(arguments).encode()
    return server.http(ADMIN_TOKEN).request("POST", f"/api/v1/operations/{action}", body)


def purge(server: Server, kind: str, home: Home, key: str = "") -> dict[str, Any]:
    reply = operate(server, "purge", kind=kind, workspace_id=home.workspace_id, key=key)
    assert reply.status == 200, reply
    return dict(reply.json)


def sync(server: Server, home: Home) -> Http:
    return server.http(SYNC_TOKEN, x_write_token=home.write_token)


def url(home: Home, place: str) -> str:
    return f"/api/v1/workspaces/{home.workspace_id}/{place}"


def left(server: Server) -> list[str]:
    """Every file below the root that holds the canary, packed or not."""
    server.services.core.journal.flush()
    found = []
    for path in sorted(server.root.rglob("*")):
        if path.is_file() and not path.name.startswith("audit"):
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            if CANARY in data.lower() or CANARY in path.name.encode():
                found.append(str(path.relative_to(server.root)))
    return found


def index(server: Server) -> None:
    core = server.services.core
    assert core.index.wait_for(core.root.feed.head(), 30)


@pytest.mark.spec("PURGE-1", "PURGE-2")
def test_a_purged_session_is_gone_with_all_it_replaced(server: Server) -> None:
    home = server.settle()
    http = sync(server, home)
    for data in (LINE, OTHER + LINE, OTHER):
        assert http.request("PUT", url(home, "sessions/s1"), data).status in (200, 201)
    assert http.request("PUT", url(home, "sessions/kept"), OTHER * 2).status == 201
    index(server)
    assert left(server)

    done = purge(server, "session", home, "s1")

    index(server)
    assert done["files"] >= 3
    assert left(server) == []
    assert http.request("GET", url(home, "sessions/s1")).status == 404
    assert http.request("GET", url(home, "sessions/kept")).body == OTHER * 2
    for again in (LINE, OTHER):
        refused = http.request("PUT", url(home, "sessions/s1"), again)
        assert (refused.status, refused.code) == (403, "forbidden")
        assert "purged" in refused.json["message"]
    plan = {"knowledge": {}, "sessions": {"s1": {"bytes": len(LINE), "sha256": etag_of(LINE)}}}
    asked = http.request("POST", url(home, "plan"), json.dumps(plan).encode())
    assert asked.json["sessions"] == {}
    assert server.services.core.archives.recover().adopted == 0
    assert not check_root(server.root, read_data=True, pause_seconds=0).count("error")
    assert purge(server, "session", home, "s1")["files"] == 0  # again: nothing is left to do


@pytest.mark.spec("PURGE-1", "PURGE-2")
def test_a_purged_document_is_gone_with_every_version(server: Server) -> None:
    home = server.settle()
    http = sync(server, home)
    for text in (b"# one " + CANARY, b"# two " + CANARY, b"# three " + CANARY):
        assert http.request("PUT", url(home, "knowledge/a/b.md"), text).status in (200, 201)
    http.request("PUT", url(home, "knowledge/kept.md"), b"# kept")
    index(server)

    purge(server, "knowledge", home, "a/b.md")

    index(server)
    assert left(server) == []
    assert http.request("GET", url(home, "knowledge/a/b.md")).status == 404
    assert http.request("GET", url(home, "versions/a/b.md")).status == 404
    for place in ("knowledge/a/b.md", "knowledge/elsewhere.md"):
        assert http.request("PUT", url(home, place), b"# two " + CANARY).code == "forbidden"
    plan = {"knowledge": {"a/b.md": etag_of(b"# two " + CANARY), "new.md": etag_of(b"?")}, "sessions": {}}
    assert http.request("POST", url(home, "plan"), json.dumps(plan).encode()).json["knowledge"] == ["new.md"]
    found = server.wire(AI_TOKEN).call("search_memory", {"query": CANARY.decode()})
    assert json.loads(found.body)["result"]["structuredContent"]["hits"] == []
    assert not check_root(server.root, read_data=True, pause_seconds=0).count("error")
    # Other text at the same path is welcome, and counts from 1.
    assert http.request("PUT", url(home, "knowledge/a/b.md"), b"# clean").json["version"] == 1
    server.services.core.journal.flush()
    assert not check_root(server.root, read_data=True, pause_seconds=0).count("error")


@pytest.mark.spec("PURGE-1", "PURGE-2")
def test_a_purged_workspace_is_gone_and_cannot_be_registered(server: Server) -> None:
    home, other = server.settle(CANARY.decode()), server.settle("other")
    http = sync(server, home)
    http.request("PUT", url(home, "knowledge/a.md"), CANARY)
    http.request("PUT", url(home, "overview"), CANARY)
    http.request("PUT", url(home, "sessions/s"), LINE)
    index(server)

    purge(server, "workspace", home)

    assert not (server.root / "workspaces" / home.workspace_id).exists()
    assert home.workspace_id not in server.http(AI_TOKEN).request("GET", "/api/v1/workspaces").body.decode()
    names = {"machine": "box", "tool": "claude", "project": CANARY.decode()}
    assert server.http(SYNC_TOKEN).post("/api/v1/workspaces", names).code == "forbidden"
    assert server.http(ADMIN_TOKEN).request("GET", url(other, "knowledge")).status == 200
    server.services.core.scan.workspace(server.services.core.registry.all()[0].workspace_id)
    assert not check_root(server.root, read_data=True, pause_seconds=0).count("error")
    # Only the name is left: in the feed and in the tombstone.
    for path in left(server):
        assert path.startswith(("_meta/state.sqlite3", "_meta/index.sqlite3")), path


@pytest.mark.spec("PURGE-1")
def test_the_broken_twin_that_only_deletes_leaves_the_text_in_the_databases(server: Server) -> None:
    home = server.settle()
    sync(server, home).request("PUT", url(home, "knowledge/a.md"), b"# one " + CANARY)
    index(server)
    server.services.core.journal.flush()

    sync(server, home).request("DELETE", url(home, "knowledge/a.md"))

    assert any(path.startswith("_meta/") for path in left(server))


@pytest.mark.spec("PURGE-3")
def test_the_same_bytes_elsewhere_are_told(server: Server) -> None:
    home = server.settle()
    http = sync(server, home)
    http.request("PUT", url(home, "sessions/one"), LINE)
    http.request("PUT", url(home, "sessions/two"), LINE)

    done = purge(server, "session", home, "one")

    assert any("session two" in note for note in done["notes"])
    assert http.request("GET", url(home, "sessions/two")).body == LINE


@pytest.mark.spec("PURGE-1", "SEC-1")
@pytest.mark.parametrize(
    ("kind", "key", "code"),
    [
        ("session", "nothing", "not_found"), ("session", "../x", "invalid_name"), ("session", "", "invalid_name"),
        ("knowledge", "nothing.md", "not_found"), ("knowledge", "../../x.md", "invalid_name"),
        ("knowledge", "", "invalid_name"), ("memory", "x", "not_found"), ("workspace", "x", "invalid_argument"),
        ("overview", "", "not_found"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(server: Server, kind: str, key: str, code: str) -> None:
    home = server.settle()

    reply = operate(server, "purge", kind=kind, workspace_id=home.workspace_id, key=key)

    assert reply.code == code


@pytest.mark.spec("PURGE-1")
@pytest.mark.parametrize("workspace_id", ["nothing", "../x", "", "x/y"])
def test_an_unknown_workspace_is_told(shared: Server, workspace_id: str) -> None:
    reply = operate(shared, "purge", kind="workspace", workspace_id=workspace_id)

    assert reply.code in ("not_found", "invalid_name")


@pytest.mark.spec("GC-1")
def test_gc_keeps_the_newest_and_says_first_what_goes(server: Server) -> None:
    home = server.settle()
    http = sync(server, home)
    for number in range(1, 11):
        http.request("PUT", url(home, "knowledge/a.md"), b"# %d" % number)
    for number in range(1, 5):
        http.request("PUT", url(home, "sessions/s"), LINE.replace(CANARY, b"take %d" % number))
    server.services.core.journal.flush()
    before = server.files()

    dry = operate(server, "gc", keep_versions=3, keep_days=0).json
    young = operate(server, "gc", keep_versions=3, keep_days=30, apply=True).json
    assert server.files() == before
    done = operate(server, "gc", keep_versions=3, keep_days=0, apply=True).json

    assert (dry["versions"], dry["revisions"], dry["applied"]) == (7, 1, False)
    assert (young["versions"], young["revisions"]) == (0, 0)
    assert (done["versions"], done["revisions"], done["applied"]) == (7, 1, True)
    assert http.request("GET", url(home, "knowledge/a.md")).body == b"# 10"
    assert http.request("GET", url(home, "knowledge/a.md?version=8")).body == b"# 8"
    gone = http.request("GET", url(home, "knowledge/a.md?version=7"))
    assert (gone.status, "gc" in gone.json["message"]) == (404, True)
    assert http.request("GET", url(home, "sessions/s?revision=1")).status == 404
    assert http.request("GET", url(home, "sessions/s?revision=2")).status == 200
    assert server.services.core.archives.recover().adopted == 0
    assert not check_root(server.root, read_data=True, pause_seconds=0).count("error")
    assert operate(server, "gc", keep_versions=3, keep_days=0, apply=True).json["versions"] == 0


@pytest.mark.spec("GC-1")
@pytest.mark.parametrize("arguments", [{"keep_versions": 0, "keep_days": 1}, {"keep_versions": 1, "keep_days": -1}, {}])
def test_a_policy_that_keeps_nothing_is_refused(shared: Server, arguments: dict[str, int]) -> None:
    assert operate(shared, "gc", **arguments).code == "invalid_argument"
