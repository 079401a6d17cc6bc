"""Workspaces renamed, archived, and taken from one root to another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from federated_memory.operate.check import check_root
from federated_memory.operate.exchange import export_to, lay_down, read_identity
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Http, Reply, Server

LINE = b'{"type":"user","message":{"role":"user","content":"xyzzy"},"timestamp":"2026-11-20T08:00:00Z"}\n'


def operate(server: Server, action: str, **arguments: Any) -> Reply:
    body = json.dumps(arguments).encode()
    return server.http(ADMIN_TOKEN).request("POST", f"/api/v1/operations/{action}", body)


def url(workspace_id: str, place: str) -> str:
    return f"/api/v1/workspaces/{workspace_id}/{place}"


def fill(server: Server, name: str = "home") -> tuple[Home, Http]:
    home = server.settle(name)
    http = server.http(SYNC_TOKEN, x_write_token=home.write_token)
    for number in (1, 2, 3):
        assert http.request("PUT", url(home.workspace_id, "knowledge/a/b.md"), b"# xyzzy %d" % number).status < 300
    http.request("PUT", url(home.workspace_id, "knowledge/gone.md"), b"# gone")
    http.request("DELETE", url(home.workspace_id, "knowledge/gone.md"))
    http.request("PUT", url(home.workspace_id, "overview"), b"# overview xyzzy")
    for data in (LINE, LINE * 2, b"{}\n"):
        assert http.request("PUT", url(home.workspace_id, "sessions/s1"), data).status < 300
    server.services.core.journal.flush()
    return home, http


def is_sound(server: Server) -> bool:
    server.services.core.journal.flush()
    return check_root(server.root, read_data=True, pause_seconds=0).is_clean


@pytest.mark.spec("WS-4")
def test_a_renamed_workspace_is_reached_by_both_ids(server: Server) -> None:
    home, http = fill(server)

    assert operate(server, "rename", workspace_id=home.workspace_id, to="new-name").status == 200

    assert is_sound(server)
    for name in (home.workspace_id, "new-name"):
        assert http.request("GET", url(name, "knowledge/a/b.md")).body == b"# xyzzy 3"
        assert http.request("GET", url(name, "knowledge/a/b.md?version=1")).body == b"# xyzzy 1"
        assert http.request("GET", url(name, "sessions/s1?revision=1")).body == LINE * 2
    rows = server.http(AI_TOKEN).request("GET", "/api/v1/workspaces").json["workspaces"]
    assert [(row["workspace_id"], row["documents"], row["sessions"]) for row in rows] == [("new-name", 1, 1)]
    assert http.request("PUT", url(home.workspace_id, "knowledge/c.md"), b"# C").status == 201
    assert server.wire().code("write_knowledge", {"path": "d.md", "text": "# D", "binding": home.binding}) == "ok"
    again = server.http(SYNC_TOKEN).post("/api/v1/workspaces", {"machine": "box", "tool": "claude", "project": "home"})
    assert again.json["workspace_id"] == "new-name"
    core = server.services.core
    assert core.index.wait_for(core.root.feed.head(), 30)
    hits = json.loads(server.wire().call("search_memory", {"query": "xyzzy"}).body)["result"]["structuredContent"][
        "hits"
    ]
    assert {hit["workspace_id"] for hit in hits} == {"new-name"}
    assert is_sound(server)


@pytest.mark.spec("WS-4", "AUTH-6")
def test_rights_go_by_the_new_id(server: Server) -> None:
    home, _ = fill(server)
    old = server.token("old", "ai", read=(home.workspace_id,), write=(home.workspace_id,))
    new = server.token("new", "ai", read=("new-*",), write=("new-*",))

    operate(server, "rename", workspace_id=home.workspace_id, to="new-name")

    for name in (home.workspace_id, "new-name"):
        assert server.http(old).request("GET", url(name, "knowledge/a/b.md")).code == "forbidden"
        assert server.http(old).request("PUT", url(name, "knowledge/a/b.md"), b"x").code in ("forbidden", "not_bound")
    assert server.http(new).request("GET", url("new-name", "knowledge/a/b.md")).status == 200


@pytest.mark.spec("WS-4")
@pytest.mark.parametrize(
    ("to", "code"),
    [("box-claude-home", "conflict"), ("box-claude-other", "conflict"), ("../x", "invalid_name"), ("", "invalid_name")],
)
def test_a_name_that_cannot_be_is_refused(server: Server, to: str, code: str) -> None:
    home, _ = fill(server)
    server.settle("other")
    before = server.files()

    assert operate(server, "rename", workspace_id=home.workspace_id, to=to).code == code
    assert operate(server, "rename", workspace_id="nothing", to="x").code == "not_found"
    assert server.files() == before


@pytest.mark.spec("WS-4")
def test_a_rename_that_was_interrupted_is_finished(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    home, http = fill(server)
    moving = server.services.operations._moving

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(moving), "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            moving.rename(server.services.core.registry.get(home.workspace_id).workspace_id, "new-name", _actor())  # type: ignore[arg-type]
    assert (server.root / "workspaces" / home.workspace_id).exists()  # the broken twin stops here

    moving.finish()

    assert not (server.root / "workspaces" / home.workspace_id).exists()
    assert http.request("GET", url("new-name", "knowledge/a/b.md")).body == b"# xyzzy 3"
    assert is_sound(server)


def _actor() -> Any:
    from federated_memory.store.changes import Actor

    return Actor("tester")


@pytest.mark.spec("WS-5")
def test_an_archived_workspace_is_read_but_neither_listed_nor_written(server: Server) -> None:
    home, http = fill(server)
    place = url(home.workspace_id, "knowledge/a/b.md")

    assert operate(server, "archive", workspace_id=home.workspace_id).json["archived"] is True

    assert server.http(AI_TOKEN).request("GET", "/api/v1/workspaces").json["workspaces"] == []
    assert http.request("GET", place).status == 200
    refused = http.request("PUT", place, b"# new")
    assert (refused.code, "archived" in refused.json["message"]) == ("forbidden", True)
    assert server.wire().code("write_overview", {"text": "x", "binding": home.binding}) == "forbidden"
    assert operate(server, "archive", workspace_id=home.workspace_id, undo=True).json["archived"] is False
    assert http.request("PUT", place, b"# new").status == 200


def exported(server: Server, home: Home, to: Path) -> Path:
    made = operate(server, "snapshot", workspace_id=home.workspace_id).json
    export_to(Path(made["path"]) / "workspaces" / home.workspace_id, to)
    operate(server, "release", name=made["name"])
    return to


def taken(server: Server, folder: Path, **other: str) -> Reply:
    identity = read_identity(folder)
    name = lay_down(folder, server.root)
    wanted = {field: getattr(identity, field) for field in identity.__slots__}
    return operate(server, "adopt", name=name, **{**wanted, **other})


def stored(root: Path, workspace_id: str) -> dict[str, bytes]:
    top = root / "workspaces" / workspace_id
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and path.name != "identity.json"
    }


@pytest.mark.spec("EXPORT-1", "EXPORT-2")
def test_an_imported_workspace_equals_the_exported_one(server: Server, tmp_path: Path) -> None:
    home, _ = fill(server)
    folder = exported(server, home, tmp_path / "out")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("mine")
    (folder / "knowledge" / "link.md").symlink_to("/etc/passwd")

    assert taken(server, folder).code == "conflict"
    done = taken(server, folder, workspace_id="copy", machine="other")

    assert done.status == 200, done
    assert done.json["problems"] == []
    server.services.core.journal.flush()
    assert stored(server.root, "copy") == stored(server.root, home.workspace_id)
    http = server.http(ADMIN_TOKEN)
    for place in (
        "knowledge/a/b.md",
        "knowledge/a/b.md?version=1",
        "sessions/s1",
        "sessions/s1?revision=1",
        "overview",
    ):
        assert http.request("GET", url("copy", place)).body == http.request("GET", url(home.workspace_id, place)).body
    assert not check_root(server.root, read_data=True, pause_seconds=0).count("error")
    assert (folder / "knowledge" / "a" / "b.md").read_text() == "# xyzzy 3"  # as git and Obsidian see it
    shutil.rmtree(folder)


@pytest.mark.spec("EXPORT-2", "SEC-1")
@pytest.mark.parametrize("name", ["", "..", "../snapshots", "x" * 16, "0" * 16, "a/b"])
def test_nothing_else_is_taken_over(server: Server, name: str) -> None:
    wanted = {"workspace_id": "copy", "machine": "m", "tool": "t", "project": "p"}

    assert operate(server, "adopt", name=name, **wanted).code == "not_found"
    assert not (server.root / "workspaces" / "copy").exists()


@pytest.mark.spec("EXPORT-1")
def test_a_folder_that_holds_something_is_left_alone(server: Server, tmp_path: Path) -> None:
    home, _ = fill(server)
    (tmp_path / "mine").write_text("mine")

    with pytest.raises(Exception, match="not an empty folder"):
        exported(server, home, tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
