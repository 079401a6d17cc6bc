"""The command line: `python -m scripts.quality`."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.corpus.coding import coding_sessions
from scripts.corpus.conversations import conversations
from scripts.corpus.labelled import LabelledSet, Question, Split
from scripts.corpus.package_docs import package_questions
from scripts.quality.metrics import Answer, Figures, distinct, percentile
from scripts.quality.reference import PlainSearch
from scripts.quality.stores import Searcher, answer, filled, in_process, over_http

GROUPS = ("conversations", "coding", "documents")
FLOORS: dict[tuple[str, str], dict[str, float]] = {
    ("conversations", "own store"): {"any_at_1": 0.72, "any_at_5": 0.92, "recall_at_5": 0.87},
    ("conversations", "one store"): {"any_at_5": 0.90},
}
COLUMNS = ("any@1", "any@5", "recall@5", "recall@10", "MRR", "page", "plain any@1", "any@5", "p50 ms", "p95 ms", "n")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was put to a store, and what came of it."""

    group: str
    where: str
    question: Question
    answer: Answer
    plain: Answer | None


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: every floor is held; 1: one is not; 2: wrong usage."""
    given = parse_arguments(arguments)
    groups = {name: sets for name, sets in made(given.split, given.quick).items() if name.startswith(given.only)}
    if not groups:
        print(f"no sets are named {given.only!r}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    given.dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="quality-", dir=given.dir) as folder:
        asked = list(ask_all(groups, Path(folder).resolve(), given.http, told))
    lines, missed = report(asked, given.split)
    print("\n".join(lines))
    if given.json:
        given.json.write_text(json.dumps(figures(asked), indent=1) + "\n")
    if given.failures:
        given.failures.write_text("".join(f"{line}\n" for line in failures(asked)))
    return 1 if missed else 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.quality", description="Measure how well search finds.")
    parser.add_argument("--split", choices=("dev", "test"), default="dev", help="tune on dev only (default)")
    parser.add_argument("--only", default="", metavar="GROUP", help=f"only sets that begin so: {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="two sets of each group")
    parser.add_argument("--http", action="store_true", help="also through the MCP tool of a server, with latencies")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--failures", type=Path, metavar="FILE", help="write what was not among the first five here")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where stores are made (default: build)")
    return parser.parse_args(arguments)


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def made(split: Split, quick: bool) -> dict[str, list[LabelledSet]]:
    sets = {
        "conversations": list(conversations(split, count=2 if quick else 8)),
        "coding": list(coding_sessions(split)),
        "documents": [package_questions(split)],
    }
    return {name: found for name, found in sets.items() if found[0].questions}


def ask_all(
    groups: dict[str, list[LabelledSet]], folder: Path, http: bool, tell: Callable[[str], None]
) -> Iterator[Asked]:
    """Every question to its set's own store, then to the one with all sets."""
    for name, sets in groups.items():
        for each in sets:
            tell(f"{each.name}: {len(each.texts)} texts, {len(each.questions)} questions")
            root = folder / each.name
            filled(root, [each])
            with in_process(root) as searcher:
                yield from ask(searcher, name, "own store", [each], PlainSearch([each]))
    every = [each for sets in groups.values() for each in sets]
    root = folder / "every"
    tell(f"one store: {sum(len(each.texts) for each in every)} texts")
    filled(root, every)
    with in_process(root) as searcher:
        for name, sets in groups.items():
            plain = PlainSearch(each for each in every if each.form == sets[0].form)
            yield from ask(searcher, name, "one store", sets, plain)
    if http:
        with over_http(root) as searcher:
            for name, sets in groups.items():
                tell(f"{name} through the MCP tool")
                yield from ask(searcher, name, "one store, MCP", sets, None)


def ask(
    searcher: Searcher, group: str, where: str, sets: list[LabelledSet], plain: PlainSearch | None
) -> Iterator[Asked]:
    for each in sets:
        for question in each.questions:
            found = answer(searcher, question.text, question.relevant, each.form)
            reference = None
            if plain:
                names = distinct(plain.find(question.text))
                reference = Answer(names, question.relevant, len(names))
            yield Asked(group, where, question, found, reference)


def report(asked: list[Asked], split: Split) -> tuple[list[str], list[str]]:
    """A table over groups and stores, one over kinds of questions, and the floors that were missed."""
    lines = [f"split {split}", heading("")]
    missed = []
    for (group, where), some in grouped(asked, lambda each: (each.group, each.where)).items():
        lines.append(row(f"{group}, {where}", some))
        measured = asdict(Figures.of([each.answer for each in some]))
        for figure, floor in FLOORS.get((group, where), {}).items():
            if measured[figure] < floor:
                missed.append(f"MISSED {group}, {where}: {figure} is {measured[figure]:.3f}, the floor {floor}")
    lines += ["", heading("by kind of question, one store")]
    in_one = [each for each in asked if each.where == "one store"]
    for (group, kind), some in sorted(grouped(in_one, lambda each: (each.group, each.question.kind)).items()):
        lines.append(row(f"{group}: {kind}", some))
    return [*lines, "", *(missed or ["every floor is held"])], missed


def grouped(asked: list[Asked], key: Callable[[Asked], tuple[str, str]]) -> dict[tuple[str, str], list[Asked]]:
    found: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
    for each in asked:
        found[key(each)].append(each)
    return dict(found)


def heading(title: str) -> str:
    return f"{title:32}" + "".join(f"{column:>12}" for column in COLUMNS)


def row(title: str, some: list[Asked]) -> str:
    ours = Figures.of([each.answer for each in some])
    plain = [each.plain for each in some if each.plain]
    theirs = Figures.of(plain) if plain else None
    values = [ours.any_at_1, ours.any_at_5, ours.recall_at_5, ours.recall_at_10, ours.mrr, ours.page]
    cells = [f"{value:.3f}" for value in values]
    cells += [f"{theirs.any_at_1:.3f}", f"{theirs.any_at_5:.3f}"] if theirs else ["", ""]
    times = [each.answer.elapsed_ms for each in some]
    cells += [f"{percentile(times, 0.5):.1f}", f"{percentile(times, 0.95):.1f}", str(ours.questions)]
    return f"{title:32}" + "".join(f"{cell:>12}" for cell in cells)


def figures(asked: list[Asked]) -> dict[str, object]:
    by_place = grouped(asked, lambda each: (each.group, each.where))
    return {
        f"{group}, {where}": asdict(Figures.of([each.answer for each in some]))
        for (group, where), some in by_place.items()
    }


def failures(asked: list[Asked]) -> Iterator[str]:
    for each in asked:
        if not each.answer.any_at(5):
            told_of = {"group": each.group, "where": each.where, "kind": each.question.kind}
            found = {"question": each.question.text, "place": each.answer.place, "found": each.answer.found[:3]}
            plain = {"plain place": each.plain.place if each.plain else None}
            yield json.dumps({**told_of, **found, **plain, "relevant": sorted(each.question.relevant)})


if __name__ == "__main__":
    sys.exit(main())
