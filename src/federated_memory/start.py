"""The command, as the shell calls it: what has to be said before anything is imported, so that it starts sooner."""

from __future__ import annotations

import gc
import os

_NEW_OBJECTS = 200_000
"""The collector's own 700 let it look through everything a hundred times while modules are loaded: a tenth of a start.
This is more than most commands make."""


def run() -> None:
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
    # Else pydantic reads the metadata of every installed package, for plugins that would watch our models.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from federated_memory.cli.main import run as run_command

    run_command()
