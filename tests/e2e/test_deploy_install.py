"""The installer and its fellows, run for real under a real systemd (SPEC: DEPLOY-1 to DEPLOY-3, DEPLOY-8, DEPLOY-9).

One machine is booted in namespaces, on a copy of this one's files; `systemd/probe.py` goes through the life of a server
there, and each test here is one step of it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import node_tools
from tests.e2e.shipped import need

REPOSITORY = node_tools.REPOSITORY
BOOT = Path(__file__).parent / "systemd"
SYSTEM_PYTHON = "/usr/bin/python3"
STEPS = [
    node.name
    for node in ast.parse((BOOT / "probe.py").read_text()).body
    if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "step" for mark in node.decorator_list)
]
pytestmark = pytest.mark.timeout(900)


def locked_wheels() -> Path:
    """The dependencies as the lock pins them, for Debian's Python; fetched once."""
    lock = (REPOSITORY / "deploy/requirements.txt").read_bytes()
    folder = REPOSITORY / ".cache" / "wheels"
    mark = folder / ".lock"
    if not mark.exists() or mark.read_bytes() != lock:
        shutil.rmtree(folder, ignore_errors=True)
        environment = folder / "venv"
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", str(environment)], check=True)
        command = [str(environment / "bin/pip"), "download", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        command += ["-r", str(REPOSITORY / "deploy/requirements.txt"), "-d", str(folder)]
        subprocess.run(command, check=True)
        shutil.rmtree(environment)
        mark.write_bytes(lock)
    return folder


def build_wheel(folder: Path) -> Path:
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "build", "--wheel", "--installer", "pip", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def changed_wheel(wheel: Path, folder: Path, version: str, serve: str = "") -> None:
    """The same wheel as another version, with these lines before what `serve` does."""
    folder.mkdir(parents=True)
    name = wheel.name.replace("0.1.0", version)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(folder / name, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("METADATA"):
                data = data.replace(b"Version: 0.1.0", f"Version: {version}".encode())
            if item.filename.endswith("cli/serve.py") and serve:
                data = re.sub(rb"(def run\(.*\n)", rb"\1" + serve.encode() + b"\n", data, count=1)
            new.writestr(item.filename.replace("0.1.0.dist-info", f"{version}.dist-info"), data)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    need("unshare", "systemctl", "nginx", "fail2ban-client", "nft", "ip", "openssl", "curl", "setpriv")
    if os.geteuid() != 0:
        pytest.skip("booting a systemd needs root")
    ready = "import ensurepip, systemd.journal, sys; sys.exit(sys.version_info < (3, 10))"
    if subprocess.run([SYSTEM_PYTHON, "-c", ready], capture_output=True, check=False).returncode:
        pytest.skip("python3-venv and python3-systemd are not installed")
    folder = tmp_path_factory.mktemp("ci")
    wheel = build_wheel(folder / "wheel/good")
    changed_wheel(wheel, folder / "wheel/next", "0.1.1")
    changed_wheel(wheel, folder / "wheel/broken", "0.1.2", '    raise RuntimeError("no such wheel on purpose")')
    changed_wheel(wheel, folder / "wheel/deaf", "0.1.3", "    signal.pause()")
    shutil.copytree(locked_wheels(), folder / "wheels")
    (folder / "tree").mkdir()
    shutil.copytree(REPOSITORY / "deploy", folder / "tree/deploy")
    shutil.copy(BOOT / "probe.py", folder / "probe.py")
    kinds = ("pid", "fork", "mount", "uts", "ipc", "cgroup", "net", "kill-child")
    command = ["unshare", *(f"--{kind}" for kind in kinds), str(BOOT / "boot.sh"), str(folder)]
    booted = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=880)
    output = (folder / "output").read_text() if (folder / "output").exists() else ""
    print(output)
    if not output:
        pytest.skip(f"a systemd cannot be booted here: {booted.stderr[-300:]}")
    found: dict[str, str] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.spec("DEPLOY-1", "DEPLOY-2", "DEPLOY-3", "DEPLOY-7", "DEPLOY-8", "DEPLOY-9")
@pytest.mark.parametrize("step", STEPS)
def test_step(results: dict[str, str], step: str) -> None:
    problem = results.get(step, "it was not reached")
    if problem:
        pytest.fail(problem, pytrace=False)
