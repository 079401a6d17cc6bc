"""The brief of a session's start: in the agent's form, in time, or not at all (SPEC: BRIEF-8)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

TEXT = '# Memory brief\nFirst: register_workspace(machine="laptop"). Stored: \u00fcber \u4e2d\u6587 "quoted".'


class StandIn:
    """A server on loopback that answers with `body`, after `released` is set."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.tokens: list[str | None] = []
        self.status = 200
        self.body: Callable[[dict[str, list[str]]], bytes] = lambda _: json.dumps(
            {"workspace_id": "w", "why": "because", "text": TEXT, "truncated": False, "as_of": "now"}
        ).encode()
        self.released = threading.Event()
        self.released.set()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                assert url.path == "/api/v1/brief"
                stand_in.asked.append(parse_qs(url.query))
                stand_in.tokens.append(self.headers.get("Authorization"))
                stand_in.released.wait()
                body = stand_in.body(stand_in.asked[-1])
                kind = "application/json" if stand_in.status == 200 else "application/problem+json"
                self.send_response(stand_in.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[StandIn]:
    opened = StandIn()
    yield opened
    opened.close()


@pytest.fixture
def project(home: Path) -> Path:
    """A repository with a remote, in the home."""
    folder = home / "work" / "shop"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / ".git" / "config").write_text('[remote "origin"]\n\turl = git@example.com:team/shop.git\n')
    return folder


def config_of(sync: ModuleType, server: StandIn, **values: Any) -> Any:
    return sync.Config(url=server.url, machine="laptop", **{"sync_token": "sync-secret", **values})


def log_of(home: Path) -> str:
    path = home / ".memory-sync" / "log"
    return path.read_text() if path.exists() else ""


def event(cwd: Path, **values: str) -> bytes:
    return json.dumps({"session_id": "s", "hook_event_name": "SessionStart", "cwd": str(cwd), **values}).encode()


@pytest.mark.spec("BRIEF-8")
@pytest.mark.parametrize(
    ("client", "tool"),
    [("claude", "claude-code"), ("claude-code", "claude-code"), ("codex", "codex"), ("gemini", "gemini-cli")],
)
def test_an_agent_gets_the_brief_of_its_project_in_its_hooks_form(
    sync: ModuleType, server: StandIn, project: Path, client: str, tool: str
) -> None:
    printed = sync.brief(config_of(sync, server), client=client, stdin_bytes=event(project, source="startup"))

    assert json.loads(printed) == {"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": TEXT}}
    assert printed.endswith("\n")
    assert printed.isascii()
    (asked,) = server.asked
    key = sync.key_of("example.com/team/shop")
    assert asked == {
        "machine": ["laptop"], "tool": [tool], "project": ["shop"], "project_key": [key], "max_bytes": ["8800"]
    }  # fmt: skip
    assert server.tokens == ["Bearer sync-secret"]


@pytest.mark.spec("BRIEF-8")
def test_other_clients_get_markdown(sync: ModuleType, server: StandIn, project: Path) -> None:
    assert sync.brief(config_of(sync, server), client="text", cwd=str(project)) == TEXT + "\n"
    assert sync.brief(config_of(sync, server), client="opencode", cwd=str(project)) == TEXT + "\n"
    assert [asked["tool"] for asked in server.asked] == [["claude-code"], ["opencode"]]


@pytest.mark.spec("BRIEF-8")
def test_without_a_sync_token_the_ai_token_asks(sync: ModuleType, server: StandIn, project: Path) -> None:
    config = config_of(sync, server, sync_token="", ai_token="ai-secret")

    assert sync.brief(config, client="text", cwd=str(project))
    assert server.tokens == ["Bearer ai-secret"]


@pytest.mark.spec("BRIEF-8")
def test_a_workspace_that_somebody_named_is_asked_for_by_its_id(
    sync: ModuleType, server: StandIn, project: Path
) -> None:
    (project / ".memory-workspace").write_text("team-shop\n")

    assert sync.brief(config_of(sync, server), client="text", cwd=str(project))
    (asked,) = server.asked
    assert asked["workspace_id" if "workspace_id" in asked else "project"] == ["team-shop"]


@pytest.mark.spec("BRIEF-8")
def test_unsure_under_the_projects_key_it_asks_again_with_its_former_ones(
    sync: ModuleType, server: StandIn, project: Path
) -> None:
    path_key = sync.key_of(f"path:{project.as_posix()}")
    answered = server.body
    server.body = lambda asked: (
        answered(asked) if path_key in asked["project_key"] else b'{"why": "another project\'s", "text": ""}'
    )

    assert sync.brief(config_of(sync, server), client="text", cwd=str(project)) == TEXT + "\n"
    assert [len(asked["project_key"]) for asked in server.asked] == [1, 2]


@pytest.mark.spec("BRIEF-8")
@pytest.mark.parametrize("source", ["resume", "compact", "fork"])
def test_a_session_that_goes_on_gets_none(sync: ModuleType, server: StandIn, project: Path, source: str) -> None:
    assert sync.brief(config_of(sync, server), client="claude", stdin_bytes=event(project, source=source)) == ""
    assert server.asked == []


@pytest.mark.spec("BRIEF-8")
@pytest.mark.parametrize("source", ["startup", "clear"])
def test_a_session_that_starts_with_nothing_gets_one(
    sync: ModuleType, server: StandIn, project: Path, source: str
) -> None:
    assert sync.brief(config_of(sync, server), client="claude", stdin_bytes=event(project, source=source))


@pytest.mark.spec("BRIEF-8")
def test_unsure_nothing_is_printed_and_the_reason_is_logged(
    sync: ModuleType, server: StandIn, home: Path, project: Path
) -> None:
    server.body = lambda _: b'{"why": "Several projects have this name", "text": ""}'

    assert sync.brief(config_of(sync, server), client="claude", cwd=str(project)) == ""
    assert "Several projects have this name" in log_of(home)


@pytest.mark.spec("BRIEF-8")
def test_the_home_directory_is_no_project(sync: ModuleType, server: StandIn, home: Path) -> None:
    for place in (home, Path(home.anchor)):
        assert sync.brief(config_of(sync, server), client="claude", cwd=str(place)) == ""
    assert server.asked == []


@pytest.mark.spec("BRIEF-8")
def test_an_excluded_project_is_not_even_asked_about(sync: ModuleType, server: StandIn, project: Path) -> None:
    config = config_of(sync, server, exclude_projects=["shop"])

    assert sync.brief(config, client="claude", cwd=str(project)) == ""
    assert server.asked == []


@pytest.mark.spec("BRIEF-8")
def test_a_server_that_does_not_answer_in_time_is_not_waited_for(
    sync: ModuleType, server: StandIn, home: Path, project: Path
) -> None:
    server.released.clear()

    assert sync.brief(config_of(sync, server), client="claude", cwd=str(project)) == ""
    assert "brief: " in log_of(home)


@pytest.mark.spec("BRIEF-8")
def test_anything_that_hangs_on_the_way_is_not_waited_for(
    sync: ModuleType, server: StandIn, home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(sync, "which", lambda *_, **__: never.wait())

    assert sync.brief(config_of(sync, server), client="claude", cwd=str(project)) == ""
    assert "no answer within 1 s" in log_of(home)
    never.set()


@pytest.mark.spec("BRIEF-8")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"code": "unauthorised", "title": "No"}'), (403, b'{"code": "forbidden", "title": "No"}'),
        (404, b'{"code": "not_found", "title": "No such route"}'), (500, b"oops"), (503, b"{}"),
        (200, b"<html>Log in to this network</html>"), (200, b"[]"), (200, b"{}"), (200, b'{"text": null}'),
        (200, b""), (429, b"{}"), (200, b'{"text": "' + b"x" * 9_000 + b'"}'),
    ],
    ids=str,
)  # fmt: skip
def test_whatever_the_server_answers_the_agent_starts(
    sync: ModuleType, server: StandIn, home: Path, project: Path, status: int, body: bytes
) -> None:
    server.status, server.body = status, lambda _: body

    assert sync.brief(config_of(sync, server), client="claude", cwd=str(project)) == ""
    assert "brief: " in log_of(home)
    assert "sync-secret" not in log_of(home)


@pytest.mark.spec("BRIEF-8")
def test_offline_nothing_is_printed(sync: ModuleType, server: StandIn, home: Path, project: Path) -> None:
    config = config_of(sync, server)
    server.close()
    server.close = lambda: None  # type: ignore[method-assign]

    assert sync.brief(config, client="claude", cwd=str(project)) == ""
    assert "brief: " in log_of(home)


@pytest.mark.spec("BRIEF-8")
def test_before_install_there_is_no_brief_and_no_home_is_made(sync: ModuleType, home: Path, project: Path) -> None:
    assert sync.brief(sync.Config(), client="claude", cwd=str(project)) == ""
    assert not (home / ".memory-sync").exists()


@pytest.mark.spec("BRIEF-8")
@pytest.mark.parametrize("stdin", [b"", b"null", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"cwd": 5}'])
def test_odd_standard_input_is_passed_over(sync: ModuleType, server: StandIn, project: Path, stdin: bytes) -> None:
    assert sync.brief(config_of(sync, server), client="claude", stdin_bytes=stdin, cwd=str(project))


@pytest.mark.spec("BRIEF-8")
@pytest.mark.parametrize("letter", ["x", "\n", '"', "\u00fc", "\u4e2d", "\U0001f600", "\x1f"])
def test_what_is_printed_stays_within_its_bytes(sync: ModuleType, server: StandIn, project: Path, letter: str) -> None:
    # As much as the server may give: its whole answer, in JSON, is within the bytes that were asked for.
    room = 8_800 - len('{"text":"","why":"","as_of":""}')
    text = letter * (room // (len(json.dumps(letter, ensure_ascii=False).encode()) - 2))
    server.body = lambda _: json.dumps({"text": text}, ensure_ascii=False).encode()

    printed = sync.brief(config_of(sync, server), client="claude", cwd=str(project))

    assert json.loads(printed)["hookSpecificOutput"]["additionalContext"] == text
    assert len(printed.encode()) <= 9_000
