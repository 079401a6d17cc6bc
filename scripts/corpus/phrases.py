"""The word lists and sentence patterns that the labelled sets are made of (`texts/`)."""

import functools
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).with_name("texts")
MARKS = {"+": "told", "-": "more", ">": "answers", "~": "touched", "?": "asked", "d": "detail", "w": "when",
         "m": "month", "*": "every"}  # fmt: skip
OTHER_NAME_SHARE = 0.18
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Family:
    """Patterns for one kind of fact, by what they are for (the values of `MARKS`)."""

    name: str
    patterns: dict[str, tuple[str, ...]]

    def of(self, use: str) -> tuple[str, ...]:
        return self.patterns.get(use, ())

    @property
    def slots(self) -> set[str]:
        """What the patterns leave open, names and times aside."""
        every = (pattern for patterns in self.patterns.values() for pattern in patterns)
        return {slot for pattern in every for slot in SLOT.findall(pattern)} & word_lists().keys()


def sections(file: str, mark: str) -> dict[str, list[str]]:
    """The lines of a file below each line that begins with `mark`; comments begin with a semicolon."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    name = ""
    for line in (TEXTS / file).read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{mark} "):
            name = line[2:].strip()
        elif line.strip() and not line.startswith(";"):
            found[name].append(line)
    return dict(found)


@functools.cache
def word_lists() -> dict[str, list[tuple[str, ...]]]:
    """For each slot what it can hold, every thing by all its names."""
    lists = sections("words.txt", "$").items()
    return {slot: [tuple(name.strip() for name in line.split(" / ")) for line in lines] for slot, lines in lists}


@functools.cache
def families() -> dict[str, Family]:
    found = {}
    for name, lines in sections("talk.txt", "#").items():
        patterns: defaultdict[str, list[str]] = defaultdict(list)
        for line in lines:
            patterns[MARKS[line[0]]].append(line[2:].strip())
        found[name] = Family(name, {use: tuple(given) for use, given in patterns.items()})
    return found


def fill(pattern: str, values: dict[str, str]) -> str:
    """The pattern with its slots filled, also those inside of values, and its sentences capitalised."""
    text = pattern
    while SLOT.search(text):
        text = SLOT.sub(lambda slot: values[slot[1]], text)
    return re.sub(r"(?:^|(?<=[.!?] ))([a-z])", lambda first: first[1].upper(), text)


def as_told(rng: random.Random, names: tuple[str, ...]) -> str:
    """How the one who tells names a thing; names with `{me}` are for others to say."""
    own = [name for name in names if "{" not in name]
    return own[0] if rng.random() < 0.9 else rng.choice(own)


def as_asked(rng: random.Random, names: tuple[str, ...]) -> str:
    """How somebody else names it, at times with another name."""
    others = [name for name in names[1:] if not name.startswith("my ")]
    name = rng.choice(others) if others and rng.random() < OTHER_NAME_SHARE else names[0]
    return re.sub(r"^my ", "{me}'s ", name)
