"""What the browser looks at: a few workspaces with a life behind them, and a long session with one needle in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.e2e.conftest import RunningServer

NEEDLE, NEEDLE_LINE, LINES = "quagmire-7731", 31_007, 40_000
HOME = "laptop-claude-code-shop"
OVERVIEW = """# Shop

A web shop with a **Python** back end. Deployed from `main` by CI.

## Where it stands

- checkout rewritten in October
- images still lie on the old disk

| part | owner | state |
|---|---|---|
| checkout | Ana | done |
| search | Ben | in review |

```sh
make deploy ENV=staging
```

> Never deploy on Friday.
"""
DEPLOY = """# Deploying

Run `make deploy`. The service restarts by itself.

## Steps

1. Tag the release
2. Wait for CI
3. Run the migration
4. Watch the dashboard for ten minutes

## Rollback

Set the old tag and deploy again.
"""
_CHANGED = (
    DEPLOY.replace("`make deploy`", "`make deploy ENV=production`")
    .replace("3. Run the migration\n", "3. Run the migration, and look at `alembic current`\n4. Warm the cache\n")
    .replace("4. Watch", "5. Watch")
)
VERSIONS = (DEPLOY, _CHANGED, DEPLOY + "\nAsk Ana when in doubt.\n")
MEMORIES = [
    ("decision", "Deploys come from main", "We deploy from `main` only; hot fixes too.", ["deploy"]),
    ("bug", "The total was rounded twice", "Once per line and once at the end: **keep the last one**.", ["checkout"]),
    ("config", "Staging has its own keys", "They lie in the vault under `staging/`.", ["deploy", "keys"]),
    ("skill", "Running one test", "`pytest -k name -x --lf`", ["tests"]),
]
HOSTILE = """# <script>window.hurt = 1</script><img src=x onerror="window.hurt = 2">

[click me](javascript:window.hurt=3) [or me](data:text/html,<script>window.hurt=4</script>)
<a href="javascript:window.hurt=5">me</a>

![pixel](http://pixel.invalid/a.png) <svg onload="window.hurt=6"> <iframe src="http://frame.invalid/"></iframe>

`</code><script>window.hurt=7</script>`
<style>body { display: none }</style>
<meta http-equiv="refresh" content="0;url=http://away.invalid/">
"""
HOSTILE_PATH = "evil/'onmouseover=alert(1) ‹script›.md"


def fill(server: RunningServer) -> None:
    """Through the routes, as clients do."""
    names = [
        ("laptop", "claude-code", "shop"), ("laptop", "codex", "shop"), ("Büro-PC", "claude-code", "payments-api"),
        ("ci-runner", "gemini", "infrastructure"),
    ]  # fmt: skip
    with server.api() as api:
        for machine, tool, project in names:
            workspace = api.register(project, machine, tool)
            workspace.call("PUT", "overview", OVERVIEW.replace("Shop", project.title()).encode())
            for path in ("ops/backups.md", "design/checkout.md", "decisions/why-postgres.md"):
                workspace.call("PUT", f"knowledge/{path}", f"# {path[:-3]}\n\nWhat we know about {path}.\n".encode())
            workspace.call("PUT", "sessions/short", "\n".join(_talk(40, "")).encode() + b"\n")
            _remember(server, machine, tool, project)
            if workspace.workspace_id == HOME:
                workspace.call("PUT", "sessions/long", "\n".join(_talk(LINES, NEEDLE)).encode() + b"\n")
                for text in VERSIONS:
                    assert workspace.call("PUT", "knowledge/ops/deploy.md", text.encode()).status < 300
                assert workspace.call("PUT", f"knowledge/{HOSTILE_PATH}", HOSTILE.encode()).status == 201
                hostile = [
                    _said("user", HOSTILE),
                    _said("assistant", HOSTILE),
                    _call("<script>", HOSTILE),
                    _result(HOSTILE),
                ]
                workspace.call("PUT", "sessions/hostile", "\n".join(hostile).encode() + b"\n")


def _remember(server: RunningServer, machine: str, tool: str, project: str) -> None:
    with server.api(server.ai_token) as api:
        workspace = api.register(project, machine, tool)
        for kind, subject, content, tags in MEMORIES:
            draft = {"kind": kind, "subject": subject, "content": content, "tags": tags}
            answer = api.call(
                "POST", "/api/v1/memories", json.dumps(draft).encode(), X_Memory_Binding=workspace.binding
            )
            assert answer.status == 201, answer


def _talk(lines: int, needle: str) -> Iterator[str]:
    for number in range(lines):
        match number % 5:
            case 0:
                yield _said("user", f"Please look at the checkout again, part {number}.")
            case 1:
                yield _said(
                    "assistant",
                    f"I read the **module**, then run the tests:\n\n- read {number}\n- test\n",
                )
            case 2:
                yield _call(
                    "Bash", f"pytest tests/checkout -k part_{number}" + (f" {needle}" if number == NEEDLE_LINE else "")
                )
            case 3:
                yield _result(f"collected {number} items\n" + "tests/checkout/test_total.py ........ [100%]\n" * 8)
            case _:
                yield _said(
                    "assistant", f"All of part {number} passes. The total was rounded twice; I removed one of them."
                )


def _said(role: str, text: str) -> str:
    return _line(role, text)


def _call(name: str, command: str) -> str:
    return _line("assistant", [{"type": "tool_use", "id": "t", "name": name, "input": {"command": command}}])


def _result(text: str) -> str:
    return _line("user", [{"type": "tool_result", "tool_use_id": "t", "content": text}])


def _line(role: str, content: object) -> str:
    at = "2026-11-20T08:00:00.000Z"
    return json.dumps({"type": role, "uuid": "u", "timestamp": at, "message": {"role": role, "content": content}})
