"""Hooks: they leave word and are gone, and nothing that they are given or meet stops the agent."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CLIENT = Path(__file__).parents[3] / "client" / "memory_sync.py"
EVENT = {
    "session_id": "S1",
    "transcript_path": "/t/S1.jsonl",
    "cwd": "/shop",
    "hook_event_name": "SessionEnd",
    "reason": "x",
}


@pytest.fixture
def started(sync: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each worker that would have been started."""
    found: list[int] = []
    monkeypatch.setattr(sync, "start_worker", lambda: found.append(1))
    return found


def orders(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (home / ".memory-sync" / "spool").glob("*.json")]


@pytest.mark.spec("SEND-11")
@pytest.mark.parametrize("tool", ["claude-code", "codex", "gemini-cli"])
def test_a_hook_leaves_word_and_starts_a_worker(sync: ModuleType, home: Path, started: list[int], tool: str) -> None:
    assert sync.hook(tool, json.dumps(EVENT).encode()) == 0
    (order,) = orders(home)
    assert {key: order[key] for key in ("kind", "tool", "path", "cwd", "native_id", "final")} == {
        "kind": "session", "tool": tool, "path": "/t/S1.jsonl", "cwd": "/shop", "native_id": "S1", "final": True,
    }  # fmt: skip
    assert started == [1]
    sync.parse_spooled(json.dumps(order).encode())


@pytest.mark.spec("SEND-11")
def test_the_spool_is_the_owners_alone(sync: ModuleType, home: Path, started: list[int]) -> None:
    del started
    sync.hook("codex", json.dumps(EVENT).encode())
    (path,) = (home / ".memory-sync" / "spool").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.spec("SEND-11")
def test_a_turns_end_is_not_the_sessions_and_its_start_is_nothing_to_send(
    sync: ModuleType, home: Path, started: list[int]
) -> None:
    sync.hook("codex", json.dumps({**EVENT, "hook_event_name": "SessionStart"}).encode())
    assert (orders(home), started) == ([], [])
    sync.hook("codex", json.dumps({**EVENT, "hook_event_name": "Stop"}).encode())
    assert orders(home)[0]["final"] is False


@pytest.mark.spec("SEND-11")
def test_codex_notify_names_a_thread(sync: ModuleType, home: Path, started: list[int]) -> None:
    told = {"type": "agent-turn-complete", "thread-id": "T1", "cwd": "/shop", "input-messages": ["x"]}
    sync.hook("codex", json.dumps(told).encode())
    assert (orders(home)[0]["native_id"], orders(home)[0]["path"], started) == ("T1", "", [1])


@pytest.mark.spec("SEND-11")
def test_a_hook_that_quotes_more_than_a_megabyte_is_understood(
    sync: ModuleType, home: Path, started: list[int]
) -> None:
    del started
    quoted = json.dumps({"transcript_path": "/wrong.jsonl", "session_id": "wrong"})
    told = {"prompt": quoted, **EVENT, "last_assistant_message": "x" * 3_000_000}
    sync.hook("claude-code", json.dumps(told).encode())
    assert orders(home)[0]["path"] == "/t/S1.jsonl"
    assert orders(home)[0]["native_id"] == "S1"


@pytest.mark.spec("SEND-11")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.sampled_from(["transcript_path", "session_id", "cwd", "hook_event_name", "thread-id"]),
            st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text(), max_size=2)),
        ).map(lambda value: json.dumps(value).encode()),
        st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
def test_junk_is_survived_and_what_is_left_can_be_read(
    sync: ModuleType, home: Path, started: list[int], data: bytes
) -> None:
    del started
    assert sync.hook("claude-code", data) == 0
    for path in (home / ".memory-sync" / "spool").glob("*.json"):
        sync.parse_spooled(path.read_bytes())
        path.unlink()


@pytest.mark.spec("SEND-11")
@pytest.mark.parametrize("place", ["a file", "read-only", "a full disk"])
def test_a_home_that_cannot_be_written_stops_no_agent(
    sync: ModuleType, home: Path, started: list[int], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    del started
    own = home / ".memory-sync"
    if place == "a file":
        own.write_text("")
    elif place == "read-only":
        monkeypatch.setattr(os, "makedirs", _refuse(30))
    else:
        monkeypatch.setattr(os, "replace", _refuse(28))
    assert sync.hook("claude-code", json.dumps(EVENT).encode()) == 0
    if place == "a full disk":
        assert [path.name for path in (own / "spool").iterdir()] == []
        assert "No space left" in (own / "log").read_text()


def _refuse(number: int) -> Any:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.spec("SEND-11")
def test_a_worker_that_cannot_be_started_stops_no_agent_and_the_word_is_left(
    sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_spawn", _refuse(11))
    assert sync.hook("claude-code", json.dumps(EVENT).encode()) == 0
    assert len(orders(home)) == 1
    assert "claude-code hook" in (home / ".memory-sync" / "log").read_text()


@pytest.mark.spec("SEND-11")
def test_without_posix_spawn_the_worker_is_started_in_a_session_of_its_own(
    sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    calls: list[dict[str, Any]] = []

    def no_setsid(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(os, "posix_spawn", no_setsid)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: calls.append({"command": command, **more}))
    sync.start_worker()
    assert calls[0]["start_new_session"] is True
    assert calls[0]["stdin"] == calls[0]["stdout"] == calls[0]["stderr"] == subprocess.DEVNULL


@pytest.mark.spec("SEND-11")
@pytest.mark.parametrize("job_allows", [True, False])
def test_on_windows_the_worker_has_no_window_and_leaves_the_agents_job_if_it_may(
    sync: ModuleType, monkeypatch: pytest.MonkeyPatch, job_allows: bool
) -> None:
    flags: list[int] = []

    def popen(command: list[str], **more: Any) -> None:
        assert command[1:3] == ["-I", "-S"]
        assert command[-1] == "drain"
        assert more["env"]["MEMORY_SYNC_WORKER"] == "1"
        flags.append(more["creationflags"])
        if more["creationflags"] & 0x01000000 and not job_allows:
            raise PermissionError(5, "Access is denied")

    monkeypatch.setattr(sync, "WINDOWS", True)
    monkeypatch.setattr(subprocess, "Popen", popen)
    sync.start_worker()
    assert len(flags) == (1 if job_allows else 2)
    assert all(flag & 0x00000008 and flag & 0x08000000 for flag in flags)
    assert bool(flags[-1] & 0x01000000) is job_allows


@pytest.mark.spec("SEND-11")
def test_in_the_foreground_a_hook_does_the_work_itself(
    sync: ModuleType, home: Path, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    done: list[object] = []
    monkeypatch.setattr(sync, "drain", done.append)
    monkeypatch.setenv("MEMORY_SYNC_FOREGROUND", "1")
    sync.hook("claude-code", json.dumps(EVENT).encode())
    assert (len(done), started) == (1, [])


# -- as it is installed


@pytest.fixture
def installed(sync: ModuleType, home: Path) -> Path:
    folder = home / ".memory-sync" / "bin"
    folder.mkdir(parents=True)
    sync.write_client(folder, Path(str(sync.__file__)).read_bytes())
    return folder / "memory_sync.py"


def run_hook(
    script: Path, home: Path, data: bytes, verb: str = "claude-hook", **more: str
) -> subprocess.CompletedProcess[bytes]:
    environment = {"HOME": str(home), "PATH": os.defpath, **more}
    command = [sys.executable, "-I", "-S", str(script), verb]
    return subprocess.run(command, input=data, env=environment, capture_output=True, check=False, timeout=60)


@pytest.mark.spec("SEND-11")
def test_the_installed_hook_says_nothing_and_hands_over_to_a_process_of_its_own_session(
    installed: Path, home: Path
) -> None:
    """Its worker is a stand-in that tells which process and session it is."""
    tells = home / "tells"
    os.mkfifo(tells)
    front = installed.read_text()
    worker = f"import os, sys; open({str(tells)!r}, 'w').write(f'{{os.getpid()}} {{os.getsid(0)}} {{sys.argv[1:]}}')"
    (installed.parent / "memory_sync_full.py").write_text(f"def main():\n    {worker}\n    return 0\n")
    done = run_hook(installed, home, json.dumps(EVENT).encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert orders(home)[0]["path"] == "/t/S1.jsonl"
    pid, session, arguments = tells.read_text().split(" ", 2)
    assert pid == session
    assert arguments == "['drain']"
    assert installed.read_text() == front


@pytest.mark.spec("SEND-11")
@pytest.mark.parametrize("data", [b"", b"junk", b"\xff" * 100, b"{" * 100_000])
def test_the_installed_hook_survives_junk(installed: Path, home: Path, data: bytes) -> None:
    done = run_hook(installed, home, data, "gemini-hook")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert orders(home) == []


@pytest.mark.spec("SEND-11")
def test_the_installed_front_does_everything_else_through_the_whole_client(installed: Path, home: Path) -> None:
    done = run_hook(installed, home, b"", "--help")
    assert done.returncode == 0
    assert b"claude-hook" in done.stdout
    assert (installed.parent / "__pycache__").is_dir()


@pytest.mark.spec("SEND-11")
def test_the_front_is_made_of_parts_of_the_client_word_for_word(sync: ModuleType, installed: Path) -> None:
    front = installed.read_text()
    there, here = (
        {node.name: ast.dump(node) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
        for text in (front, Path(str(sync.__file__)).read_text())
    )
    assert {"hook", "hooked", "spool", "start_worker"} < there.keys()
    assert there.items() <= here.items()
    assert len(front) < 20_000
    assert installed.stat().st_mode & 0o777 == 0o700


@pytest.mark.spec("SEND-11")
@pytest.mark.parametrize("is_installed", [True, False])
def test_a_hook_loads_next_to_nothing(installed: Path, home: Path, is_installed: bool) -> None:
    """What takes time, measured without a clock: the modules that Python loads until the hook is back."""
    script = installed if is_installed else CLIENT
    told = home / "event"
    told.write_bytes(json.dumps(EVENT).encode())
    with told.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "importtime", str(script), "claude-hook"],
            stdin=stdin, env={"HOME": str(home), "PATH": os.defpath}, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "json" in loaded
    assert not loaded & {
        "argparse",
        "dataclasses",
        "hashlib",
        "pathlib",
        "socket",
        "sqlite3",
        "ssl",
        "typing",
        "urllib",
    }
    assert len(orders(home)) == 1


@pytest.mark.spec("SEND-11")
def test_a_worker_outlives_the_process_group_of_the_agent(installed: Path, home: Path) -> None:
    """An agent that ends kills its group: the worker, stopped on a pipe, is alive after that."""
    ready, go = home / "ready", home / "go"
    os.mkfifo(ready)
    os.mkfifo(go)
    body = f"    open({str(ready)!r}, 'w').write('x')\n    said = open({str(go)!r}).read()\n"
    body += f"    open({str(ready)!r}, 'w').write(said)\n    return 0\n"
    (installed.parent / "memory_sync_full.py").write_text("def main():\n" + body)
    agent = subprocess.Popen(
        ["/bin/sh", "-c", f"'{sys.executable}' -I -S '{installed}' claude-hook; sleep 60"],
        stdin=subprocess.PIPE, start_new_session=True, env={"HOME": str(home), "PATH": os.defpath},
    )  # fmt: skip
    assert agent.stdin
    agent.stdin.write(json.dumps(EVENT).encode())
    agent.stdin.close()
    assert ready.read_text() == "x"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(agent.pid, signal.SIGKILL)
    agent.wait()
    go.write_text("alive")
    assert ready.read_text() == "alive"
