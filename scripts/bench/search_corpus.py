"""The corpora that search is measured on, kept in `.cache/bench` once made, and words of known frequency in them."""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from federated_memory.search.words import STOP_WORDS
from federated_memory.transcripts import detect, read_turns
from scripts.bench.processes import REPOSITORY
from scripts.gen_corpus import transcripts

CACHE = REPOSITORY / ".cache" / "bench"
SEED = 1
MEAN_KB = 1000
SAMPLE_BYTES = 40_000_000
WORD = re.compile(r"(?<![\w\\])[a-z]{4,14}(?![\w])")
PAIR = re.compile(r"(?<![\w\\])([a-z]{4,12}) ([a-z]{4,12})(?![\w])")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Transcripts as files named `SESSION_ID.jsonl`."""

    folder: Path
    raw_bytes: int

    def sessions(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted(self.folder.glob("*.jsonl")):
            yield path.stem, path.read_bytes()


def corpus(sessions: int) -> Corpus:
    """The first `sessions` of the generated ones: 200 are about 182 MB, 1,000 about 1 GB."""
    folder = CACHE / f"sessions-{sessions}"
    done = folder / "done.json"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        total = 0
        for session in transcripts(SEED, sessions, MEAN_KB):
            (folder / f"{session.session_id}.jsonl").write_bytes(session.data)
            total += len(session.data)
        done.with_suffix(".tmp").write_text(json.dumps({"raw_bytes": total}))
        os.replace(done.with_suffix(".tmp"), done)
    return Corpus(folder, int(json.loads(done.read_text())["raw_bytes"]))


@dataclass(frozen=True, slots=True)
class Words:
    """Words by the share of lines that hold them, counted in a sample; `pairs` stand next to each other."""

    rare: tuple[str, ...]
    medium: tuple[str, ...]
    tenth: tuple[str, ...]
    common: tuple[str, ...]
    pairs: tuple[str, ...]


def words_of(found: Corpus) -> Words:
    """Eight or more of each; the same for the same corpus."""
    counts: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    lines = read = 0
    for _, data in found.sessions():
        raw_lines = data.splitlines()
        reader = detect(raw_lines)
        for number, raw in enumerate(raw_lines):
            lines += 1
            said = "\n".join(turn.text for turn in read_turns(reader, raw, number))
            counts.update({*WORD.findall(said)} - STOP_WORDS)
            pairs.update({f"{first} {second}" for first, second in PAIR.findall(said)})
        read += len(data)
        if read > SAMPLE_BYTES:
            break
    ordered = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    shares = {word: counts[word] / lines for word in ordered}
    rng = random.Random("words")
    return Words(
        rare=tuple(rng.sample(sorted(word for word in shares if counts[word] == 2), 8)),
        medium=nearest(shares, 0.01, 24),
        tenth=nearest(shares, 0.1, 8),
        common=tuple(list(shares)[:24]),
        pairs=tuple(rng.sample(sorted(pair for pair, count in pairs.items() if count >= 0.002 * lines), 8)),
    )


def nearest(shares: dict[str, float], share: float, count: int) -> tuple[str, ...]:
    return tuple(sorted(shares, key=lambda word: (abs(shares[word] - share), word))[:count])
