"""What waits to be sent: it is retried, bounded, and never lost without a word."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


class Sends:
    """Stands in for the sending itself; `trouble` is raised by it, `meanwhile` is done first."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.finals: list[bool] = []
        self.trouble: dict[str, Exception] = {}
        self.meanwhile: Callable[[], object] = lambda: None
        self.waits = False

    def __call__(self, _: Any, __: Any, ___: Any, transcript: Any, workspace_id: str, *, final: bool = False) -> Any:
        self.paths.append(transcript.path.name)
        self.finals.append(final)
        assert workspace_id == "box-codex-shop"
        self.meanwhile()
        trouble = self.trouble.get(transcript.path.name) or self.trouble.get("*")
        if trouble:
            raise trouble
        return Outcome(self.waits)


class Outcome:
    sent_bytes = 10
    redactions = 1

    def __init__(self, waits: bool) -> None:
        self.waits = waits


@pytest.fixture
def sends(sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch) -> Sends:
    """A configured client whose transcripts all belong to one workspace that is registered already."""
    found = Sends()
    sync.Config(url="http://127.0.0.1:9", machine="box", sync_token="t").save()
    sync.keep_write_token("box-codex-shop", "w")
    shop = home / "shop"
    shop.mkdir()
    (shop / ".memory-workspace").write_text("box-codex-shop")
    monkeypatch.setattr(sync, "send_session", found)
    monkeypatch.setattr(sync, "sync_knowledge", lambda *_: None)
    return found


@pytest.fixture
def state(sync: ModuleType, home: Path) -> Iterator[sqlite3.Connection]:
    del home
    found = sync.open_state()
    yield found
    found.close()


def order(sync: ModuleType, home: Path, name: str = "one", **more: Any) -> Path:
    """A transcript and the word that a hook left of it."""
    path = home / f"{name}.jsonl"
    path.write_text('{"cwd": "' + str(home / "shop") + '"}\n')
    return Path(sync.spool("session", "codex", str(path), str(home / "shop"), **more))


def edit(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def names(home: Path) -> set[str]:
    return {path.name for path in (home / ".memory-sync" / "spool").iterdir()}


def log_of(home: Path) -> str:
    path = home / ".memory-sync" / "log"
    return path.read_text() if path.exists() else ""


@pytest.mark.spec("SEND-12")
def test_what_was_sent_is_off_the_spool(sync: ModuleType, home: Path, sends: Sends) -> None:
    order(sync, home, "one")
    order(sync, home, "two", final=True)
    report = sync.drain(sync.load_config())
    assert (report.done, report.waiting, report.next_at, report.problems) == (2, 0, None, [])
    assert dict(zip(sends.paths, sends.finals, strict=True)) == {"one.jsonl": False, "two.jsonl": True}
    assert names(home) == set()


@pytest.mark.spec("SEND-12")
def test_the_oldest_is_sent_first(sync: ModuleType, home: Path, sends: Sends) -> None:
    for number, name in enumerate(("late", "early", "middle")):
        edit(order(sync, home, name), queued_at=f"2026-11-2{(3, 1, 2)[number]}T00:00:00Z")
    sync.drain(sync.load_config())
    assert sends.paths == ["early.jsonl", "middle.jsonl", "late.jsonl"]


@pytest.mark.spec("SEND-12")
def test_two_orders_for_one_transcript_are_one(sync: ModuleType, home: Path, sends: Sends) -> None:
    assert order(sync, home) == order(sync, home, final=True)
    sync.drain(sync.load_config())
    assert sends.finals == [True]


@pytest.mark.spec("SEND-12")
def test_what_failed_stays_is_told_and_waits_for_its_time(
    sync: ModuleType, home: Path, sends: Sends, state: sqlite3.Connection
) -> None:
    path = order(sync, home)
    sends.trouble["*"] = sync.Offline("Cannot reach it", "Check the network")
    before = time.time()
    report = sync.drain(sync.load_config())
    kept = json.loads(path.read_text())
    assert (report.done, report.waiting) == (0, 1)
    assert kept["attempts"] == 1
    assert before + 1 <= kept["not_before"] <= time.time() + 30
    assert "Cannot reach it" in kept["error"]
    assert "Cannot reach it" in log_of(home)
    assert "Cannot reach it" in state.execute("SELECT last_error FROM sources WHERE name = 'codex'").fetchone()[0]
    sends.trouble.clear()
    assert sync.drain(sync.load_config()).done == 0
    assert len(sends.paths) == 1
    assert sync.drain(sync.load_config(), even_early=True).done == 1
    assert state.execute("SELECT last_error FROM sources WHERE name = 'codex'").fetchone()[0] == ""


@pytest.mark.spec("SEND-12")
def test_the_same_trouble_again_is_one_line_of_the_log(sync: ModuleType, home: Path, sends: Sends) -> None:
    order(sync, home)
    sends.trouble["*"] = sync.Offline("Cannot reach it")
    for _ in range(3):
        sync.drain(sync.load_config(), even_early=True)
    assert log_of(home).count("Cannot reach it") == 1


@pytest.mark.spec("SEND-12", "RATE-2")
def test_delays_double_from_30_s_to_an_hour_with_full_jitter(sync: ModuleType) -> None:
    for attempts, longest in ((1, 30), (2, 60), (5, 480), (8, 3600), (500, 3600)):
        found = [sync.retry_delay(attempts) for _ in range(300)]
        assert 1 <= min(found) < longest / 4
        assert longest * 3 / 4 < max(found) <= longest
    assert sync.retry_delay(1, sync.Unreachable("x", retry_after_seconds=200)) >= 200
    assert sync.retry_delay(1, sync.Refused("x")) >= 1800


@pytest.mark.spec("SEND-12")
def test_a_refusal_does_not_hold_up_the_others_and_no_network_ends_the_run(
    sync: ModuleType, home: Path, sends: Sends
) -> None:
    for number, name in enumerate(("a", "b", "c")):
        edit(order(sync, home, name), queued_at=f"2026-11-21T00:00:0{number}Z")
    sends.trouble = {"a.jsonl": sync.Refused("too large"), "b.jsonl": sync.Offline("no network")}
    report = sync.drain(sync.load_config())
    assert sends.paths == ["a.jsonl", "b.jsonl"]
    assert (report.done, report.waiting) == (0, 3)


@pytest.mark.spec("SEND-9")
def test_a_refused_token_leaves_everything_as_it_was(sync: ModuleType, home: Path, sends: Sends) -> None:
    paths = [order(sync, home, name) for name in ("a", "b")]
    before = [path.read_bytes() for path in paths]
    sends.trouble["*"] = sync.Unauthorised("401")
    report = sync.drain(sync.load_config())
    assert len(sends.paths) == 1
    assert report.stopped is sends.trouble["*"]
    assert [path.read_bytes() for path in paths] == before
    with pytest.raises(sync.Unauthorised):
        sync.drain_all(sync.load_config())


@pytest.mark.spec("SEND-12")
def test_a_new_order_that_comes_while_the_old_one_is_done_is_not_lost(
    sync: ModuleType, home: Path, sends: Sends
) -> None:
    order(sync, home)
    sends.meanwhile = lambda: order(sync, home, final=True)
    report = sync.drain(sync.load_config())
    assert (report.done, report.waiting) == (1, 1)
    sends.meanwhile = lambda: None
    assert sync.drain(sync.load_config()).waiting == 0
    assert sends.finals == [False, True]


@pytest.mark.spec("SEND-12")
def test_deleting_an_order_by_its_name_would_lose_the_newer_one(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin of the test above: it works on the file itself instead of taking it away first."""
    path = order(sync, home)
    sends.meanwhile = lambda: order(sync, home, final=True)

    def careless(draining: Any, claimed: Path, entry: Any) -> None:
        os.replace(claimed, path)
        draining._do(entry)
        path.unlink()

    monkeypatch.setattr(sync._Draining, "_attempt", careless)
    sync.drain(sync.load_config())
    assert not path.exists()
    assert sends.finals == [False]


@pytest.mark.spec("SEND-12")
def test_what_a_killed_run_had_in_its_hands_is_done_by_the_next(sync: ModuleType, home: Path, sends: Sends) -> None:
    path = order(sync, home)
    sends.trouble["*"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        sync.drain(sync.load_config())
    assert names(home) == {path.name + ".claimed"}
    sends.trouble.clear()
    assert sync.drain(sync.load_config()).done == 1
    assert names(home) == set()


@pytest.mark.spec("SEND-12")
def test_a_worker_never_takes_what_a_hook_is_still_writing(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def drain_first(source: Any, target: Any) -> None:
        monkeypatch.setattr(os, "replace", replace)
        draft.append(Path(source).name)
        assert sync.drain(sync.load_config()).waiting == 0
        replace(source, target)

    draft: list[str] = []
    monkeypatch.setattr(os, "replace", drain_first)
    path = order(sync, home)

    assert names(home) == {path.name}
    assert log_of(home) == ""
    assert sync.drain(sync.load_config()).done == 1
    assert sends.paths == ["one.jsonl"]

    left = path.with_name(draft[0])
    left.write_bytes(b"half")
    sync.drain(sync.load_config())
    assert names(home) == {left.name}
    os.utime(left, (time.time() - 7_200,) * 2)
    sync.drain(sync.load_config())
    assert names(home) == set()


@pytest.mark.spec("SEND-12")
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"kind": "other"}', b'{"kind": "session", "path": 5}',
     b'{"kind": "session", "attempts": true}', b'{"kind": "session", "not_before": NaN}',
     b'{"kind": "session", "path": "a\\u0000b"}', b"\xff", b"[" * 100_000],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_put_aside_and_told(
    sync: ModuleType, home: Path, sends: Sends, state: sqlite3.Connection, data: bytes
) -> None:
    spool = sync.ensure_home() / "spool"
    (spool / "junk.json").write_bytes(data)
    order(sync, home)
    assert sync.drain(sync.load_config()).done == 1
    assert sends.paths == ["one.jsonl"]
    assert (spool / "bad" / "junk.json").read_bytes() == data
    assert "junk.json makes no sense" in log_of(home)
    assert sync.get_fact(state, "spool_bad") == "1"


@pytest.mark.spec("SEND-12")
def test_the_spool_is_bounded_and_what_goes_is_counted(
    sync: ModuleType, home: Path, sends: Sends, state: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_MOST_SPOOLED", 3)
    for number in range(5):
        edit(order(sync, home, f"s{number}"), queued_at=f"2026-11-21T00:00:0{number}Z")
    assert sync.drain(sync.load_config()).done == 3
    assert sends.paths == ["s2.jsonl", "s3.jsonl", "s4.jsonl"]
    assert sync.get_fact(state, "spool_dropped") == "2"
    assert "given up on" in log_of(home)
    assert "s0.jsonl" in log_of(home)


@pytest.mark.spec("SEND-12")
def test_only_what_is_old_and_was_tried_often_is_given_up(
    sync: ModuleType, home: Path, sends: Sends, state: sqlite3.Connection
) -> None:
    """A clock that jumps ahead makes everything old at once."""
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 91 * 86_400))
    recent = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 89 * 86_400))
    edit(order(sync, home, "tried"), queued_at=old, attempts=20)
    edit(order(sync, home, "jumped"), queued_at=old, attempts=3)
    edit(order(sync, home, "recent"), queued_at=recent, attempts=500)
    sync.drain(sync.load_config())
    assert sorted(sends.paths) == ["jumped.jsonl", "recent.jsonl"]
    assert sync.get_fact(state, "spool_dropped") == "1"


@pytest.mark.spec("SEND-12")
def test_a_clock_that_was_set_back_does_not_put_off_for_ever(sync: ModuleType, home: Path, sends: Sends) -> None:
    edit(order(sync, home, "a"), not_before=time.time() + 3000)
    edit(order(sync, home, "b"), not_before=time.time() + 10 * 86_400)
    sync.drain(sync.load_config())
    assert sends.paths == ["b.jsonl"]


@pytest.mark.spec("SEND-12", "SEND-13")
def test_a_transcript_that_is_gone_is_counted_and_no_longer_waited_for(
    sync: ModuleType, home: Path, sends: Sends, state: sqlite3.Connection
) -> None:
    order(sync, home)
    (home / "one.jsonl").unlink()
    sync.drain(sync.load_config())
    assert sends.paths == []
    assert names(home) == set()
    assert sync.get_fact(state, "transcripts_gone") == "1"
    assert "has no transcript" in log_of(home)


@pytest.mark.spec("SEND-13")
@pytest.mark.parametrize("name", ["id_rsa", "passwords.txt", "folder.jsonl"])
def test_a_path_that_is_no_transcript_is_not_sent(sync: ModuleType, home: Path, sends: Sends, name: str) -> None:
    path = home / name
    path.mkdir() if name.startswith("folder") else path.write_text("secret")
    sync.spool("session", "codex", str(path), str(home / "shop"))
    sync.drain(sync.load_config())
    assert sends.paths == []


@pytest.mark.spec("SEND-13")
def test_another_users_file_is_not_sent(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(sync, home)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    report = sync.drain(sync.load_config())
    assert sends.paths == []
    assert "another user" in report.problems[0]


@pytest.mark.spec("SEND-13")
def test_excluded_files_and_projects_are_not_sent(sync: ModuleType, home: Path, sends: Sends) -> None:
    config = sync.load_config()
    for name, value in (("exclude_paths", [str(home / "one.jsonl")]), ("exclude_projects", [str(home / "shop")])):
        order(sync, home)
        sync.drain(sync.dataclasses.replace(config, **{name: value}))
    assert sends.paths == []
    assert names(home) == set()


@pytest.mark.spec("SEND-13")
def test_sub_agents_go_with_their_session_and_one_that_fails_does_not_stop_the_rest(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = home / ".claude" / "projects" / "-shop"
    below = project / "S1" / "subagents"
    below.mkdir(parents=True)
    line = json.dumps({"sessionId": "S1", "cwd": str(home / "shop")}) + "\n"
    (project / "S1.jsonl").write_text(line)
    (below / "agent-1.jsonl").write_text(line)
    (below / "agent-2.jsonl").write_text(line)
    (project / "agent-old.jsonl").write_text(line)
    (project / "agent-other.jsonl").write_text(line.replace("S1", "S2"))
    knowledge: list[str] = []
    monkeypatch.setattr(sync, "sync_knowledge", lambda _, __, ___, workspace_id: knowledge.append(workspace_id))
    sends.trouble["agent-1.jsonl"] = sync.Refused("too large")
    sync.spool("session", "claude-code", str(project / "S1.jsonl"), str(home / "shop"))
    report = sync.drain(sync.load_config())
    assert sends.paths[0] == "S1.jsonl"
    assert sorted(sends.paths[1:]) == ["agent-1.jsonl", "agent-2.jsonl", "agent-old.jsonl"]
    assert report.waiting == 1
    assert knowledge == ["box-codex-shop"]


@pytest.mark.spec("SEND-1")
def test_the_unfinished_end_of_a_finished_session_is_looked_at_once_more(
    sync: ModuleType, home: Path, sends: Sends
) -> None:
    path = order(sync, home, final=True)
    sends.waits = True
    before = time.time()
    assert sync.drain(sync.load_config()).waiting == 1
    assert before + 5 < json.loads(path.read_text())["not_before"] < time.time() + 10
    sends.waits = False
    assert sync.drain(sync.load_config(), even_early=True).waiting == 0


@pytest.mark.spec("SEND-14")
def test_a_second_run_leaves_the_work_to_the_first(sync: ModuleType, home: Path, sends: Sends) -> None:
    order(sync, home)

    def second() -> None:
        with pytest.raises(sync.Busy):
            sync.drain(sync.load_config(), wait_seconds=0)

    sends.meanwhile = second
    assert sync.drain(sync.load_config()).done == 1
    assert sends.paths == ["one.jsonl"]


@pytest.mark.spec("SEND-14")
def test_while_a_sync_runs_a_drain_leaves_its_work_in_the_spool(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = order(sync, home)
    before = path.read_bytes()
    really = sync.exclusive
    monkeypatch.setattr(sync, "exclusive", lambda name, _=0: really(name))
    with really("sync"):
        report = sync.drain(sync.load_config())
    assert sends.paths == []
    assert path.read_bytes() == before
    assert "Another memory_sync is running" in report.problems[0]


@pytest.mark.spec("SEND-12")
def test_a_worker_goes_on_until_nothing_waits(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(sync, home)
    now = [1_000_000.0]
    monkeypatch.setattr(sync.time, "time", lambda: now[0])
    monkeypatch.setattr(sync.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sync.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setenv("MEMORY_SYNC_WORKER", "1")
    sends.trouble["*"] = sync.Unreachable("503")

    def recover() -> None:
        if len(sends.paths) == 3:
            sends.trouble.clear()

    sends.meanwhile = recover
    assert sync.drain_all(sync.load_config()) == 0
    assert len(sends.paths) == 3
    assert names(home) == set()
    assert now[0] < 1_000_000 + 30 + 60 + 30


@pytest.mark.spec("SEND-12")
def test_a_worker_ends_after_a_while_whatever_waits(
    sync: ModuleType, home: Path, sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = order(sync, home)
    now = [1_000_000.0]
    monkeypatch.setattr(sync.time, "time", lambda: now[0])
    monkeypatch.setattr(sync.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sync.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setenv("MEMORY_SYNC_WORKER", "1")
    sends.trouble["*"] = sync.Unreachable("503")
    sync.drain_all(sync.load_config())
    assert path.exists()
    assert now[0] - 1_000_000 < 1000


@pytest.mark.spec("SEND-12")
def test_drain_by_hand_says_what_waits_and_why(
    sync: ModuleType, home: Path, sends: Sends, capsys: pytest.CaptureFixture[str]
) -> None:
    order(sync, home)
    sends.trouble["*"] = sync.Offline("Cannot reach it", "Check the network")
    assert sync.drain_all(sync.load_config()) == 1
    sends.trouble.clear()
    assert sync.drain_all(sync.load_config()) == 0
    shown = capsys.readouterr()
    assert shown.err.strip() == "Cannot reach it. Check the network."
    assert shown.out.splitlines() == ["Done: 0; waiting: 1", "Done: 1; waiting: 0"]
