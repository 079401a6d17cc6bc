"""Broken twins of the server, by `HOLDS`: one has a whole download in memory, the other takes few connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import uvicorn

from federated_memory.cli.main import run
from federated_memory.store.archive import Archives

_stream, _config = Archives.stream, uvicorn.Config.__init__


def whole(self: Archives, *arguments: Any, **options: Any) -> Iterator[bytes]:
    yield b"".join(_stream(self, *arguments, **options))


def few(self: uvicorn.Config, *arguments: Any, **options: Any) -> None:
    _config(self, *arguments, **{**options, "limit_concurrency": 50})


if __name__ == "__main__":
    if os.environ["HOLDS"] == "downloads":
        Archives.stream = whole  # type: ignore[method-assign]
    else:
        uvicorn.Config.__init__ = few  # type: ignore[method-assign]
    run()
