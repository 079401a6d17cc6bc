"""Write `deploy/requirements.txt`: what a server is installed with, every version pinned and every file hashed.

One file for all Pythons and platforms (environment markers), made by uv from `pyproject.toml`. `--check` asks no
registry: it compares the pins with the dependencies that `pyproject.toml` names, and looks at every line's hashes.

    python -m pip install uv && python scripts/lock_requirements.py [--upgrade]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
LOCK = REPOSITORY / "deploy" / "requirements.txt"
OLDEST_PYTHON = "3.10"
_HEADER = "# Made by scripts/lock_requirements.py from pyproject.toml; do not edit.\n"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 when the file is out of date")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that are allowed")
    options = parser.parse_args(arguments)
    if options.check:
        found = problems(LOCK.read_text(encoding="utf-8"), dependencies())
        for problem in found:
            print(f"deploy/requirements.txt: {problem}; run scripts/lock_requirements.py", file=sys.stderr)
        return 1 if found else 0
    return lock(upgrade=options.upgrade)


def lock(*, upgrade: bool) -> int:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        print("uv is needed: python -m pip install uv", file=sys.stderr)
        return 2
    command = [uv, "pip", "compile", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    command += ["--python-version", OLDEST_PYTHON, "pyproject.toml", "--output-file", str(LOCK)]
    done = subprocess.run([*command, *(["--upgrade"] if upgrade else [])], cwd=REPOSITORY, check=False)
    if done.returncode == 0:
        LOCK.write_text(_HEADER + LOCK.read_text(encoding="utf-8").removeprefix(_HEADER), encoding="utf-8")
    return done.returncode


def dependencies() -> list[Requirement]:
    """What `pyproject.toml` names. Python 3.10 has no TOML reader, and this part of the file is ours."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block, "pyproject.toml has no dependencies"
    return [Requirement(line) for line in re.findall(r'^    "(.+)",$', block[1], re.MULTILINE)]


def problems(text: str, wanted: list[Requirement]) -> list[str]:
    """Why `text` is no lock of `wanted`; empty when it is one."""
    pins: dict[str, list[str]] = {}
    found: list[str] = []
    for entry in re.split(r"(?<!\\)\n", text):
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        pin = _PIN.match(entry)
        if pin is None:
            found.append(f"not a pin: {entry.splitlines()[0]}")
            continue
        pins.setdefault(canonicalize_name(pin[1]), []).append(pin[2])
        if "--hash=sha256:" not in entry:
            found.append(f"{pin[1]} has no hash")
    for requirement in wanted:
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not versions:
            found.append(f"{requirement.name} is missing")
        found += [f"{requirement.name} {version} is not {requirement.specifier}"
                  for version in versions if not requirement.specifier.contains(version)]  # fmt: skip
    return found


if __name__ == "__main__":
    sys.exit(main())
