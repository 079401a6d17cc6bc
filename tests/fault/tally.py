"""What a suite has tried and found, for the table of `make nightly`; without that, for whoever reads the output."""

from __future__ import annotations

import json
import os


def tally(suite: str, *, trials: int, lost: int = 0, torn: int = 0, escapes: int = 0, leaks: int = 0) -> None:
    """`lost`: acknowledged and gone; `torn`: what nobody sent; `escapes`: out of a frame, a folder or a right; `leaks`:
    files, descriptors, memory or inner words left behind."""
    row = {"suite": suite, "trials": trials, "lost": lost, "torn": torn, "escapes": escapes, "leaks": leaks}
    if place := os.environ.get("NIGHTLY_TALLY"):
        with open(place, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print(", ".join(f"{name} {value}" for name, value in row.items()))
