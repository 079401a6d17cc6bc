"""The command line: `python -m scripts.bench`."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from scripts.bench import (
    archive,
    client,
    knowledge,
    memories,
    pages,
    protocol,
    resources,
    rooms,
    search,
    search_huge,
    state,
)
from scripts.bench.harness import Bench, Options, run_benches
from scripts.bench.report import as_json, table

GROUPS: tuple[ModuleType, ...] = (
    protocol,
    knowledge,
    memories,
    archive,
    resources,
    search,
    search_huge,
    client,
    pages,
    rooms,
    state,
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: every gate passed; 1: a gate missed or a bench could not run; 2: wrong usage."""
    given = parse_arguments(arguments)
    benches = [bench for group in GROUPS for bench in group.BENCHES]
    if given.list:
        print("\n".join(bench.name for bench in benches))
        return 0
    if not any(bench.wanted(given.only) for bench in benches):
        print(f"no bench is named {given.only!r}; --list shows them", file=sys.stderr)
        return 2
    return measure(benches, given)


def measure(benches: list[Bench], given: argparse.Namespace) -> int:
    given.dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir=given.dir) as folder:
        work = Path(folder, "work").resolve()
        options = Options(folder=work, quick=given.quick, large=given.large, huge=given.huge, only=given.only)
        outcome = run_benches(benches, options, lambda line: print(line, file=sys.stderr, flush=True))
    print(table(outcome))
    if given.json:
        given.json.write_text(as_json(outcome, quick=given.quick))
    return outcome.exit_code


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description="Measure speed as ratios.")
    parser.add_argument("--quick", action="store_true", help="small data, few rounds; gates on size only reported")
    parser.add_argument("--large", action="store_true", help="also search 1 GB (made once, in .cache), some minutes")
    parser.add_argument("--huge", action="store_true", help="also serve 5 GB (made once, in .cache), ten minutes")
    parser.add_argument("--only", default="", metavar="PATTERN", help="benches whose name starts with or matches this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--list", action="store_true", help="name the benches and stop")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where files go; a real disk (default: build)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
