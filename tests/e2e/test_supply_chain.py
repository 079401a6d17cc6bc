"""What is built, and of what: the same bytes from the same checkout, and every dependency named (SPEC: DEPLOY-11)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import node_tools, sbom

REPOSITORY = node_tools.REPOSITORY
SOURCES = ("src", "client", "server_content", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.timeout(300)


def checkout(folder: Path) -> Path:
    """A copy of what a wheel is built of, with other times and modes than here, as another machine has them."""
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    at = time.time() - hash(str(folder)) % 10**7
    for path in folder.rglob("*"):
        os.utime(path, (at, at))
        path.chmod(0o700 if path.is_dir() else 0o600 if "one" in folder.name else 0o664)
    return folder


def built(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--installer",
        "pip",
        "--outdir",
        str(folder / "dist"),
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.mark.spec("DEPLOY-11")
def test_two_checkouts_give_the_same_wheel_and_bill_of_materials(tmp_path: Path) -> None:
    one, two = (built(checkout(tmp_path / name)) for name in ("one", "two"))

    assert hashlib.sha256(one.read_bytes()).hexdigest() == hashlib.sha256(two.read_bytes()).hexdigest()
    lock = sbom.LOCK.read_text()
    assert sbom.bom(one, lock) == sbom.bom(two, lock)
    changed = two.with_name("changed-1-py3-none-any.whl")
    changed.write_bytes(two.read_bytes() + b"x")
    assert sbom.bom(changed, lock) != sbom.bom(one, lock)  # the broken twin


@pytest.mark.spec("DEPLOY-11")
def test_the_bill_names_every_pinned_dependency_with_its_hashes(tmp_path: Path) -> None:
    wheel = tmp_path / "federated_memory-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")

    assert sbom.main([str(wheel)]) == 0

    told = json.loads((tmp_path / f"{wheel.name}.cdx.json").read_bytes())
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", sbom.LOCK.read_text(), re.MULTILINE)
    assert [(row["name"], row["version"]) for row in told["components"]] == pins
    assert all(row["hashes"] for row in told["components"])
    assert len({row["bom-ref"] for row in told["components"]}) == len(pins)
    assert told["dependencies"][0]["dependsOn"] == [row["bom-ref"] for row in told["components"]]
    assert told["metadata"]["component"]["hashes"][0]["content"] == hashlib.sha256(b"a wheel").hexdigest()
