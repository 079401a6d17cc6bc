"""A small root with some of everything, made once by the services themselves; every test gets a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.auth.tokens import generated_tokens
from federated_memory.operate.check import check_root
from federated_memory.operate.findings import Finding, Report
from federated_memory.service.services import Services
from federated_memory.settings import Settings
from federated_memory.store.registry import Workspace

ADMIN = Caller(Grant("tester", "admin", "0" * 32))
WORKSPACE = "box-claude-shop"

Check = Callable[..., Report]


def transcript(lines: int, words: str) -> bytes:
    """A Claude Code transcript; the numbers keep it from being packed too well."""
    return b"".join(
        json.dumps(
            {
                "type": "user",
                "timestamp": "2026-11-20T10:00:00Z",
                "message": {"role": "user", "content": f"{words} {number} {number * 7919 % 10007:05d}"},
            }
        ).encode()
        + b"\n"
        for number in range(lines)
    )


def upload(services: Services, workspace: Workspace, session_id: str, data: bytes) -> None:
    going = services.sessions.begin_upload(ADMIN, workspace, session_id, encoding="identity", source={"machine": "box"})
    try:
        going.feed(data)
        going.finish()
    finally:
        going.close()


def fill(root: Path) -> None:
    services = open_services(Settings(root=root, mcp_token="a-token", sync_token="another"))  # type: ignore[arg-type]
    try:
        generated_tokens(services.core.root)
        names = {"machine": "box", "tool": "claude", "project": "shop"}
        services.workspaces.register(ADMIN, **names, workspace_id=WORKSPACE)
        services.tokens.create(ADMIN, "laptop", "ai")
        workspace = services.core.registry.get(WORKSPACE)
        for number in (1, 2, 3):
            services.knowledge.put(ADMIN, workspace, "design/auth.md", f"# Auth\n\nText {number}\n".encode(), None)
        services.knowledge.put(ADMIN, workspace, "Über uns.md", "# Über uns\n".encode(), None)
        services.knowledge.put(ADMIN, workspace, "gone.md", b"# Gone\n", None)
        services.knowledge.remove(ADMIN, workspace, "gone.md", None)
        services.knowledge.put(ADMIN, workspace, None, b"# Shop\n\nSells things.\n", None)
        upload(services, workspace, "long", transcript(9_000, "long"))
        upload(services, workspace, "long", transcript(9_000, "long") + transcript(50, "grown"))
        upload(services, workspace, "changed", transcript(20, "first"))
        upload(services, workspace, "changed", transcript(20, "second"))
        upload(services, workspace, "twin", transcript(20, "second"))
        upload(services, workspace, "empty", b"")
    finally:
        close_services(services)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    root = tmp_path_factory.mktemp("filled") / "memory"
    fill(root)
    return root


@pytest.fixture
def memory(filled: Path, tmp_path: Path) -> Path:
    """A root that may be spoilt."""
    return Path(shutil.copytree(filled, tmp_path / "memory"))


@pytest.fixture
def space(memory: Path) -> Path:
    """The folder of its one workspace."""
    return memory / "workspaces" / WORKSPACE


@pytest.fixture
def check(memory: Path) -> Check:
    def run(**options: bool) -> Report:
        return check_root(memory, pause_seconds=0, **options)  # type: ignore[arg-type]

    return run


def only(report: Report) -> Finding:
    """The one finding of a report."""
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def to_act_on(report: Report) -> list[tuple[str, str]]:
    """(severity, path) of what is no mere information."""
    return [(finding.severity, finding.path) for finding in report.findings if finding.severity != "info"]
