"""The client's `sync` against a real server: sessions of every agent, knowledge both ways, and trouble on the way."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts.client_module import load_client
from tests.e2e.conftest import Api, RunningServer, Workspace

SCRIPT = Path(__file__).parents[2] / "client" / "memory_sync.py"
SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@pytest.fixture
def sync() -> Iterator[ModuleType]:
    yield load_client("memory_sync_e2e")
    del sys.modules["memory_sync_e2e"]


class Machine:
    """A person's home with agents' files in it, and the client there."""

    def __init__(self, sync: ModuleType, home: Path, server: RunningServer, name: str = "box") -> None:
        self.sync, self.home, self.server = sync, home, server
        self.config = sync.Config(url=server.url, machine=name, sync_token=server.sync_token)
        self.requests: list[str] = []

    def run(self, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(self.home))
            for name in ("MEMORY_SYNC_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_DATA_HOME", "GEMINI_CLI_HOME"):
                patch.delenv(name, raising=False)
            state = self.sync.open_state()
            try:
                with self.sync.Server(self.config) as server:
                    request = server.request
                    self.requests = []

                    def counted(method: str, path: str, **rest: Any) -> Any:
                        self.requests.append(f"{method} {path.partition('?')[0]}")
                        return request(method, path, **rest)

                    server.request = counted
                    return self.sync.sync(server, state, self.config, **options)
            finally:
                state.close()

    def query(self, statement: str) -> list[dict[str, Any]]:
        import sqlite3

        with sqlite3.connect(self.home / ".memory-sync" / "state.sqlite3") as state:
            state.row_factory = sqlite3.Row
            found = [dict(row) for row in state.execute(statement)]
        state.close()
        return found

    def project(self, name: str) -> Path:
        folder = self.home / "work" / name
        if not folder.exists():
            (folder / ".git").mkdir(parents=True)
            (folder / ".git" / "config").write_text(f'[remote "origin"]\nurl = https://x.org/me/{name}\n')
        return folder

    def claude(self, project: str, name: str, *turns: str) -> Path:
        cwd = str(self.project(project))
        folder = self.home / ".claude" / "projects" / cwd.replace("/", "-").replace(".", "-").replace("_", "-")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.jsonl"
        with open(path, "a", encoding="utf-8") as file:
            for turn in turns:
                line = {"type": "user", "cwd": cwd, "sessionId": name, "message": {"role": "user", "content": turn}}
                file.write(json.dumps(line) + "\n")
        old = 1_700_000_000 + path.stat().st_size
        os.utime(path, (old, old))
        return path

    def codex(self, project: str, name: str) -> Path:
        folder = self.home / ".codex" / "sessions" / "2026" / "11" / "21"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rollout-2026-11-21T03-59-08-{name}.jsonl"
        record = {"type": "session_meta", "payload": {"id": name, "cwd": str(self.project(project))}}
        path.write_text(json.dumps(record) + "\n")
        return path

    def note(self, project: str, name: str, text: str | None) -> Path:
        folder = self.claude(project, "noted", "x").parent / "memory"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
        return path

    def workspace(self, workspace_id: str, api: Api) -> Workspace:
        tokens = json.loads((self.home / ".memory-sync" / "write-tokens.json").read_text())
        return Workspace(api, workspace_id, tokens[workspace_id])


@pytest.fixture
def machine(sync: ModuleType, tmp_path: Path, serve: Any) -> Machine:
    home = tmp_path / "person"
    home.mkdir()
    return Machine(sync, home, serve())


@pytest.mark.spec("SYNC-16", "SYNC-1")
def test_every_session_arrives_once_and_a_second_run_asks_nothing(machine: Machine) -> None:
    first = machine.claude("shop", "one", "hello", f"my token is {SECRET}")
    machine.claude("blog", "two", "bye")
    machine.codex("shop", "0195d3a4-7a31-4c22-9d6f-0123456789ab")

    report = machine.run()
    again = machine.run(only=("claude-code", "codex"))

    assert (report.sent, report.waiting, report.errors, report.redactions) == (3, 0, [], 1)
    assert {row["workspace_id"] for row in machine.query("SELECT * FROM sessions")} == {
        "box-claude-code-shop", "box-claude-code-blog", "box-codex-shop"}  # fmt: skip
    assert (again.files_seen, again.unchanged, machine.requests) == (3, 3, [])
    with machine.server.api() as api:
        answer = machine.workspace("box-claude-code-shop", api).call("GET", "sessions/one")
    assert answer.body == first.read_bytes().replace(SECRET.encode(), b"[REDACTED:github-token]")


@pytest.mark.spec("SYNC-16")
def test_a_session_that_grew_is_appended(machine: Machine) -> None:
    machine.claude("shop", "one", "hello")
    machine.run()
    path = machine.claude("shop", "one", "more", "and more")

    report = machine.run()

    assert (report.sent, report.appended) == (0, 1)
    with machine.server.api() as api:
        assert machine.workspace("box-claude-code-shop", api).call("GET", "sessions/one").body == path.read_bytes()


@pytest.mark.spec("SYNC-16")
def test_a_server_that_lost_everything_gets_everything_again(machine: Machine, serve: Any) -> None:
    machine.claude("shop", "one", "hello")
    machine.note("shop", "MEMORY.md", "note\n")
    machine.run()
    machine.server = serve("another")
    machine.config.url = machine.server.url

    report = machine.run()

    assert report.errors == []
    with machine.server.api() as api:
        shop = machine.workspace("box-claude-code-shop", api)
        assert shop.call("GET", "sessions/one").status == 200
        assert shop.call("GET", "knowledge/auto/MEMORY.md").body == b"note\n"


@pytest.mark.spec("SYNC-16")
def test_once_a_day_one_plan_asks_for_all_sessions_of_a_workspace(machine: Machine) -> None:
    for number in range(5):
        machine.claude("shop", f"s{number}", "hello")
    machine.run()
    database = machine.home / ".memory-sync" / "state.sqlite3"
    import sqlite3

    with sqlite3.connect(database) as state:
        state.execute("UPDATE facts SET value = ? WHERE key = 'verified'", (f"{machine.config.url} 1000",))
        state.execute("UPDATE sessions SET etag = ? WHERE session_id = 's3'", ("0" * 64,))
    state.close()

    report = machine.run(only=("claude-code",))

    assert machine.requests == [
        "POST /api/v1/workspaces/box-claude-code-shop/plan",
        "HEAD /api/v1/workspaces/box-claude-code-shop/sessions/s3",
    ]
    assert report.unchanged == 5


@pytest.mark.spec("SYNC-17")
def test_one_bad_file_does_not_stop_the_others(machine: Machine) -> None:
    machine.claude("shop", "good", "hello")
    (machine.project("odd") / ".memory-workspace").write_text("Not An Id")
    machine.claude("odd", "bad", "hello")
    machine.note("shop", "latin.md", "").write_bytes(b"\xff")
    machine.note("shop", "fine.md", "fine\n")

    report = machine.run()
    again = machine.run()

    told = [error["message"] for error in report.errors]
    assert (report.sent, report.waiting, report.uploaded) == (2, 1, 1)
    assert any(".memory-workspace names no workspace" in message for message in told)
    assert any("latin.md is not UTF-8" in message for message in told)
    assert (again.sent, again.waiting) == (0, 1)
    sources = {row["name"]: row for row in machine.query("SELECT * FROM sources")}
    assert "names no workspace" in sources["claude-code"]["last_error"]
    assert sources["codex"]["last_success_at"]
    assert sources["codex"]["last_error"] == ""


@pytest.mark.spec("SYNC-17")
def test_without_a_server_everything_waits_and_arrives_later(machine: Machine, serve: Any) -> None:
    machine.claude("shop", "one", "hello")
    machine.server.stop()

    report = machine.run()
    machine.config.url = (server := serve()).url
    machine.server = server
    later = machine.run()

    assert (report.sent, report.waiting, later.sent, later.waiting) == (0, 1, 1, 0)
    assert report.errors[0]["source"] == "server"


@pytest.mark.spec("SYNC-17")
def test_a_refused_token_ends_the_run_and_is_told(machine: Machine) -> None:
    machine.claude("shop", "one", "hello")
    machine.config.sync_token = "wrong"

    with pytest.raises(machine.sync.Unauthorised):
        machine.run()

    assert "401" in machine.query("SELECT * FROM sources WHERE name = 'claude-code'")[0]["last_error"]


@pytest.mark.spec("SYNC-9")
def test_old_and_excluded_sessions_stay_here(machine: Machine) -> None:
    machine.claude("shop", "old", "hello")
    machine.claude("secret", "new", "hello")
    fresh = machine.claude("shop", "fresh", "hello")
    os.utime(fresh)
    os.utime(next(machine.home.rglob("new.jsonl")))
    machine.config.history = "2026-01-01"
    machine.config.exclude_projects = ["secret"]

    report = machine.run()
    again = machine.run()
    machine.config.exclude_projects = []
    after = machine.run()

    assert (report.sent, report.before_history, report.excluded) == (1, 1, 1)
    assert (again.before_history, again.excluded, after.sent) == (1, 1, 1)
    assert {row["session_id"] for row in machine.query("SELECT session_id FROM sessions")} == {"fresh", "new"}


@pytest.mark.spec("SYNC-18", "SYNC-14")
def test_notes_go_up_redacted_and_an_agents_edit_comes_back(machine: Machine) -> None:
    note = machine.note("shop", "MEMORY.md", f"token {SECRET}\n")
    machine.run()
    with machine.server.api() as api:
        shop = machine.workspace("box-claude-code-shop", api)
        held = shop.call("GET", "knowledge/auto/MEMORY.md")
        assert held.body == b"token [REDACTED:github-token]\n"
        edited = held.body + b"added by an agent\n"
        assert shop.call("PUT", "knowledge/auto/MEMORY.md", edited, If_Match=held.headers["etag"]).status == 200
        assert shop.call("PUT", "knowledge/auto/new/topic.md", b"new\n").status == 201

    report = machine.run()
    quiet = machine.run()

    assert (report.downloaded, report.uploaded, quiet.downloaded, quiet.uploaded) == (2, 0, 0, 0)
    assert note.read_text() == f"token {SECRET}\nadded by an agent\n"
    assert (note.parent / "new" / "topic.md").read_text() == "new\n"


@pytest.mark.spec("SYNC-13")
def test_a_conflict_keeps_both_texts_on_both_sides(machine: Machine) -> None:
    note = machine.note("shop", "MEMORY.md", "base\n")
    machine.run()
    note.write_text("mine\n")
    with machine.server.api() as api:
        shop = machine.workspace("box-claude-code-shop", api)
        shop.call("PUT", "knowledge/auto/MEMORY.md", b"theirs\n")
        report = machine.run()
        (copy,) = note.parent.glob("MEMORY.conflict-box-*.md")
        assert shop.call("GET", f"knowledge/auto/{copy.name}").body == b"mine\n"
        assert shop.call("GET", "knowledge/auto/MEMORY.md").body == b"theirs\n"

    assert (note.read_text(), copy.read_text(), report.conflicts) == ("theirs\n", "mine\n", 1)


@pytest.mark.spec("SYNC-11", "SYNC-12")
def test_a_mirror_deletes_one_document_but_not_all_of_them(machine: Machine) -> None:
    docs = machine.home / "docs"
    docs.mkdir()
    for number in range(5):
        (docs / f"{number}.md").write_text(f"{number}\n")
    manifest = {
        "workspace_id": "docs-of-box", "machine": "box", "tool": "claude-code", "project": "docs", "mode": "mirror",
        "tracked_dirs": [{"local": str(docs), "upload_prefix": "docs/", "glob": "**/*.md"}],
    }  # fmt: skip
    folder = machine.home / ".memory-sync" / "manifests"
    folder.mkdir(parents=True)
    (folder / "docs-of-box.json").write_text(json.dumps(manifest))
    machine.run()
    (docs / "0.md").unlink()
    one = machine.run()
    for file in docs.iterdir():
        file.unlink()

    stopped = machine.run()
    with machine.server.api() as api:
        held = machine.workspace("docs-of-box", api).call("GET", "knowledge").json["total"]
    allowed = machine.run(allow_deletes=True)

    assert (one.deleted, stopped.deleted, held, allowed.deleted) == (1, 0, 4, 4)
    assert "--allow-deletes" in stopped.errors[0]["message"]


@pytest.mark.spec("SYNC-2")
def test_copies_of_a_session_do_not_replace_each_other(machine: Machine) -> None:
    machine.claude("shop", "one", "hello")
    other = machine.home / "second" / "projects" / "-x" / "one.jsonl"
    other.parent.mkdir(parents=True)
    other.write_bytes(machine.claude("shop", "one").read_bytes() + b'{"type":"other"}\n')
    machine.config.profiles = [str(machine.home / "second")]

    report = machine.run()

    rows = machine.query("SELECT session_id FROM sessions")
    assert (report.sent, len({row["session_id"] for row in rows})) == (2, 2)


@pytest.mark.spec("SYNC-19")
def test_watching_sends_what_changes_until_it_is_interrupted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(machine.home))
    machine.claude("shop", "one", "hello")
    reports: list[Any] = []
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            machine.claude("shop", "one", "more")
        if len(pauses) == 4:
            raise KeyboardInterrupt

    state = machine.sync.open_state()
    with machine.sync.Server(machine.config) as server:
        machine.sync.watch(server, state, machine.config, told=reports.append, wait=wait)
    state.close()

    assert [(report.sent, report.appended) for report in reports] == [(1, 0), (0, 1)]
    assert pauses == [2.0] * 4
