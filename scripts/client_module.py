"""`client/memory_sync.py` as a module: it is one file, and in no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

CLIENT = Path(__file__).parents[1] / "client" / "memory_sync.py"


def load_client(name: str = "memory_sync") -> ModuleType:
    """The client, loaded once under each name."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
