"""Arguments that cannot be: refused by name, with what is allowed, and nothing of what was sent (SPEC: TOOL-5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, Answer, Era, Home, Server, Wire, full_schemas
from tests.contract.test_canaries import LEGIT

MARK = "canary-argument-9c02"


@pytest.fixture(scope="module")
def home(shared: Server) -> Home:
    home = shared.settle()
    agent = shared.agent()
    agent.ok("write_knowledge", path="a.md", text="# a", binding=home.binding)
    agent.ok("write_overview", text="# o", binding=home.binding)
    return home


@pytest.fixture(scope="module")
def schemas(shared: Server) -> dict[str, dict[str, Any]]:
    return {tool.name: tool.input_schema for tool in shared.agent(ADMIN_TOKEN).tools()}


@pytest.fixture(scope="module")
def bounds() -> dict[str, dict[str, Any]]:
    """The same schemas with the limits that hold, but are not told."""
    return full_schemas()


def refused(shared: Server, tool: str, arguments: dict[str, Any]) -> Answer:
    """The answer to arguments that cannot be; what every such answer must be."""
    reply = shared.wire(ADMIN_TOKEN).call(tool, arguments)
    assert reply.status == 200, reply
    result = reply.json["result"]
    answer = Answer(result["structuredContent"], result["content"][0]["text"], result["isError"])
    assert answer.code == "invalid_argument"
    for form in (answer.text, json.dumps(answer.structured)):
        assert MARK not in form
        assert "pydantic" not in form
        assert "http" not in form
    assert len(answer.text) < 2_000
    return answer


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("tool", LEGIT)
@pytest.mark.usefixtures("home")
def test_an_unknown_argument_is_refused_by_name_with_what_is_allowed(
    shared: Server, schemas: dict[str, dict[str, Any]], tool: str
) -> None:
    answer = refused(shared, tool, {**LEGIT[tool], "nonsense": MARK})

    assert tool in answer.text
    assert "nonsense" in answer.text
    assert all(name in answer.text for name in schemas[tool]["properties"])


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("tool", LEGIT)
def test_a_missing_argument_is_named(shared: Server, schemas: dict[str, dict[str, Any]], tool: str) -> None:
    for name in schemas[tool].get("required", []):
        answer = refused(shared, tool, {key: value for key, value in LEGIT[tool].items() if key != name})
        assert name in answer.text


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("tool", LEGIT)
@pytest.mark.usefixtures("home")
def test_a_wrong_type_is_refused_by_name_with_what_is_allowed(
    shared: Server, schemas: dict[str, dict[str, Any]], tool: str
) -> None:
    words = {"string": ("string", "'"), "integer": ("integer",), "object": ("dictionary", "object"),
             "array": ("list",), "boolean": ("boolean",)}  # fmt: skip
    for name, schema in schemas[tool]["properties"].items():
        wrong: list[Any] = [[MARK], {MARK: MARK}] if schema["type"] == "string" else [MARK, [MARK], {"x": MARK}, 1.5]
        for value in wrong:
            if isinstance(value, {"object": dict, "array": list}.get(schema["type"], ())):
                continue
            answer = refused(shared, tool, {**LEGIT[tool], name: value})
            assert name in answer.text, (name, value)
            assert any(word in answer.text for word in words[schema["type"]]), answer.text


@pytest.mark.spec("TOOL-5", "PAGE-1")
@pytest.mark.parametrize("tool", LEGIT)
@pytest.mark.usefixtures("home")
def test_what_is_out_of_range_is_refused_by_name_with_the_range(
    shared: Server, bounds: dict[str, dict[str, Any]], tool: str
) -> None:
    tried = 0
    for name, schema in bounds[tool]["properties"].items():
        cases: list[tuple[Any, str]] = []
        if "minimum" in schema:
            cases += [(schema["minimum"] - 1, str(schema["minimum"])), (-(10**30), str(schema["minimum"]))]
        if "maximum" in schema:
            cases += [(schema["maximum"] + 1, str(schema["maximum"]))]
        if "maxLength" in schema:
            cases += [((MARK * schema["maxLength"])[: schema["maxLength"] + 1], str(schema["maxLength"]))]
        if "enum" in schema:
            cases += [(MARK, word) for word in schema["enum"]]
        for value, allowed in cases:
            tried += 1
            answer = refused(shared, tool, {**LEGIT[tool], name: value})
            assert name in answer.text, (name, value)
            assert allowed in answer.text, answer.text
    assert tried


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", LEGIT)
def test_an_explicit_null_equals_an_absent_argument(
    shared: Server, home: Home, schemas: dict[str, dict[str, Any]], tool: str, era: Era
) -> None:
    bound = {"binding": shared.binding_for(ADMIN_TOKEN, home.workspace_id)}
    given = {**LEGIT[tool], **(bound if "binding" in schemas[tool]["properties"] else {})}
    required = schemas[tool].get("required", [])
    nulls = {name: None for name in schemas[tool]["properties"] if name not in given}
    agent = shared.agent(ADMIN_TOKEN, era)

    plain = agent.call(tool, **given)
    agent.call("write_knowledge", path="a.md", text="# a", binding=bound["binding"])
    with_nulls = agent.call(tool, **nulls, **given)
    agent.call("write_knowledge", path="a.md", text="# a", binding=bound["binding"])

    assert with_nulls.is_error == plain.is_error
    assert _timeless(with_nulls.structured).keys() == _timeless(plain.structured).keys()
    for name in required:
        answer = agent.call(tool, **{**given, name: None})
        assert (answer.code, name in answer.text) == ("invalid_argument", True)


def _timeless(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("created", "unchanged", "binding")}


# -- strings that look like JSON


@pytest.mark.spec("TOOL-1", "TOOL-5")
@pytest.mark.parametrize("content", ['{"type":"user"}', '{"type":"user"}\n', "[]", "null"])
def test_a_transcript_of_one_line_is_taken_as_text(shared: Server, content: str) -> None:
    home = shared.settle_anew()

    answer = shared.agent(ADMIN_TOKEN).call(
        "upload_session", workspace_id=home.workspace_id, write_token="", session_id="s", content=content
    )  # fmt: skip

    assert answer.code == "ok"
    assert shared.http(ADMIN_TOKEN).get(home.url("/sessions/s")).body == content.encode()


@pytest.mark.spec("TOOL-1")
@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", "null", "true", "1", '"x"', ""])
def test_a_document_that_looks_like_json_is_taken_as_text(shared: Server, text: str) -> None:
    home = shared.settle_anew()
    agent = shared.agent()

    agent.ok("write_knowledge", path="a.md", text=text, binding=home.binding)

    assert agent.ok("read_knowledge", path="a.md", workspace_id=home.workspace_id)["text"] == text


# -- huge, deep, odd


def call_bytes(wire: Wire, arguments: bytes) -> bytes:
    meta = (
        b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        b'"io.modelcontextprotocol/clientCapabilities":{},'
        b'"io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"}}'
    )
    return (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_workspaces",'
        + (meta + b"," if wire.era == "2026-07-28" else b"")
        + b'"arguments":'
        + arguments
        + b"}}"
    )


@pytest.mark.spec("TOOL-5", "ERR-2")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "arguments",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"machine":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"machine":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"limit":1' + b"0" * 10_000 + b"}",
        b'{"limit":1e400}',
        b'{"limit":NaN}',
        b'{"limit":-0}',
        b'{"machine":"\\ud800"}',
        b'{"machine":"\xff"}',
        b"[]",
        b'"x"',
        b"1",
        b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
        b'{"machine":"' + b"a" * 1_000_000 + b'"}',
    ],
)
def test_odd_json_is_refused_cleanly(shared: Server, arguments: bytes, era: Era) -> None:
    wire = shared.wire(ADMIN_TOKEN, era)

    reply = wire.send(call_bytes(wire, arguments), mcp_method="tools/call", mcp_name="list_workspaces")

    assert reply.status in (200, 400)
    assert len(reply.body) < 4_000
    assert b"pydantic.dev" not in reply.body
    if reply.status == 200 and "result" in reply.json:
        assert reply.json["result"]["structuredContent"]["error"]["code"] == "invalid_argument"
    else:
        assert reply.json["error"]["code"] in (-32700, -32600, -32602)
    assert wire.code("list_workspaces", {}) == "ok"


@pytest.mark.spec("HTTP-6", "TOOL-5")
@pytest.mark.parametrize("era", ERAS)
def test_a_text_over_its_cap_is_too_large(shared: Server, era: Era) -> None:
    home = shared.settle_anew()

    answer = shared.agent(era=era).call(
        "write_knowledge", path="a.md", text="x" * (1024**2 + 1), binding=home.binding
    )  # fmt: skip

    assert answer.code == "too_large"


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("source", [{"agent": "x" * 100_000}, {"a": {"b": [1, 2]}}, {str(n): n for n in range(5_000)}])
def test_what_an_upload_says_of_itself_may_be_anything(shared: Server, source: dict[str, Any]) -> None:
    home = shared.settle_anew()

    code = shared.wire(ADMIN_TOKEN).code(
        "upload_session",
        {"workspace_id": home.workspace_id, "write_token": "", "session_id": "s", "content": "{}\n{}\n",
         "source": source},
    )  # fmt: skip

    assert code in ("ok", "invalid_argument")


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("mode", ["ranked", "literal", "regex"])
@pytest.mark.parametrize("tool", ["search_knowledge", "search_sessions"])
@pytest.mark.parametrize(
    "query",
    ["", " ", "\x00", "(", "[", "a{9999}", "(?=x)", r"\1", "-e", "--pre=sh", '"', "*", "OR", "\n", "x" * 20_000],
)
@pytest.mark.usefixtures("home")
def test_odd_queries_are_answered_or_refused(shared: Server, tool: str, mode: str, query: str) -> None:
    assert shared.wire(ADMIN_TOKEN).code(tool, {"query": query, "mode": mode}) in ("ok", "invalid_argument")


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize(
    "time", ["yesterday", "2026-13-01", "2026-02-30", "99999-01-01", "2026-11-21T25:00:00Z", "1", "-", "٢٠٢٦-١١-٢١"]
)
@pytest.mark.parametrize("argument", ["since", "until"])
@pytest.mark.usefixtures("home")
def test_a_time_that_cannot_be_is_refused(shared: Server, argument: str, time: str) -> None:
    for tool in ("list_sessions", "search_sessions", "search_knowledge"):
        given = {"query": "x"} if tool.startswith("search") else {}
        assert shared.wire(ADMIN_TOKEN).code(tool, {**given, argument: time}) == "invalid_argument"


@pytest.mark.spec("DOC-3")
@pytest.mark.parametrize("if_match", ["0", "g" * 64, "A" * 64, '"' + "0" * 64 + '"', "*", "\n"])
def test_an_if_match_that_is_no_etag_is_refused(shared: Server, home: Home, if_match: str) -> None:
    code = shared.agent().call("write_knowledge", path="a.md", text="x", binding=home.binding, if_match=if_match).code

    assert code == "invalid_argument"


@pytest.mark.spec("TOOL-5")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("params", [{}, {"arguments": None}, {"arguments": {}}])
def test_a_call_without_arguments_is_one_with_none(shared: Server, params: dict[str, Any], era: Era) -> None:
    reply = shared.wire(ADMIN_TOKEN, era).post("tools/call", {"name": "list_sessions", **params})

    assert "sessions" in reply.json["result"]["structuredContent"]


@pytest.mark.spec("TOOL-1")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ["nonsense", "", "List_Workspaces", "list_workspaces ", "../x", "x" * 10_000, "\x00"])
def test_a_tool_that_is_none_is_refused_without_its_name(shared: Server, name: str, era: Era) -> None:
    wire = shared.wire(ADMIN_TOKEN, era)
    body = call_bytes(wire, b"{}").replace(b'"list_workspaces"', json.dumps(name).encode())

    reply = wire.send(body, mcp_method="tools/call", mcp_name=name if name.isprintable() else "x")

    assert reply.status in (200, 400)
    assert len(reply.body) < 4_000
    if reply.status == 200:
        assert reply.json["result"]["structuredContent"]["error"]["code"] == "not_found"


@pytest.mark.spec("BIND-2", "TOOL-7")
@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_version_with_a_handshake_keeps_its_session(server: Server, version: str) -> None:
    wire = server.wire(None)
    headers = {"authorization": f"Bearer {AI_TOKEN}", "mcp_protocol_version": version}
    offer = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}

    def post(method: str, params: dict[str, Any], **more: str) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return wire.send(json.dumps(message).encode(), **headers, **more)

    begun = post("initialize", offer)
    session = {"mcp_session_id": begun.headers["mcp-session-id"]}
    names = {"machine": "box", "tool": "claude", "project": "home"}
    post("tools/call", {"name": "register_workspace", "arguments": names}, **session)
    written = post("tools/call", {"name": "write_overview", "arguments": {"text": "x"}}, **session)

    assert begun.json["result"]["protocolVersion"] == version
    assert written.json["result"]["isError"] is False
    assert "box-claude-home" in written.json["result"]["content"][0]["text"]
