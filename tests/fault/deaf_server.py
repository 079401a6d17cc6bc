"""The broken twin of noticing silence: a server that never asks the kernel to give a silent peer up."""

from __future__ import annotations

from federated_memory.cli.main import run
from federated_memory.web import live_stream

live_stream._notice_silence = lambda _: None

if __name__ == "__main__":
    run()
