"""Who may do what: every tool and every route against every kind of caller, in one table (SPEC: AUTH-5 to AUTH-8).

What a cell says (`a:b`: in the legacy era, in 2026-07-28)

    ok  allowed                                        401 F N C  401, forbidden, not_bound, conflict
    E   allowed, but done in the caller's own workspace   B       allowed, but shows nothing of this one
    -   not a case of its own: the tool has no such argument

A refused call changes no file, shows nothing of what is stored, and logs exactly one line.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from federated_memory.auth.tokens import Invitation
from federated_memory.names import etag_of
from federated_memory.store.changes import Actor
from federated_memory.store.memory_file import Memory
from federated_memory.web.enroll import EnrolRoutes
from federated_memory.web.memories import MemoryRoutes
from federated_memory.web.openapi.document import openapi_route
from federated_memory.web.routes import Routes
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, SYNC_TOKEN, Era, Home, Http, Server, Wire

CALLERS = (
    "none", "wrong", "revoked", "expired",
    "ai", "bound", "elsewhere", "write_glob", "read_glob", "machine",
    "sync", "sync_wrong", "sync_none", "sync_glob", "sync_machine",
    "read", "admin", "admin_bound",
)  # fmt: skip
TOOLS = """
                     non wrg rev exp | ai  bnd els  wgl rgl mac | syn wrg non glb mac | rea adm adb
get_overview         401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
get_brief            401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
get_brief_all        401 401 401 401 | B   ok  B    ok  B   ok  | B   B   B   B   B   | B   B   ok
list_workspaces      401 401 401 401 | ok  ok  ok   ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
list_knowledge       401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
read_knowledge       401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
knowledge_history    401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
search_memory        401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
search_memory_all    401 401 401 401 | ok  ok  ok   ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
search_knowledge     401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
search_knowledge_all 401 401 401 401 | ok  ok  ok   ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
list_sessions        401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
list_sessions_all    401 401 401 401 | ok  ok  ok   ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
read_session         401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
search_sessions      401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
search_sessions_all  401 401 401 401 | ok  ok  ok   ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
write_overview       401 401 401 401 | N   ok  E    F   ok  F   | F   F   F   F   F   | F   N   ok
write_knowledge      401 401 401 401 | N   ok  E    F   ok  F   | F   F   F   F   F   | F   N   ok
restore_knowledge    401 401 401 401 | N   ok  E    F   ok  F   | F   F   F   F   F   | F   N   ok
delete_knowledge     401 401 401 401 | N   ok  E    F   ok  F   | F   F   F   F   F   | F   N   ok
get_memory           401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
list_memories        401 401 401 401 | ok  ok  ok   ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
list_memories_all    401 401 401 401 | ok  ok  ok   ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
store_memory         401 401 401 401 | N   ok  E    F   ok  F   | F   F   F   F   F   | F   N   ok
delete_memory        401 401 401 401 | N   ok  E    F   ok  F   | F   F   F   F   F   | F   N   ok
register_workspace   401 401 401 401 | ok  ok  C:ok F   ok  F   | ok  ok  ok  F   F   | F   ok  ok
upload_knowledge     401 401 401 401 | F   F   F    F   F   F   | ok  F   F   F   F   | F   ok  ok
upload_session       401 401 401 401 | F   F   F    F   F   F   | ok  F   F   F   F   | F   ok  ok
"""
ROUTES = """
                                non wrg rev exp | ai  bnd els wgl rgl mac | syn wrg non glb mac | rea adm adb
GET /brief                      401 401 401 401 | B   ok  B   ok  B   ok  | B   B   B   B   B   | B   B   ok
GET /workspaces                 401 401 401 401 | ok  ok  ok  ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}                      401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
POST {home}/plan                401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/overview             401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/knowledge            401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/knowledge/kept.md    401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
HEAD {home}/knowledge/kept.md   401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/versions/kept.md     401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/sessions             401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/sessions/s1          401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
HEAD {home}/sessions/s1         401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET /sessions                   401 401 401 401 | ok  ok  ok  ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET /sessions/s1                401 401 401 401 | ok  ok  ok  ok  404 ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET {home}/sessions/s1/messages 401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
POST {home}/versions/back.md    401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
PUT {home}/overview             401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
PUT {home}/knowledge/new.md     401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
PUT {home}/sessions/s2          401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
PATCH {home}/sessions/s1        401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
DELETE {home}/knowledge/gone.md 401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
POST /workspaces                401 401 401 401 | ok  ok  ok  F   ok  F   | ok  ok  ok  F   F   | F   ok  ok
POST {home}/reissue             401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
GET /tokens                     401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /tokens                    401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
DELETE /tokens/spare            401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
GET /invitations                401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /invitations               401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
DELETE /invitations/{invited}   401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /enroll                    F   F   F   F   | F   F   F   F   F   F   | F   F   F   F   F   | F   F   F
GET /search                     401 401 401 401 | ok  ok  ok  ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
POST /reindex                   401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /operations/purge          401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /operations/gc             401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /operations/rename         401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /operations/archive        401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
POST /operations/adopt          401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   404 404
POST /operations/snapshot       401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
GET /memories                   401 401 401 401 | ok  ok  ok  ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET /memories/export            401 401 401 401 | ok  ok  ok  ok  F   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
GET /memories/{kept}            401 401 401 401 | ok  ok  ok  ok  B   ok  | ok  ok  ok  ok  ok  | ok  ok  ok
POST /memories                  401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
POST /memories/import           401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
DELETE /memories/{gone}         401 401 401 401 | N   ok  F   F   ok  F   | ok  F   F   F   F   | F   ok  ok
POST /memories/delete           401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
GET /project-aliases            401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
PUT /project-aliases            401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
GET /flags                      401 401 401 401 | B   B   B   B   B   B   | B   B   B   B   B   | B   B   B
GET /openapi.json               401 401 401 401 | B   B   B   B   B   B   | B   B   B   B   B   | B   B   B
GET /status                     401 401 401 401 | F   F   F   F   F   F   | F   F   F   F   F   | F   ok  ok
GET /nothing                    401 401 401 401 | 404 404 404 404 404 404 | 404 404 404 404 404 | 404 404 404
"""
LISTED = {
    "ai": "rw", "bound": "rw", "elsewhere": "rw", "write_glob": "rw", "read_glob": "rw", "machine": "rw",
    "sync": "ru", "sync_glob": "ru", "sync_machine": "ru", "read": "r", "admin": "rwu",
}  # fmt: skip
READING = [
    "get_brief",
    "get_overview",
    "list_workspaces",
    "list_knowledge",
    "read_knowledge",
    "knowledge_history",
    "search_memory",
    "search_knowledge",
    "list_sessions",
    "read_session",
    "search_sessions",
    "get_memory",
    "list_memories",
]
WRITING = ["register_workspace", "write_overview", "write_knowledge", "delete_knowledge", "restore_knowledge",
           "store_memory", "delete_memory"]  # fmt: skip
UPLOADING = ["register_workspace", "upload_knowledge", "upload_session"]
CODES = {"F": "forbidden", "N": "not_bound", "C": "conflict", "E": "ok", "B": "ok"}
INVITED = hashlib.sha256(b"a code").hexdigest()[:12]
"""The invitation that is there to be withdrawn."""
KEPT, GONE = "20261101-080000-kept", "20261101-080000-gone"
"""Memories."""
MARK = "xyzzy"
"""Stands in everything that the workspace holds, and in no answer that may not show it."""
LINE = b'{"type":"user","message":{"role":"user","content":"xyzzy"},"timestamp":"2026-11-20T08:00:00Z"}\n'


def parse_table(text: str) -> dict[str, dict[str, str]]:
    """Row name → caller → cell."""
    rows = {}
    for line in text.strip("\n").splitlines()[1:]:
        cells = line.replace("|", " ").split()
        name = " ".join(cells[: len(cells) - len(CALLERS)])
        rows[name] = dict(zip(CALLERS, cells[-len(CALLERS) :], strict=True))
    return rows


@dataclass(frozen=True)
class Caller:
    """A token, and what it brings along: a binding for AI callers, a write token for sync callers."""

    token: str | None
    binding: str | None = None
    write_token: str = ""
    bound_to: str = ""
    """The project that a legacy session registers first."""


def caller_of(server: Server, kind: str, home: Home, other: Home) -> Caller:
    theirs, named = {"write": (other.workspace_id,)}, server.token
    match kind:
        case "none":
            return Caller(None, home.binding, home.write_token)
        case "wrong":
            return Caller(AI_TOKEN[:-1] + "0", home.binding, home.write_token)
        case "revoked":
            token = named("gone", "admin")
            binding = server.binding_for(token, home.workspace_id)
            server.services.core.tokens.revoke("gone")
            return Caller(token, binding, home.write_token)
        case "expired":
            return Caller(named("old", "admin", expires_seconds=1e-9), home.binding, home.write_token)
        case "ai":
            return Caller(AI_TOKEN)
        case "bound":
            return Caller(AI_TOKEN, home.binding, bound_to="home")
        case "elsewhere":
            return Caller(AI_TOKEN, other.binding, bound_to="other")
        case "write_glob":
            token = named("w", "ai", **theirs)
            return Caller(token, server.binding_for(token, home.workspace_id))
        case "read_glob":
            token = named("r", "ai", read=(other.workspace_id,))
            return Caller(token, server.binding_for(token, home.workspace_id), bound_to="home")
        case "machine":
            token = named("m", "ai", machine="elsewhere")
            return Caller(token, server.binding_for(token, home.workspace_id))
        case "sync":
            return Caller(SYNC_TOKEN, write_token=home.write_token)
        case "sync_wrong":
            return Caller(SYNC_TOKEN, write_token=other.write_token)
        case "sync_none":
            return Caller(SYNC_TOKEN)
        case "sync_glob":
            return Caller(named("sg", "sync", **theirs), write_token=home.write_token)
        case "sync_machine":
            return Caller(named("sm", "sync", machine="elsewhere"), write_token=home.write_token)
        case "read":
            return Caller(named("reader", "read"), home.binding, home.write_token)
        case "admin":
            return Caller(ADMIN_TOKEN)
        case "admin_bound":
            return Caller(ADMIN_TOKEN, server.binding_for(ADMIN_TOKEN, home.workspace_id), bound_to="home")
    raise AssertionError(kind)


def fill(server: Server, home: Home) -> None:
    """Two versions of every document that the rows touch, a session, and the mark in all of it."""
    writer = server.http(AI_TOKEN, x_memory_binding=home.binding)
    for path in ("kept.md", "back.md", "gone.md"):
        for number in (1, 2):
            assert writer.put(home.url(f"/knowledge/{path}"), f"# {MARK} {number}").code == "ok"
    assert writer.put(home.url("/overview"), f"# {MARK}").code == "ok"
    remember(server, home, MARK)
    assert writer.put(home.url("/sessions/s1"), LINE).code == "ok"


def remember(server: Server, home: Home, text: str) -> None:
    for memory_id in (KEPT, GONE):
        memory = Memory(memory_id, text, subject=text, created_at="2026-11-01T08:00:00.000Z")
        server.services.core.memories.add(home.workspace_id, memory, Actor("test"))


@pytest.fixture
def home(server: Server) -> Home:
    home = server.settle("home")
    fill(server, home)
    return home


@pytest.fixture
def other(server: Server) -> Home:
    other = server.settle("other")
    # What a caller that is bound there restores and deletes.
    writer = server.http(AI_TOKEN, x_memory_binding=other.binding)
    for path in ("back.md", "gone.md"):
        for number in (1, 2):
            writer.put(other.url(f"/knowledge/{path}"), f"# plain {number}")
    remember(server, other, "plain")
    return other


def tool_calls(home: Home, caller: Caller) -> dict[str, tuple[str, dict[str, Any]]]:
    """Row name → tool and arguments that address `home`, so far as the tool lets one."""
    where, search = {"workspace_id": home.workspace_id}, {"query": MARK, "mode": "literal"}
    bound = {} if caller.binding is None else {"binding": caller.binding}
    upload = {**where, "write_token": caller.write_token}
    return {
        "get_overview": ("get_overview", where),
        "get_brief": ("get_brief", where),
        "get_brief_all": ("get_brief", bound),
        "list_workspaces": ("list_workspaces", {}),
        "list_knowledge": ("list_knowledge", where),
        "read_knowledge": ("read_knowledge", {**where, "path": "kept.md"}),
        "knowledge_history": ("knowledge_history", {**where, "path": "kept.md", "from_version": 1, "to_version": 2}),
        "search_memory": ("search_memory", {**where, **search}),
        "search_memory_all": ("search_memory", search),
        "search_knowledge": ("search_knowledge", {**where, **search}),
        "search_knowledge_all": ("search_knowledge", search),
        "list_sessions": ("list_sessions", where),
        "list_sessions_all": ("list_sessions", {}),
        "read_session": ("read_session", {**where, "session_id": "s1"}),
        "search_sessions": ("search_sessions", {**where, **search}),
        "search_sessions_all": ("search_sessions", search),
        "write_overview": ("write_overview", {"text": "# mine", **bound}),
        "write_knowledge": ("write_knowledge", {"path": "new.md", "text": "# mine", **bound}),
        "restore_knowledge": ("restore_knowledge", {"path": "back.md", "version": 1, **bound}),
        "delete_knowledge": ("delete_knowledge", {"path": "gone.md", **bound}),
        "register_workspace": ("register_workspace", {"machine": "box", "tool": "claude", "project": "home"}),
        "get_memory": ("get_memory", {**where, "memory_id": KEPT}),
        "list_memories": ("list_memories", where),
        "list_memories_all": ("list_memories", {}),
        "store_memory": ("store_memory", {"content": "something learnt", **bound}),
        "delete_memory": ("delete_memory", {"memory_id": GONE, **bound}),
        "upload_knowledge": ("upload_knowledge", {**upload, "path": "up.md", "text": "# mine"}),
        "upload_session": ("upload_session", {**upload, "session_id": "s3", "content": "{}\n{}\n"}),
    }


def route_request(http: Http, row: str, home: Home) -> tuple[str, bytes]:
    """The code and the whole answer of a row's request."""
    method, _, path = row.partition(" ")
    bodies: dict[str, bytes] = {
        "POST {home}/plan": json.dumps({"knowledge": {"kept.md": etag_of(b"?")}, "sessions": {}}).encode(),
        "POST /workspaces": b'{"machine": "box", "tool": "claude", "project": "home"}',
        "POST /tokens": b'{"name": "fresh", "role": "read"}',
        "POST /invitations": b'{"machine": "laptop"}',
        "POST /enroll": b'{"code": "not one of this server"}',
        "POST /operations/snapshot": b"{}",
        "POST /operations/rename": json.dumps({"workspace_id": home.workspace_id, "to": "renamed"}).encode(),
        "POST /operations/archive": json.dumps({"workspace_id": home.workspace_id, "undo": True}).encode(),
        "POST /operations/adopt": json.dumps(
            {"name": "0" * 16, "workspace_id": "copy", "machine": "m", "tool": "t", "project": "p"}
        ).encode(),
        "POST /memories": json.dumps({"workspace_id": home.workspace_id, "content": "something learnt"}).encode(),
        "POST /memories/import": json.dumps(
            {"workspace_id": home.workspace_id, "memories": [{"content": "from elsewhere", "source": "other:1"}]}
        ).encode(),
        "POST /memories/delete": json.dumps({"workspace_id": home.workspace_id, "dry_run": False}).encode(),
        "PUT /project-aliases": b'{"alias": "fm", "project": "home"}',
        "POST /operations/gc": b'{"keep_versions": 20, "keep_days": 90}',
        "POST /operations/purge": json.dumps(
            {"kind": "session", "workspace_id": home.workspace_id, "key": "s1"}
        ).encode(),
        "POST {home}/versions/back.md": b'{"version": 1}',
        "PUT {home}/sessions/s2": LINE + LINE,
        "PATCH {home}/sessions/s1": LINE,
    }
    headers = {"upload_offset": str(len(LINE))} if method == "PATCH" else {}
    url = "/api/v1" + path.replace("{home}", f"/workspaces/{home.workspace_id}").replace("{invited}", INVITED)
    url = url.replace("{kept}", KEPT).replace("{gone}", GONE + f"?workspace_id={home.workspace_id}")
    url += f"?workspace_id={home.workspace_id}" if path == "/memories/export" else ""
    url += f"?query={MARK}&mode=literal" if path == "/search" else ""
    reply = http.request(method, url, bodies.get(row, b"# mine" if method == "PUT" else b""), **headers)
    shown = reply.body + "\n".join(f"{key}: {value}" for key, value in reply.headers.items()).encode()
    if reply.status in (401, 404) or method == "HEAD":
        return {401: "401", 403: "forbidden", 404: "404", 200: "ok"}[reply.status], shown
    return reply.code, shown


def walk(
    server: Server, home: Home, expected: dict[str, str], ask: Callable[[str], tuple[str, bytes]], kind: str
) -> list[str]:
    """Ask every row; what is not as the table has it."""
    wrong = []
    after = server.files()
    for row, cell in expected.items():
        before, lines = after, len(server.auth_lines())
        code, shown = ask(row)
        after, said = server.files(), server.auth_lines()[lines:]
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        in_home = {name for name in changed if f"workspaces/{home.workspace_id}/" in name}
        wanted = CODES.get(cell, cell)
        if code != wanted:
            wrong.append(f"{row}: {code} instead of {wanted}")
        elif wanted != "ok" and changed and cell != "404":
            wrong.append(f"{row}: refused, but changed {sorted(changed)}")
        elif cell == "E" and (in_home or not changed):
            wrong.append(f"{row}: changed {sorted(changed)}")
        if cell not in ("ok", "E") and MARK.encode() in shown:
            wrong.append(f"{row}: shows what is stored")
        event = "AUTH_FAIL" if kind in ("wrong", "revoked", "expired", "sync_wrong") else "AUTH_DENY"
        if wanted in ("ok", "404") and said:
            wrong.append(f"{row}: allowed, but logged {said}")
        if wanted not in ("ok", "404") and len(said) != 1:
            wrong.append(f"{row}: refused, but logged {said}")
        if wanted == "401" and not said[0].startswith(event):
            wrong.append(f"{row}: logged {said}")
    return wrong


@pytest.mark.spec("AUTH-1", "AUTH-5", "AUTH-6", "AUTH-7", "AUTH-8", "BIND-3", "BIND-4")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", CALLERS)
def test_every_tool_does_what_the_table_says(server: Server, home: Home, other: Home, kind: str, era: Era) -> None:
    caller = caller_of(server, kind, home, other)
    calls = tool_calls(home, caller)
    wire = server.wire(caller.token, era if kind not in ("wrong", "revoked", "expired") else "2026-07-28")
    if era == "legacy" and caller.bound_to:
        register(wire, caller.bound_to)
    expected = {row: choose(cells[kind], era) for row, cells in parse_table(TOOLS).items()}
    assert expected.keys() == calls.keys()

    def ask(row: str) -> tuple[str, bytes]:
        tool, arguments = calls[row]
        if era == "legacy" and caller.bound_to:
            arguments = {key: value for key, value in arguments.items() if key != "binding"}
        reply = wire.call(tool, arguments)
        return wire_code(reply.status, reply.body), reply.body

    assert walk(server, home, expected, ask, kind) == []


@pytest.mark.spec("AUTH-1", "AUTH-5", "AUTH-6", "AUTH-7", "AUTH-8", "BIND-1", "HTTP-1")
@pytest.mark.parametrize("kind", CALLERS)
def test_every_route_does_what_the_table_says(server: Server, home: Home, other: Home, kind: str) -> None:
    caller = caller_of(server, kind, home, other)
    server.token("spare", "read")
    spare = Invitation(
        hashlib.sha256(b"a code").hexdigest(), "spare", (), False, "2026-11-21T00:00:00Z", "ops", time.time() + 900
    )
    server.services.core.tokens.save(invitations={INVITED: spare})
    given = {"x_memory_binding": caller.binding, "x_write_token": caller.write_token}
    http = server.http(caller.token, **{name: value for name, value in given.items() if value})
    expected = {row: cells[kind] for row, cells in parse_table(ROUTES).items()}

    assert walk(server, home, expected, lambda row: route_request(http, row, home), kind) == []


@pytest.mark.spec("AUTH-5", "AUTH-6", "HTTP-6")
@pytest.mark.parametrize(
    "row",
    ["PUT {home}/overview", "PUT {home}/knowledge/a.md", "PUT {home}/sessions/s", "PATCH {home}/sessions/s",
     "POST {home}/plan", "POST /tokens"],
)  # fmt: skip
def test_rights_are_looked_at_before_a_body_is_read(server: Server, row: str) -> None:
    home = server.settle()
    token = server.token("r", "ai", read=("other-*",), write=("other-*",))
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"upload-offset", b"0")]
    method, _, path = row.partition(" ")
    target = "/api/v1" + path.replace("{home}", f"/workspaces/{home.workspace_id}")

    reply = server.exchange(method, target.encode(), headers, [b"x" * 1_000] * 10)

    assert (reply.status, reply.reads) == (403, 0)


@pytest.mark.spec("AUTH-5")
def test_the_table_has_every_tool_and_every_route(shared: Server) -> None:
    rows = {row.removesuffix("_all") for row in parse_table(TOOLS)}
    offered = {tool.name for tool in shared.agent(ADMIN_TOKEN).tools()}
    routes = {(method, path) for method, path in (row.split(" ") for row in parse_table(ROUTES))}
    served = {
        (method, route.path.removeprefix("/api/v1"))
        for kind in (Routes, EnrolRoutes, MemoryRoutes)
        for route in (*kind(shared.services).all(), openapi_route())
        for method in route.methods or ()
    }

    assert rows == offered
    generic = {
        (method, path.replace("{home}", "/workspaces/{workspace_id}").replace("/kept.md", "/{path:path}")
         .replace("/new.md", "/{path:path}").replace("/gone.md", "/{path:path}")
         .replace("/back.md", "/{path:path}").replace("/s1", "/{session_id}")
         .replace("/s2", "/{session_id}").replace("/tokens/spare", "/tokens/{name}")
         .replace("{invited}", "{invitation_id}").replace("{kept}", "{memory_id}").replace("{gone}", "{memory_id}"))
        for method, given in routes
        for path in [re.sub("/operations/[a-z]+", "/operations/{action}", given)]
    }  # fmt: skip
    # Every GET answers HEAD as well, by the same code.
    assert {pair for pair in served if pair[0] != "HEAD"} == {
        pair for pair in generic if pair[0] != "HEAD" and pair != ("GET", "/nothing")
    }


@pytest.mark.spec("AUTH-1")
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_open_to_everybody(shared: Server, path: str) -> None:
    assert shared.http(None).get(path).status in (200, 503)


@pytest.mark.spec("AUTH-1", "ENROL-8")
@pytest.mark.parametrize(
    "target",
    [
        b"//", b"//w/x", b"/W/x", b"/healthz/", b"//healthz", b"/healthz/../api/v1/status", b"/HEALTHZ", b"/readyz/x",
        b"/mcp/", b"/api/v1/workspaces/", b"/nothing",
        b"/client", b"/client/", b"/client/config.json", b"/client/../api/v1/status", b"/client/memory_sync.py/x",
        b"/client//install.sh", b"/CLIENT/install.sh", b"/api/v1/enroll/", b"/api/v1/invitations",
        b"/%68ealthz/../mcp", b"/healthz%2f..%2fmcp",
    ],
)  # fmt: skip
def test_no_path_beside_the_open_ones_is_open(shared: Server, target: bytes) -> None:
    assert shared.exchange("GET", target).status == 401


@pytest.mark.spec("AUTH-5", "TOOL-1")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", LISTED)
def test_a_caller_is_shown_the_tools_of_its_role(server: Server, kind: str, era: Era) -> None:
    home, other = server.settle("home"), server.settle("other")
    token = caller_of(server, kind, home, other).token
    groups = {"r": READING, "w": WRITING, "u": UPLOADING}
    expected = {name for group in LISTED[kind] for name in groups[group]}

    listed = server.agent(token or "", era).tools()

    assert {tool.name for tool in listed} == expected
    assert len(listed) == len(expected)


def register(wire: Wire, project: str) -> None:
    names = {"machine": "box", "tool": "claude", "project": project}
    assert wire.code("register_workspace", names) == "ok"


def choose(cell: str, era: Era) -> str:
    legacy, _, modern = cell.partition(":")
    return modern if modern and era != "legacy" else legacy


def wire_code(status: int, body: bytes) -> str:
    if status != 200:
        return str(status)
    result = json.loads(body)["result"]
    return str(result["structuredContent"]["error"]["code"]) if result.get("isError") else "ok"
