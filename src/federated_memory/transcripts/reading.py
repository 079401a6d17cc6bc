"""From raw lines to turns: whose transcript it is, and what each line says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from federated_memory.transcripts.claude import CLAUDE
from federated_memory.transcripts.codex import CODEX
from federated_memory.transcripts.gemini import GEMINI
from federated_memory.transcripts.generic import GENERIC
from federated_memory.transcripts.opencode import OPENCODE
from federated_memory.transcripts.turn import Reader, Turn
from federated_memory.transcripts.values import parse_record

_READERS: tuple[Reader, ...] = (CLAUDE, CODEX, GEMINI, OPENCODE)
_DETECT_LINES = 50


def detect(head: Sequence[bytes]) -> Reader:
    """The reader of the agent that wrote these first lines: of the first record that any agent's reader recognises."""
    for raw in islice(head, _DETECT_LINES):
        record = parse_record(raw) or {}
        for reader in _READERS:
            if reader.recognises(record):
                return reader
    return GENERIC


def reader_of(agent: str) -> Reader:
    """The reader of an agent already known, such as from a session's provenance."""
    return next((reader for reader in _READERS if reader.agent == agent), GENERIC)


def read_turns(reader: Reader, raw: bytes, line: int) -> list[Turn]:
    """The turns of one raw line, in the order they were said. Never raises, whatever the bytes (SPEC: READ-1).

    A line that is no JSON object is one `system` turn with its text, undecodable bytes replaced.
    """
    record = parse_record(raw)
    if record is not None:
        return list(reader.turns(record, line))
    text = raw.decode("utf-8", "replace").strip()
    return [Turn(line, "system", text, None)] if text else []
