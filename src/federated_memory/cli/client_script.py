"""The client that ships with the package, run against a server: `memory_sync.py install` (SPEC: CLI-17, CLI-18)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from federated_memory.errors import NotFound
from federated_memory.operate.shipped import client_folder

CLIENTS = ("claude-code", "codex", "gemini-cli", "opencode", "cursor", "vscode", "claude-desktop")


def install_arguments(
    url: str,
    machine: str,
    *,
    clients: Sequence[str] = (),
    mcp_only: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> list[str]:
    """The arguments of the script; tokens are never among them."""
    found = ["install", "--url", url, "--machine", machine]
    for client in clients:
        found += ["--client", client]
    for flag, is_wanted in (("--mcp-only", mcp_only), ("--yes", yes), ("--dry-run", dry_run)):
        if is_wanted:
            found.append(flag)
    return found


def run_client(arguments: Sequence[str], *, ai_token: str, sync_token: str = "") -> int:
    """Run the script on this terminal; returns its exit code. Tokens travel in its environment only.

    Raises:
        NotFound: The package came without it.
    """
    script = client_folder() / "memory_sync.py"
    if not script.is_file():
        raise NotFound("This installation has no memory_sync.py", hint="Install the package anew")
    env = {**os.environ, "MCP_MEMORY_TOKEN": ai_token, "SYNC_TOKEN": sync_token}
    env.pop("MCP_MEMORY_URL", None)  # --url says it
    if not sync_token:
        env.pop("SYNC_TOKEN")
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-I", str(script), *arguments], env=env, check=False).returncode
