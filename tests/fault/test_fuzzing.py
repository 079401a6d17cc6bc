"""Parsers of what comes from outside, fuzzed: by coverage with atheris, by Hypothesis, and with what was hard once.

What broke a target once is in `tests/vectors/fuzz/<target>`, small and named. `FAULT_FULL=1` (nightly): 60 s each.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fault.fuzz_targets import TARGETS, broken
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60" if FULL else "2"))
EXAMPLES = 20_000 if FULL else 150
REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY / "tests" / "vectors" / "fuzz"

pytestmark = pytest.mark.timeout(900 if FULL else 120)


def seeds(target: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]


def changed(target: str) -> st.SearchStrategy[bytes]:
    """Bytes, and seeds of the corpus with a piece taken out, put in or doubled."""

    @st.composite
    def one(draw: st.DrawFn) -> bytes:
        seed = draw(st.sampled_from(seeds(target)))
        start = draw(st.integers(0, len(seed)))
        end = draw(st.integers(start, min(len(seed), start + 40)))
        piece = draw(st.binary(max_size=8) | st.just(seed[start:end] * 2) | st.sampled_from(seeds(target)))
        return seed[:start] + piece + seed[end:]

    return st.binary(max_size=200) | one()


@pytest.mark.spec("SEC-5")
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_known_to_be_hard_is_taken(target: str) -> None:
    found = seeds(target)
    for seed in found:
        TARGETS[target](seed)
    assert len(found) > 5


@pytest.mark.spec("SEC-5")
@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_break_a_parser(target: str) -> None:
    tried = 0

    @given(changed(target))
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=not FULL,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def feeds(data: bytes) -> None:
        nonlocal tried
        tried += 1
        TARGETS[target](data)

    feeds()
    tally(f"properties of {target}", trials=tried)


@pytest.mark.spec("SEC-5")
@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_that_coverage_leads_to_break_a_parser(target: str, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path, SECONDS)

    runs = re.search(r"Done (\d+) runs", done.stderr)
    tally(f"fuzzing of {target}", trials=int(runs[1]) if runs else 0, torn=int(done.returncode != 0))
    assert done.returncode == 0, done.stderr[-3_000:]
    assert runs
    assert int(runs[1]) > 100


def test_a_broken_parser_is_found_out(tmp_path: Path) -> None:
    """By coverage, from nothing: no seed comes near it, and no chance finds three bytes in order."""
    done = fuzz("broken", tmp_path, max(SECONDS, 20))

    assert done.returncode != 0
    found = re.search(r"broken by: ([0-9a-f]+)", done.stderr)
    assert found
    with pytest.raises(ValueError, match="out of the folder"):
        broken(bytes.fromhex(found[1]))


def fuzz(target: str, folder: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this Python; Hypothesis alone drives the targets")
    corpus = folder / "corpus"
    if (CORPUS / target).is_dir():
        shutil.copytree(CORPUS / target, corpus)
    else:
        corpus.mkdir()
    limits = (f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1024", f"-artifact_prefix={folder}/")
    return subprocess.run(
        [sys.executable, "-m", "tests.fault.fuzzer", target, *limits, str(corpus)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=seconds + 90,
    )  # fmt: skip
