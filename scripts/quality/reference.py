"""What plain full-text search finds: BM25 over lines, words as they are written, the best line counts for its text."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from federated_memory.search.words import STOP_WORDS
from scripts.corpus.labelled import LabelledSet, LabelledText
from scripts.quality.metrics import DEPTH

K1, B = 1.2, 0.75
WORD = re.compile(r"\w+")


class PlainSearch:
    def __init__(self, sets: Iterable[LabelledSet]) -> None:
        self.holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # word → lines and counts
        self.names: list[str] = []
        self.sizes: list[int] = []
        for each in sets:
            for text in each.texts:
                for line in passages(text, each.form):
                    self.add(text.name, line)
        self.usual = sum(self.sizes) / max(1, len(self.sizes))

    def add(self, name: str, line: str) -> None:
        counts = Counter(words(line))
        for word, count in counts.items():
            self.holders[word].append((len(self.names), count))
        self.names.append(name)
        self.sizes.append(sum(counts.values()))

    def find(self, query: str) -> list[str]:
        """At most ten names, best first."""
        scores: defaultdict[int, float] = defaultdict(float)
        for word in set(words(query)) - STOP_WORDS:
            held = self.holders.get(word, ())
            weight = math.log1p((len(self.names) - len(held) + 0.5) / (len(held) + 0.5))
            for line, count in held:
                scores[line] += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * self.sizes[line] / self.usual))
        best: dict[str, float] = {}
        for line, score in scores.items():
            name = self.names[line]
            best[name] = max(best.get(name, 0.0), score)
        return sorted(best, key=lambda name: (-best[name], name))[:DEPTH]


def words(text: str) -> Iterator[str]:
    return (match[0].lower() for match in WORD.finditer(text))


def passages(text: LabelledText, form: str) -> Iterator[str]:
    """A document's paragraphs, a transcript's lines as the strings in them."""
    if form == "documents":
        yield from re.split(r"\n\s*\n", text.data.decode("utf-8", "replace"))
        return
    for line in text.data.splitlines():
        yield " ".join(strings(json.loads(line)))


def strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from strings(item)
        case list():
            for item in value:
                yield from strings(item)
