"""The official MCP conformance suite against the real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.clients import conformance, header_proxy
from tests.e2e.conftest import RunningServer

BASELINE = Path(__file__).with_name("conformance-expected-failures.yml")

REPOSITORY = Path(__file__).parents[2]
# Named here so that none can slip into the baseline.
MUST_PASS = {
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "server-sse-multiple-streams",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
    "completion-complete",
    "tools-call-image",
    "tools-call-audio",
    "tools-call-embedded-resource",
    "tools-call-mixed-content",
    "resources-read-text",
    "resources-read-binary",
    "resources-templates-read",
    "resources-subscribe",
    "resources-unsubscribe",
    "prompts-get-simple",
    "prompts-get-with-args",
    "prompts-get-embedded-resource",
    "prompts-get-with-image",
}


@pytest.mark.node
@pytest.mark.timeout(600)  # the first run installs the suite
def test_conformance_suite_fails_nothing_beyond_the_baseline(
    serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = serve(module="tests.e2e.conformance_fixtures", PYTHONPATH=str(REPOSITORY))
    results = tmp_path / "results"
    home = tmp_path / "home"

    with header_proxy(home, server.url, server.ai_token) as origin:
        options = ("--suite", "all", "--expected-failures", str(BASELINE), "--output-dir", str(results))
        finished = conformance(home, f"{origin}/mcp", *options)

    _, _, summary = finished.output.partition("=== SUMMARY ===")
    passed = {name for name, checks in re.findall(r"^✓ (\S+): (\d+) passed, 0 failed$", summary, re.M) if int(checks)}
    print(
        f"conformance: {len(passed)} scenarios passed in {finished.elapsed_seconds:.1f} s: {', '.join(sorted(passed))}"
    )
    assert passed >= MUST_PASS, f"{sorted(MUST_PASS - passed)} did not pass\n{reasons(results)}"
    assert finished.exit_code == 0, f"{summary}{finished.errors}\n{reasons(results)}"


def reasons(results: Path) -> str:
    """Each failed check with what the suite says of it."""
    lines = []
    for file in sorted(results.glob("*/checks.json")):
        for check in json.loads(file.read_text()):
            if check["status"] == "FAILURE":
                lines.append(f"{file.parent.name}: {check.get('errorMessage') or check.get('details')}")
    return "\n".join(lines)
