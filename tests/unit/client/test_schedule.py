"""The schedule: texts for each system's scheduler, with paths of every kind; cron's line is really run."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

FOLDERS = ["plain", "with space", "it's", 'say "hi"', "50%off %h", "a&b;<c>", "$HOME ${x}", "ümlaut", "back\\slash"]


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A script that writes down how it was called."""
    script = tmp_path / "recorder.py"
    script.write_text(
        "import json, os, sys\njson.dump([sys.argv, os.environ.get('MEMORY_SYNC_HOME')], open('called', 'w'))"
    )
    return script


@pytest.mark.spec("INST-10")
@pytest.mark.parametrize("name", FOLDERS)
def test_the_cron_line_runs_the_very_command(sync: ModuleType, tmp_path: Path, recorder: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    script = folder / "memory_sync.py"
    script.write_bytes(recorder.read_bytes())
    line = sync.cron_line([sys.executable, "-I", "-S", str(script), "sync"], {"MEMORY_SYNC_HOME": str(folder)})
    assert line.startswith("*/15 * * * * ")
    assert line.endswith("# memory-sync")
    assert "%" not in line.replace("\\%", "")

    # What cron hands to sh: the sixth field on, with `\%` for `%`.
    command = line.split(" ", 5)[5].replace("\\%", "%")
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"})

    assert json.loads((tmp_path / "called").read_text()) == [[str(script), "sync"], str(folder)]


@pytest.mark.spec("INST-10")
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", FOLDERS)
def test_systemd_accepts_the_units(sync: ModuleType, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    python = folder / "python3"
    python.symlink_to(sys.executable)
    service, timer = tmp_path / "memory-sync.service", tmp_path / "memory-sync.timer"
    service.write_text(
        sync.systemd_service([str(python), "-I", "-S", "x.py", "sync"], {"MEMORY_SYNC_HOME": str(folder)})
    )
    timer.write_text(sync.systemd_timer())

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(service), str(timer)],
        capture_output=True, text=True, check=False, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip

    about_ours = [line for line in done.stderr.splitlines() if "memory-sync" in line]
    assert about_ours == []


@pytest.mark.spec("INST-10")
def test_the_units_run_every_quarter_of_an_hour_and_make_up_for_missed_runs(sync: ModuleType) -> None:
    assert "OnCalendar=*:0/15\nPersistent=true\nRandomizedDelaySec=120\n" in sync.systemd_timer()
    service = sync.systemd_service(["/opt/a b/python3", "-I", "$x%h\\"], {"A": 'b "c" %h'})
    assert 'ExecStart="/usr/bin/env" "/opt/$$a/python3"' in sync.systemd_service(["/opt/$a/python3"], {})
    assert 'ExecStart="/opt/a b/python3" "-I" "$$x%%h\\\\"\n' in service
    assert 'Environment="A=b \\"c\\" %%h"\n' in service


@pytest.mark.spec("INST-10")
@pytest.mark.parametrize("name", FOLDERS)
def test_launchd_gets_the_very_arguments(sync: ModuleType, name: str) -> None:
    command = ["/usr/bin/python3", "-I", "-S", f"/Users/{name}/memory_sync.py", "sync"]

    job = plistlib.loads(sync.launchd_plist(command, {"MEMORY_SYNC_HOME": name}).encode())

    assert job["ProgramArguments"] == command
    assert job["StartInterval"] == 900
    assert job["RunAtLoad"] is True
    assert job["EnvironmentVariables"] == {"MEMORY_SYNC_HOME": name}
    assert "EnvironmentVariables" not in plistlib.loads(sync.launchd_plist(command, {}).encode())


def taken_apart(line: str) -> list[str]:
    """A command line as Microsoft's C runtime takes it apart."""
    found, current, quoted, started, at = [], "", False, False, 0
    while at < len(line):
        slashes = len(line[at:]) - len(line[at:].lstrip("\\"))
        at += slashes
        if line[at : at + 1] == '"':
            current += "\\" * (slashes // 2)
            started = True
            if slashes % 2:
                current += '"'
            else:
                quoted = not quoted
            at += 1
            continue
        current += "\\" * slashes
        started = started or slashes > 0
        if at < len(line):
            if line[at] in " \t" and not quoted:
                if started:
                    found.append(current)
                current, started = "", False
            else:
                current, started = current + line[at], True
            at += 1
    return [*found, current] if started else found


@pytest.mark.spec("INST-10")
@pytest.mark.parametrize("name", [name for name in FOLDERS if '"' not in name and "\\" not in name])
def test_the_windows_task_gets_the_very_arguments_and_opens_no_window(sync: ModuleType, name: str) -> None:
    command = [r"C:\Python\python.exe", "-I", "-S", rf"C:\Users\{name}\memory_sync.py", "sync"]

    task = ElementTree.fromstring(sync.schtasks_xml(command, {}).replace(' encoding="UTF-16"', ""))

    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    program = task.findtext(".//t:Command", namespaces=space)
    arguments = task.findtext(".//t:Arguments", namespaces=space) or ""
    assert program == "conhost.exe"  # no `pythonw.exe` beside this one
    assert taken_apart(arguments) == ["--headless", *command]
    assert task.findtext(".//t:Interval", namespaces=space) == "PT15M"
    assert task.findtext(".//t:StartWhenAvailable", namespaces=space) == "true"
    assert task.findtext(".//t:Hidden", namespaces=space) == "true"


@pytest.mark.spec("INST-10")
def test_the_windows_task_prefers_the_interpreter_without_a_console(sync: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pythonw.exe").touch()

    text = sync.schtasks_xml([str(tmp_path / "python.exe"), "-I", "x y"], {})
    moved = sync.schtasks_xml([str(tmp_path / "python.exe"), "x y"], {"MEMORY_SYNC_HOME": r"D:\a b"})

    assert f'<Command>{tmp_path}/pythonw.exe</Command><Arguments>-I "x y"</Arguments>' in text
    assert "conhost.exe" in moved
    assert r'--headless cmd.exe /d /s /c "set "MEMORY_SYNC_HOME=D:\a b"&amp;&amp; ' in moved


@pytest.mark.spec("INST-10")
def test_arguments_for_windows_come_apart_as_they_were_put_together(sync: ModuleType) -> None:
    for argument in ["a", "", "a b", 'a"b', "a\\", "a b\\", 'a\\"b c', "\\\\", 'x" "y']:
        assert taken_apart(sync._windows_argument(argument)) == [argument]


@pytest.mark.spec("INST-10")
@pytest.mark.parametrize("before", [None, b"", b"# mine\n0 1 * * * backup\n", b"MAILTO=x\n5 * * * * echo \xff"])
def test_the_crontab_keeps_its_other_lines(sync: ModuleType, before: bytes | None) -> None:
    line = sync.cron_line(["/usr/bin/python3", "x"], {})

    after = sync.crontab_with(before, line)

    assert sync.crontab_with(after, line) == after
    assert after.startswith(before or b"")
    assert sync.crontab_without(after) == (before or b"") + (b"" if not before or before.endswith(b"\n") else b"\n")
    newer = sync.cron_line(["/usr/bin/python4", "x"], {})
    assert sync.crontab_with(after, newer).count(b"# memory-sync") == 1


@pytest.fixture
def fake_crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `crontab` command that keeps its table in a file, as the real one does; no systemd."""
    table, command = tmp_path / "crontab.table", tmp_path / "bin" / "crontab"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\ncase $1 in\n-l) [ -e '{table}' ] && cat '{table}' ;;\n"
        f"-r) rm '{table}' ;;\n-) cat > '{table}' ;;\n*) exit 2 ;;\nesac\n"
    )
    command.chmod(0o755)
    for tool in ("cat", "rm"):
        (command.parent / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setenv("PATH", str(command.parent))
    return table


@pytest.mark.spec("INST-10")
@pytest.mark.parametrize("before", [None, b"0 1 * * * backup\n"])
def test_a_schedule_in_cron_comes_and_goes(
    sync: ModuleType, home: Path, fake_crontab: Path, before: bytes | None
) -> None:
    assert home.exists()
    if before is not None:
        fake_crontab.write_bytes(before)
    assert sync.schedule_kind() == "cron"
    schedule = sync.plan_schedule("cron")

    assert sync.start_schedule(schedule) == ""
    assert sync.start_schedule(schedule) == ""

    assert fake_crontab.read_bytes().count(b"# memory-sync") == 1
    assert fake_crontab.read_bytes().startswith(before or b"*/15")
    sync.stop_schedule("cron")
    assert (fake_crontab.read_bytes() if fake_crontab.exists() else None) == before


@pytest.mark.spec("INST-10")
def test_without_any_scheduler_it_says_so(sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))

    assert sync.schedule_kind() == "none"
    assert "memory_sync.py sync" in sync.plan_schedule("none").note


@pytest.mark.spec("INST-10")
@pytest.mark.parametrize("kind", ["systemd", "launchd", "schtasks"])
def test_the_schedules_files_are_planned_and_its_commands_named(sync: ModuleType, home: Path, kind: str) -> None:
    schedule = sync.plan_schedule(kind)

    assert all(change.before is None for change in schedule.changes)
    assert schedule.commands
    assert schedule.undo
    sync.apply_changes(schedule.changes)
    assert sync.plan_schedule(kind).changes == []
    sync.undo_changes(sync.plan_uninstall())
    assert [path for path in home.rglob("*") if path.is_file() and ".memory-sync" not in path.parts] == []
