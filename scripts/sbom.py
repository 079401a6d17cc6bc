"""Write beside each wheel of `dist/` what a server installed from it consists of: CycloneDX 1.6, JSON.

    python scripts/sbom.py [WHEEL ...]

Made of `deploy/requirements.txt` alone, so the same wheel and lock give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
LOCK = REPOSITORY / "deploy" / "requirements.txt"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\\n]+?))? \\$")


def components(lock: str) -> list[dict[str, Any]]:
    """Every pinned dependency; `hashes` are those of its files, one per platform."""
    found: list[dict[str, Any]] = []
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name, version, marker = pin[1], pin[2], pin[3]
            purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
            row: dict[str, Any] = {
                "type": "library", "bom-ref": purl if not marker else f"{purl}#{marker}", "name": name,
                "version": version, "purl": purl, "hashes": [],
            }  # fmt: skip
            if marker:
                row["properties"] = [{"name": "python:environment-marker", "value": marker}]
            found.append(row)
        elif digest := re.search(r"--hash=sha256:([0-9a-f]{64})", line):
            found[-1]["hashes"].append({"alg": "SHA-256", "content": digest[1]})
    return found


def bom(wheel: Path, lock: str) -> bytes:
    data = wheel.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    name, version = wheel.name.split("-")[:2]
    purl = f"pkg:pypi/{name.replace('_', '-')}@{version}"
    rows = components(lock)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, digest + hashlib.sha256(lock.encode()).hexdigest())
    told = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": f"urn:uuid:{serial}",
        "metadata": {
            "component": {
                "type": "application", "bom-ref": purl, "name": name.replace("_", "-"), "version": version,
                "purl": purl, "licenses": [{"license": {"id": "MIT"}}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            },
        },
        "components": rows,
        "dependencies": [{"ref": purl, "dependsOn": [row["bom-ref"] for row in rows]}],
    }  # fmt: skip
    return json.dumps(told, indent=1).encode() + b"\n"


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    wheels = [Path(each) for each in given] or sorted((REPOSITORY / "dist").glob("*.whl"))
    if not wheels:
        print("there is no wheel: make build", file=sys.stderr)
        return 2
    for wheel in wheels:
        target = wheel.with_name(wheel.name + ".cdx.json")
        target.write_bytes(bom(wheel, LOCK.read_text(encoding="utf-8")))
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
