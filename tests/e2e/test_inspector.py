"""The MCP Inspector's command line against the real server; it speaks protocol version 2025-11-25."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.clients import Server, inspector

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first run installs the Inspector


def test_inspector_lists_portable_tools(server: Server, tmp_path: Path) -> None:
    finished = inspector(tmp_path, server.mcp_url, server.ai_token, "--method", "tools/list", "--strict")

    assert finished.exit_code == 0, finished.shown()  # 6: a tool schema that some clients cannot use
    names = {tool["name"] for tool in json.loads(finished.output)["tools"]}
    assert names >= {"register_workspace", "write_knowledge", "read_knowledge", "search_knowledge", "read_session"}


def test_inspector_calls_a_tool(server: Server, tmp_path: Path) -> None:
    arguments = ("--tool-arg", "machine=m1", "tool=inspector", "project=shop")
    call = ("--method", "tools/call", "--tool-name", "register_workspace", *arguments)

    finished = inspector(tmp_path, server.mcp_url, server.ai_token, *call)

    assert finished.exit_code == 0, finished.shown()
    registered = json.loads(finished.output)["structuredContent"]
    assert registered["workspace_id"] == "m1-inspector-shop"
    assert registered["binding"]


def test_inspector_with_a_wrong_token_is_refused(server: Server, tmp_path: Path) -> None:
    finished = inspector(tmp_path, server.mcp_url, "wrong-token", "--method", "tools/list")

    assert finished.exit_code == 3, finished.shown()  # its code for: authentication required
    assert "auth_required" in finished.errors
