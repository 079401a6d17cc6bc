"""Sending one transcript: what is in it, what happens to it meanwhile, and what is remembered."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.client.model_server import WORKSPACE, ModelServer, Rules


class Desk:
    """A transcript, a state and a server that keeps what it is told about them."""

    def __init__(self, sync: ModuleType, path: Path) -> None:
        self.sync = sync
        self.path = path
        self.server = ModelServer(sync)
        self.state: sqlite3.Connection = sync.open_state()
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        really = self.server.request

        def request(method: str, path: str, **more: Any) -> Any:
            self.asked.append((method, path, dict(more.get("headers") or {})))
            return really(method, path, **more)

        self.server.request = request  # type: ignore[method-assign]

    def send(self, *, final: bool = False, workspace_id: str = WORKSPACE, **more: Any) -> Any:
        status = self.path.stat()
        about = {"tool": "codex", "native_id": "One", "session_id": "one", "cwd": "/shop", **more}
        transcript = self.sync.Transcript(path=self.path, size=status.st_size, mtime_ns=status.st_mtime_ns, **about)
        return self.sync.send_session(
            self.server, self.state, self.sync.Config(machine="box"), transcript, workspace_id, final=final
        )

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]

    @property
    def row(self) -> sqlite3.Row:
        found: sqlite3.Row = self.state.execute("SELECT * FROM sessions").fetchone()
        return found


@pytest.fixture
def desk(sync: ModuleType, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    del home
    monkeypatch.setattr(sync, "redactor_for", lambda _, version="": Rules(version or "1"))
    monkeypatch.setattr(sync, "write_tokens", lambda: {WORKSPACE: "its-token"})
    found = Desk(sync, tmp_path / "one.jsonl")
    yield found
    found.state.close()


def rest(path: Path, seconds: float = 3600) -> None:
    """Nothing was written to it for that long."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


@pytest.mark.spec("SEND-1")
def test_bytes_that_no_rule_touches_arrive_as_they_are(desk: Desk) -> None:
    data = b'{"a":1}\r\n\xff\xfe\x00\n\n\r\n  \n{"b":"SECRET1"}\r\n' + "Ünï ✓\n".encode()
    desk.path.write_bytes(data)
    assert desk.send().redactions == 1
    assert desk.server.current == data.replace(b"SECRET1", b"[R]")


@pytest.mark.spec("SEND-1", "SEND-6")
def test_a_line_of_50_mb_is_one_line(desk: Desk) -> None:
    line = b'{"a":"' + b"x" * 50_000_000 + b'SECRET1"}'
    desk.path.write_bytes(b'{"b":1}\n' + line + b"\n")
    desk.send()
    assert desk.server.current == b'{"b":1}\n' + line.replace(b"SECRET1", b"[R]") + b"\n"


@pytest.mark.spec("SEND-6")
def test_a_line_beyond_all_measure_is_refused_and_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.sync, "_MOST_LINE_BYTES", 1000)
    for data in (b"x" * 3000 + b"\n{}\n", b"{}\n" + b"x" * (3 << 20)):
        desk.path.write_bytes(data)
        with pytest.raises(desk.sync.Refused, match="has a line of over"):
            desk.send()
        assert "has a line of over" in desk.row["error"]
    assert desk.server.current is None
    assert desk.row["workspace_id"] == ""


@pytest.mark.spec("SEND-1")
@pytest.mark.parametrize(
    ("tail", "is_sent"),
    [
        (b'{"whole": 1}', True),
        (b'{"half": ', False),
        (b"123", False),
        (b'"text"', False),
        (b"\xff", False),
        (b"[" * 99_999, False),
    ],
)
def test_an_unfinished_line_waits_unless_it_is_a_json_object(desk: Desk, tail: bytes, is_sent: bool) -> None:
    desk.path.write_bytes(b'{"a":1}\n' + tail)
    outcome = desk.send(final=True)
    assert desk.server.current == b'{"a":1}\n' + (tail if is_sent else b"")
    assert outcome.waits is not is_sent
    rest(desk.path)
    assert desk.send().waits is not is_sent
    assert not desk.send(final=True).waits
    assert desk.server.current == b'{"a":1}\n' + tail


@pytest.mark.spec("SEND-1", "SEND-2")
@pytest.mark.parametrize("more", [b"\n", b"\r\n", b'\n{"b":"SECRET1"}\n', b"\n\n"])
def test_an_append_follows_an_unfinished_line_that_was_sent(desk: Desk, more: bytes) -> None:
    desk.path.write_bytes(b'{"a":"SECRET1"}')
    desk.send()
    with open(desk.path, "ab") as file:
        file.write(more)
    assert desk.send().status == "appended"
    assert desk.methods == ["HEAD", "PUT", "PATCH"]
    assert desk.server.current == desk.path.read_bytes().replace(b"SECRET1", b"[R]")


@pytest.mark.spec("SEND-1")
def test_an_empty_file_is_not_sent_and_what_was_cut_to_nothing_stays(desk: Desk) -> None:
    desk.path.write_bytes(b"")
    assert desk.send(final=True).status == "empty"
    assert desk.asked == []
    desk.path.write_bytes(b"{}\n")
    desk.send()
    desk.path.write_bytes(b"")
    assert desk.send().status == "empty"
    assert desk.server.current == b"{}\n"


@pytest.mark.spec("SEND-2", "SEND-14")
def test_an_unchanged_file_costs_no_request_and_an_append_sends_only_what_is_new(desk: Desk) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    rest(desk.path)
    desk.send()
    desk.asked.clear()
    assert desk.send().status == "unchanged"
    assert desk.asked == []
    with open(desk.path, "ab") as file:
        file.write(b'{"b":2}\n')
    outcome = desk.send()
    assert (outcome.status, outcome.sent_bytes) == ("appended", 8)
    assert desk.methods == ["PATCH"]
    assert desk.asked[0][2]["Upload-Offset"] == "8"


@pytest.mark.spec("SEND-2")
def test_a_file_of_the_same_size_and_time_that_was_just_written_is_looked_at_again(desk: Desk) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    desk.send()
    status = desk.path.stat()
    desk.path.write_bytes(b'{"a":2}\n')
    os.utime(desk.path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert desk.send().status == "diverged"
    assert desk.server.current == b'{"a":2}\n'
    assert desk.server.revisions == [b'{"a":1}\n']


@pytest.mark.spec("SEND-2")
def test_another_file_under_the_name_is_told_by_its_inode(desk: Desk) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    rest(desk.path)
    desk.send()
    status = desk.path.stat()
    other = desk.path.with_name("other")
    other.write_bytes(b'{"a":2}\n')
    os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
    os.replace(other, desk.path)
    assert desk.send().status == "diverged"


@pytest.mark.spec("SEND-3")
def test_a_lost_state_costs_a_look_and_not_the_whole(desk: Desk) -> None:
    desk.path.write_bytes(b'{"a":"SECRET1"}\n')
    desk.send()
    desk.state.execute("DELETE FROM sessions")
    assert desk.send().status == "unchanged"
    desk.state.execute("DELETE FROM sessions")
    with open(desk.path, "ab") as file:
        file.write(b'{"b":2}\n')
    assert (desk.send().sent_bytes, desk.methods) == (8, ["HEAD", "PUT", "HEAD", "HEAD", "PATCH"])


@pytest.mark.spec("SEND-3")
@pytest.mark.parametrize("held", [None, b"something else\n", b'{"a":1}\n{"b":2}\n{"c":3}\n'])
def test_a_server_that_was_set_back_or_replaced_gets_what_it_lacks(desk: Desk, held: bytes | None) -> None:
    desk.path.write_bytes(b'{"a":1}\n{"b":2}\n')
    desk.send()
    with open(desk.path, "ab") as file:
        file.write(b'{"c":3}\n')
    desk.server.current = held
    desk.send()
    assert desk.server.current == desk.path.read_bytes()


@pytest.mark.spec("SEND-4")
def test_an_append_keeps_the_rules_and_a_lost_rule_file_sends_the_whole(
    desk: Desk, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.path.write_bytes(b'{"a":"SECRET2"}\n')
    desk.send()
    monkeypatch.setattr(desk.sync, "redactor_for", lambda _, version="": Rules(version or "2"))
    with open(desk.path, "ab") as file:
        file.write(b'{"b":"SECRET2"}\n')
    desk.send()
    assert desk.server.current == b'{"a":"SECRET2"}\n{"b":"SECRET2"}\n'

    def only_newest(_: object, version: str = "") -> Rules:
        if version not in ("", "2"):
            raise desk.sync.UsageError("no such rules")
        return Rules("2")

    monkeypatch.setattr(desk.sync, "redactor_for", only_newest)
    with open(desk.path, "ab") as file:
        file.write(b'{"c":3}\n')
    assert desk.send().status == "diverged"
    assert desk.server.current == b'{"a":"[R]"}\n{"b":"[R]"}\n{"c":3}\n'
    assert "rules 1 are gone" in (home / ".memory-sync" / "log").read_text()


@pytest.mark.spec("SEND-4")
def test_redaction_switched_on_is_not_appended_to_what_went_without(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off:
        version = "off"

        def line(self, line: bytes) -> tuple[bytes, Counter[str]]:
            return line, Counter()

    monkeypatch.setattr(desk.sync, "redactor_for", lambda *_: Off())
    desk.path.write_bytes(b'{"a":"SECRET1"}\n')
    desk.send()
    monkeypatch.setattr(desk.sync, "redactor_for", lambda _, version="": Rules(version or "1"))
    with open(desk.path, "ab") as file:
        file.write(b'{"b":"SECRET1"}\n')
    assert desk.send().status == "diverged"
    assert desk.server.current == b'{"a":"[R]"}\n{"b":"[R]"}\n'


@pytest.mark.spec("SEND-5")
def test_what_the_server_did_not_acknowledge_is_not_recorded(desk: Desk) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    for fault in ("refused", "lost"):
        desk.server.fault = fault
        with pytest.raises(desk.sync.Unreachable):
            desk.send()
        assert desk.row["etag"] == ""
        assert desk.row["error"]
    desk.send()
    assert (desk.row["error"], desk.row["raw_offset"]) == ("", 8)


@pytest.mark.spec("SEND-5")
def test_an_acknowledgement_of_other_bytes_is_not_believed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    store = desk.server._store
    monkeypatch.setattr(desk.server, "_store", lambda method, data, headers: store(method, data[:-1], headers))
    with pytest.raises(desk.sync.Unreachable, match="other bytes"):
        desk.send()
    assert desk.row["etag"] == ""


@pytest.mark.spec("SEND-6")
@pytest.mark.parametrize("cut_to", [0, 12, 16])
def test_a_file_that_is_cut_while_it_is_read_ends_with_a_whole_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, cut_to: int
) -> None:
    lines = b'{"a":1}\n{"b":2}\n' + b'{"c":3}\n' * 500_000
    desk.path.write_bytes(lines)
    find_end = desk.sync._sendable_end

    def cut(*arguments: Any, **more: Any) -> int:
        end: int = find_end(*arguments, **more)
        os.truncate(desk.path, cut_to)
        return end

    monkeypatch.setattr(desk.sync, "_sendable_end", cut)
    desk.send()
    assert desk.server.current == lines[: cut_to - cut_to % 8]
    monkeypatch.setattr(desk.sync, "_sendable_end", find_end)
    with open(desk.path, "ab") as file:
        file.write(b'{"z":0}\n')
    desk.send()
    assert (desk.server.current or b"").endswith(b'{"z":0}\n')
    assert desk.server.current == desk.path.read_bytes()


@pytest.mark.spec("SEND-6")
def test_a_file_that_grows_while_it_is_read_is_sent_as_far_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    really = Rules.line

    def grow(self: Rules, line: bytes) -> tuple[bytes, Counter[str]]:
        with open(desk.path, "ab") as file:
            file.write(b'{"more":1}\n')
        return really(self, line)

    monkeypatch.setattr(Rules, "line", grow)
    desk.send()
    assert desk.server.current == b'{"a":1}\n'
    monkeypatch.setattr(Rules, "line", really)
    desk.send()
    assert desk.server.current == desk.path.read_bytes()


@pytest.mark.spec("SEND-6")
def test_a_big_transcript_does_not_sit_in_memory(desk: Desk) -> None:
    import tracemalloc

    with open(desk.path, "wb") as file:
        for _ in range(60):
            file.write((b'{"a":"' + b"x" * 990 + b'"}\n') * 1000)
    size = desk.path.stat().st_size

    received = 0

    def request(method: str, path: str, **more: Any) -> Any:
        nonlocal received
        del path
        if method == "HEAD":
            return desk.sync.Answer(404, {}, b"")
        received = sum(len(part) for part in more["body"]())
        raise desk.sync.Unreachable("enough")

    desk.server.request = request  # type: ignore[method-assign]
    tracemalloc.start()
    with pytest.raises(desk.sync.Unreachable):
        desk.send()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert received == size
    assert peak < size / 6


@pytest.mark.spec("SEND-6")
def test_a_transcript_of_2_gb_in_one_line_is_refused_and_the_next_one_goes(desk: Desk) -> None:
    desk.path.write_bytes(b'{"a":1}\n')
    os.truncate(desk.path, 2 << 30)
    with pytest.raises(desk.sync.Refused, match="has a line of over"):
        desk.send()
    assert desk.server.current is None
    os.truncate(desk.path, 8)
    desk.send()
    assert desk.server.current == b'{"a":1}\n'


@pytest.mark.spec("SEND-13")
def test_a_fifo_is_neither_read_nor_waited_for(desk: Desk) -> None:
    os.mkfifo(desk.path)
    with pytest.raises(desk.sync.SyncError, match="not a regular file"):
        desk.send()


@pytest.mark.spec("SEND-14")
def test_a_session_stays_in_its_workspace_and_keeps_its_id(desk: Desk) -> None:
    desk.path.write_bytes(b"{}\n")
    desk.send()
    with open(desk.path, "ab") as file:
        file.write(b"{}\n")
    desk.send(workspace_id="another", session_id="other", native_id="other")
    assert len({path for _, path, _ in desk.asked}) == 1
    assert desk.row["workspace_id"] == WORKSPACE


@pytest.mark.spec("SEND-14")
def test_a_missing_write_token_names_both_commands(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.sync, "write_tokens", dict)
    desk.path.write_bytes(b"{}\n")
    with pytest.raises(desk.sync.Refused, match=f"workspace reissue {WORKSPACE}.*write-token {WORKSPACE}"):
        desk.send()


def test_an_upload_tells_where_it_is_from_in_utf_8_and_one_line(desk: Desk) -> None:
    desk.path.write_bytes(b"{}\n")
    desk.send(tool="gemini-cli", cwd="/home/jürgen/\n项目\udcff", parent_id="Parent")
    method, path, headers = desk.asked[-1]
    assert (method, path) == ("PUT", f"/api/v1/workspaces/{WORKSPACE}/sessions/One")
    assert headers["X-Memory-Source-Agent"] == b"gemini"
    assert headers["X-Memory-Source-Cwd"] == "/home/jürgen/ 项目?".encode()
    assert headers["X-Memory-Source-Native-Id"] == b"One"
    assert headers["X-Memory-Source-Parent-Id"] == b"Parent"
    assert headers["X-Memory-Source-Machine"] == b"box"
    assert headers["X-Write-Token"] == "its-token"
