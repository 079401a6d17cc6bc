"""Interleaved rounds, medians, goals, and a run over all benches."""

import fnmatch
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Measure = Callable[[], float]
Samples = dict[str, list[float]]


class BenchError(Exception):
    """A bench could not measure what it is for; the message says why."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A measured median against its reference, both in `unit`."""

    name: str
    measured: float
    reference: float
    target: float | None  # the largest ratio that passes; None: only reported
    unit: str = "ms"
    note: str = ""

    @property
    def ratio(self) -> float:
        if self.reference:
            return self.measured / self.reference
        return float("inf") if self.measured else 0.0

    @property
    def passed(self) -> bool | None:
        """None when there is nothing to pass."""
        return None if self.target is None else self.ratio <= self.target


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure, and where files may be written (one file system for ours and for the references)."""

    folder: Path
    quick: bool = False
    large: bool = False
    huge: bool = False
    only: str = ""

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def at_full_size(self, target: float) -> float | None:
        """The target of a goal that depends on the size of its data: with `--quick` it is only reported."""
        return None if self.quick else target

    def fresh_folder(self, name: str) -> Path:
        """An empty folder for one bench."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


@dataclass(frozen=True, slots=True)
class Bench:
    name: str  # group/bench
    run: Callable[[Options], Iterable[Goal]]

    def wanted(self, pattern: str) -> bool:
        """Whether `--only pattern` means this bench: the start of its name or group, or a glob over both."""
        own = self.name.partition("/")[2]
        return self.name.startswith(pattern) or own.startswith(pattern) or fnmatch.fnmatchcase(self.name, pattern)


@dataclass(slots=True)
class Outcome:
    goals: list[Goal] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # bench → why it could not be measured

    @property
    def exit_code(self) -> int:
        """1 when a gate failed or a bench did not run, so that silence is never taken for success."""
        missed = any(goal.passed is False for goal in self.goals)
        return 1 if missed or self.failures else 0


def run_benches(benches: Iterable[Bench], options: Options, tell: Callable[[str], None]) -> Outcome:
    """Run the wanted benches one after another; what one leaves on disk is removed."""
    outcome = Outcome()
    for bench in benches:
        if not bench.wanted(options.only):
            continue
        tell(f"{bench.name} …")
        started = time.perf_counter()
        try:
            outcome.goals.extend(bench.run(options))
        except (BenchError, ImportError, OSError) as error:
            outcome.failures[bench.name] = str(error) or type(error).__name__
        finally:
            shutil.rmtree(options.folder, ignore_errors=True)
        tell(f"{bench.name} took {time.perf_counter() - started:.0f} s")
    return outcome


def interleave(measures: Mapping[str, Measure], rounds: int, seed: int = 0) -> Samples:
    """Run every measure once per round, in a new order each round, after one round that is thrown away.

    Noise that lasts longer than a round hits all of them alike, and no measure always follows the same one.
    """
    rng = random.Random(seed)
    samples: Samples = {name: [] for name in measures}
    order = list(measures)
    for turn in range(rounds + 1):
        rng.shuffle(order)
        for name in order:
            cost = measures[name]()
            if turn:
                samples[name].append(cost)
    return samples


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def timed(work: Callable[[], object], repeat: int = 1) -> Measure:
    """Wall-clock milliseconds of one call, as the mean of `repeat` calls."""

    def measure() -> float:
        started = time.perf_counter_ns()
        for _ in range(repeat):
            work()
        return (time.perf_counter_ns() - started) / 1e6 / repeat

    return measure


def cpu_timed(work: Callable[[], object]) -> Measure:
    """Milliseconds of CPU that one call costs this process, all its threads together."""

    def measure() -> float:
        started = time.process_time_ns()
        work()
        return (time.process_time_ns() - started) / 1e6

    return measure


def prepared(prepare: Callable[[], Callable[[], object]], measured: Callable[..., Measure] = timed) -> Measure:
    """Measure only what `prepare` returns; the preparation itself is free."""
    return lambda: measured(prepare())()


def chunks(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    """The data as an upload delivers it."""
    view = memoryview(data)
    for start in range(0, len(data), size):
        yield bytes(view[start : start + size])
