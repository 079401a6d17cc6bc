"""Names from outside, on every argument and route that takes one: refused cleanly, and nothing outside is touched.

The corpus is `tests/vectors/hostile_paths.json`, the same that `names` is held to; Hypothesis adds what nobody thought
of. An oracle of its own says what is legal, so that a hole in `names` shows as well: whatever is accepted must have
made or changed files below the workspace's own folder only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_memory.names import document_path_problem
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Reply, Server, Wire

CORPUS = json.loads((Path(__file__).parents[1] / "vectors" / "hostile_paths.json").read_text(encoding="utf-8"))
PATHS: list[str] = CORPUS["paths"]
IDS: list[str] = [*CORPUS["ids"], *(path for path in PATHS if path not in ("a", "a.txt", "x.MD"))]
"""Hostile paths are hostile ids as well, but for three that are legal."""
WELCOME = ["MEMORY.md", "auto/MEMORY.md", "Über uns.md", "Meeting notes.md"]
REPAIRED = {path for path in PATHS if path.endswith("\n") or re.search("[\ud800-\udfff]", path)}
"""What has a test of its own for routes."""
REFUSED = {"invalid_name", "invalid_argument", "not_found", "400"}
LINE = b'{"type":"user"}\n'

Arguments = Callable[[Home, str], dict[str, Any]]
PATH_ARGUMENTS: dict[str, tuple[str, Arguments]] = {
    "read_knowledge": (AI_TOKEN, lambda h, name: {"workspace_id": h.workspace_id, "path": name}),
    "knowledge_history": (AI_TOKEN, lambda h, name: {"workspace_id": h.workspace_id, "path": name}),
    "write_knowledge": (AI_TOKEN, lambda h, name: {"binding": h.binding, "path": name, "text": "evil"}),
    "delete_knowledge": (AI_TOKEN, lambda h, name: {"binding": h.binding, "path": name}),
    "restore_knowledge": (AI_TOKEN, lambda h, name: {"binding": h.binding, "path": name, "version": 1}),
    "upload_knowledge": (SYNC_TOKEN, lambda h, name: {**_upload(h), "path": name, "text": "evil"}),
}
ID_ARGUMENTS: dict[str, tuple[str, str, Arguments]] = {
    "get_brief": ("get_brief", AI_TOKEN, lambda _, name: {"workspace_id": name}),
    "get_overview": ("get_overview", AI_TOKEN, lambda _, name: {"workspace_id": name}),
    "list_knowledge": ("list_knowledge", AI_TOKEN, lambda _, name: {"workspace_id": name}),
    "read_knowledge": ("read_knowledge", AI_TOKEN, lambda _, name: {"workspace_id": name, "path": "a.md"}),
    "knowledge_history": ("knowledge_history", AI_TOKEN, lambda _, name: {"workspace_id": name, "path": "a.md"}),
    "list_sessions": ("list_sessions", AI_TOKEN, lambda _, name: {"workspace_id": name}),
    "read_session": ("read_session", AI_TOKEN, lambda _, name: {"workspace_id": name, "session_id": "s1"}),
    "search_knowledge": ("search_knowledge", AI_TOKEN, lambda _, name: {"workspace_id": name, "query": "x"}),
    "search_sessions": ("search_sessions", AI_TOKEN, lambda _, name: {"workspace_id": name, "query": "x"}),
    "register_workspace": (
        "register_workspace",
        AI_TOKEN,
        lambda _, name: {"workspace_id": name, "machine": "m", "tool": "t", "project": "p"},
    ),
    "upload_knowledge": (
        "upload_knowledge",
        ADMIN_TOKEN,
        lambda _, name: {"workspace_id": name, "write_token": "x", "path": "a.md", "text": "evil"},
    ),
    "upload_session": (
        "upload_session",
        ADMIN_TOKEN,
        lambda _, name: {"workspace_id": name, "write_token": "x", "session_id": "s", "content": "{}\n{}\n"},
    ),
    "read_session session_id": (
        "read_session",
        AI_TOKEN,
        lambda h, name: {"workspace_id": h.workspace_id, "session_id": name},
    ),
    "upload_session session_id": (
        "upload_session",
        SYNC_TOKEN,
        lambda h, name: {**_upload(h), "session_id": name, "content": "{}\n{}\n"},
    ),
}
EMPTY_IS_ABSENT = {
    "get_brief",
    "get_overview",
    "list_sessions",
    "search_knowledge",
    "search_sessions",
    "register_workspace",
}
PATH_ROUTES = ["GET {h}/knowledge/{name}", "PUT {h}/knowledge/{name}", "DELETE {h}/knowledge/{name}",
               "GET {h}/versions/{name}"]  # fmt: skip
ID_ROUTES = [
    "GET {h}/sessions/{name}", "HEAD {h}/sessions/{name}", "PUT {h}/sessions/{name}", "PATCH {h}/sessions/{name}",
    "GET /api/v1/workspaces/{name}", "GET /api/v1/workspaces/{name}/overview", "PUT /api/v1/workspaces/{name}/overview",
    "GET /api/v1/workspaces/{name}/knowledge", "GET /api/v1/workspaces/{name}/knowledge/a.md",
    "PUT /api/v1/workspaces/{name}/knowledge/a.md", "DELETE /api/v1/workspaces/{name}/knowledge/a.md",
    "GET /api/v1/workspaces/{name}/versions/a.md", "GET /api/v1/workspaces/{name}/sessions",
    "GET /api/v1/workspaces/{name}/sessions/s1", "PUT /api/v1/workspaces/{name}/sessions/s1",
    "POST /api/v1/workspaces/{name}/plan", "POST /api/v1/workspaces/{name}/reissue", "DELETE /api/v1/tokens/{name}",
]  # fmt: skip


def _upload(home: Home) -> dict[str, str]:
    return {"workspace_id": home.workspace_id, "write_token": home.write_token}


@pytest.fixture(scope="module")
def home(shared: Server) -> Home:
    home = shared.settle()
    http = shared.http(AI_TOKEN, x_memory_binding=home.binding)
    assert http.put(home.url("/knowledge/a.md"), b"kept").code == "ok"
    assert http.put(home.url("/sessions/s1"), LINE).code == "ok"
    return home


@pytest.fixture(scope="module")
def wires(shared: Server) -> dict[str, Wire]:
    return {token: shared.wire(token) for token in (AI_TOKEN, SYNC_TOKEN, ADMIN_TOKEN)}


# -- tools


@pytest.mark.spec("SEC-1", "NAME-2", "TOOL-1")
@pytest.mark.parametrize("tool", PATH_ARGUMENTS)
def test_hostile_paths_are_refused_by_every_tool(shared: Server, home: Home, wires: dict[str, Wire], tool: str) -> None:
    token, arguments = PATH_ARGUMENTS[tool]
    before = shared.files()

    codes = {name: wires[token].code(tool, arguments(home, name)) for name in PATHS}

    assert {name: code for name, code in codes.items() if code not in REFUSED} == {}
    assert shared.files() == before


@pytest.mark.spec("SEC-1", "NAME-1", "TOOL-1")
@pytest.mark.parametrize("argument", ID_ARGUMENTS)
def test_hostile_ids_are_refused_by_every_tool(
    shared: Server, home: Home, wires: dict[str, Wire], argument: str
) -> None:
    tool, token, arguments = ID_ARGUMENTS[argument]
    names = [name for name in IDS if name or argument not in EMPTY_IS_ABSENT]
    before = shared.files()

    codes = {name: wires[token].code(tool, arguments(home, name)) for name in names}

    assert {name: code for name, code in codes.items() if code not in REFUSED} == {}
    assert shared.files() == before


@pytest.mark.spec("SEC-1")
def test_a_hostile_prefix_lists_nothing(home: Home, wires: dict[str, Wire]) -> None:
    found = {}
    for name in set(PATHS) - {"", "a"}:  # the two with which a path may begin
        reply = wires[AI_TOKEN].call("list_knowledge", {"workspace_id": home.workspace_id, "prefix": name})
        if reply.status == 200 and reply.json["result"]["structuredContent"].get("documents"):
            found[name] = reply.body

    assert found == {}


@pytest.mark.spec("NAME-2", "DOC-1")
@pytest.mark.parametrize("path", WELCOME)
def test_welcome_names_work_through_tool_and_route(server: Server, path: str) -> None:
    home = server.settle()
    text = f"# {path}\n"
    agent, http = server.agent(), server.http(AI_TOKEN, x_memory_binding=home.binding)
    url = home.url("/knowledge/" + quote(path))

    agent.ok("write_knowledge", path=path, text=text, binding=home.binding)
    assert http.get(url).body == text.encode()
    assert http.put(url, text * 2).json["version"] == 2
    assert agent.ok("read_knowledge", workspace_id=home.workspace_id, path=path)["text"] == text * 2
    assert agent.ok("knowledge_history", workspace_id=home.workspace_id, path=path)["versions"][0]["version"] == 2
    assert agent.ok("restore_knowledge", path=path, version=1, binding=home.binding)["version"] == 3
    assert (server.root / "workspaces" / home.workspace_id / "knowledge" / path).read_text() == text
    assert http.get(home.url("/versions/" + quote(path))).json["path"] == path
    assert http.delete(url).code == "ok"
    assert agent.call("read_knowledge", workspace_id=home.workspace_id, path=path).code == "not_found"


# -- routes


def _targets(route: str, home: Home, name: str) -> Iterator[bytes]:
    """The route with the name percent-encoded whole, percent-encoded but for slashes, and (if it can be) raw."""
    _, _, pattern = route.partition(" ")
    data = name.encode("utf-8", "surrogatepass")
    forms = {quote_from_bytes(data, safe=""), quote_from_bytes(data, safe="/")}
    forms.add("".join(f"%{byte:02x}" for byte in data))
    if re.fullmatch(r"[!-~]*", name) and not set(name) & set("?#%"):
        forms.add(name)
    for form in sorted(forms):
        yield pattern.replace("{h}", home.url()).replace("{name}", form).encode("ascii")


def _request(server: Server, method: str, target: bytes, token: str = ADMIN_TOKEN) -> Reply:
    body = b"{}" if method == "POST" else LINE
    headers = [(b"authorization", b"Bearer " + token.encode()), (b"upload-offset", b"0")]
    return server.exchange(method, target, [*headers, (b"content-length", b"%d" % len(body))], [body])


def _is_clean(reply: Reply) -> bool:
    if reply.status == 400:
        return reply.headers["content-type"] == "application/problem+json"
    return reply.status in (404, 405)


@pytest.mark.spec("SEC-1", "NAME-2", "HTTP-1")
@pytest.mark.parametrize("route", PATH_ROUTES)
def test_hostile_paths_are_refused_by_every_route(shared: Server, home: Home, route: str) -> None:
    before = shared.files()
    found = {}
    for name in sorted(set(PATHS) - REPAIRED):
        for target in _targets(route, home, name):
            reply = _request(shared, route.split(" ")[0], target)
            if not _is_clean(reply):
                found[target] = (reply.status, reply.body[:200])

    assert found == {}
    assert shared.files() == before


@pytest.mark.thorough
@pytest.mark.spec("SEC-1", "NAME-1", "HTTP-1")
@pytest.mark.parametrize("route", ID_ROUTES)
def test_hostile_ids_are_refused_by_every_route(shared: Server, home: Home, route: str) -> None:
    before = shared.files()
    found = {}
    for name in IDS:
        for target in _targets(route, home, name):
            reply = _request(shared, route.split(" ")[0], target)
            # A slash at the end is a redirect, to what is refused then.
            if not _is_clean(reply) and not (reply.status == 307 and not name.rstrip("/").endswith("/")):
                found[target] = (reply.status, reply.body[:200])

    assert found == {}
    assert shared.files() == before


@pytest.mark.spec("NAME-2", "SEC-1")
@pytest.mark.parametrize("name", [b"a.md%0a", b"x%ff.md", b"%ed%a0%80.md"])
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_path_is_not_repaired_into_another_name(server: Server, method: str, name: bytes) -> None:
    """A line feed at the end is not dropped, and bytes that are no UTF-8 do not become U+FFFD."""
    home = server.settle()
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    for path in ("a.md", "x\ufffd.md", "\ufffd\ufffd\ufffd.md"):
        http.put(home.url("/knowledge/" + quote(path)), b"kept")
    before = server.files()

    reply = _request(server, method, home.url("/knowledge/").encode() + name)

    assert reply.status in (400, 404)
    assert server.files() == before


@pytest.mark.spec("SEC-1")
def test_hostile_names_in_a_plan_are_refused(shared: Server, home: Home) -> None:
    http = shared.http(SYNC_TOKEN)
    found = {}
    for kind, names in (("knowledge", PATHS), ("sessions", IDS)):
        for name in names:
            told: object = "0" * 64 if kind == "knowledge" else {"bytes": 1, "sha256": "0" * 64}
            reply = http.post(home.url("/plan"), {kind: {name: told}})
            if reply.code not in REFUSED:
                found[kind, name] = reply.body

    assert found == {}


@pytest.mark.spec("SEC-1")
def test_hostile_ids_in_a_registration_are_refused(shared: Server, home: Home) -> None:
    http, before = shared.http(SYNC_TOKEN), shared.files()
    names = {"machine": "m", "tool": "t", "project": "p"}

    codes = {name: http.post("/api/v1/workspaces", {**names, "workspace_id": name}).code for name in IDS if name}

    assert {name: code for name, code in codes.items() if code not in REFUSED} == {}
    assert shared.files() == before
    assert home


# -- generated

PIECES = st.sampled_from(
    [
        "..", ".", "/", "//", "\\", "\x00", "%2e%2e", "%2f", "%00", "\u2025", "\uff0e", "\uff0f", "\u2215", "\u202e",
        "\u200b", "\ufeff", "\u0301", "e\u0301", "é", "ß", "İ", "ſ", "CON", "aux", "nul.", "COM¹", "lpt9", "~", "$HOME",
        " ", "\t", "\n", "\r\n", "\x1b[0m", ":", "*", "?", '"', "<", "|", ".md", ".MD", ".versions", "knowledge",
        "workspaces", "box-claude-home", "box-claude-away", "_meta", "secret.key", "overview.md", "identity.json", "a",
        "A", "\ud800", "\U000e0041", "\ufffd", "x" * 119, "日本",
    ]
)  # fmt: skip
NAMES = st.lists(PIECES | st.text(max_size=3), min_size=1, max_size=8).map("".join)
PATHS_MADE = NAMES | NAMES.map(lambda name: name + ".md")
GENERATED = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.spec("SEC-1", "NAME-2")
@given(path=PATHS_MADE)
@GENERATED
def test_no_generated_path_reaches_outside_through_a_tool(
    shared: Server, home: Home, wires: dict[str, Wire], path: str
) -> None:
    before = _outside(shared, home)

    codes = [wires[token].code(tool, arguments(home, path)) for tool, (token, arguments) in PATH_ARGUMENTS.items()]

    assert set(codes) <= {"ok", "conflict", *REFUSED}
    if document_path_problem(path):
        assert set(codes) <= REFUSED
    assert _outside(shared, home) == before


@pytest.mark.spec("SEC-1", "NAME-2")
@given(path=PATHS_MADE, route=st.sampled_from(PATH_ROUTES))
@GENERATED
def test_no_generated_path_reaches_outside_through_a_route(shared: Server, home: Home, path: str, route: str) -> None:
    before = _outside(shared, home)

    for target in _targets(route, home, path):
        reply = _request(shared, route.split(" ")[0], target)
        assert reply.status < 500
        if document_path_problem(path) and not re.search("[\ud800-\udfff]|\n\\Z", path):
            assert _is_clean(reply), (target, reply)

    assert _outside(shared, home) == before


@pytest.mark.thorough
@pytest.mark.spec("SEC-1", "NAME-1")
@given(name=NAMES)
@GENERATED
def test_no_generated_id_reaches_outside_through_a_tool(
    shared: Server, home: Home, wires: dict[str, Wire], name: str
) -> None:
    before = _outside(shared, home)

    for argument, (tool, token, arguments) in ID_ARGUMENTS.items():
        if tool != "register_workspace":
            assert wires[token].code(tool, arguments(home, name)) in {"ok", *REFUSED}, argument

    assert _outside(shared, home) == before


@pytest.mark.spec("SEC-1", "NAME-1")
@given(name=NAMES, route=st.sampled_from([route for route in ID_ROUTES if "{h}" not in route]))
@GENERATED
def test_no_generated_id_reaches_outside_through_a_route(shared: Server, home: Home, name: str, route: str) -> None:
    before = _outside(shared, home)

    for target in _targets(route, home, name):
        assert _request(shared, route.split(" ")[0], target).status < 500, target

    assert _outside(shared, home) == before


def _outside(server: Server, home: Home) -> dict[str, tuple[int, int]]:
    """Every file that is not below the workspace's own knowledge and sessions, as size and time of change."""
    own = server.root / "workspaces" / home.workspace_id
    inside = (str(own / "knowledge"), str(own / "sessions"), str(own / "overview.md"), str(own / ".versions"))
    ours = ("state.sqlite3", "index.sqlite3", "audit.jsonl", "lock")
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(server.root.parent.rglob("*"))
        if not str(path).startswith(inside) and not path.name.startswith(ours) and path.is_file()
    }


@pytest.mark.spec("NAME-1", "ERR-2")
@pytest.mark.parametrize(
    "route", ["POST {h}/plan", "PUT {h}/overview", "PUT {h}/sessions/s", "DELETE {h}/knowledge/a.md"]
)
def test_an_id_is_parsed_before_it_is_named(shared: Server, route: str) -> None:
    method, _, path = route.partition(" ")
    target = path.replace("{h}", "/api/v1/workspaces/" + quote("\u202eid")).encode()

    reply = _request(shared, method, target)

    assert "\u202e".encode() not in reply.body
    assert reply.code == "invalid_name"
