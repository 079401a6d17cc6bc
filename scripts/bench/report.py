"""The table a person reads and the JSON a machine keeps."""

import json
import os
import platform
from dataclasses import asdict

from scripts.bench.harness import Goal, Outcome

COLUMNS = ("goal", "measured", "reference", "ratio", "target", "")


def table(outcome: Outcome) -> str:
    """One line per goal, notes below it, then what could not be measured and the sum of it all."""
    rows = [cells(goal) for goal in outcome.goals]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = [aligned(COLUMNS, widths)]
    for goal, row in zip(outcome.goals, rows, strict=True):
        lines.append(aligned(row, widths))
        if goal.note:
            lines.append(f"    {goal.note}")
    lines += [f"NOT MEASURED {name}: {reason}" for name, reason in outcome.failures.items()]
    return "\n".join([*lines, "", verdict(outcome)])


def cells(goal: Goal) -> tuple[str, ...]:
    target = "" if goal.target is None else f"<= {goal.target:.4g}"
    word = {True: "ok", False: "MISSED", None: "report"}[goal.passed]
    values = (amount(goal.measured, goal.unit), amount(goal.reference, goal.unit), f"{goal.ratio:.4g}")
    return goal.name, *values, target, word


def amount(value: float, unit: str) -> str:
    """Three digits are more than a shared machine is worth."""
    return f"{value:.0f} {unit}" if abs(value) >= 100 or value == 0 else f"{value:.3g} {unit}"


def aligned(row: tuple[str, ...], widths: list[int]) -> str:
    first, *numbers, last = row
    middle = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))
    return "  ".join([first.ljust(widths[0]), *middle, last]).rstrip()


def verdict(outcome: Outcome) -> str:
    gates = [goal.passed for goal in outcome.goals if goal.passed is not None]
    text = f"{sum(gates)} of {len(gates)} gates passed"
    return f"{text}, {len(outcome.failures)} benches not measured" if outcome.failures else text


def as_json(outcome: Outcome, *, quick: bool) -> str:
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    goals = [{**asdict(goal), "ratio": goal.ratio, "passed": goal.passed} for goal in outcome.goals]
    report = {"quick": quick, "machine": machine, "goals": goals, "not_measured": outcome.failures}
    return json.dumps(report, indent=1) + "\n"
