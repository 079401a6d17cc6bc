#!/usr/bin/env python3
"""Put a little example content into an empty memory root, so that a first look finds something.

example_content.py ROOT
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

WORKSPACE = "laptop-claude-code-example"
OVERVIEW = """# Example project

A small workspace to look at. Delete `workspaces/laptop-claude-code-example` when you have seen it.
"""
KNOWLEDGE = {
    "deploy.md": "# How to deploy\n\nRun `make deploy`; the service restarts by itself in about two seconds.\n",
    "decisions/storage.md": "# Why plain files\n\nThey can be read with grep, kept in git, and outlive any server.\n",
}


def fill(root: Path) -> bool:
    """Write the example if the root has no workspaces yet; returns whether it did."""
    registry = root / "_meta" / "workspaces.json"
    if registry.exists():
        return False
    workspace = root / "workspaces" / WORKSPACE
    row = {
        "workspace_id": WORKSPACE,
        "machine": "laptop",
        "tool": "claude-code",
        "project": "example",
        "description": "A small workspace to look at",
        "project_key": "",
        "created_at": "2026-01-01T00:00:00.000Z",
        "created_by": "example",
    }
    for path, text in {"overview.md": OVERVIEW, **{f"knowledge/{k}": v for k, v in KNOWLEDGE.items()}}.items():
        file = workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (workspace / "sessions").mkdir(exist_ok=True)
    identity = {key: row[key] for key in row if key != "created_by"}
    (workspace / "identity.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    registry.parent.mkdir(parents=True, exist_ok=True)
    registry.write_text(json.dumps({"workspaces": [row]}, indent=1) + "\n", encoding="utf-8")
    return True


if __name__ == "__main__":
    os.umask(0o077)
    fill(Path(sys.argv[1]))
