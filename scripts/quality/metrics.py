"""Figures of retrieval, from ranked names and the names that answer."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

DEPTH = 10  # places that count


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for a question: names without repeats, best first; `in_page` of them came with the first page."""

    found: tuple[str, ...]
    relevant: frozenset[str]
    in_page: int
    elapsed_ms: float = 0.0

    def any_at(self, places: int) -> float:
        return float(not self.relevant.isdisjoint(self.found[:places]))

    def recall_at(self, places: int) -> float:
        return len(self.relevant.intersection(self.found[:places])) / len(self.relevant)

    @property
    def place(self) -> int | None:
        """Of the first answering name, from 1."""
        return next((place for place, name in enumerate(self.found, 1) if name in self.relevant), None)


@dataclass(frozen=True, slots=True)
class Figures:
    questions: int
    any_at_1: float
    any_at_5: float
    recall_at_5: float
    recall_at_10: float
    mrr: float
    page: float

    @classmethod
    def of(cls, answers: Collection[Answer]) -> "Figures":
        """The means over answers, of which there is at least one."""

        def mean(values: Iterable[float]) -> float:
            return statistics.fmean(values)

        return cls(
            questions=len(answers),
            any_at_1=mean(answer.any_at(1) for answer in answers),
            any_at_5=mean(answer.any_at(5) for answer in answers),
            recall_at_5=mean(answer.recall_at(5) for answer in answers),
            recall_at_10=mean(answer.recall_at(10) for answer in answers),
            mrr=mean(1 / answer.place if answer.place else 0.0 for answer in answers),
            page=mean(answer.any_at(answer.in_page) for answer in answers),
        )


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, at its first place."""
    return tuple(dict.fromkeys(names))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
