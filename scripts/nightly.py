"""The long suites, one after the other, and one table of what they tried and found.

    python -m scripts.nightly                     everything, some four hours
    python -m scripts.nightly --only "kill*" --only fuzz
    python -m scripts.nightly --soak-minutes 5

A suite fails when its tests do; the figures are what the tests themselves tell (`tests/fault/tally.py`), and where they
tell none, how many tests passed. Skipped tests are shown: what was not tried is no success.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "deploy" / "requirements.txt"
COLUMNS = ("trials", "lost", "torn", "escapes", "leaks")


@dataclass(frozen=True)
class Suite:
    name: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Row:
    name: str
    figures: dict[str, int | str]
    skipped: int
    is_good: bool
    seconds: float
    output: str


def tests(name: str, *places: str, **env: str) -> Suite:
    return Suite(name, (sys.executable, "-m", "pytest", "-q", "-rs", *places), {"FAULT_FULL": "1", **env})


def suites(soak_minutes: float, scale_unit: float) -> list[Suite]:
    scanners = REPOSITORY / ".cache" / "scanners" / "bin" / "detect-secrets"
    found = [
        tests("kill -9, six uploaders", "tests/fault/test_kill.py"),
        tests("kill -9, operations", "tests/fault/test_kill_operations.py"),
        tests("kill -9, state and tasks", "tests/fault/test_state_kill.py", "tests/fault/test_tasks_kill.py"),
        tests("power loss", "tests/fault/test_power_loss.py"),
        tests("failing calls", "tests/fault/test_failing_calls.py"),
        tests("full disk, no inodes", "tests/fault/test_full_disk.py", "tests/fault/test_index_without_room.py"),
        tests("read-only, descriptors, locks", "tests/fault/test_resources.py"),
        tests("clock", "tests/fault/test_clock.py"),
        tests("many writers", "tests/fault/test_many_writers.py"),
        tests("backup disk, client disk", "tests/fault/test_backup.py", "tests/fault/test_client_full_disk.py"),
        tests("links swapped in", "tests/fault/test_symlink_race.py"),
        tests("fuzz of tools and routes", "tests/contract/test_fuzz.py"),
        tests("described routes", "tests/fault/test_described_routes.py"),
        tests("fuzz of parsers", "tests/fault/test_fuzzing.py"),
        tests("hostile names", "tests/contract/test_hostile_names.py", "tests/contract/test_names_everywhere.py"),
        tests(
            "framing", "tests/contract/test_framing.py", "tests/contract/test_framing_everywhere.py",
            "tests/contract/test_framing_pages.py", "tests/contract/test_canaries.py",
        ),
        tests("rights, kills and starts", "tests/fault/test_rights_machine.py"),
        tests("rights", "tests/contract/test_permissions.py"),
        tests("hostile HTTP", "tests/e2e/test_hostile_http.py"),
        tests("denial of service", "tests/fault/test_denial.py"),
        tests("Debian and Ubuntu", "tests/e2e/test_deploy_install.py", MEMORY_E2E_SYSTEMS="all"),
        tests("unix socket", "tests/e2e/test_deploy_unix_socket.py", "tests/e2e/test_deploy_files.py"),
        tests("supply chain", "tests/e2e/test_supply_chain.py"),
        tests(
            "other agents", "tests/e2e/test_other_agents.py", "tests/e2e/test_client_install_agents.py",
            MEMORY_E2E_AGENTS="all",
        ),
        Suite("scale", (sys.executable, "-m", "scripts.scale", "--unit", str(scale_unit))),
        Suite("load", (sys.executable, "-m", "scripts.load")),
        Suite("soak", (sys.executable, "-m", "scripts.load", "--minutes", str(soak_minutes), "--restarts", "5")),
    ]  # fmt: skip
    audit = scanners.with_name("pip-audit")
    if audit.exists():
        found.append(Suite("known vulnerabilities", (str(audit), "--requirement", str(LOCK), "--disable-pip")))
    if scanners.exists():
        found.append(Suite("redaction", (sys.executable, "scripts/compare_scanners.py")))
    return found


def run(suite: Suite, folder: Path) -> Row:
    place = folder / "tally"
    place.unlink(missing_ok=True)
    told = folder / "load"
    told.unlink(missing_ok=True)
    tells = {"scripts.load", "scripts.scale"} & set(suite.command)
    command = [*suite.command, *(["--json", str(told)] if tells else [])]
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **suite.env, "NIGHTLY_TALLY": str(place)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    figures: dict[str, int | str] = dict.fromkeys(COLUMNS, 0)
    rows = [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []
    if told.exists():
        rows.append(json.loads(told.read_text()))
    passed = re.search(r"(\d+) passed", done.stdout)
    dots = sum(line.split(" ")[0].count(".") for line in done.stdout.splitlines() if re.match(r"[.sFEx]+( |$)", line))
    for name in COLUMNS:
        figures[name] = sum(int(row.get(name, 0)) for row in rows)
    if not rows:
        figures["trials"] = int(passed[1]) if passed else dots
    is_good = done.returncode == 0
    if not is_good and not any(figures[name] for name in COLUMNS[1:]):
        figures = {**dict.fromkeys(COLUMNS, "?"), "trials": figures["trials"]}
    skipped = sum(int(number) for number in re.findall(r"^SKIPPED \[(\d+)\]", done.stdout, re.MULTILINE))
    # What the vulnerability data does not know, or what cannot be reached, was not audited.
    skipped += done.stdout.count("could not be audited")
    if "pip-audit" in suite.command[0]:
        figures["trials"] = max(0, sum("==" in line for line in LOCK.read_text().splitlines()) - skipped)
    return Row(suite.name, figures, skipped, is_good, time.monotonic() - started, done.stdout)


def table(rows: Sequence[Row]) -> str:
    head = f"{'suite':<28}" + "".join(f"{name:>9}" for name in (*COLUMNS, "skipped")) + f"{'minutes':>9}"
    lines = [head, "-" * len(head)]
    for row in rows:
        figures = "".join(f"{row.figures[name]:>9}" for name in COLUMNS)
        line = f"{row.name:<28}{figures}{row.skipped:>9}{row.seconds / 60:>9.1f}"
        lines.append(line if row.is_good else line + "  FAILED")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", metavar="PATTERN", help="suites of this name; again for more")
    parser.add_argument("--soak-minutes", type=float, default=30.0)
    parser.add_argument("--scale-unit", type=float, default=0.1, help="1: 100 GB and a million memories at most; hours")
    parser.add_argument("--list", action="store_true", help="name the suites and stop")
    options = parser.parse_args(arguments)
    patterns = [f"{each}*" for each in options.only or ("",)]
    chosen = [
        each
        for each in suites(options.soak_minutes, options.scale_unit)
        if any(fnmatch.fnmatch(each.name, each_) for each_ in patterns)
    ]
    if options.list or not chosen:
        print("\n".join(each.name for each in (chosen or suites(options.soak_minutes, options.scale_unit))))
        return 0 if chosen else 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for suite in chosen:
            print(f"{suite.name} …", file=sys.stderr, flush=True)
            rows.append(run(suite, Path(folder)))
            if not rows[-1].is_good:
                print(rows[-1].output[-6_000:], flush=True)
    print(table(rows))
    return 0 if all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
