"""One target under atheris, in a process of its own: `python -m tests.fault.fuzzer TARGET [libFuzzer's options]`.

libFuzzer ends the process itself: 0 when time is up, otherwise with the input that broke the target, in hexadecimal.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["federated_memory", "tests.fault.fuzz_targets"]):
    from tests.fault import fuzz_targets


def main() -> None:
    name, *options = sys.argv[1:]
    target = fuzz_targets.TARGETS.get(name, fuzz_targets.broken)

    def once(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            print(f"broken by: {data.hex()}", file=sys.stderr, flush=True)
            raise

    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
