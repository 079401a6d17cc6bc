#!/usr/bin/env python3
"""Write docs/settings.md from the descriptions in settings.py; with --check, only say whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import AliasChoices

from federated_memory.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

From the environment, or a `.env` file in the current directory (`MEMORY_ENV_FILE` names another one). `MCP_TOKEN_FILE`
and `SYNC_TOKEN_FILE` name files that hold the tokens (Docker secrets); else systemd's credentials `mcp_token` and
`sync_token` count (`LoadCredential`). Made from `settings.py` by `scripts/settings_table.py`.

| variable | default | meaning |
|---|---|---|
"""


def table() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = alias.choices[0] if isinstance(alias, AliasChoices) else f"MEMORY_{name.upper()}"
        default = field.default
        if name == "root":
            shown = "the user's data directory"
        elif isinstance(default, tuple):
            shown = ",".join(map(str, default)) or "none"
        else:
            shown = "none" if default in (None, "") else str(default)
        rows.append(f"| `{variable}` | {shown} | {field.description} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != table() and "docs/settings.md is out of date: run " + sys.argv[0])
    PAGE.write_text(table(), encoding="utf-8")
