"""The real Codex, Gemini CLI and opencode through a whole turn: register, write, search; the model is a stand-in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import node_tools
from scripts.other_standins import Input, OtherStandin
from tests.e2e.conftest import RunningServer
from tests.e2e.test_client_install_agents import Machine, nightly

pytestmark = [pytest.mark.node, pytest.mark.timeout(600), nightly]


def binding(results: Sequence[str]) -> str:
    """The handle that register_workspace gave, wherever this agent puts it."""
    found = re.search(r"fmb1\.[A-Za-z0-9._-]+", results[0])
    assert found, results[0]
    return found[0]


def steps(agent: str) -> list[tuple[str, Input]]:
    def note(results: Sequence[str]) -> dict[str, Any]:
        return {
            "path": "notes/port.md",
            "text": f"# Port\n\n{agent} found the zebra port.\n",
            "binding": binding(results),
        }

    return [
        ("register_workspace", {"machine": "box", "tool": agent, "project": "shop"}),
        ("write_knowledge", note),
        ("search_memory", {"query": "zebra port"}),
    ]


def proven(server: RunningServer, model: OtherStandin, agent: str) -> None:
    assert model.problems == []
    assert len(model.results) == 3, model.results
    assert "zebra" in model.results[2]
    file = server.root / "workspaces" / f"box-{agent}-shop" / "knowledge" / "notes" / "port.md"
    assert f"{agent} found" in file.read_text()


@pytest.mark.spec("TOOL-2", "BIND-1")
def test_codex_goes_through_a_whole_turn(server: RunningServer, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "codexbox")
    (machine.home / ".codex").mkdir(parents=True)
    program = node_tools.ensure("codex")["codex"]
    with OtherStandin(steps("codex")) as model:
        (machine.home / ".codex" / "config.toml").write_text(
            'model = "standin"\nmodel_provider = "standin"\n'
            f'[model_providers.standin]\nname = "standin"\nbase_url = "{model.url}/v1"\nenv_key = "STANDIN_KEY"\n'
            'wire_api = "responses"\n'
            f'[mcp_servers.memory]\nurl = "{server.mcp_url}"\nbearer_token_env_var = "MCP_MEMORY_TOKEN"\n'
            'default_tools_approval_mode = "approve"\n'
        )
        done = machine.run(
            [*program, "exec", "--json", "--skip-git-repo-check", "remember the port"],
            STANDIN_KEY="x", MCP_MEMORY_TOKEN=server.ai_token,
        )  # fmt: skip
    assert done.exit_code == 0, done.shown()
    proven(server, model, "codex")


@pytest.mark.spec("TOOL-2", "BIND-1")
def test_gemini_goes_through_a_whole_turn(server: RunningServer, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "geminibox")
    (machine.home / ".gemini").mkdir(parents=True)
    program = node_tools.ensure("gemini")["gemini"]
    entry = {"httpUrl": server.mcp_url, "headers": {"Authorization": "Bearer $MCP_MEMORY_TOKEN"}, "trust": True}
    settings = {"mcpServers": {"memory": entry}, "security": {"auth": {"selectedType": "gemini-api-key"}}}
    (machine.home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    with OtherStandin(steps("gemini")) as model:
        done = machine.run(
            [*program, "-p", "remember the port", "--output-format", "json", "-m", "gemini-2.5-flash"],
            GOOGLE_GEMINI_BASE_URL=model.url, GEMINI_API_KEY="x", MCP_MEMORY_TOKEN=server.ai_token,
            GEMINI_CLI_TRUST_WORKSPACE="true",
        )  # fmt: skip
    assert done.exit_code == 0, done.shown()
    proven(server, model, "gemini")


@pytest.mark.spec("TOOL-2", "BIND-1", "INST-1", "SYNC-8")
def test_opencode_goes_through_a_whole_turn_and_its_session_is_kept(server: RunningServer, tmp_path: Path) -> None:
    """Connected by our installer; then the session that opencode itself stored is uploaded, found and read."""
    machine = Machine(tmp_path / "opencodebox")
    (machine.home / ".config" / "opencode").mkdir(parents=True)
    program = node_tools.ensure("opencode")["opencode"]
    machine.install(server, "--client", "opencode", "--history", "all")
    with OtherStandin(steps("opencode")) as model:
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": f"{model.url}/v1", "apiKey": "x"},
            "models": {"standin": {"name": "standin", "tool_call": True}},
        }
        own = {"provider": {"standin": provider}, "model": "standin/standin", "autoupdate": False, "share": "disabled"}
        (machine.project / "opencode.json").write_text(json.dumps(own))
        done = machine.run(
            [*program, "run", "--model", "standin/standin", "remember the zebra port"],
            OPENCODE_DISABLE_AUTOUPDATE="1", OPENCODE_DISABLE_MODELS_FETCH="1", OPENCODE_DISABLE_LSP_DOWNLOAD="1",
        )  # fmt: skip
    assert done.exit_code == 0, done.shown()
    proven(server, model, "opencode")
    sent = machine.memory_sync("sync")
    assert sent.exit_code == 0, sent.shown()
    with server.api() as api:
        found = api.call("GET", "/api/v1/search?query=remember+zebra+port&kinds=session&tool=opencode")
    assert [hit for hit in found.json["hits"] if hit["role"] == "user"], found
