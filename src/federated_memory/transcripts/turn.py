"""The values every reader produces, and what a reader is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["user", "assistant", "tool", "system"]
Agent = Literal["claude-code", "codex", "gemini", "opencode", "unknown"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing somebody said.

    `line` is the 0-based index of its JSONL line. `text` is never blank. `at` has the form that `parse_time` gives.
    `tool_name` is set on calls (`assistant`) and results (`tool`) whose record names the tool; `speaker` where the
    record names who spoke.
    """

    line: int
    role: Role
    text: str
    at: str | None
    tool_name: str | None = None
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one record tells about its session; empty where it tells nothing."""

    times: tuple[str, ...] = ()
    native_id: str = ""
    title: str = ""
    titled_by_person: bool = False
    cwd: str = ""
    git_branch: str = ""


class Reader(Protocol):
    """What we know of one agent's records. Holds no state; never raises on a parsed JSON object."""

    agent: Agent

    def recognises(self, record: Mapping[str, object]) -> bool:
        """Whether this agent, and no other we know, writes such records."""

    def turns(self, record: Mapping[str, object], line: int) -> Iterator[Turn]:
        """The turns of `record` in the order they were said; an unfamiliar record gives its strings."""

    def facts(self, record: Mapping[str, object]) -> Facts: ...
