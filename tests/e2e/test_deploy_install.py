"""The installer and its fellows, run for real under a real systemd (SPEC: DEPLOY-1 to DEPLOY-3, DEPLOY-8, DEPLOY-9).

One machine is booted in namespaces, on a copy of this one's files, nightly also on those of an Ubuntu 22.04;
`systemd/probe.py` goes through the life of a server there, and each test here is one step of it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
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
UBUNTU = "http://archive.ubuntu.com/ubuntu"
KEYS = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb"
KEYS_SHA256 = "0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f"
PACKAGES = (
    "systemd,systemd-sysv,dbus,iproute2,nginx-core,fail2ban,nftables,openssl,curl,python3-venv,python3-systemd,"
    "ca-certificates,kmod,procps"
)


def locked_wheels(system: Path) -> Path:
    """The dependencies as the lock pins them, for the Python of a system; fetched once."""
    lock = (REPOSITORY / "deploy/requirements.txt").read_bytes()
    folder = REPOSITORY / ".cache" / ("wheels" if system == Path("/") else f"wheels-{system.parent.name}")
    mark = folder / ".lock"
    if not mark.exists() or mark.read_bytes() != lock:
        shutil.rmtree(folder, ignore_errors=True)
        fetched = system / "var/tmp/locked-wheels"
        shutil.rmtree(fetched, ignore_errors=True)
        fetched.mkdir()
        (fetched / "requirements.txt").write_bytes(lock)
        inside = [] if system == Path("/") else ["chroot", str(system)]
        if inside:  # what it takes to reach the network from there
            for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
                shutil.copy(file, f"{system}{file}")
        top = "/var/tmp/locked-wheels"
        subprocess.run([*inside, SYSTEM_PYTHON, "-m", "venv", f"{top}/venv"], check=True)
        command = [*inside, f"{top}/venv/bin/pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        subprocess.run([*command, "-r", f"{top}/requirements.txt", "-d", f"{top}/wheels"], check=True)
        shutil.move(fetched / "wheels", folder)
        shutil.rmtree(fetched)
        mark.write_bytes(lock)
    return folder


def ubuntu() -> Path:
    """The files of an Ubuntu 22.04, made once: its own archive, verified with its own keys, whose package is pinned."""
    if os.environ.get("MEMORY_E2E_SYSTEMS") != "all":
        pytest.skip("an Ubuntu 22.04 is 120 MB and two minutes: MEMORY_E2E_SYSTEMS=all runs it (nightly)")
    need("debootstrap")
    top = REPOSITORY.resolve() / ".cache" / "jammy"
    if (top / "made").exists():
        return top / "root"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    try:
        with urllib.request.urlopen(f"{UBUNTU}/{KEYS}", timeout=60) as answer:
            keys = answer.read()
    except OSError as error:
        pytest.skip(f"Ubuntu's archive cannot be reached: {error}")
    assert hashlib.sha256(keys).hexdigest() == KEYS_SHA256
    (top / "keys.deb").write_bytes(keys)
    subprocess.run(["dpkg-deb", "-x", "keys.deb", "keys"], cwd=top, check=True)
    command = ["debootstrap", "--variant=minbase", "--components=main,universe", f"--include={PACKAGES}"]
    command += [
        f"--keyring={top}/keys/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        "jammy",
        str(top / "root"),
        UBUNTU,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (top / "made").touch()
    return top / "root"


def build_wheel(folder: Path) -> Path:
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "build", "--wheel", "--installer", "pip", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def changed_wheel(wheel: Path, folder: Path, version: str, serve: str = "") -> None:
    """The same wheel as another version, with these lines before what `serve` does."""
    folder.mkdir(parents=True)
    own = wheel.name.split("-")[1]
    name = wheel.name.replace(own, version)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(folder / name, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("METADATA"):
                data = data.replace(f"Version: {own}".encode(), f"Version: {version}".encode())
            if item.filename.endswith("cli/serve.py") and serve:
                data = re.sub(rb"(def run\(.*\n)", rb"\1" + serve.encode() + b"\n", data, count=1)
            new.writestr(item.filename.replace(f"{own}.dist-info", f"{version}.dist-info"), data)


@pytest.fixture(scope="module", params=["debian", "ubuntu"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    need("unshare", "systemctl", "nginx", "fail2ban-client", "nft", "ip", "openssl", "curl", "setpriv")
    if os.geteuid() != 0:
        pytest.skip("booting a systemd needs root")
    ready = "import ensurepip, systemd.journal, sys; sys.exit(sys.version_info < (3, 10))"
    if subprocess.run([SYSTEM_PYTHON, "-c", ready], capture_output=True, check=False).returncode:
        pytest.skip("python3-venv and python3-systemd are not installed")
    system = ubuntu() if request.param == "ubuntu" else Path("/")
    folder = tmp_path_factory.mktemp("ci")
    wheel = build_wheel(folder / "wheel/good")
    changed_wheel(wheel, folder / "wheel/next", "99.1")
    changed_wheel(wheel, folder / "wheel/broken", "99.2", '    raise RuntimeError("no such wheel on purpose")')
    changed_wheel(wheel, folder / "wheel/deaf", "99.3", "    signal.pause()")
    shutil.copytree(locked_wheels(system), folder / "wheels")
    (folder / "tree").mkdir()
    shutil.copytree(REPOSITORY / "deploy", folder / "tree/deploy")
    shutil.copy(BOOT / "probe.py", folder / "probe.py")
    kinds = ("pid", "fork", "mount", "uts", "ipc", "cgroup", "net", "kill-child")
    command = ["unshare", *(f"--{kind}" for kind in kinds)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are refused here")
    command += [str(BOOT / "boot.sh"), str(folder), str(system)]
    booted = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=880)
    output = (folder / "output").read_text() if (folder / "output").exists() else ""
    print(output)
    assert output, f"systemd did not boot: {booted.stderr[-1000:]}"
    found: dict[str, str] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.spec("DEPLOY-1", "DEPLOY-2", "DEPLOY-3", "DEPLOY-7", "DEPLOY-8", "DEPLOY-9")
@pytest.mark.parametrize("step", STEPS)
def test_step(results: dict[str, str], step: str) -> None:
    problem = results.get(step, "it was not reached")
    if problem.startswith("skipped: "):
        pytest.skip(problem.removeprefix("skipped: "))
    if problem:
        pytest.fail(problem, pytrace=False)
