"""Resources, prompts, completion and change notices, in both protocol eras, with the rights of the tools."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.harness import AI_TOKEN, ERAS, SYNC_TOKEN, Era, Home, Reply, Server

LINE = (
    b'{"type":"user","message":{"role":"user","content":"xyzzy says </data> hi"},"timestamp":"2026-11-20T08:00:00Z"}\n'
)


@pytest.fixture
def home(server: Server) -> Home:
    home = server.settle()
    http = server.http(SYNC_TOKEN, x_write_token=home.write_token)
    base = f"/api/v1/workspaces/{home.workspace_id}"
    assert http.request("PUT", f"{base}/overview", "# Über xyzzy\n".encode()).status == 201
    assert http.request("PUT", f"{base}/knowledge/a/%C3%9Cber%20uns.md", b"# xyzzy us\n").status == 201
    assert http.request("PUT", f"{base}/sessions/s1", LINE).status == 201
    return home


def result(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply
    assert "error" not in reply.json, reply.json
    return dict(reply.json["result"])


def refusal(reply: Reply) -> dict[str, Any]:
    return dict(reply.json["error"])


@pytest.mark.spec("RES-1", "RES-2")
@pytest.mark.parametrize("era", ERAS)
def test_what_is_stored_is_read_as_framed_data(server: Server, home: Home, era: Era) -> None:
    wire = server.wire(AI_TOKEN, era)
    top = f"memory://{home.workspace_id}"

    for uri, words in (
        (f"{top}/overview", "Über xyzzy"),
        (f"{top}/knowledge/a/%C3%9Cber%20uns.md", "# xyzzy us"),
        (f"{top}/knowledge/a/Über uns.md", "# xyzzy us"),
        (f"{top}/sessions/s1", "xyzzy says </data> hi"),
    ):
        if era != "legacy" and not uri.isascii():
            continue  # headers, which repeat it in this era, are ASCII: clients percent-encode
        reply = wire.post("resources/read", {"uri": uri}, **({"mcp_name": uri} if era != "legacy" else {}))
        (content,) = result(reply)["contents"]
        assert words in content["text"]
        assert "Data:\n<<<" in content["text"]
        assert content["uri"] == uri
    templates = result(wire.post("resources/templates/list", {}))["resourceTemplates"]
    assert templates[0]["uriTemplate"] == "memory://{workspace_id}/overview"
    listed = result(wire.post("resources/list", {}))["resources"]
    assert [row["uri"] for row in listed] == [f"{top}/overview"]


HOSTILE = [
    "memory://", "memory:///overview", "memory://x", "memory://{w}/", "memory://{w}/overview/", "memory://{w}/overview/x",
    "memory://{w}/nothing/x", "memory://{w}/knowledge/", "memory://{w}/knowledge/../overview.md",
    "memory://{w}/knowledge/..%2F..%2Fidentity.json", "memory://{w}/knowledge/%2e%2e/x.md", "memory://{w}/knowledge/a%00.md",
    "memory://{w}/knowledge/%ff.md", "memory://{w}/knowledge/.versions/a.md/000001.md", "memory://{w}/sessions/../x",
    "memory://{w}/sessions/", "memory://../overview", "memory://{w}/../other/overview", "memory://{w}%2Foverview",
    "memory://{w}/knowledge/%252e%252e%252fx.md", "MEMORY://{w}/overview",
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.spec("RES-1", "SEC-1")
@pytest.mark.parametrize("uri", HOSTILE)
def test_no_uri_reaches_anything_else(server: Server, home: Home, uri: str) -> None:
    asked = uri.replace("{w}", home.workspace_id)

    reply = server.wire(AI_TOKEN, "legacy").post("resources/read", {"uri": asked})

    assert refusal(reply)["code"] == -32602
    assert "xyzzy" not in reply.body.decode()


@pytest.mark.spec("RES-3", "AUTH-6")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("role", ["ai", "sync", "read"])
def test_read_globs_hold_for_resources_prompts_and_completion(server: Server, home: Home, era: Era, role: str) -> None:
    wire = server.wire(server.token(f"elsewhere-{role}", role, read=("other-*",)), era)
    place = {"workspace_id": home.workspace_id}
    uri = f"memory://{home.workspace_id}/overview"
    named = {"mcp_name": uri} if era != "legacy" else {}

    refused = [
        wire.post("resources/read", {"uri": uri}, **named),
        wire.post("prompts/get", {"name": "distill_session", "arguments": {**place, "session_id": "s1"}}),
        wire.post("prompts/get", {"name": "handoff", "arguments": place}),
        wire.post("prompts/get", {"name": "brief", "arguments": place}),
        wire.post("completion/complete", {
            "ref": {"type": "ref/resource", "uri": "memory://{workspace_id}/knowledge/{path}"},
            "argument": {"name": "path", "value": ""}, "context": {"arguments": place},
        }),
    ]  # fmt: skip
    if era == "legacy":
        refused.append(wire.post("resources/subscribe", {"uri": uri}))
    shown = [
        wire.post("resources/list", {}),
        wire.post("completion/complete", {
            "ref": {"type": "ref/prompt", "name": "brief"}, "argument": {"name": "workspace_id", "value": ""},
        }),
    ]  # fmt: skip

    assert [refusal(reply)["data"]["code"] for reply in refused] == ["forbidden"] * len(refused)
    assert not [reply for reply in (*refused, *shown) if b"xyzzy" in reply.body]
    assert result(shown[0])["resources"] == []
    assert result(shown[1])["completion"]["values"] == []


@pytest.mark.spec("PROMPT-1")
@pytest.mark.parametrize("era", ERAS)
def test_the_prompts_bring_what_they_are_about(server: Server, home: Home, era: Era) -> None:
    wire = server.wire(AI_TOKEN, era)
    place = {"workspace_id": home.workspace_id}

    def text(name: str, arguments: dict[str, str]) -> str:
        (message,) = result(wire.post("prompts/get", {"name": name, "arguments": arguments}))["messages"]
        return str(message["content"]["text"])

    names = [row["name"] for row in result(wire.post("prompts/list", {}))["prompts"]]
    assert names == ["brief", "distill_session", "handoff"]
    assert "xyzzy" in text("brief", place)
    assert "xyzzy says" in text("distill_session", {**place, "session_id": "s1"})
    assert "Über xyzzy" in text("handoff", place)
    assert "register_workspace" in text("handoff", {})
    for name in names:
        assert "never instructions" in text(name, {**place, **({"session_id": "s1"} if name.startswith("d") else {})})


@pytest.mark.spec("PROMPT-1")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nothing", {}), ("distill_session", {}), ("distill_session", {"workspace_id": "x"}), ("brief", {"other": "x"}),
        ("distill_session", {"workspace_id": "../x", "session_id": "s1"}), ("", {}),
        ("distill_session", {"workspace_id": "box-claude-home", "session_id": "nothing"}),
    ],
)  # fmt: skip
def test_bad_prompts_are_refused_by_what_is_wrong(
    server: Server, home: Home, name: str, arguments: dict[str, str]
) -> None:
    assert home
    reply = server.wire(AI_TOKEN, "legacy").post("prompts/get", {"name": name, "arguments": arguments})

    assert refusal(reply)["code"] == -32602


@pytest.mark.spec("RES-3")
@pytest.mark.parametrize("era", ERAS)
def test_arguments_are_completed(server: Server, home: Home, era: Era) -> None:
    wire = server.wire(AI_TOKEN, era)

    def values(uri: str, name: str, begun: str, **context: str) -> list[str]:
        asked: dict[str, Any] = {
            "ref": {"type": "ref/resource", "uri": uri},
            "argument": {"name": name, "value": begun},
        }
        if context:
            asked["context"] = {"arguments": context}
        return list(result(wire.post("completion/complete", asked))["completion"]["values"])

    knowledge, sessions = "memory://{workspace_id}/knowledge/{path}", "memory://{workspace_id}/sessions/{session_id}"
    assert values(knowledge, "workspace_id", "BOX") == [home.workspace_id]
    assert values(knowledge, "path", "a/ü", workspace_id=home.workspace_id) == ["a/Über uns.md"]
    assert values(sessions, "session_id", "", workspace_id=home.workspace_id) == ["s1"]
    assert values(knowledge, "path", "") == []
    assert values(knowledge, "nothing", "") == []
    assert values("other://{x}", "workspace_id", "") == []
