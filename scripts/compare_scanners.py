"""Our redaction beside an independent scanner, detect-secrets, on the same planted and clean lines.

    make nightly

The scanner is installed for this only, into `.cache/scanners`; nothing of ours depends on it. Exit code 1: we found
fewer than 98 % of the planted secrets, or fewer than it did; or it still finds one in what we redacted beyond those
2 %; or we made more than one false hit per MB.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

if not __package__:  # run as a file: only this folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts import secrets_corpus
from scripts.client_module import CLIENT, load_client
from scripts.secrets_corpus import Planted

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = REPOSITORY / ".cache" / "scanners" / "bin" / "python"
LEAST_FOUND = 0.98
SCAN = """
import json, sys
from detect_secrets.core.scan import scan_line
from detect_secrets.settings import default_settings
with default_settings():
    for line in sys.stdin:
        found = [secret for part in json.loads(line) for secret in scan_line(part)]
        print(json.dumps([[secret.type, secret.secret_value] for secret in found]))
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="compare_scanners", description="Compare with an independent scanner.")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="200 secrets each (5)")
    parser.add_argument("--megabytes", type=int, default=2, metavar="MB", help="of clean transcripts (2)")
    options = parser.parse_args(arguments)
    if not PYTHON.exists():
        print(f"{PYTHON} is missing: run `make nightly`", file=sys.stderr)
        return 2
    planted = [item for seed in range(1, options.seeds + 1) for item in secrets_corpus.planted(seed=seed, count=200)]
    clean = list(secrets_corpus.clean(seed=1, megabytes=options.megabytes))
    return compare(planted, clean)


def compare(planted: list[Planted], clean: list[bytes]) -> int:
    client = load_client()
    rules = client.parse_rules((CLIENT.parent / "redaction_rules.json").read_bytes())
    redact = client.Redactor(rules).line
    redacted = [redact(item.line)[0] for item in planted]
    left = [bool(secrets_corpus.traces_of(item, line)) for item, line in zip(planted, redacted, strict=True)]
    ours = left.count(False)
    theirs = sum(map(names, planted, scanned([item.line for item in planted])))
    missed = [item for item, line in zip(planted, scanned(redacted), strict=True) if names(item, line)]
    false_hits = sum(redact(line)[1].total() for line in clean)
    their_hits = sum(map(len, scanned(clean)))
    megabytes = sum(map(len, clean)) / 1e6

    print(f"{'':<34}{'ours':>10}{'detect-secrets':>16}")
    print(f"{f'found of {len(planted)} planted secrets':<34}{ours / len(planted):>10.1%}{theirs / len(planted):>16.1%}")
    print(f"{'hits per MB of clean transcripts':<34}{false_hits / megabytes:>10.2f}{their_hits / megabytes:>16.1f}")
    print("    (on single lines its entropy detectors report every word; as a scanner of files it asks for quotes)")
    print(f"{'still found in what we redacted':<34}{'':>10}{len(missed):>16}")
    for item in missed:
        print(f"  {item.kind} in {item.context}")
    enough = ours >= LEAST_FOUND * len(planted) and ours >= theirs
    return 0 if enough and len(missed) <= (1 - LEAST_FOUND) * len(planted) and false_hits <= megabytes else 1


def names(item: Planted, found: list[tuple[str, str]]) -> bool:
    """Whether the scanner told this secret, or a part of it that would be worth having."""
    return any(len(value) >= 8 and (value in item.secret or item.secret in value) for _, value in found)


def scanned(lines: list[bytes]) -> list[list[tuple[str, str]]]:
    """What the scanner finds in the lines of text that each line of a transcript holds: it reads no JSON itself."""
    given = "".join(json.dumps(texts_of(line)) + "\n" for line in lines)
    done = subprocess.run([PYTHON, "-c", SCAN], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the scanner failed: {done.stderr[-500:]}")
    return [[(kind, value or "") for kind, value in json.loads(line)] for line in done.stdout.splitlines()]


def texts_of(line: bytes) -> list[str]:
    """Its strings, decoded, line by line."""
    texts: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, str):
            texts.extend(value.splitlines())
        elif isinstance(value, dict):
            for key, item in value.items():
                texts.append(f"{key} = {item}") if isinstance(item, str) and "\n" not in item else collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    try:
        collect(json.loads(line))
    except ValueError:
        texts.extend(line.decode("utf-8", "replace").splitlines())
    return texts


if __name__ == "__main__":
    sys.exit(main())
