"""The figure for one machine: `up`, and the real Claude Code's second session knows what the first one knew."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from scripts import node_tools
from scripts.model_standin import ModelStandin, Say
from tests.e2e.conftest import Api, wait_until
from tests.e2e.test_up import FEDMEM, Own, config

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first run installs Claude Code

ANSWER = "The KRILL-4711 import stalls because the cursor is reset after each batch of 500 rows."


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Own]:
    """With Claude Code on it, and a project."""
    own = Own(tmp_path)
    quoted = " ".join(f"'{part}'" for part in node_tools.ensure("claude")["claude"])
    own.program("claude", f'exec {quoted} "$@"')
    own.program("systemctl", "exit 1")
    own.env |= {
        "PATH": f"{own.bin}:/usr/bin:/bin", "DISABLE_AUTOUPDATER": "1", "ENABLE_TOOL_SEARCH": "false",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "ANTHROPIC_API_KEY": "dummy-key-for-the-stand-in",
    }  # fmt: skip
    repository = own.home / "krill" / ".git"
    repository.mkdir(parents=True)
    (repository / "config").write_text('[remote "origin"]\n\turl = git@example.com:ocean/krill.git\n')
    (repository / "HEAD").write_text("ref: refs/heads/main\n")
    yield own
    own.stop()


def session(machine: Own, prompt: str, answer: str) -> ModelStandin:
    """One session of the agent, from its start to its end."""
    with ModelStandin([Say(answer)]) as model:
        done = subprocess.run(
            ["claude", "-p", prompt, "--output-format", "json"], cwd=machine.home / "krill",
            env={**machine.env, "ANTHROPIC_BASE_URL": model.url}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=120, check=False, executable=machine.bin / "claude",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return model


def is_found(machine: Own) -> bool:
    """Whether a search finds what the session said."""
    with Api(("127.0.0.1", int(machine.env["PORT"])), config(machine)["ai_token"]) as api:
        found = api.call("GET", "/api/v1/search?kinds=session&query=" + quote("why does the KRILL-4711 import stall"))
    return found.status == 200 and bool(found.json["hits"])


@pytest.mark.spec("CLI-18", "SEND-11", "BRIEF-8")
def test_after_one_command_the_second_session_knows_what_the_first_one_knew(machine: Own) -> None:
    started = time.monotonic()
    ran = machine.run(*FEDMEM, "up", "--yes", "--no-service")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "claude-code" in json.dumps(config(machine)["clients"])

    session(machine, "Find out why the KRILL-4711 import stalls.", ANSWER)
    ended = time.monotonic()
    wait_until(lambda: is_found(machine))
    found = time.monotonic()
    second = session(machine, "And now mend it.", "Mended.")

    assert "cursor is reset after each batch" in second.main_requests()[0].prompt(), "session two knows nothing"
    print(f"searchable {found - ended:.1f} s after the session's end; all of it {time.monotonic() - started:.1f} s")
