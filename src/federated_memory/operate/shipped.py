"""What the package brings along beside its code."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

CLIENT_FILES = ("memory_sync.py", "install.sh", "install.ps1", "redaction_rules.json")
"""What a machine needs that has nothing but the server's address."""


def client_folder() -> Path:
    """The client's files: inside the installed package, or `client` at the top of a checkout."""
    packaged = Path(str(resources.files("federated_memory"))) / "client_files"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "client"
