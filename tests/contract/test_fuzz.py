"""Every tool and every route with arguments made from what they publish, and with nonsense: an answer or a refusal in
the promised form, never a failure, never a word of our insides (SPEC: ERR-1, ERR-2).

`FAULT_FULL=1` (nightly) tries forty times as many.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from federated_memory import errors
from federated_memory.web.enroll import EnrolRoutes
from federated_memory.web.routes import Routes
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Home, Reply, Server, Wire
from tests.contract.test_canaries import LEGIT
from tests.fault.tally import tally

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3000" if os.environ.get("FAULT_FULL") == "1" else "75"))
FUZZED = settings(
    max_examples=EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
INSIDES = re.compile(
    r"Traceback|File \"|\.py\b.*line \d|sqlite3?\.|pydantic|NoneType|object at 0x|errno", re.IGNORECASE
)
CODES = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
LINE = b'{"type":"user","message":{"role":"user","content":"zebra"},"timestamp":"2026-11-20T08:00:00Z"}\n'

pytestmark = pytest.mark.timeout(1_800 if EXAMPLES > 100 else 120)

TEXTS = st.sampled_from(
    [
        "", " ", "a", "a.md", "x/y.md", "overview", "s1", "box-claude-home", "*", "box-*", "ai", "ranked",
        "regex", "(", "[a", "\\", "zebra", '"zebra', "-zebra", "2026-11-20", "2026-13-45T99:99:99Z",
        "2026-11-20T08:00:00+99:99",
        "../x", "%2e%2e",
        "\x00", "\u202e", "\ufeff", "\ud800", "x" * 3_000, "é" * 200, "null", "0", "-1", "1e999", "NaN", "🦓",
        "eyJhIjoxfQ", "fmb1.a.b.c", "wt_x", "Bearer x", "<private>", "0" * 64, "*" * 64, "9" * 30,
    ]
) | st.text(max_size=12)  # fmt: skip
NUMBERS = st.sampled_from([0, 1, -1, 2, 50, 1000, 1001, 65_536, 2**31, 2**63, -(2**63), 2**64, 10**40]) | st.integers()
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a schema asks for, mostly."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values_of(one) for one in schema["anyOf"]])
    match schema.get("type"):
        case "integer" | "number":
            least, most = schema.get("minimum", -5), schema.get("maximum", 5_000)
            return st.integers(int(least), int(most)) | st.sampled_from([least, most])
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(values_of(schema.get("items", {})), max_size=3)
        case "object":
            return st.dictionaries(TEXTS, ANYTHING, max_size=3)
        case _:
            return TEXTS


@pytest.fixture(scope="module")
def shared(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With every tool there is."""
    with Server(portal, tmp_path_factory.mktemp("fuzz") / "memory", toolsets=("all",)) as opened:
        yield opened
    assert not opened.errors


@pytest.fixture(scope="module")
def home(shared: Server) -> Home:
    home = shared.settle()
    http = shared.http(SYNC_TOKEN, x_write_token=home.write_token)
    for text in (b"# zebra", b"# zebra 2"):
        http.put(home.url("/knowledge/a.md"), text)
    http.put(home.url("/overview"), b"# zebra")
    http.put(home.url("/sessions/s1"), LINE)
    http.put(home.url("/sessions/s1"), LINE * 2)
    return home


@pytest.fixture(scope="module")
def schemas(shared: Server) -> dict[str, dict[str, Any]]:
    return {tool.name: tool.input_schema for tool in shared.agent(ADMIN_TOKEN).tools()}


@pytest.fixture(scope="module")
def wires(shared: Server) -> list[Wire]:
    return [shared.wire(token, era) for token in (ADMIN_TOKEN, AI_TOKEN) for era in ERAS]


def ensure_told_well(reply: Reply) -> None:
    text = reply.body.decode("utf-8", "replace")
    assert reply.status < 500, reply
    if (
        reply.status >= 400
        and reply.body
        and reply.headers.get("content-type", "").startswith("application/problem+json")
    ):
        assert reply.json["code"] in CODES, reply
        assert not INSIDES.search(text), text[:500]


@pytest.mark.spec("ERR-1", "ERR-2", "TOOL-5")
@given(data=st.data())
@FUZZED
def test_no_arguments_make_a_tool_fail(
    shared: Server, home: Home, schemas: dict[str, dict[str, Any]], wires: list[Wire], data: st.DataObject
) -> None:
    tool = data.draw(st.sampled_from(sorted(schemas)))
    schema = schemas[tool]["properties"]
    arguments: dict[str, Any] = dict(LEGIT.get(tool, {})) if data.draw(st.booleans()) else {}
    for name in data.draw(st.lists(st.sampled_from(sorted(schema)), max_size=6)) if schema else []:
        arguments[name] = data.draw(values_of(schema[name]) if data.draw(st.integers(0, 3)) else ANYTHING)
    for name in arguments.keys() & WAITING:
        arguments[name] = 0
    if "binding" in schema and data.draw(st.booleans()):
        arguments["binding"] = home.binding

    reply = data.draw(st.sampled_from(wires)).call(tool, arguments)

    assert reply.status in (200, 400), reply
    if reply.status == 200:
        answer = reply.json
        assert "result" in answer, answer
        result = answer["result"]
        assert isinstance(result["structuredContent"], dict)
        if result.get("isError"):
            assert result["structuredContent"]["error"]["code"] in CODES - {"unavailable"}
            assert not INSIDES.search(result["content"][0]["text"])
    assert shared.errors == []


ENVELOPE = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | ANYTHING, "id": st.just(1) | ANYTHING,
        "method": st.sampled_from(["tools/call", "tools/list", "initialize", "resources/read", "ping"]) | ANYTHING,
        "params": st.fixed_dictionaries({"name": st.just("get_overview"), "arguments": ANYTHING}) | ANYTHING,
        "result": ANYTHING, "error": ANYTHING, "canary": st.just("canary-5b1f"),
    },
)  # fmt: skip
"""JSON-RPC, and what looks like it."""


@pytest.mark.spec("ERR-2", "TOOL-5")
@given(data=st.data())
@FUZZED
def test_no_message_makes_the_endpoint_fail_or_quote_it(shared: Server, wires: list[Wire], data: st.DataObject) -> None:
    sent = data.draw(ENVELOPE.map(json.dumps) | ANYTHING.map(json.dumps) | st.text(max_size=20))

    reply = data.draw(st.sampled_from(wires)).send(sent.encode("utf-8", "surrogatepass"))

    text = reply.body.decode("utf-8", "replace")
    assert reply.status in (200, 202, 400, 404), reply
    assert not INSIDES.search(text), text[:500]
    assert "canary-5b1f" not in text
    assert shared.errors == []


WAITING = {"timeout_seconds", "wait_seconds"}
"""How long a call may wait for others, which nobody does here."""
ROUTE_NAMES = {
    "workspace_id": ("box-claude-home", "nothing", "..", "%2e%2e", "A", "x" * 70, "\u202e"),
    "path": ("a.md", "b/c.md", "a", "../a.md", "a/../b.md", "\x00.md", "é.md", "x" * 130 + ".md"),
    "session_id": ("s1", "s2", "S1", "..", "x" * 70),
    "name": ("laptop", "nobody", "../x", "é"), "action": ("snapshot", "release", "gc", "merge", "rename", "none"),
    "invitation_id": ("abc", "..", "é"),
}  # fmt: skip
QUERIES = (
    "limit", "cursor", "max_bytes", "query", "mode", "kinds", "role", "since", "until", "version", "revision", "prefix",
    "from_version", "to_version", "tool", "machine", "project", "workspace_id", "session_id", "nonsense",
)  # fmt: skip
HEADERS = {
    "if-match": ("*", '"x"', '"' + "0" * 64 + '"', "", '"a", "b"'), "if-none-match": ("*", '"x"', ""),
    "upload-offset": ("0", "-1", "96", "x", "9" * 30, "1.5"),
    "content-encoding": ("gzip", "zstd", "br", "gzip, gzip", ""),
    "x-memory-binding": ("", "x", "fmb1.a.b.c"), "x-memory-source-agent": ("claude", "\x01", "x" * 500),
    "range": ("bytes=0-1",), "content-type": ("application/json", "text/plain", "multipart/form-data"),
    "last-event-id": ("0", "x", "9" * 30),
}  # fmt: skip
LASTING = ("reindex", "events")
"""Routes whose answer is no one value, or whose work would go on beside the other tests."""


@pytest.mark.spec("ERR-1", "ERR-2", "HTTP-1")
@given(data=st.data())
@FUZZED
def test_no_request_makes_a_route_fail(shared: Server, home: Home, data: st.DataObject) -> None:
    routes = [
        route
        for route in (
            *Routes(shared.services).all(), *EnrolRoutes(shared.services).all(),
        )
        if isinstance(route, Route) and route.methods and not route.path.endswith(LASTING)
    ]  # fmt: skip
    route = data.draw(st.sampled_from(routes))
    path = route.path
    for name in re.findall(r"\{(\w+)(?::path)?\}", path):
        value = data.draw(st.sampled_from(ROUTE_NAMES.get(name, ("a", "..", "\x00"))) | TEXTS)
        path = re.sub(r"\{" + name + r"(?::path)?\}", lambda _, value=value: quoted(value), path, count=1)
    asked = data.draw(st.dictionaries(st.sampled_from(QUERIES), TEXTS | NUMBERS.map(str), max_size=3))
    query = urlencode([(key, value.encode("utf-8", "surrogatepass")) for key, value in asked.items()])
    chosen = data.draw(st.lists(st.sampled_from(sorted(HEADERS)), max_size=3, unique=True))
    headers = {name: data.draw(st.sampled_from(HEADERS[name])) for name in chosen}
    body = data.draw(
        st.sampled_from([b"", b"{}", b"[]", b"null", b"{", LINE, b"\x1f\x8b\x08\x00", b"\xff\xfe", b"x" * 5_000])
        | ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)
    )  # fmt: skip
    token = data.draw(st.sampled_from([ADMIN_TOKEN, SYNC_TOKEN, AI_TOKEN]))
    if token == SYNC_TOKEN:
        headers["x-write-token"] = home.write_token

    method = data.draw(st.sampled_from(sorted(route.methods or ())))
    http = shared.http(token, **{name.replace("-", "_"): value for name, value in headers.items()})
    ensure_told_well(http.request(method, path + ("?" + query if query else ""), body))

    assert shared.errors == []


def quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="/")


def test_the_number_of_what_was_tried_is_told() -> None:
    """All of the above run so many; what they find fails them."""
    tally("fuzz", trials=3 * EXAMPLES)
