"""The client's commands that a person runs: status, test, doctor, which, init-manifest, import, rescan (LOOK)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import RunningServer, wait_until
from tests.e2e.test_client_uploads import CLIENT, SECRET, Laptop

DAY = 86_400


@pytest.fixture
def laptop(tmp_path: Path, serve: Callable[..., RunningServer]) -> Laptop:
    found = Laptop(tmp_path / "home", serve())
    found.configure(ai_token=found.server.ai_token)
    (found.shop / ".git").mkdir()
    (found.shop / ".git" / "config").write_text('[remote "origin"]\nurl = https://x.org/me/shop\n')
    return found


def told(laptop: Laptop, *arguments: str, code: int = 0) -> Any:
    """What a command says with `--json`: one value, and nothing else."""
    done = laptop.run(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


@pytest.mark.spec("LOOK-1")
def test_status_tells_what_waits_what_is_at_risk_and_what_was_sent(laptop: Laptop) -> None:
    aged(laptop.say("old", "S1"), 28)
    laptop.say("new", "S2")

    before = told(laptop, "status", code=1)
    assert before["sessions"]["claude-code"] == {
        "on_disk": 2, "left_out": 0, "waiting": 2, "waiting_bytes": before["sessions"]["claude-code"]["waiting_bytes"],
        "at_risk": 1,
    }  # fmt: skip
    assert "1 sessions will soon be deleted by their agent" in before["problem"]
    (laptop.home / ".claude" / "settings.json").write_text('{"cleanupPeriodDays": 99999, // kept\n}')
    assert told(laptop, "status")["sessions"]["claude-code"]["at_risk"] == 0
    assert laptop.run("sync").returncode == 0

    after = told(laptop, "status")
    assert after["sessions"]["claude-code"]["waiting"] == 0
    assert after["sent"]["sessions"] == 2
    (source,) = [row for row in after["sources"] if row["name"] == "claude-code"]
    assert source["last_success_at"] > source["last_error_at"]
    assert "2 sessions on disk, 0 not yet on the server" in laptop.run("status").stdout


@pytest.mark.spec("LOOK-1")
def test_what_is_left_out_on_purpose_is_no_trouble(laptop: Laptop) -> None:
    aged(laptop.say("old", "S1"), 28)
    laptop.configure(exclude_projects=["shop"])
    assert laptop.run("sync").returncode == 0

    found = told(laptop, "status")

    assert found["sessions"]["claude-code"]["left_out"] == 1
    assert (found["sessions"]["claude-code"]["waiting"], found["problem"]) == (0, "")


@pytest.mark.spec("LOOK-1")
def test_without_a_server_status_tells_the_rest_and_the_failure(laptop: Laptop) -> None:
    laptop.say("hello")
    laptop.server.stop()
    assert laptop.run("sync").returncode in (1, 6)

    found = told(laptop, "status", code=1)

    assert found["flags"] is None
    assert found["sessions"]["claude-code"]["waiting"] == 1


@pytest.mark.spec("LOOK-2", "REDACT-12")
def test_what_the_server_found_shows_in_status_and_doctor(laptop: Laptop) -> None:
    laptop.configure(redaction="off", ai_token=laptop.server.ai_token)
    laptop.say(f"my token is {SECRET}")
    assert laptop.run("sync").returncode == 0
    wait_until(lambda: told(laptop, "status")["flags"]["total"] == 1)

    (row,) = told(laptop, "status")["flags"]["secrets"]
    shown, advised = laptop.run("status").stdout, laptop.run("doctor").stdout

    assert (row["workspace_id"], row["kind"], row["name"]) == ("laptop-claude-code-shop", "session", "s1")
    assert row["counts"] == {"github-token": 1}
    for text in (shown, advised):
        assert "laptop-claude-code-shop session s1: 1 github-token" in text
        assert SECRET not in text


@pytest.mark.spec("LOOK-2")
def test_flags_of_what_a_caller_may_not_read_are_not_told(laptop: Laptop) -> None:
    laptop.configure(redaction="off")
    laptop.say(f"my token is {SECRET}")
    assert laptop.run("sync").returncode == 0
    wait_until(lambda: told(laptop, "status")["flags"]["total"] == 1)
    with laptop.server.api() as admin:
        others = admin.call("GET", "/api/v1/flags?machine=desktop").json
        assert others["total"] == 0
        assert admin.call("GET", "/api/v1/flags?machine=LAPTOP").json["total"] == 1
    with laptop.server.api("") as nobody:
        assert nobody.call("GET", "/api/v1/flags").status == 401


@pytest.mark.spec("LOOK-3")
def test_the_test_proves_token_rights_and_a_round_trip_that_is_found(laptop: Laptop) -> None:
    texts = [check["text"] for check in told(laptop, "test")["checks"]]

    assert texts[1] == "the AI token may read"
    assert texts[2] == "wrote and read back self-test.md in laptop-memory-sync-self-test"
    assert texts[3].startswith("search found it after ")
    assert told(laptop, "test")["checks"][1:3] == [
        {"level": "ok", "text": texts[1], "hint": ""}, {"level": "ok", "text": texts[2], "hint": ""},
    ]  # fmt: skip


@pytest.mark.spec("LOOK-3", "LOOK-9")
def test_the_test_ends_with_what_fails_and_tells_what_was_proven_before(laptop: Laptop) -> None:
    laptop.configure(ai_token=laptop.server.ai_token, sync_token="wrong-token-of-somebody")
    checks = told(laptop, "test", code=4)["checks"]
    assert [check["level"] for check in checks] == ["ok", "ok", "error"]
    assert "token" in checks[2]["text"]

    laptop.server.stop()
    assert [check["level"] for check in told(laptop, "test", code=6)["checks"]] == ["error"]


@pytest.mark.spec("LOOK-3")
def test_the_test_looks_at_each_agents_configuration(laptop: Laptop) -> None:
    assert laptop.run("install", "--yes", "--no-schedule", "--client", "cursor").returncode == 0
    assert told(laptop, "test")["checks"][-1]["text"] == "cursor: cursor is connected"
    (laptop.home / ".cursor" / "mcp.json").write_text("{}")

    last = told(laptop, "test", code=2)["checks"][-1]

    assert last["level"] == "error"
    assert "install --client cursor" in last["hint"]


@pytest.mark.spec("LOOK-4")
def test_doctor_goes_on_after_a_failure_and_says_what_to_do(laptop: Laptop) -> None:
    laptop.say("hello")
    assert laptop.run("sync").returncode == 0
    (laptop.own / "config.json").chmod(0o600)
    healthy = told(laptop, "doctor", code=1)["checks"]  # a schedule is missing
    assert [check["text"] for check in healthy if check["level"] != "ok"] == ["no schedule: only hooks upload"]
    (laptop.own / "config.json").chmod(0o644)
    laptop.server.stop()

    checks = told(laptop, "doctor", code=2)["checks"]

    failed = [check for check in checks if check["level"] == "error"]
    assert [check["text"].split(" ")[0] for check in failed] == ["others", "Cannot"]
    assert all(check["hint"] for check in failed)


@pytest.mark.spec("LOOK-5")
def test_which_says_which_workspace_and_why(laptop: Laptop) -> None:
    found = told(laptop, "which", "--cwd", str(laptop.shop))
    assert found["workspace_id"] == "laptop-claude-code-shop"
    (laptop.shop / ".memory-workspace").write_text("team-notes\n")
    named = told(laptop, "which", "--cwd", str(laptop.shop), "--tool", "codex")
    assert (named["workspace_id"], ".memory-workspace" in named["why"]) == ("team-notes", True)
    laptop.configure(exclude_projects=["shop"])
    left_out = told(laptop, "which", "--cwd", str(laptop.shop), code=1)
    assert (left_out["workspace_id"], "exclude_projects" in left_out["why"]) == ("", True)


@pytest.mark.spec("LOOK-6")
def test_a_manifest_is_made_from_what_is_there_and_sync_follows_it(laptop: Laptop) -> None:
    (laptop.shop / "README.md").write_text("# Shop\n")
    (laptop.shop / "docs").mkdir()
    (laptop.shop / "docs" / "build.md").write_text("make all\n")

    made = told(laptop, "init-manifest", "--tool", "codex", "--project", "Shop", "--cwd", str(laptop.shop))

    manifest = json.loads(Path(made["path"]).read_text())
    assert manifest["workspace_id"] == made["workspace_id"] == "laptop-codex-shop"
    assert {"machine", "tool", "project", "tracked", "tracked_dirs"} <= manifest.keys()
    assert laptop.run("sync").returncode == 0
    with laptop.server.api() as api:
        documents = api.call("GET", "/api/v1/workspaces/laptop-codex-shop/knowledge").json["documents"]
    assert sorted(row["path"] for row in documents) == ["README.md", "docs/build.md"]
    again = laptop.run("init-manifest", "--tool", "codex", "--project", "Shop", "--cwd", str(laptop.shop))
    assert (again.returncode, "--force" in again.stderr) == (2, True)


@pytest.mark.spec("LOOK-7")
def test_import_sends_what_lies_elsewhere(laptop: Laptop) -> None:
    old = laptop.home / "old-disk"
    path = laptop.say("from the old disk", "OLD", old / "a")
    (old / "b").mkdir()
    (old / "b" / "unknown.jsonl").write_text('{"type": "user"}\n')

    planned = told(laptop, "import", str(old / "a"), "--dry-run")
    assert [row["status"] for row in planned["files"]] == ["planned"]
    assert laptop.held("old").status == 404
    found = told(laptop, "import", str(old), str(old / "gone.jsonl"), code=1)
    assert {Path(row["path"]).name: row["status"] for row in found["files"]} == {
        "OLD.jsonl": "created", "unknown.jsonl": "failed", "gone.jsonl": "failed",
    }  # fmt: skip
    assert laptop.held("old").body == path.read_bytes()
    assert (found["sent"], found["failed"]) == (1, 2)


@pytest.mark.spec("LOOK-8")
def test_rescan_sends_again_under_newer_rules_and_replaces_what_is_there(laptop: Laptop) -> None:
    rules = json.loads((CLIENT / "redaction_rules.json").read_text())
    newest = rules["version"]
    older = {**rules, "version": "2020-01-01", "rules": [r for r in rules["rules"] if r["kind"] != "github-token"]}
    place = laptop.own / "bin" / "redaction_rules.json"
    place.write_text(json.dumps(older))
    path = laptop.say(f"remember {SECRET} for me")
    assert laptop.run("sync").returncode == 0
    assert laptop.held().body == path.read_bytes()
    place.write_text(json.dumps(rules))

    assert laptop.run("rescan").returncode == 2
    assert told(laptop, "rescan", "--redact") == {"rules": newest, "sent": 1, "failed": 0, "redactions": 1}

    assert SECRET.encode() not in laptop.held().body
    assert b"[REDACTED:github-token]" in laptop.held().body
    assert told(laptop, "rescan", "--redact")["sent"] == 0
