"""Picks text from the pool the way people and agents repeat themselves: a few topics, again and again."""

import base64
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from scripts.corpus.pool import Pool, Project, paragraphs_of, text_of

T = TypeVar("T")

TOPICS = 12
LAST_RESORT = "There is nothing to say about this part of the system that its tests do not say better."


class Voice:
    """The vocabulary of one session or document."""

    def __init__(self, rng: random.Random, pool: Pool, project: Project) -> None:
        self.rng = rng
        self.pool = pool
        self.cjk_share = 0.6 if rng.random() < 0.15 else 0.02
        self.files = sorted(rng.sample(project.files, min(len(project.files), rng.randint(5, 25))))
        self.topics = [skewed(rng, pool.prose) for _ in range(TOPICS)] + [f for f in self.files if f.suffix == ".py"]
        self.opened: list[Path] = []

    def sentence(self) -> str:
        """One paragraph; more often than not of a topic spoken about before."""
        if self.rng.random() < self.cjk_share:
            return "".join(skewed(self.rng, self.pool.cjk) for _ in range(self.rng.randint(1, 4)))
        for _ in range(20):
            source = self.rng.choice(self.topics) if self.rng.random() < 0.6 else skewed(self.rng, self.pool.prose)
            if paragraphs := paragraphs_of(source):
                return self.rng.choice(paragraphs)
        return LAST_RESORT

    def say(self, paragraphs: int) -> str:
        """Some paragraphs, at times with a piece of code between them."""
        parts = [self.sentence() for _ in range(paragraphs)]
        if self.rng.random() < 0.3:
            code = self.code(self.rng.randint(4, 25))[2]
            parts.insert(self.rng.randrange(len(parts) + 1), f"```python\n{code}\n```")
        return "\n\n".join(parts)

    def code(self, lines: int) -> tuple[Path, int, str]:
        """File, first line from 0 and text of a piece of code; files are looked at again and again."""
        if self.opened and self.rng.random() < 0.45:
            path = skewed(self.rng, self.opened)
        else:
            path = self.rng.choice(self.files)
            self.opened.append(path)
        every = text_of(path).split("\n")
        first = self.rng.randrange(max(1, len(every) - lines))
        return path, first, "\n".join(every[first : first + lines])

    def noise(self, count: int) -> str:
        """Base64 of `count` random bytes: ids, signatures and encrypted reasoning."""
        return base64.b64encode(self.rng.randbytes(count)).decode()

    def identifier(self, count: int = 15) -> str:
        return self.noise(count).translate(str.maketrans("+/=", "xyz"))

    def uuid(self) -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def skewed(rng: random.Random, items: Sequence[T]) -> T:
    """A choice that prefers the front."""
    return items[int(len(items) * rng.random() ** 2)]


def choose_project(rng: random.Random, pool: Pool) -> Project:
    """Few projects get most of the work, as in life (a Zipf-like choice)."""
    return pool.projects[int(len(pool.projects) ** rng.random()) - 1]
