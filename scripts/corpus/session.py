"""Whole transcripts: events of one session, written down in one agent's shape until they are long enough."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from scripts.corpus.actions import Workbench
from scripts.corpus.claude import ClaudeShape
from scripts.corpus.clock import Clock
from scripts.corpus.codex import CodexShape
from scripts.corpus.events import planted, turns
from scripts.corpus.pool import Pool, machine_pool
from scripts.corpus.voice import Voice, choose_project

CODEX_SHARE = 0.3
FEWEST_LINES = 20
BYTES_PER_SESSION = (20_000, 12_000_000)
THE_LONG_ONE = 990_000


@dataclass(frozen=True, slots=True)
class GeneratedSession:
    """A transcript; `agent` is `claude-code` or `codex`, `data` ends with a newline."""

    session_id: str
    agent: str
    started_at: datetime
    data: bytes


def transcripts(seed: int, count: int, mean_kb: int, pool: Pool | None = None) -> Iterator[GeneratedSession]:
    """The first `count` sessions of the corpus `seed`, about `mean_kb` kB each (log-normal, at least 20 lines)."""
    for index in range(count):
        yield transcript(pool or machine_pool(), seed, index, session_bytes(seed, index, mean_kb))


def one_transcript(seed: int, megabytes: int, pool: Pool | None = None) -> bytes:
    """One Claude Code transcript of about `megabytes` MB: as long as that, and at most one record longer."""
    return transcript(pool or machine_pool(), seed, THE_LONG_ONE, megabytes * 1_000_000, CODEX_SHARE).data


def session_bytes(seed: int, index: int, mean_kb: int) -> int:
    smallest, largest = BYTES_PER_SESSION
    drawn = random.Random(f"{seed}/size/{index}").lognormvariate(math.log(mean_kb * 1000) - 0.5, 1.0)
    return int(min(largest, max(min(smallest, mean_kb * 1000), drawn)))


def transcript(pool: Pool, seed: int, index: int, size: int, agent: float | None = None) -> GeneratedSession:
    """Session `index`; `agent` fixes the draw that decides which agent wrote it."""
    rng = random.Random(f"{seed}/{index}")
    drawn = rng.random()
    shape_type = CodexShape if (drawn if agent is None else agent) < CODEX_SHARE else ClaudeShape
    project = choose_project(rng, pool)
    voice, clock = Voice(rng, pool, project), Clock(rng)
    cwd = f"/home/dev/src/{project.name.replace('/', '-')}"
    session_id, started_at = voice.uuid(), clock.now
    shape = shape_type(voice, clock, session_id, cwd)
    lines: list[bytes] = []
    for record in records(shape, voice, clock, cwd, index):
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        lines.append(line)
        size -= len(line)
        if size <= 0 and len(lines) >= FEWEST_LINES:
            break
    return GeneratedSession(session_id, shape.agent, started_at, b"".join(lines))


def records(
    shape: ClaudeShape | CodexShape, voice: Voice, clock: Clock, cwd: str, index: int
) -> Iterator[dict[str, object]]:
    yield from shape.opening()
    for event in planted(turns(voice, Workbench(voice, clock, cwd)), index):
        yield from shape.render(event)
