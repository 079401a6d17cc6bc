"""Two agents on one server, through the real `mcp` client, in both protocol eras."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from scripts.bench.wire import CLIENT, META, McpClient
from tests.e2e.conftest import RunningServer

LEGACY, MODERN = "legacy", "2026-07-28"
both_eras = pytest.mark.parametrize("mode", [LEGACY, MODERN])


@dataclass
class Agent:
    """One connected MCP client; `heads` are the headers of every answer it got."""

    client: Client
    heads: list[httpx2.Headers] = field(default_factory=list)
    bound: dict[str, str] = field(default_factory=dict)

    async def call(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """The structured result; the call must succeed."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def fail(self, tool: str, /, **arguments: object) -> str:
        """The error code of a call that must be refused."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        assert isinstance(result.structured_content, dict)
        return str(result.structured_content["error"]["code"])

    async def register(self, project: str, machine: str = "box") -> str:
        """Register and keep the binding; gives the workspace's id."""
        found = await self.call("register_workspace", machine=machine, tool="agent", project=project)
        self.bound = {"binding": found["binding"]}
        return str(found["workspace_id"])

    async def text_of(self, workspace_id: str, path: str) -> str:
        found = await self.call("read_knowledge", workspace_id=workspace_id, path=path)
        return str(found["text"])


@contextlib.asynccontextmanager
async def connected(server: RunningServer, mode: str, token: str, **headers: str) -> AsyncIterator[Agent]:
    """An agent of its own, with its own connection and, where the era has them, its own session."""
    heads: list[httpx2.Headers] = []

    async def keep(response: httpx2.Response) -> None:
        heads.append(response.headers)

    found = {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        httpx2.AsyncClient(headers=found, timeout=30, event_hooks={"response": [keep]}) as http,
        Client(streamable_http_client(server.mcp_url, http_client=http), mode=mode) as client,  # type: ignore[arg-type]
    ):
        yield Agent(client, heads)


def with_agents(
    server: RunningServer, mode: str, tokens: tuple[str, str], work: Callable[[Agent, Agent], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with connected(server, mode, tokens[0]) as one, connected(server, mode, tokens[1]) as two:
            with anyio.fail_after(60):
                await work(one, two)

    anyio.run(main)


def named_token(server: RunningServer, name: str, **wanted: object) -> str:
    with server.api(server.admin_token) as admin:
        answer = admin.call("POST", "/api/v1/tokens", json.dumps({"name": name, "role": "ai", **wanted}).encode())
    assert answer.status == 201, answer
    return str(answer.json["token"])


@both_eras
@pytest.mark.spec("AUTH-5", "BIND-1")
def test_each_agent_reads_the_others_workspace(server: RunningServer, mode: str) -> None:
    async def work(one: Agent, two: Agent) -> None:
        mine, yours = await one.register(f"reads-one-{mode}"), await two.register(f"reads-two-{mode}")
        for agent, word in ((one, "ember"), (two, "frost")):
            await agent.call("write_overview", text=f"# The {word} project {mode}\n", **agent.bound)
            await agent.call("write_knowledge", path="notes/Über uns.md", text=f"about {word} {mode}\n", **agent.bound)

        for agent, workspace_id, word in ((one, yours, "frost"), (two, mine, "ember")):
            assert await agent.text_of(workspace_id, "notes/Über uns.md") == f"about {word} {mode}\n"
            overview = await agent.call("get_overview", workspace_id=workspace_id, max_bytes=65_536)
            assert overview["overview"]["text"] == f"# The {word} project {mode}\n"
            listed = await agent.call("list_workspaces", project=workspace_id.removeprefix("box-agent-"), limit=1000)
            assert [row["workspace_id"] for row in listed["workspaces"]] in ([workspace_id], [])
            hits = await agent.call("search_knowledge", query=f"about {word} {mode}", mode="literal")
            assert {hit["workspace_id"] for hit in hits["hits"]} == {workspace_id}

    with_agents(server, mode, (server.ai_token, server.ai_token), work)


@both_eras
@pytest.mark.spec("AUTH-6", "AUTH-7", "BIND-5")
@pytest.mark.parametrize("limit", ["globs", "machine"])
def test_with_named_tokens_neither_can_write_or_register_the_others(
    server: RunningServer, mode: str, limit: str
) -> None:
    def token_of(name: str) -> str:
        rights = {"write": [f"{name}-*"]} if limit == "globs" else {"machine": name}
        return named_token(server, f"{name}-{limit}-{mode[:4]}", **rights)

    async def work(ann: Agent, bob: Agent) -> None:
        project = f"{limit}-{mode[:4]}"
        anns, bobs = await ann.register(project, "ann"), await bob.register(project, "bob")
        await ann.call("write_knowledge", path="a.md", text="Ann's", **ann.bound)
        await bob.call("write_knowledge", path="a.md", text="Bob's", **bob.bound)

        for agent, other, name, workspace_id in ((ann, bob, "bob", bobs), (bob, ann, "ann", anns)):
            names = {"machine": name, "tool": "agent"}
            assert await agent.fail("register_workspace", **names, project=project) == "forbidden"
            assert await agent.fail("register_workspace", **names, project="another") == "forbidden"
            assert await agent.fail("register_workspace", workspace_id=workspace_id) == "forbidden"
            for tool, arguments in WRITES.items():
                assert await agent.fail(tool, **arguments, **other.bound) == "not_bound", tool

        assert await ann.text_of(bobs, "a.md") == "Bob's"
        assert await bob.text_of(anns, "a.md") == "Ann's"
        for workspace_id in (anns, bobs):
            history = await ann.call("knowledge_history", workspace_id=workspace_id, path="a.md")
            assert [row["version"] for row in history["versions"]] == [1]

    with_agents(server, mode, (token_of("ann"), token_of("bob")), work)


WRITES: dict[str, dict[str, object]] = {
    "write_knowledge": {"path": "a.md", "text": "taken over"},
    "write_overview": {"text": "taken over"},
    "delete_knowledge": {"path": "a.md"},
    "restore_knowledge": {"path": "a.md", "version": 1},
}


@pytest.mark.spec("BIND-2", "BIND-3")
def test_a_session_bound_to_one_workspace_does_not_become_the_others(server: RunningServer) -> None:
    async def work(one: Agent, two: Agent) -> None:
        mine, yours = await one.register("bound-one"), await two.register("bound-two")
        await two.call("write_knowledge", path="a.md", text="two's")

        assert await one.fail("register_workspace", workspace_id=yours) == "conflict"
        assert await one.fail("register_workspace", machine="box", tool="agent", project="bound-new") == "conflict"
        for tool, arguments in WRITES.items():
            assert await one.fail(tool, **arguments, **two.bound) == "conflict", tool
        await one.call("write_knowledge", path="a.md", text="one's")  # the session is still bound, to its own

        assert await one.text_of(yours, "a.md") == "two's"
        assert await two.text_of(mine, "a.md") == "one's"
        listed = await one.call("list_workspaces", project="bound-new")
        assert listed["workspaces"] == []
        assert (await one.call("register_workspace", workspace_id=mine))[
            "created"
        ] is False  # one's own: again and again

    with_agents(server, LEGACY, (server.ai_token, server.ai_token), work)


@pytest.mark.spec("BIND-2", "BIND-4")
def test_without_sessions_a_write_goes_where_its_binding_says_and_nowhere_without(server: RunningServer) -> None:
    async def work(one: Agent, two: Agent) -> None:
        mine, yours = await one.register("free-one"), await two.register("free-two")

        for tool, arguments in WRITES.items():
            assert await one.fail(tool, **arguments) == "not_bound", tool
            assert await one.fail(tool, **arguments, binding=one.bound["binding"] + "x") == "not_bound", tool
        await one.call("write_knowledge", path="a.md", text="one's", **one.bound)
        await two.call("write_knowledge", path="a.md", text="two's", **two.bound)

        assert await two.text_of(mine, "a.md") == "one's"
        assert await one.text_of(yours, "a.md") == "two's"

    with_agents(server, MODERN, (server.ai_token, server.ai_token), work)


@pytest.mark.spec("BIND-2")
def test_a_session_header_counts_for_nothing_in_the_era_without_sessions(server: RunningServer) -> None:
    with contextlib.closing(McpClient(server.url, server.ai_token, "2025-11-25")) as bound:
        bound.call("register_workspace", machine="box", tool="agent", project="header")
        bound.call("write_knowledge", path="a.md", text="by the session")
        session_id = bound.headers["Mcp-Session-Id"]

    with contextlib.closing(McpClient(server.url, server.ai_token, "2026-07-28")) as free:
        free.headers["Mcp-Session-Id"] = session_id
        _, body = free.answer(free.prepare("write_knowledge", path="a.md", text="by the header"))

    assert json.loads(body)["result"]["structuredContent"]["error"]["code"] == "not_bound"


@pytest.mark.spec("BIND-2")
def test_a_session_belongs_to_the_token_that_opened_it(server: RunningServer) -> None:
    stranger = named_token(server, "stranger")
    with contextlib.closing(McpClient(server.url, server.ai_token, "2025-11-25")) as owner:
        owner.call("register_workspace", machine="box", tool="agent", project="owned")
        owner.headers["Authorization"] = f"Bearer {stranger}"
        head, _ = owner.connection.exchange(owner.prepare("write_knowledge", path="a.md", text="taken over"))
        assert head.startswith(b"HTTP/1.1 404 ")
        owner.headers["Authorization"] = f"Bearer {server.ai_token}"
        owner.call("write_knowledge", path="a.md", text="the owner's")

    made_up = McpClient(server.url, server.ai_token, "2025-11-25")
    with contextlib.closing(made_up):
        made_up.headers["Mcp-Session-Id"] = "0" * 32
        head, _ = made_up.connection.exchange(made_up.prepare("list_workspaces"))
    assert head.startswith(b"HTTP/1.1 404 ")


@pytest.mark.spec("BIND-4", "WS-2")
def test_a_token_for_one_workspace_and_an_installed_client_need_no_binding(server: RunningServer) -> None:
    token = named_token(server, "only", write=["box-agent-only"])

    async def main() -> None:
        async with connected(server, MODERN, token, X_Memory_Machine="box", X_Memory_Tool="agent") as agent:
            assert (await agent.call("register_workspace", project="only"))["workspace_id"] == "box-agent-only"
            await agent.call("write_knowledge", path="a.md", text="implied")
            assert await agent.text_of("box-agent-only", "a.md") == "implied"

    anyio.run(main)


@pytest.mark.spec("TOOL-7", "BIND-2")
def test_the_contract_of_2026_07_28(server: RunningServer) -> None:
    async def main() -> None:
        async with connected(server, "auto", server.ai_token) as agent:  # asks server/discover, then chooses
            client = agent.client
            assert client.protocol_version == "2026-07-28"
            assert client.server_info is not None
            assert client.server_info.name == "federated-memory"
            assert client.instructions is not None
            assert "register_workspace" in client.instructions
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert "write_knowledge" in tools
            assert tools["write_knowledge"].output_schema is not None
            workspace_id = await agent.register("contract")
            await agent.call("write_knowledge", path="a.md", text="by contract", **agent.bound)
            assert await agent.text_of(workspace_id, "a.md") == "by contract"
            async with client.listen(tools_list_changed=True):
                # An open stream holds up nothing.
                assert await agent.text_of(workspace_id, "a.md") == "by contract"
        assert agent.heads
        assert not any("mcp-session-id" in head for head in agent.heads)
        assert sum(head["content-type"].startswith("text/event-stream") for head in agent.heads) == 1

    anyio.run(main)


@pytest.mark.spec("BIND-2")
def test_the_contract_of_the_era_with_sessions(server: RunningServer) -> None:
    async def main() -> None:
        async with connected(server, LEGACY, server.ai_token) as agent:
            assert agent.client.protocol_version == "2025-11-25"
            assert "write_knowledge" in {tool.name for tool in (await agent.client.list_tools()).tools}
            await agent.register("sessions")
            await agent.call("write_knowledge", path="a.md", text="the session knows")
            heads = [head for head in agent.heads if head.get("content-type") == "application/json"]
        assert heads[0]["mcp-session-id"]

    anyio.run(main)


@pytest.mark.spec("TOOL-7")
@pytest.mark.parametrize(
    ("drop", "status"), [("Mcp-Method", b"400"), ("Mcp-Name", b"400"), ("Accept", b"406"), ("Authorization", b"401")]
)
def test_a_2026_call_needs_the_headers_that_the_era_asks_for(server: RunningServer, drop: str, status: bytes) -> None:
    with contextlib.closing(McpClient(server.url, server.ai_token, "2026-07-28")) as client:
        whole = client.prepare("list_workspaces")
        lines = whole.split(b"\r\n")
        without = b"\r\n".join(line for line in lines if not line.lower().startswith(drop.lower().encode() + b":"))
        assert without != whole

        head, _ = client.connection.exchange(without)

    assert head.split(b" ")[1] == status


@pytest.mark.spec("TOOL-7")
def test_server_discover_says_what_a_raw_2026_client_needs(server: RunningServer) -> None:
    with contextlib.closing(McpClient(server.url, server.ai_token, "2026-07-28")) as client:
        client.headers["Accept"] = "application/json"
        meta = {"protocolVersion": "2026-07-28", "clientInfo": CLIENT, "clientCapabilities": {}}
        params = {"_meta": {f"{META}/{name}": value for name, value in meta.items()}}
        head, body = client.answer(
            client.post({"id": 1, "method": "server/discover", "params": params}, {"Mcp-Method": "server/discover"})
        )

    found = json.loads(body)["result"]
    assert "2026-07-28" in found["supportedVersions"]
    assert "tools" in found["capabilities"]
    assert b"mcp-session-id" not in head.lower()


@pytest.mark.spec("AUTH-5")
@both_eras
def test_each_role_is_shown_its_own_tools_and_called_back_from_others(server: RunningServer, mode: str) -> None:
    async def main() -> None:
        shown = {}
        for role in ("ai", "sync", "read"):
            token = named_token(server, f"role-{role}-{mode[:4]}", role=role)
            async with connected(server, mode, token) as agent:
                shown[role] = {tool.name for tool in (await agent.client.list_tools()).tools}
                if role == "read":
                    assert await agent.fail("write_overview", text="x") == "forbidden"
        assert "upload_session" in shown["sync"] - shown["ai"]
        assert "write_knowledge" in shown["ai"] - shown["sync"]
        assert shown["read"] == shown["ai"] & shown["sync"] - {"register_workspace"}

    anyio.run(main)
