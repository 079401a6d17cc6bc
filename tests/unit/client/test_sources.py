"""Projects and transcripts, found on real folders."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "project_keys.json").read_text(encoding="utf-8"))
UUID = "0195d3a4-7a31-4c22-9d6f-0123456789AB"


def git(folder: Path, *arguments: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


def repository(folder: Path, remote: str = "") -> Path:
    git(folder, "init")
    git(folder, "commit", "--allow-empty", "-m", folder.name)
    if remote:
        git(folder, "remote", "add", "origin", remote)
    return folder


def put(path: Path, text: str = "{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# -- projects


@pytest.mark.spec("SYNC-4")
@pytest.mark.parametrize("row", VECTORS, ids=[row["remote"] for row in VECTORS])
def test_one_repository_has_one_key_however_its_remote_is_written(sync: ModuleType, row: dict[str, str]) -> None:
    found = sync.normalised_remote(row["remote"], "/work/shop")

    assert found == row["normalised"]
    assert (sync.key_of(found) if found else "") == row["key"]


@pytest.mark.spec("SYNC-4")
def test_clones_worktrees_and_subfolders_are_one_project(sync: ModuleType, home: Path) -> None:
    main = repository(home / "work" / "shop-main", "git@github.com:acme/shop.git")
    clone = repository(home / "elsewhere" / "copy", "https://github.com/acme/shop")
    git(main, "worktree", "add", str(home / "trees" / "feature"))
    (main / "src" / "deep").mkdir(parents=True)

    found = [sync.project_of(place) for place in (main, clone, home / "trees" / "feature", main / "src" / "deep")]
    gone = sync.project_of(main / "was" / "deleted")

    assert {(project.name, project.key) for project in (*found, gone)} == {("shop", found[0].key)}
    assert found[3].root == str(main)
    assert "github.com/acme/shop" in found[0].why


@pytest.mark.spec("SYNC-4")
def test_without_a_remote_the_first_commit_is_the_key(sync: ModuleType, home: Path) -> None:
    first = repository(home / "one")
    subprocess.run(["cp", "-r", str(first), str(home / "two")], check=True)
    git(home / "two", "commit", "--allow-empty", "-m", "more")
    other = repository(home / "three")

    keys = [sync.project_of(place).key for place in (first, home / "two", other)]

    assert keys[0] == keys[1] != keys[2]
    assert sync.project_of(first).name == "one"


@pytest.mark.spec("SYNC-5")
def test_a_strange_repository_starts_no_program(sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = repository(home / "shop")
    trap = put(home / "trap.sh", f"#!/bin/sh\ntouch {home}/ran\n")
    trap.chmod(0o755)
    with open(shop / ".git" / "config", "a") as config:
        config.write(
            f"[core]\n\tfsmonitor = {trap}\n\tsshCommand = {trap}\n\tpager = {trap}\n[extensions]\n\tpartialClone = x\n"
        )
    monkeypatch.setenv("GIT_DIR", str(home / "nowhere"))
    found = sync.project_of(shop)
    monkeypatch.setenv("PATH", str(home))
    without_git = sync.project_of(shop)

    assert found.name == without_git.name == "shop"
    assert "named by its folder" in without_git.why
    assert not (home / "ran").exists()


@pytest.mark.spec("SYNC-5")
def test_remotes_are_read_without_git(sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    put(
        home / "a" / ".git" / "config",
        '[core]\n\tbare = false ; [remote "no"]\n[remote "fork"]\n\turl = https://x.org/me/a\n'
        '[Remote "origin"] URL = "https://x.org/they/\\\na.git" # mine\n\turl = https://second\n',
    )
    put(home / "b" / ".git", "gitdir: ../real/b\n")
    put(home / "real" / "b" / "config", '[remote "up"]\nurl=git@x.org:b/b\n')
    bare = home / "c.git"
    for name in ("objects", "refs"):
        (bare / name).mkdir(parents=True)
    put(bare / "HEAD", "ref: refs/heads/main\n")
    put(bare / "config", '[remote "origin"]\n url = /srv/c.git\n')

    found = [sync.project_of(home / name) for name in ("a", "b", "c.git")]

    assert [project.why.split()[-1] for project in found] == ["x.org/they/a", "x.org/b/b", "file:/srv/c"]


@pytest.mark.spec("SYNC-4")
def test_home_is_no_project_and_no_repository_of_what_is_in_it(sync: ModuleType, home: Path) -> None:
    repository(home, "git@github.com:me/dotfiles.git")
    (home / "notes").mkdir()

    assert sync.project_of(home).name == "home"
    assert sync.project_of(home / "notes").name == "notes"
    assert sync.project_of("/").name == "root"
    assert sync.project_of("C:\\work\\shop").name == "shop"
    assert [sync.project_of(text) for text in ("", "relative", "a\0b")] == [None, None, None]


# -- transcripts


def claude(home: Path, *parts: str, text: str = '{"cwd":"/work/shop"}\n') -> Path:
    return put(home.joinpath(".claude", "projects", "-work-shop", *parts), text)


@pytest.mark.spec("SYNC-1", "SYNC-2")
def test_every_agents_transcripts_are_found(sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "second"))
    claude(home, f"{UUID}.jsonl")
    claude(home, UUID, "subagents", "agent-a1.jsonl")
    claude(home, UUID, "subagents", "more", "agent-b2.jsonl")
    claude(home, "agent-c3.jsonl")
    put(home / "second" / "projects" / "-p" / "two.jsonl")
    put(home / "third" / "projects" / "-p" / "three.jsonl")
    put(home / ".codex" / "sessions" / "2026" / "11" / "21" / f"rollout-2026-11-21T03-59-08-{UUID}.jsonl")
    put(home / ".codex" / "archived_sessions" / "rollout-old.jsonl")
    put(home / ".gemini" / "tmp" / "shop" / "chats" / "session-2026-11-21T03-59-ab12cd34.jsonl")
    put(home / ".gemini" / "tmp" / "shop" / "chats" / "parent-id" / "child.jsonl")
    for ignored in ("notes.txt", "session.json", ".x.jsonl.swp"):
        claude(home, ignored)
    os.symlink(home / "third" / "projects" / "-p", home / ".claude" / "projects" / "-link")

    found = list(sync.transcripts(sync.Config(profiles=["~/third", "~/.claude"])))

    seen = {(item.tool, item.session_id, item.parent_id) for item in found}
    assert seen == {
        ("claude-code", UUID.lower(), ""), ("claude-code", "agent-a1", UUID), ("claude-code", "agent-b2", UUID),
        ("claude-code", "agent-c3", ""), ("claude-code", "two", ""), ("claude-code", "three", ""),
        ("codex", UUID.lower(), ""), ("codex", "rollout-old", ""),
        ("gemini-cli", "session-2026-11-21t03-59-ab12cd34", ""), ("gemini-cli", "child", "parent-id"),
    }  # fmt: skip
    assert len(found) == len(seen)
    assert all(item.size == item.path.stat().st_size for item in found)
    assert all(sync.transcript_at(item.tool, item.path).session_id == item.session_id for item in found)


@pytest.mark.spec("SYNC-1")
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_found(sync: ModuleType, home: Path) -> None:
    claude(home, "one.jsonl")
    locked = home / ".claude" / "projects" / "-locked"
    locked.mkdir()
    locked.chmod(0)
    problems: list[str] = []

    found = list(sync.transcripts(sync.Config(), (), problems))
    locked.chmod(0o700)

    assert [item.session_id for item in found] == ["one"]
    assert "-locked" in problems[0]


@pytest.mark.spec("SYNC-1")
def test_a_listing_error_is_told(sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claude(home, "one.jsonl")
    (home / ".claude" / "projects" / "-locked").mkdir()
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("-locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    problems: list[str] = []

    assert [item.session_id for item in sync.transcripts(sync.Config(), (), problems)] == ["one"]
    assert problems == [f"Cannot list {home}/.claude/projects/-locked: Permission denied"]


@pytest.mark.spec("SYNC-2")
@pytest.mark.parametrize("native_id", ["x" * 70, "Ä b", ".dot", "con", "", "a/../b", "x" * 64 + "é"])
def test_a_native_id_that_is_no_id_becomes_one(sync: ModuleType, native_id: str) -> None:
    from federated_memory.names import parse_session_id

    found = sync.legal_id(native_id)

    assert parse_session_id(found) == found
    assert found != sync.legal_id(native_id + "x")
    assert sync.legal_id("ABC-1") == "abc-1"


@pytest.mark.spec("SYNC-3")
@pytest.mark.parametrize(
    ("tool", "lines", "cwd"),
    [
        ("claude-code", ['{"type":"summary"}', '{"cwd":"/work/shop"}', '{"cwd":"/other"}'], "/work/shop"),
        ("claude-code", ["no json", '{"cwd":""}', '["x"]'], ""),
        ("codex", ['{"type":"session_meta","payload":{"id":"x","cwd":"/work/shop"}}'], "/work/shop"),
        ("codex", ['{"payload":{"cwd":"/wo\\"rk","base":"' + "x" * 100_000 + '"}}'], '/wo"rk'),
        ("claude-code", ["x" * 70_000, '{"cwd":"/too/late"}'], ""),
        ("opencode", ['{"info":{"id":"ses_1","directory":"/work/shop"}}'], "/work/shop"),
    ],
)
def test_a_transcripts_lines_tell_its_directory(
    sync: ModuleType, home: Path, tool: str, lines: list[str], cwd: str
) -> None:
    path = put(home / "t.jsonl", "\n".join(lines) + "\n")

    assert sync.lines_cwd(sync.transcript_at(tool, path)) == cwd


@pytest.mark.spec("SYNC-2", "SYNC-3")
def test_geminis_id_is_in_its_header_and_its_directory_in_the_registry(sync: ModuleType, home: Path) -> None:
    header = '{"sessionId":"AB12-full","projectHash":"h","startTime":"2026-11-21T03:59:08Z"}\n'
    gemini = home / ".gemini"
    one = put(gemini / "tmp" / "shop" / "chats" / "session-1-ab12.jsonl", header)
    two = put(gemini / "tmp" / "blog" / "chats" / "session-1-cd34.jsonl", header)
    old = put(gemini / "tmp" / sync.key_of("/work/old") / "chats" / "session-1-ef56.jsonl", header)
    put(gemini / "tmp" / "shop" / ".project_root", "/work/shop\n")
    put(gemini / "projects.json", json.dumps({"projects": {"/work/blog": "blog", "/work/old": "old"}}))

    found = [sync.transcript_at("gemini-cli", path) for path in (one, two, old)]

    assert [item.session_id for item in found] == ["ab12-full"] * 3
    assert [sync.lines_cwd(item) for item in found] == ["/work/shop", "/work/blog", "/work/old"]


@pytest.mark.spec("SYNC-8")
def test_an_older_gemini_chat_becomes_lines_that_grow(sync: ModuleType, home: Path) -> None:
    chat = {"sessionId": "S-1", "projectHash": "h", "startTime": "2026-01-01T00:00:00Z", "lastUpdated": "1"}
    path = home / ".gemini" / "tmp" / "shop" / "chats" / "session-1-ab.json"
    message = {"id": "1", "timestamp": "2026-01-01T00:00:00Z", "type": "user", "content": "hello"}
    put(path, json.dumps({**chat, "messages": [message]}, indent=2))
    put(home / ".gemini" / "tmp" / "shop" / ".project_root", "/work/shop")
    (first,) = sync.transcripts(sync.Config())
    before = first.path.read_bytes()
    put(path, json.dumps({**chat, "lastUpdated": "2", "messages": [message, {**message, "id": "2"}]}, indent=2))
    os.utime(path, ns=(2 * 10**18, 2 * 10**18))

    (second,) = sync.transcripts(sync.Config())

    assert second.path == first.path
    assert second.path.read_bytes().startswith(before)
    assert len(second.path.read_bytes().splitlines()) == 3
    assert sync.identified(second).native_id == "S-1"
    assert sync.lines_cwd(second) == "/work/shop"


class Opencode:
    """opencode's database, as its newer versions keep it."""

    def __init__(self, home: Path) -> None:
        path = home / ".local" / "share" / "opencode" / "opencode.db"
        path.parent.mkdir(parents=True)
        self.database = sqlite3.connect(path)
        self.database.executescript(
            "CREATE TABLE session (id TEXT, project_id TEXT, parent_id TEXT, directory TEXT, title TEXT, version TEXT,"
            " time_created INTEGER, time_updated INTEGER);"
            "CREATE TABLE message (id TEXT, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT);"
            "CREATE TABLE part (id TEXT, message_id TEXT, session_id TEXT, time_created INTEGER, time_updated INTEGER,"
            " data TEXT);"
        )
        self.clock = int(time.time() * 1000)
        self.database.execute(
            "INSERT INTO session VALUES ('ses_A', 'p', NULL, '/work/shop', 'New session - 1', '1', 1, ?)", (self.clock,)
        )
        self.database.commit()

    def say(self, number: int, role: str, text: str, *, completed: bool = True) -> None:
        self.clock += 1
        clock = {"created": number, **({"completed": number} if completed and role == "assistant" else {})}
        for table, key in (("message", f"msg_{number}"), ("part", f"prt_{number}")):
            self.database.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
        self.database.execute(
            "INSERT INTO message VALUES (?, 'ses_A', ?, ?, ?)",
            (f"msg_{number}", number, self.clock, json.dumps({"role": role, "time": clock})),
        )
        self.database.execute(
            "INSERT INTO part VALUES (?, ?, 'ses_A', ?, ?, ?)",
            (f"prt_{number}", f"msg_{number}", number, self.clock, json.dumps({"type": "text", "text": text})),
        )
        self.database.commit()

    def title(self, text: str) -> None:
        self.clock += 1
        self.database.execute("UPDATE session SET title = ?, time_updated = ?", (text, self.clock))
        self.database.commit()


@pytest.mark.spec("SYNC-8")
def test_opencodes_export_only_grows_and_the_server_reads_it(sync: ModuleType, home: Path) -> None:
    from federated_memory.transcripts import read_turns, reader_of

    agent = Opencode(home)
    states = []
    for step in (
        lambda: agent.say(1, "user", "hello"),
        lambda: agent.say(2, "assistant", "thinki", completed=False),
        lambda: agent.say(2, "assistant", "thinking done"),
        lambda: agent.title("Greeting"),
        lambda: agent.say(3, "user", "bye"),
    ):
        step()
        (found,) = sync.transcripts(sync.Config())
        states.append(found.path.read_bytes())
    agent.database.close()
    (again,) = sync.transcripts(sync.Config())

    assert all(later.startswith(earlier) for earlier, later in pairwise(states))
    assert again == found
    assert (again.session_id, again.cwd) == ("ses_a", "/work/shop")
    turns = [
        turn for n, line in enumerate(states[-1].splitlines()) for turn in read_turns(reader_of("opencode"), line, n)
    ]
    assert [(turn.role, turn.text) for turn in turns] == [
        ("user", "hello"), ("assistant", "thinking done"), ("system", "Greeting"), ("user", "bye"),
    ]  # fmt: skip
    assert sync.lines_cwd(again) == "/work/shop"


@pytest.mark.spec("SYNC-8")
def test_opencodes_older_files_are_exported_too(sync: ModuleType, home: Path) -> None:
    storage = home / ".local" / "share" / "opencode" / "storage"
    info = {"id": "ses_B", "directory": "/work/shop", "title": "Old", "time": {"created": 1, "updated": 2}}
    put(storage / "session" / "p" / "ses_B.json", json.dumps(info))
    put(
        storage / "message" / "ses_B" / "msg_1.json",
        json.dumps({"id": "msg_1", "role": "user", "time": {"created": 1}}),
    )
    put(storage / "part" / "msg_1" / "prt_1.json", json.dumps({"id": "prt_1", "type": "text", "text": "hello"}))
    put(storage / "session" / "p" / "ses_C.json", "{ torn")
    problems: list[str] = []

    (found,) = sync.transcripts(sync.Config(), (), problems)

    assert [json.loads(line)["info"]["id"] for line in found.path.read_bytes().splitlines()] == [
        "ses_B",
        "msg_1",
        "ses_B",
    ]
    assert "ses_C.json" in problems[0]


@pytest.mark.spec("SYNC-18")
def test_claudes_notes_belong_to_the_directory_of_their_sessions(sync: ModuleType, home: Path) -> None:
    claude(home, "one.jsonl", text='{"cwd":"/elsewhere"}\n')
    claude(home, "two.jsonl", text='{"cwd":"/work/shop"}\n')
    claude(home, "memory", "MEMORY.md", text="note")
    put(home / ".claude" / "projects" / "-unknown" / "memory" / "MEMORY.md", "note")

    found = {item.folder.parent.name: item.cwd for item in sync.memory_folders(sync.Config())}

    assert found == {"-work-shop": "/work/shop", "-unknown": ""}
